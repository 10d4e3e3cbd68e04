//! Kept states, for undo, marks, forks and the prefix cache: on the device, spilled to host memory, then to disk.

mod spill;
mod tiers;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, Saved};
use parking_lot::{Mutex, MutexGuard};
use std::path::PathBuf;
use std::sync::Arc;
use tiers::{Memory, Place, Tiers};

const MIB: u64 = 1 << 20;

/// Memory budget of kept states. A state of Falcon Mamba 7B takes 40 MB, one of Mamba 130m 3 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBudget {
    /// Bytes on the device, where restoring a state is one copy.
    pub device: u64,
    /// Bytes of host memory, for states spilled from the device.
    pub host: u64,
    /// Bytes on disk, for states spilled from host memory.
    pub disk: u64,
    /// Folder of the spill file, which has no name and disappears with the process. `None`: the system's folder for large
    /// temporary files.
    pub folder: Option<PathBuf>,
}

impl Default for StateBudget {
    /// 256 MiB on the device, 1 GiB of host memory, 4 GiB on disk.
    fn default() -> Self {
        StateBudget { device: 256 * MIB, host: 1024 * MIB, disk: 4096 * MIB, folder: None }
    }
}

impl StateBudget {
    /// Keeps no states.
    pub const NONE: StateBudget = StateBudget { device: 0, host: 0, disk: 0, folder: None };
}

/// Kept states in one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Number of states.
    pub states: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Memory of kept states by tier, and counts of moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateStats {
    /// On the device.
    pub device: Held,
    /// In host memory.
    pub host: Held,
    /// On disk.
    pub disk: Held,
    /// Bytes allocated on the device and free for the next state; they count towards the budget.
    pub idle: u64,
    /// States moved from the device to host memory or disk.
    pub spilled: u64,
    /// States moved back to the device.
    pub returned: u64,
    /// States dropped for lack of room, or lost with their device.
    pub dropped: u64,
}

/// Keeps states within a budget. Clones are handles to the same store.
#[derive(Clone)]
pub(super) struct StateStore(Arc<Mutex<Tiers>>);

/// A kept state. Clones are handles to the same state; dropping the last one frees it.
#[derive(Clone)]
pub(super) struct KeptState(Arc<Claim>);

struct Claim {
    store: StateStore,
    id: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.lock().free(self.id);
    }
}

impl StateStore {
    pub(super) fn new(forward: &Forward) -> Self {
        StateStore(Arc::new(Mutex::new(Tiers::new(forward))))
    }

    /// Drops the states on a lost device.
    pub(super) fn lose(&self) {
        self.lock().lose();
    }

    /// States move between tiers only while the engine's scheduler is locked; they may be freed at any time.
    fn lock(&self) -> MutexGuard<'_, Tiers> {
        self.0.lock()
    }

    fn is_of(&self, kept: &KeptState) -> bool {
        Arc::ptr_eq(&self.0, &kept.0.store.0)
    }

    /// Keeps a slot's state, spilling the least recently used one if there is no room. Nothing may be in flight.
    pub(super) async fn keep(&self, forward: &Forward, slot: usize) -> Result<KeptState> {
        let place = match self.device_memory(forward).await? {
            Some(saved) => {
                forward.save(slot, 0, &saved)?;
                Place::Device(saved)
            }
            None if self.lock().has_room_below() => {
                let state = forward.read_state(slot, 0).await?;
                self.lock().put_on_host(state)
            }
            None => self.lock().dropped_for_room(),
        };
        let id = self.lock().admit(place);
        Ok(KeptState(Arc::new(Claim { store: self.clone(), id })))
    }

    /// Device memory for one state within the budget; `None` if the budget has no room for any.
    async fn device_memory(&self, forward: &Forward) -> Result<Option<Saved>> {
        loop {
            let found = self.lock().device_memory(forward)?;
            match found {
                Memory::Free(saved) => return Ok(Some(saved)),
                Memory::Of(id, saved) => self.spill(forward.gpu(), id, saved).await?,
                Memory::None => return Ok(None),
            }
        }
    }

    /// Moves a state that was lifted from the device to the host or disk, and frees its device memory.
    async fn spill(&self, gpu: &Gpu, id: u64, saved: Saved) -> Result<()> {
        let has_room = self.lock().has_room_below();
        let state = if has_room { Some(saved.read(gpu).await) } else { None };
        let mut tiers = self.lock();
        let place = match state {
            None => tiers.dropped_for_room(),
            Some(Ok(state)) => tiers.put_spilled(state),
            Some(Err(error)) => {
                tiers.put(id, Place::Device(saved));
                return Err(error);
            }
        };
        tiers.free_memory(saved);
        tiers.put(id, place);
        Ok(())
    }

    /// Sets the budget; states above it are spilled or dropped at once.
    pub(super) async fn set_budget(&self, gpu: Option<&Gpu>, budget: StateBudget) -> Result<()> {
        self.lock().set_budget(budget);
        loop {
            let above = self.lock().above_device_budget();
            match (above, gpu) {
                (Some((id, saved)), Some(gpu)) => self.spill(gpu, id, saved).await?,
                // Without a device there are no states on it.
                _ => break,
            }
        }
        self.lock().fit();
        Ok(())
    }

    /// Restores a slot from a kept state, which is that of `position` tokens, and moves the state back to the device.
    /// [`Error::StateNotKept`] if it was dropped; the slot is as before. Nothing may be in flight.
    pub(super) async fn restore(
        &self,
        forward: &mut Forward,
        slot: usize,
        position: u64,
        kept: &KeptState,
    ) -> Result<()> {
        if !self.is_of(kept) {
            return Err(Error::StateNotKept { why: "it is of another engine".to_owned() });
        }
        let id = kept.0.id;
        if let Some(saved) = self.lock().on_device(id)? {
            return forward.restore(slot, position, saved);
        }
        let state = self.lock().take(id)?;
        let restored = match self.device_memory(forward).await {
            Ok(Some(saved)) => {
                let written = saved.write(forward.gpu(), &state);
                written.and_then(|()| forward.restore(slot, position, &saved)).map(|()| Some(saved))
            }
            Ok(None) => forward.write_state(slot, position, &state).map(|()| None),
            Err(error) => Err(error),
        };
        let mut tiers = self.lock();
        let (place, outcome) = match restored {
            Ok(Some(saved)) => (tiers.put_returned(saved), Ok(())),
            Ok(None) => (tiers.put_on_host(state), Ok(())),
            Err(error) => (tiers.put_on_host(state), Err(error)), // still kept
        };
        tiers.put(id, place);
        outcome
    }

    /// Whether a state is still kept.
    pub(super) fn has(&self, kept: &KeptState) -> bool {
        self.is_of(kept) && self.lock().has(kept.0.id)
    }

    /// Whether a state was lost with its device.
    pub(super) fn was_lost(&self, kept: &KeptState) -> bool {
        self.is_of(kept) && self.lock().was_lost(kept.0.id)
    }

    /// Memory of kept states, and counts of moves.
    pub(super) fn stats(&self) -> StateStats {
        self.lock().stats()
    }

    /// Bytes of one state.
    pub(super) fn state_bytes(&self) -> u64 {
        self.lock().size()
    }
}
