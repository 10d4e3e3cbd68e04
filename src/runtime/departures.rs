//! What answers and sessions leave to be done on the device when they end. Ending may happen anywhere, also where nobody can
//! wait: whoever uses the slots next does it first.

use super::engine::Engine;
use super::session::{Epoch, NOWHERE};
use super::stepper::Stepper;
use crate::error::Result;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is to be done, oldest first.
#[derive(Default)]
pub(super) struct Departures(Mutex<VecDeque<Departure>>);

/// The end of an answer or of a session.
#[derive(Clone)]
pub(super) struct Departure {
    pub(super) slot: usize,
    /// The device that it happened on, as [`Stepper::epoch`] counts them.
    pub(super) epoch: u64,
    pub(super) end: End,
}

#[derive(Clone)]
pub(super) enum End {
    /// An answer: the slot is to be left as after the last token given out.
    Answer {
        /// Tokens consumed by then.
        position: u64,
        /// The last of them.
        last: Option<u32>,
        /// The session's, which becomes [`NOWHERE`] where that fails: its backup leads there when the slot is used next.
        session: Epoch,
    },
    /// A session: its slot is free. Its state is kept for the prefix cache where there are ids.
    Session {
        /// Ids that the state has consumed.
        prefix: Option<Arc<Prefix>>,
    },
}

/// What the prefix cache knows a state by.
pub(super) struct Prefix {
    /// Ids that the state has consumed.
    pub(super) ids: Vec<u32>,
    /// All of them were read, none was chosen.
    pub(super) read: bool,
}

impl Engine {
    /// Leaves something to be done, and does it now where the slots are free and nothing but the device has to be waited for.
    pub(super) fn leave(&self, departure: Departure) {
        self.departures().0.lock().push_back(departure);
        // A browser's thread cannot wait.
        if cfg!(not(target_arch = "wasm32"))
            && let Some(mut stepper) = self.try_stepper()
        {
            let _ = crate::gpu::at_once(self.see_off(&mut stepper));
        }
    }

    /// Does what was left to be done.
    pub(super) async fn see_off(&self, stepper: &mut Stepper) {
        loop {
            // It is taken off the list when it is done: whoever polls this may stop half-way.
            let next = self.departures().0.lock().front().cloned();
            let Some(Departure { slot, epoch, end }) = next else { return };
            let there = epoch == stepper.epoch();
            match &end {
                End::Answer { position, last, session } if there => {
                    if finish(stepper, slot, *position, *last).await.is_err() {
                        session.store(NOWHERE, Ordering::Relaxed);
                    }
                }
                End::Answer { .. } => {}
                End::Session { prefix } => {
                    if let Some(prefix) = prefix.as_ref().filter(|_| there) {
                        // What fails here fails again, and is reported, at the next use of the device.
                        let _ = self.keep_prefix(stepper, slot, prefix).await;
                    }
                    stepper.free_slot(slot).await;
                }
            }
            self.departures().0.lock().pop_front();
        }
    }

    async fn keep_prefix(&self, stepper: &mut Stepper, slot: usize, prefix: &Prefix) -> Result<()> {
        let state = self.states().keep(stepper.at_rest().await?, slot).await?;
        self.prefixes().insert(&prefix.ids, state, prefix.read);
        Ok(())
    }
}

async fn finish(stepper: &mut Stepper, slot: usize, position: u64, last: Option<u32>) -> Result<()> {
    while !stepper.finish(slot, position, last).await? {
        stepper.turn().await;
    }
    Ok(())
}
