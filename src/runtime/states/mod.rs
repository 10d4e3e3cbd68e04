//! States of slots that are kept for later: on the device, spilled to the host's memory, then to disk.

mod shelves;
mod spill;

use super::engine::Engine;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::Forward;
use parking_lot::{Mutex, MutexGuard};
use shelves::Shelves;
use std::path::PathBuf;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// How much memory kept states may take. A state of Falcon Mamba 7B takes 40 MB, one of Mamba 130m 3 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBudget {
    /// Bytes on the device: going back to a state there takes a copy.
    pub device: u64,
    /// Bytes of the host's memory, for what has no room on the device.
    pub host: u64,
    /// Bytes on disk, for what has no room in either.
    pub disk: u64,
    /// Where the file on disk lies, without a name and gone with the process. `None`: where the system has large temporary
    /// files.
    pub folder: Option<PathBuf>,
}

impl Default for StateBudget {
    /// 256 MiB on the device, 1 GiB of the host's memory, 4 GiB on disk.
    fn default() -> Self {
        StateBudget { device: 256 * MIB, host: 1024 * MIB, disk: 4096 * MIB, folder: None }
    }
}

impl StateBudget {
    /// Nothing is kept.
    pub const NONE: StateBudget = StateBudget { device: 0, host: 0, disk: 0, folder: None };
}

/// What a kind of memory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// States.
    pub states: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What kept states take, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateStats {
    /// On the device.
    pub device: Held,
    /// In the host's memory.
    pub host: Held,
    /// On disk.
    pub disk: Held,
    /// Bytes on the device that wait for the next state; they count towards the budget.
    pub idle: u64,
    /// Times that a state went from the device to the host's memory or to disk.
    pub spilled: u64,
    /// Times that a state came back from there.
    pub returned: u64,
    /// States that were given up for want of room.
    pub dropped: u64,
}

/// Keeps states within a budget. Clones are handles to the same store.
#[derive(Clone)]
pub(super) struct StateStore(Arc<Mutex<Shelves>>);

/// A state that is kept. Clones are handles to the same one; the last of them frees it.
#[derive(Clone)]
pub(super) struct Kept(Arc<Claim>);

struct Claim {
    store: StateStore,
    id: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.lock().free(self.id);
    }
}

impl Engine {
    /// Sets how much memory states that are kept may take, those of all sessions and of the cache of beginnings together; the
    /// default is [`StateBudget::default`]. What is over it is moved or given up at once.
    pub fn set_state_budget(&self, budget: StateBudget) -> Result<()> {
        self.states().lock().set_budget(budget)
    }

    /// What kept states take.
    pub fn state_stats(&self) -> StateStats {
        self.states().lock().stats()
    }
}

impl StateStore {
    pub(super) fn new(forward: &Forward) -> Self {
        StateStore(Arc::new(Mutex::new(Shelves::new(forward))))
    }

    /// The device was lost: what was kept there is gone.
    pub(super) fn lose(&self) {
        self.lock().lose();
    }

    /// There is another device.
    pub(super) fn adopt(&self, gpu: &Gpu) {
        self.lock().adopt(gpu);
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock()
    }

    fn is_of(&self, kept: &Kept) -> bool {
        Arc::ptr_eq(&self.0, &kept.0.store.0)
    }

    /// Keeps a slot's state as it is, spilling what was not used for longest. Nothing may be under way.
    pub(super) fn keep(&self, forward: &Forward, slot: usize) -> Result<Kept> {
        let id = self.lock().keep(forward, slot)?;
        Ok(Kept(Arc::new(Claim { store: self.clone(), id })))
    }

    /// Puts a slot to a kept state, of when it had consumed `position` tokens; the state comes back to the device. Where it
    /// is not kept any more, that is [`Error::StateNotKept`] and the slot is as before. Nothing may be under way.
    pub(super) fn restore(&self, forward: &mut Forward, slot: usize, position: u64, kept: &Kept) -> Result<()> {
        if !self.is_of(kept) {
            return Err(Error::StateNotKept { why: "it is of another engine".to_owned() });
        }
        self.lock().restore(forward, slot, position, kept.0.id)
    }

    /// Whether a state is still there.
    pub(super) fn has(&self, kept: &Kept) -> bool {
        self.is_of(kept) && self.lock().has(kept.0.id)
    }

    /// Whether a state went with the device that it was on.
    pub(super) fn was_lost(&self, kept: &Kept) -> bool {
        self.is_of(kept) && self.lock().was_lost(kept.0.id)
    }

    /// Bytes of a state.
    pub(super) fn state_bytes(&self) -> u64 {
        self.lock().size()
    }
}
