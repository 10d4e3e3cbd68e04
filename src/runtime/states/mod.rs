//! States of slots that are kept for later: on the device, spilled to the host's memory, then to disk.

mod spill;

use super::engine::Engine;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Config, Forward, Saved, SlotState};
use parking_lot::{Mutex, MutexGuard};
use spill::{Record, SpillFile};
use std::collections::BTreeMap;
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

struct Shelves {
    gpu: Gpu,
    config: Config,
    budget: StateBudget,
    /// Bytes of a state.
    size: u64,
    kept: BTreeMap<u64, State>,
    /// Memory on the device that is free for the next state.
    idle: Vec<Saved>,
    file: Option<SpillFile>,
    /// Of the next state.
    id: u64,
    /// Counts uses, for their order.
    clock: u64,
    spilled: u64,
    returned: u64,
    dropped: u64,
}

struct State {
    used: u64,
    place: Place,
}

enum Place {
    Device(Saved),
    Host(SlotState),
    Disk(Record),
    /// And why.
    Gone(String),
}

/// A [`Place`] without what lies there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    Device,
    Host,
    Disk,
}

impl Place {
    fn tier(&self) -> Option<Tier> {
        match self {
            Place::Device(_) => Some(Tier::Device),
            Place::Host(_) => Some(Tier::Host),
            Place::Disk(_) => Some(Tier::Disk),
            Place::Gone(_) => None,
        }
    }
}

impl Engine {
    /// Sets how much memory states that are kept may take, those of all sessions and of the cache of beginnings together; the
    /// default is [`StateBudget::default`]. What is over it is moved or given up at once.
    pub fn set_state_budget(&self, budget: StateBudget) -> Result<()> {
        self.states().set_budget(budget)
    }

    /// What kept states take.
    pub fn state_stats(&self) -> StateStats {
        self.states().stats()
    }
}

