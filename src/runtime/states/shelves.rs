//! What moves between the device, the host's memory and disk, and what is given up.

use super::spill::{Record, SpillFile};
use super::{Held, StateBudget, StateStats};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, Saved, SlotState, StateLayout};
use std::collections::BTreeMap;

/// States by their number, and where each lies.
pub(super) struct Shelves {
    gpu: Gpu,
    layout: StateLayout,
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
    /// It went with its device.
    Lost,
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
            Place::Lost | Place::Gone(_) => None,
        }
    }
}

impl Shelves {
    pub(super) fn new(forward: &Forward) -> Self {
        Shelves {
            gpu: forward.gpu().clone(),
            layout: forward.state().layout().clone(),
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
        }
    }

    /// The device was lost: what was kept there is gone.
    pub(super) fn lose(&mut self) {
        self.idle.clear();
        for state in self.kept.values_mut().filter(|state| state.place.tier() == Some(Tier::Device)) {
            state.place = Place::Lost;
            self.dropped += 1;
        }
    }

    pub(super) fn adopt(&mut self, gpu: &Gpu) {
        self.gpu = gpu.clone();
    }

    /// Keeps a slot's state; gives its number.
    pub(super) fn keep(&mut self, forward: &Forward, slot: usize) -> Result<u64> {
        let place = match self.device_memory(forward)? {
            Some(saved) => {
                forward.save(slot, 0, &saved)?;
                Place::Device(saved)
            }
            None if self.has_room_below() => {
                let state = pollster::block_on(forward.read_state(slot, 0))?;
                self.put_on_host(state)
            }
            None => self.give_up(),
        };
        let (id, used) = (self.id, self.tick());
        self.id += 1;
        self.kept.insert(id, State { used, place });
        Ok(id)
    }

    /// Puts a slot to a state, which comes to the device where it can.
    pub(super) fn restore(&mut self, forward: &mut Forward, slot: usize, position: u64, id: u64) -> Result<()> {
        let used = self.tick();
        let state = self.kept.get_mut(&id).expect("whoever holds a state's number keeps its entry");
        state.used = used;
        match &state.place {
            Place::Device(saved) => return forward.restore(slot, position, saved),
            Place::Lost => return Err(Error::StateNotKept { why: "the device that it was on was lost".to_owned() }),
            Place::Gone(why) => return Err(Error::StateNotKept { why: why.clone() }),
            Place::Host(_) | Place::Disk(_) => {}
        }
        let state = self.take(id)?;
        let restored = match self.device_memory(forward) {
            Ok(Some(saved)) => saved
                .write(&self.gpu, &state)
                .and_then(|()| forward.restore(slot, position, &saved))
                .map(|()| Some(saved)),
            Ok(None) => forward.write_state(slot, position, &state).map(|()| None),
            Err(error) => Err(error),
        };
        let (place, outcome) = match restored {
            Ok(Some(saved)) => {
                self.returned += 1;
                (Place::Device(saved), Ok(()))
            }
            Ok(None) => (self.put_on_host(state), Ok(())),
            Err(error) => (self.put_on_host(state), Err(error)), // it is kept all the same
        };
        self.put(id, place);
        outcome
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.kept.get(&id).is_some_and(|state| state.place.tier().is_some())
    }

    pub(super) fn was_lost(&self, id: u64) -> bool {
        self.kept.get(&id).is_some_and(|state| matches!(state.place, Place::Lost))
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn set_budget(&mut self, budget: StateBudget) -> Result<()> {
        self.budget = budget;
        self.fit()
    }

    pub(super) fn stats(&self) -> StateStats {
        let held = |tier| {
            let states = self.count(tier);
            Held { states, bytes: states as u64 * self.size }
        };
        StateStats {
            device: held(Tier::Device),
            host: held(Tier::Host),
            disk: held(Tier::Disk),
            idle: self.idle.len() as u64 * self.size,
            spilled: self.spilled,
            returned: self.returned,
            dropped: self.dropped,
        }
    }

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
        let moved = Place::Gone("it was being moved".to_owned());
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
            match pollster::block_on(saved.read(&self.gpu)) {
                Ok(state) => {
                    self.spilled += 1;
                    self.put_on_host(state)
                }
                Err(error) => {
                    self.put(id, Place::Device(saved));
                    return Err(error);
                }
            }
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
        let mut state = SlotState::zero(&self.layout);
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
            Place::Host(_) | Place::Lost | Place::Gone(_) => {}
        }
    }

    pub(super) fn free(&mut self, id: u64) {
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
