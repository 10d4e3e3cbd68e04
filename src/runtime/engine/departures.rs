//! Cleanup on the device after answers and sessions. They may be dropped where nothing can wait, so the cleanup is queued and
//! done by whoever locks the slots next.

use super::Engine;
use crate::error::Result;
use crate::runtime::scheduler::{Epoch, NOWHERE, Scheduler};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Queued cleanup, oldest first.
#[derive(Default)]
pub(super) struct Departures(Mutex<VecDeque<Departure>>);

/// The end of an answer or of a session.
#[derive(Clone)]
pub(in crate::runtime) struct Departure {
    pub(in crate::runtime) slot: usize,
    /// The device that it ended on: see [`Scheduler::epoch`].
    pub(in crate::runtime) epoch: u64,
    pub(in crate::runtime) end: End,
}

#[derive(Clone)]
pub(in crate::runtime) enum End {
    /// An answer: set the slot to its state after the last token given out.
    Answer {
        /// Tokens consumed by that state.
        position: u64,
        /// The last of them.
        last: Option<u32>,
        /// After an answer with a grammar: the slot's bias `[V]` without it.
        bias: Option<Arc<[f32]>>,
        /// The session's epoch, set to [`NOWHERE`] if that fails: the state is then recomputed from the session's backup.
        session: Epoch,
    },
    /// A session: free the slot, after its state was put into the prefix cache under these ids, if any.
    Session {
        /// Ids that the state has consumed.
        prefix: Option<Arc<Prefix>>,
    },
}

/// The key of a state in the prefix cache.
pub(in crate::runtime) struct Prefix {
    /// Ids that the state has consumed.
    pub(in crate::runtime) ids: Vec<u32>,
    /// Whether prefill consumed all of them.
    pub(in crate::runtime) read: bool,
}

impl Engine {
    /// Queues cleanup, and does it now if nobody holds the slots.
    pub(in crate::runtime) fn leave(&self, departure: Departure) {
        self.shared.departures.0.lock().push_back(departure);
        // A browser's thread cannot wait for the device.
        if cfg!(not(target_arch = "wasm32"))
            && let Ok(mut scheduler) = self.shared.scheduler.try_lock()
        {
            let _ = crate::gpu::at_once(self.see_off(&mut scheduler));
        }
    }

    /// Does the queued cleanup.
    pub(super) async fn see_off(&self, scheduler: &mut Scheduler) {
        loop {
            // Removed only when done: this future may be dropped half-way.
            let next = self.shared.departures.0.lock().front().cloned();
            let Some(Departure { slot, epoch, end }) = next else { return };
            let there = epoch == scheduler.epoch();
            match &end {
                End::Answer { position, last, bias, session } if there => {
                    let finished = finish(scheduler, slot, *position, *last).await;
                    let unbiased = bias.as_ref().map_or(Ok(()), |bias| scheduler.set_bias(slot, bias));
                    if finished.and(unbiased).is_err() {
                        session.store(NOWHERE, Ordering::Relaxed);
                    }
                }
                End::Answer { .. } => {}
                End::Session { prefix } => {
                    if let Some(prefix) = prefix.as_ref().filter(|_| there) {
                        // An error here comes back, and is reported, at the next use of the device.
                        let _ = self.keep_prefix(scheduler, slot, prefix).await;
                    }
                    scheduler.free_slot(slot).await;
                }
            }
            self.shared.departures.0.lock().pop_front();
        }
    }

    async fn keep_prefix(&self, scheduler: &mut Scheduler, slot: usize, prefix: &Prefix) -> Result<()> {
        let state = self.states().keep(scheduler.at_rest().await?, slot).await?;
        self.prefixes().insert(&prefix.ids, state, prefix.read);
        Ok(())
    }
}

async fn finish(scheduler: &mut Scheduler, slot: usize, position: u64, last: Option<u32>) -> Result<()> {
    while !scheduler.finish(slot, position, last).await? {
        scheduler.turn().await;
    }
    Ok(())
}
