//! What a slot's state is made from again: on another device after a loss, or where an error left it in doubt.

use super::stepper::Stepper;
use crate::error::{Error, Result};
use crate::model::{Forward, SlotState};
use std::sync::{Arc, Weak};

/// Effort of consuming again what came since the state on the host, at most: then the state is read back anew. Steps count one
/// each, so that after a loss no conversation waits for more than these.
const MOST_EFFORT: usize = 2048;

/// Tokens that are read in the time of one step, at least. So many that a state is read back seldom, and so few that the ids since
/// then take little memory: 64 KiB.
const READ_A_STEP: usize = 8;

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

/// Tokens in the order in which they were consumed: runs of those that were consumed alike.
#[derive(Clone, Default)]
struct Since(Vec<(How, Vec<u32>)>);

/// A step does not have the bits of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// In chunks.
    Read,
    /// Step by step.
    Chosen,
}

impl Since {
    fn push(&mut self, how: How, ids: &[u32]) {
        match self.0.last_mut() {
            Some((last, before)) if *last == how => before.extend(ids),
            _ if ids.is_empty() => {}
            _ => self.0.push((how, ids.to_vec())),
        }
    }

    fn tokens(&self) -> usize {
        self.0.iter().map(|(_, ids)| ids.len()).sum()
    }

    fn effort(&self) -> usize {
        let effort = |(how, ids): &(How, Vec<u32>)| match how {
            How::Read => ids.len() / READ_A_STEP,
            How::Chosen => ids.len(),
        };
        self.0.iter().map(effort).sum()
    }
}

impl Backup {
    /// The state that a slot had when it had consumed `position` tokens, now or a step ago, read back.
    pub(super) async fn of(stepper: &mut Stepper, slot: usize, position: u64) -> Result<Self> {
        let state = stepper.read_state(slot, position).await?;
        Ok(Self::at(state, position))
    }

    /// A state of when `position` tokens had been consumed.
    pub(super) fn at(state: SlotState, position: u64) -> Self {
        Backup { state: Some(Arc::new(state)), from: position, since: Since::default() }
    }

    /// Tokens were read in chunks.
    pub(super) fn read(&mut self, ids: &[u32]) {
        self.since.push(How::Read, ids);
    }

    /// Tokens were consumed step by step.
    pub(super) fn chose(&mut self, ids: &[u32]) {
        self.since.push(How::Chosen, ids);
    }

    /// Whether there is so much to consume again, these steps included, that the state is to be read back.
    pub(super) fn is_due(&self, steps: usize) -> bool {
        self.since.effort() + steps >= MOST_EFFORT
    }

    /// Makes a slot hold the state, which is to be that of `position` tokens.
    pub(super) async fn put_into(&self, stepper: &mut Stepper, slot: usize, position: u64) -> Result<()> {
        let known = self.from + self.since.tokens() as u64;
        if known != position {
            let why = format!("the slot failed, and of {position} tokens {known} are known");
            return Err(Error::StateNotKept { why });
        }
        match &self.state {
            Some(state) => stepper.write_state(slot, self.from, state).await?,
            None => stepper.reset(slot).await?,
        }
        for (how, ids) in &self.since.0 {
            match how {
                How::Read => read(stepper.at_rest().await?, slot, ids).await?,
                How::Chosen => stepper.consume(slot, ids).await?,
            }
        }
        Ok(())
    }

    pub(super) fn downgrade(&self) -> WeakBackup {
        WeakBackup { state: self.state.as_ref().map(Arc::downgrade), from: self.from, since: self.since.clone() }
    }
}

async fn read(forward: &mut Forward, slot: usize, ids: &[u32]) -> Result<()> {
    let mut left = ids;
    while let Some(chunk) = forward.next_chunk(&mut left) {
        forward.feed_to_end(slot, chunk).await?;
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
