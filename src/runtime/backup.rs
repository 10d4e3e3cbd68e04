//! Backups of a slot's state on the host. The state is recomputed from one after a device loss, or after an error that left
//! the slot's state unknown.

use super::scheduler::Scheduler;
use crate::error::{Error, Result};
use crate::model::{Forward, SlotState};
use std::sync::{Arc, Weak};

/// Largest cost of a replay, in decode steps. Beyond it the state is read back again, so that no conversation waits for more
/// steps than this after a device loss.
const MOST_EFFORT: usize = 2048;

/// Prompt tokens that count as one decode step of replay. Large enough that states are rarely read back, small enough that the
/// ids to replay stay below 64 KiB.
const READ_A_STEP: usize = 8;

/// A state on the host and the tokens consumed since. Replaying them gives the slot's state, bit for bit on the same adapter.
#[derive(Clone, Default)]
pub(super) struct Backup {
    /// `None`: before the first token.
    state: Option<Arc<SlotState>>,
    /// Tokens that `state` has consumed.
    from: u64,
    since: Since,
}

/// A [`Backup`] that does not keep its state alive, for the moments of a history: there may be any number of them.
#[derive(Clone)]
pub(super) struct WeakBackup {
    state: Option<Weak<SlotState>>,
    from: u64,
    since: Since,
}

/// Tokens in the order they were consumed, in runs of the same phase.
#[derive(Clone, Default)]
struct Since(Vec<(How, Vec<u32>)>);

/// The phase that consumed a token. Prefill and decode sum in different orders and give different bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Prefill.
    Read,
    /// Decode.
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
    /// Reads back the state that a slot had at `position`: its current one, or the one before the last step.
    pub(super) async fn of(scheduler: &mut Scheduler, slot: usize, position: u64) -> Result<Self> {
        let state = scheduler.read_state(slot, position).await?;
        Ok(Self::at(state, position))
    }

    /// A state at `position`.
    pub(super) fn at(state: SlotState, position: u64) -> Self {
        Backup { state: Some(Arc::new(state)), from: position, since: Since::default() }
    }

    /// Appends tokens that prefill consumed.
    pub(super) fn read(&mut self, ids: &[u32]) {
        self.since.push(How::Read, ids);
    }

    /// Appends tokens that decode steps consumed.
    pub(super) fn chose(&mut self, ids: &[u32]) {
        self.since.push(How::Chosen, ids);
    }

    /// Whether the replay, `steps` more decode steps included, costs so much that the state should be read back.
    pub(super) fn is_due(&self, steps: usize) -> bool {
        self.since.effort() + steps >= MOST_EFFORT
    }

    /// Restores a slot's state and replays the tokens since, which must lead to `position`.
    pub(super) async fn put_into(&self, scheduler: &mut Scheduler, slot: usize, position: u64) -> Result<()> {
        let known = self.from + self.since.tokens() as u64;
        if known != position {
            let why = format!("the slot failed, and of {position} tokens {known} are known");
            return Err(Error::StateNotKept { why });
        }
        match &self.state {
            Some(state) => scheduler.write_state(slot, self.from, state).await?,
            None => scheduler.reset(slot).await?,
        }
        for (how, ids) in &self.since.0 {
            match how {
                How::Read => read(scheduler.at_rest().await?, slot, ids).await?,
                How::Chosen => scheduler.consume(slot, ids).await?,
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
    /// The backup, if its state is still alive.
    pub(super) fn upgrade(&self) -> Option<Backup> {
        let state = match &self.state {
            Some(state) => Some(state.upgrade()?),
            None => None,
        };
        Some(Backup { state, from: self.from, since: self.since.clone() })
    }
}
