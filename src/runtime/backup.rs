//! What a slot's state is made from again: on another device after a loss, or where an error left it in doubt.

use super::stepper::Stepper;
use crate::error::{Error, Result};
use crate::model::{Forward, SlotState};
use std::sync::{Arc, Weak};

/// Effort of consuming again what came since the state on the host, at most: then the state is read back anew. Steps count one
/// each, so that after a loss no conversation waits for more than these.
const MOST_EFFORT: usize = 2048;

/// Tokens that are read in the time of one step.
const READ_A_STEP: usize = 16;

/// A state on the host and what was consumed since: together the state of the slot, bit for bit where the adapter is the same.
#[derive(Clone, Default)]
pub(super) struct Backup {
    /// `None`: before the first token.
    state: Option<Arc<SlotState>>,
    /// Tokens that it has consumed.
    from: u64,
    since: Since,
}

/// A [`Backup`] that does not keep the state alive: for moments to go back to, of which there may be any number.
#[derive(Clone)]
pub(super) struct WeakBackup {
    state: Option<Weak<SlotState>>,
    from: u64,
    since: Since,
}

/// Tokens as they were consumed, in order.
#[derive(Clone, Default)]
struct Since {
    parts: Vec<Part>,
    tokens: usize,
}

/// A step does not have the bits of a chunk.
#[derive(Clone)]
enum Part {
    /// In chunks.
    Read(Vec<u32>),
    /// Step by step.
    Chosen(Vec<u32>),
}

impl Since {
    fn effort(&self) -> usize {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Read(ids) => ids.len() / READ_A_STEP,
                Part::Chosen(ids) => ids.len(),
            })
            .sum()
    }
}

impl Backup {
    /// A state read back when its slot had consumed `position` tokens.
    pub(super) fn of(state: SlotState, position: u64) -> Self {
        Backup { state: Some(Arc::new(state)), from: position, since: Since::default() }
    }

    /// Tokens were read in chunks.
    pub(super) fn read(&mut self, ids: &[u32]) {
        self.since.tokens += ids.len();
        match self.since.parts.last_mut() {
            Some(Part::Read(before)) => before.extend(ids),
            _ if ids.is_empty() => {}
            _ => self.since.parts.push(Part::Read(ids.to_vec())),
        }
    }

    /// Tokens were consumed step by step.
    pub(super) fn chose(&mut self, ids: &[u32]) {
        self.since.tokens += ids.len();
        match self.since.parts.last_mut() {
            Some(Part::Chosen(before)) => before.extend(ids),
            _ if ids.is_empty() => {}
            _ => self.since.parts.push(Part::Chosen(ids.to_vec())),
        }
    }

    /// Whether there is so much to consume again, these steps included, that the state is to be read back.
    pub(super) fn is_due(&self, steps: usize) -> bool {
        self.since.effort() + steps >= MOST_EFFORT
    }

    /// Makes a slot hold the state, which is to be that of `position` tokens.
    pub(super) fn put_into(&self, stepper: &mut Stepper, slot: usize, position: u64) -> Result<()> {
        let known = self.from + self.since.tokens as u64;
        if known != position {
            let why = format!("the slot failed, and of {position} tokens {known} are known");
            return Err(Error::StateNotKept { why });
        }
        stepper.reset(slot)?;
        if let Some(state) = &self.state {
            stepper.at_rest()?.write_state(slot, self.from, state)?;
        }
        for part in &self.since.parts {
            match part {
                Part::Read(ids) => read(stepper.at_rest()?, slot, ids)?,
                Part::Chosen(ids) => ids.iter().try_for_each(|id| stepper.consume(slot, *id))?,
            }
        }
        Ok(())
    }

    pub(super) fn downgrade(&self) -> WeakBackup {
        WeakBackup { state: self.state.as_ref().map(Arc::downgrade), from: self.from, since: self.since.clone() }
    }
}

fn read(forward: &mut Forward, slot: usize, ids: &[u32]) -> Result<()> {
    let mut left = ids;
    while !left.is_empty() {
        let (chunk, rest) = left.split_at(forward.chunk_in_time().min(left.len()));
        left = rest;
        forward.feed_to_end(slot, chunk)?;
    }
    Ok(())
}

impl WeakBackup {
    /// The whole of it, where its state is still there.
    pub(super) fn upgrade(&self) -> Option<Backup> {
        let state = match &self.state {
            Some(state) => Some(state.upgrade()?),
            None => None,
        };
        Some(Backup { state, from: self.from, since: self.since.clone() })
    }
}
