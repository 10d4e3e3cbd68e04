//! States of slots that are kept for later: on the device, spilled to the host's memory, then to disk.

mod spill;
mod tiers;

use super::engine::Engine;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, Saved};
use parking_lot::{Mutex, MutexGuard};
use std::path::PathBuf;
use std::sync::Arc;
use tiers::{Memory, Place, Tiers};

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
pub(super) struct StateStore(Arc<Mutex<Tiers>>);

/// A state that is kept. Clones are handles to the same one; the last of them frees it.
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

impl Engine {
    /// Sets how much memory kept states may take, those of all sessions and of the prefix cache together; the default is
    /// [`StateBudget::default`]. What exceeds it is spilled or dropped at once.
    pub async fn set_state_budget_async(&self, budget: StateBudget) -> Result<()> {
        let stepper = self.stepper().await;
        self.states().set_budget(stepper.gpu().as_ref(), budget).await
    }

    /// What kept states take.
    pub fn state_stats(&self) -> StateStats {
        self.states().lock().stats()
    }
}

impl StateStore {
    pub(super) fn new(forward: &Forward) -> Self {
        StateStore(Arc::new(Mutex::new(Tiers::new(forward))))
    }

    /// The device was lost: what was kept there is gone.
    pub(super) fn lose(&self) {
        self.lock().lose();
    }

    /// Tiers are only moved by whoever holds the engine's stepper; a state may be freed by anybody at any time.
    fn lock(&self) -> MutexGuard<'_, Tiers> {
        self.0.lock()
    }

    fn is_of(&self, kept: &KeptState) -> bool {
        Arc::ptr_eq(&self.0, &kept.0.store.0)
    }

    /// Keeps a slot's state as it is, spilling what was not used for longest. Nothing may be under way.
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
            None => self.lock().give_up(),
        };
        let id = self.lock().admit(place);
        Ok(KeptState(Arc::new(Claim { store: self.clone(), id })))
    }

    /// Memory on the device for one state, within the budget; `None`: there is no room for a single one.
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

    /// Moves a state that was lifted off the device; its memory is idle then.
    async fn spill(&self, gpu: &Gpu, id: u64, saved: Saved) -> Result<()> {
        let has_room = self.lock().has_room_below();
        let state = if has_room { Some(saved.read(gpu).await) } else { None };
        let mut tiers = self.lock();
        let place = match state {
            None => tiers.give_up(),
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

    async fn set_budget(&self, gpu: Option<&Gpu>, budget: StateBudget) -> Result<()> {
        self.lock().set_budget(budget);
        loop {
            let above = self.lock().above_device_budget();
            match (above, gpu) {
                (Some((id, saved)), Some(gpu)) => self.spill(gpu, id, saved).await?,
                // Without a device nothing is left on it.
                _ => break,
            }
        }
        self.lock().fit();
        Ok(())
    }

    /// Puts a slot to a kept state, of when it had consumed `position` tokens; the state comes back to the device. Where it
    /// is not kept any more, that is [`Error::StateNotKept`] and the slot is as before. Nothing may be under way.
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
            Err(error) => (tiers.put_on_host(state), Err(error)), // it is kept all the same
        };
        tiers.put(id, place);
        outcome
    }

    /// Whether a state is still there.
    pub(super) fn has(&self, kept: &KeptState) -> bool {
        self.is_of(kept) && self.lock().has(kept.0.id)
    }

    /// Whether a state went with the device that it was on.
    pub(super) fn was_lost(&self, kept: &KeptState) -> bool {
        self.is_of(kept) && self.lock().was_lost(kept.0.id)
    }

    /// Bytes of a state.
    pub(super) fn state_bytes(&self) -> u64 {
        self.lock().size()
    }
}