impl StateStore {
    pub(super) fn new(forward: &Forward) -> Self {
        StateStore(Arc::new(Mutex::new(Shelves {
            gpu: forward.gpu().clone(),
            config: forward.config().clone(),
            budget: StateBudget::default(),
            size: forward.state_bytes(),
            kept: BTreeMap::new(),
            idle: vec![],
            file: None,
            id: 0,
            clock: 0,
            spilled: 0,
            returned: 0,
            dropped: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock()
    }

    /// Keeps a slot's state as it is, spilling what was not used for longest. Nothing may be under way.
    pub(super) fn keep(&self, forward: &Forward, slot: usize) -> Result<Kept> {
        let mut shelves = self.lock();
        let place = match shelves.device_memory(forward)? {
            Some(saved) => {
                forward.save(slot, 0, &saved)?;
                Place::Device(saved)
            }
            None if shelves.has_room_below() => {
                let state = pollster::block_on(forward.read_state(slot))?;
                shelves.put_on_host(state)
            }
            None => shelves.give_up(),
        };
        let (id, used) = (shelves.id, shelves.tick());
        shelves.id += 1;
        shelves.kept.insert(id, State { used, place });
        Ok(Kept(Arc::new(Claim { store: self.clone(), id })))
    }

    /// Puts a slot to a kept state, of when it had consumed `position` tokens; the state comes back to the device. Where it
    /// is not kept any more, that is [`Error::StateNotKept`] and the slot is as before. Nothing may be under way.
    pub(super) fn restore(&self, forward: &mut Forward, slot: usize, position: u64, kept: &Kept) -> Result<()> {
        if !Arc::ptr_eq(&self.0, &kept.0.store.0) {
            return Err(Error::StateNotKept { why: "it is of another engine".to_owned() });
        }
        let mut shelves = self.lock();
        let used = shelves.tick();
        let id = kept.0.id;
        let state = shelves.kept.get_mut(&id).expect("a claim keeps its state's entry");
        state.used = used;
        match &state.place {
            Place::Device(saved) => return forward.restore(slot, position, saved),
            Place::Gone(why) => return Err(Error::StateNotKept { why: why.clone() }),
            Place::Host(_) | Place::Disk(_) => {}
        }
        let state = shelves.take(id)?;
        let place = match shelves.device_memory(forward) {
            Ok(Some(saved)) => {
                saved.write(&shelves.gpu, &state)?;
                forward.restore(slot, position, &saved)?;
                shelves.returned += 1;
                Place::Device(saved)
            }
            Ok(None) => {
                forward.write_state(slot, position, &state)?;
                shelves.put_on_host(state)
            }
            Err(error) => return Err(error),
        };
        shelves.put(id, place);
        Ok(())
    }

    /// Whether a state is still there.
    pub(super) fn has(&self, kept: &Kept) -> bool {
        self.lock().kept.get(&kept.0.id).is_some_and(|state| state.place.tier().is_some())
    }

    /// Changes how much is kept; what is over is spilled or given up.
    pub(super) fn set_budget(&self, budget: StateBudget) -> Result<()> {
        let mut shelves = self.lock();
        shelves.budget = budget;
        shelves.fit()
    }

    /// Bytes of a state.
    pub(super) fn state_bytes(&self) -> u64 {
        self.lock().size
    }

    pub(super) fn stats(&self) -> StateStats {
        let shelves = self.lock();
        let held = |tier| {
            let states = shelves.count(tier);
            Held { states, bytes: states as u64 * shelves.size }
        };
        StateStats {
            device: held(Tier::Device),
            host: held(Tier::Host),
            disk: held(Tier::Disk),
            idle: shelves.idle.len() as u64 * shelves.size,
            spilled: shelves.spilled,
            returned: shelves.returned,
            dropped: shelves.dropped,
        }
    }
}

impl Shelves {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn count(&self, tier: Tier) -> usize {
        self.kept.values().filter(|state| state.place.tier() == Some(tier)).count()
    }

    /// States that a budget has room for.
    fn room(&self, tier: Tier) -> usize {
        let bytes = match tier {
            Tier::Device => self.budget.device,
            Tier::Host => self.budget.host,
            Tier::Disk => self.budget.disk,
        };
        usize::try_from(bytes / self.size.max(1)).unwrap_or(usize::MAX)
    }

    fn has_room_below(&self) -> bool {
        self.room(Tier::Host) > 0 || self.room(Tier::Disk) > 0
    }

    /// What was not used for longest of those in one kind of memory.
    fn oldest(&self, tier: Tier) -> Option<u64> {
        let there = self.kept.iter().filter(|(_, state)| state.place.tier() == Some(tier));
        there.min_by_key(|(_, state)| state.used).map(|(id, _)| *id)
    }

    fn put(&mut self, id: u64, place: Place) {
        if let Some(state) = self.kept.get_mut(&id) {
            state.place = place;
        }
    }

    /// Takes out what lies at a place and leaves nothing there.
    fn lift(&mut self, id: u64) -> Place {
        let moved = Place::Gone("the device failed while it was moved".to_owned());
        self.kept.get_mut(&id).map_or(Place::Gone(String::new()), |state| std::mem::replace(&mut state.place, moved))
    }

    fn give_up(&mut self) -> Place {
        self.dropped += 1;
        Place::Gone("there was no room for it within the budget for states".to_owned())
    }

    /// Memory on the device for one state, within the budget; `None`: there is no room for a single one.
    fn device_memory(&mut self, forward: &Forward) -> Result<Option<Saved>> {
        loop {
            if let Some(saved) = self.idle.pop() {
                return Ok(Some(saved));
            }
            if self.count(Tier::Device) < self.room(Tier::Device) {
                match forward.saved() {
                    Ok(saved) => return Ok(Some(saved)),
                    // The budget is more than there is.
                    Err(Error::OutOfMemory { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            match self.oldest(Tier::Device) {
                Some(id) => self.spill(id)?,
                None => return Ok(None),
            }
        }
    }

    /// Moves a state off the device; its memory is idle then.
    fn spill(&mut self, id: u64) -> Result<()> {
        let Place::Device(saved) = self.lift(id) else { return Ok(()) };
        let place = if self.has_room_below() {
            let state = pollster::block_on(saved.read(&self.gpu))?;
            self.spilled += 1;
            self.put_on_host(state)
        } else {
            self.give_up()
        };
        self.idle.push(saved);
        self.put(id, place);
        Ok(())
    }

    /// A place for a state that has none on the device.
    fn put_on_host(&mut self, state: SlotState) -> Place {
        if self.room(Tier::Host) == 0 {
            return self.put_on_disk(&state);
        }
        while self.count(Tier::Host) >= self.room(Tier::Host) {
            self.sink();
        }
        Place::Host(state)
    }

    /// Moves the host's oldest state to disk.
    fn sink(&mut self) {
        let Some(id) = self.oldest(Tier::Host) else { return };
        if let Place::Host(state) = self.lift(id) {
            let place = self.put_on_disk(&state);
            self.put(id, place);
        }
    }

    fn put_on_disk(&mut self, state: &SlotState) -> Place {
        if self.room(Tier::Disk) == 0 {
            return self.give_up();
        }
        while self.count(Tier::Disk) >= self.room(Tier::Disk) {
            self.drop_from_disk();
        }
        match self.write(state) {
            Ok(record) => Place::Disk(record),
            Err(error) => {
                self.dropped += 1;
                Place::Gone(format!("it could not be written to disk: {error}"))
            }
        }
    }

    fn write(&mut self, state: &SlotState) -> std::io::Result<Record> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(SpillFile::new(self.budget.folder.as_deref(), self.size)?),
        };
        file.write(state)
    }

    /// Gives up the oldest state on disk.
    fn drop_from_disk(&mut self) {
        let Some(id) = self.oldest(Tier::Disk) else { return };
        let place = self.lift(id);
        self.clear(place);
        let place = self.give_up();
        self.put(id, place);
    }

    /// Takes a state out of the host's memory or off the disk.
    fn take(&mut self, id: u64) -> Result<SlotState> {
        let place = self.lift(id);
        if let Place::Host(state) = place {
            return Ok(state);
        }
        let mut state = SlotState::zero(&self.config);
        let read = match (&place, &mut self.file) {
            (Place::Disk(record), Some(file)) => file.read(record, &mut state),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        self.clear(place);
        read.map(|()| state).map_err(|error| {
            let why = format!("it could not be read back from disk: {error}");
            self.dropped += 1;
            self.put(id, Place::Gone(why.clone()));
            Error::StateNotKept { why }
        })
    }

    /// Frees what lies at a place.
    fn clear(&mut self, place: Place) {
        match place {
            Place::Device(saved) => self.idle.push(saved),
            Place::Disk(record) => {
                if let Some(file) = &mut self.file {
                    file.free(record);
                    self.file.take_if(|file| file.is_empty());
                }
            }
            Place::Host(_) | Place::Gone(_) => {}
        }
    }

    fn free(&mut self, id: u64) {
        if let Some(state) = self.kept.remove(&id) {
            self.clear(state.place);
        }
        // Memory waits only where somebody is likely to want it.
        if self.count(Tier::Device) == 0 {
            self.idle.clear();
        }
    }

    /// Brings all within the budget.
    fn fit(&mut self) -> Result<()> {
        while self.count(Tier::Device) > self.room(Tier::Device) {
            let Some(id) = self.oldest(Tier::Device) else { break };
            self.spill(id)?;
        }
        let room = self.room(Tier::Device) - self.count(Tier::Device);
        self.idle.truncate(room);
        while self.count(Tier::Host) > self.room(Tier::Host) {
            self.sink();
        }
        while self.count(Tier::Disk) > self.room(Tier::Disk) {
            self.drop_from_disk();
        }
        Ok(())
    }
}
