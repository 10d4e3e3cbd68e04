//! The tiers of kept states (device, host memory, disk): which state moves where, and which is dropped.

use super::spill::{Record, SpillFile};
use super::{Held, StateBudget, StateStats};
use crate::error::{Error, Result};
use crate::model::{Forward, Saved, SlotState, StateLayout};
use std::collections::BTreeMap;

/// Kept states by id, each in one tier.
pub(super) struct Tiers {
    layout: StateLayout,
    budget: StateBudget,
    /// Bytes of one state.
    size: u64,
    kept: BTreeMap<u64, State>,
    /// Device memory that is free for the next state.
    idle: Vec<Saved>,
    file: Option<SpillFile>,
    /// Id of the next state.
    id: u64,
    /// Counts uses, for LRU order.
    clock: u64,
    spilled: u64,
    returned: u64,
    dropped: u64,
}

struct State {
    used: u64,
    place: Place,
}

/// Where a state is.
pub(super) enum Place {
    Device(Saved),
    Host(SlotState),
    Disk(Record),
    /// Lost with its device.
    Lost,
    /// Dropped, with the reason.
    Gone(String),
}

/// Device memory for a state.
pub(super) enum Memory {
    Free(Saved),
    /// That of the state with this id, which has to be spilled first.
    Of(u64, Saved),
    None,
}

/// The tier of a [`Place`].
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

impl Tiers {
    pub(super) fn new(forward: &Forward) -> Self {
        Tiers {
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

    /// Drops the states on a lost device.
    pub(super) fn lose(&mut self) {
        self.idle.clear();
        for state in self.kept.values_mut().filter(|state| state.place.tier() == Some(Tier::Device)) {
            state.place = Place::Lost;
            self.dropped += 1;
        }
    }

    /// Adds a state; returns its id.
    pub(super) fn admit(&mut self, place: Place) -> u64 {
        let (id, used) = (self.id, self.tick());
        self.id += 1;
        self.kept.insert(id, State { used, place });
        id
    }

    /// Marks a state as used and returns it if it is on the device. [`Error::StateNotKept`] if it was dropped.
    pub(super) fn on_device(&mut self, id: u64) -> Result<Option<&Saved>> {
        let used = self.tick();
        let state = self.kept.get_mut(&id).expect("whoever holds a state's number keeps its entry");
        state.used = used;
        match &state.place {
            Place::Device(saved) => Ok(Some(saved)),
            Place::Lost => Err(Error::StateNotKept { why: "the device that it was on was lost".to_owned() }),
            Place::Gone(why) => Err(Error::StateNotKept { why: why.clone() }),
            Place::Host(_) | Place::Disk(_) => Ok(None),
        }
    }

    /// Place of a state that was moved back to the device.
    pub(super) fn put_returned(&mut self, saved: Saved) -> Place {
        self.returned += 1;
        Place::Device(saved)
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

    pub(super) fn set_budget(&mut self, budget: StateBudget) {
        self.budget = budget;
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

    /// Number of states that a tier's budget has room for.
    fn room(&self, tier: Tier) -> usize {
        let bytes = match tier {
            Tier::Device => self.budget.device,
            Tier::Host => self.budget.host,
            Tier::Disk => self.budget.disk,
        };
        usize::try_from(bytes / self.size.max(1)).unwrap_or(usize::MAX)
    }

    /// Whether the host or the disk has any budget.
    pub(super) fn has_room_below(&self) -> bool {
        self.room(Tier::Host) > 0 || self.room(Tier::Disk) > 0
    }

    /// The least recently used state of a tier.
    fn oldest(&self, tier: Tier) -> Option<u64> {
        let there = self.kept.iter().filter(|(_, state)| state.place.tier() == Some(tier));
        there.min_by_key(|(_, state)| state.used).map(|(id, _)| *id)
    }

    /// Sets a state's place; a state that was freed meanwhile is dropped.
    pub(super) fn put(&mut self, id: u64, place: Place) {
        match self.kept.get_mut(&id) {
            Some(state) => state.place = place,
            None => self.clear(place),
        }
    }

    /// Takes a state out of its place while it moves.
    fn lift(&mut self, id: u64) -> Place {
        let moved = Place::Gone("it was being moved".to_owned());
        self.kept.get_mut(&id).map_or(Place::Gone(String::new()), |state| std::mem::replace(&mut state.place, moved))
    }

    pub(super) fn dropped_for_room(&mut self) -> Place {
        self.dropped += 1;
        Place::Gone("there was no room for it within the budget for states".to_owned())
    }

    /// Device memory for one state within the budget, or the state to spill first, lifted from its place.
    pub(super) fn device_memory(&mut self, forward: &Forward) -> Result<Memory> {
        if let Some(saved) = self.idle.pop() {
            return Ok(Memory::Free(saved));
        }
        if self.count(Tier::Device) < self.room(Tier::Device) {
            match forward.saved() {
                Ok(saved) => return Ok(Memory::Free(saved)),
                // The device has less than the budget.
                Err(Error::OutOfMemory { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.lift_oldest_of_device().map_or(Memory::None, |(id, saved)| Memory::Of(id, saved)))
    }

    /// The state to spill next if the device is above its budget, lifted from its place.
    pub(super) fn above_device_budget(&mut self) -> Option<(u64, Saved)> {
        if self.count(Tier::Device) > self.room(Tier::Device) { self.lift_oldest_of_device() } else { None }
    }

    fn lift_oldest_of_device(&mut self) -> Option<(u64, Saved)> {
        let id = self.oldest(Tier::Device)?;
        match self.lift(id) {
            Place::Device(saved) => Some((id, saved)),
            _ => None,
        }
    }

    /// Place of a state that was spilled from the device.
    pub(super) fn put_spilled(&mut self, state: SlotState) -> Place {
        self.spilled += 1;
        self.put_on_host(state)
    }

    /// Keeps device memory for the next state.
    pub(super) fn free_memory(&mut self, saved: Saved) {
        self.idle.push(saved);
    }

    /// Place of a state that is not on the device: the host, else the disk.
    pub(super) fn put_on_host(&mut self, state: SlotState) -> Place {
        if self.room(Tier::Host) == 0 {
            return self.put_on_disk(&state);
        }
        while self.count(Tier::Host) >= self.room(Tier::Host) {
            self.sink();
        }
        Place::Host(state)
    }

    /// Moves the host's least recently used state to disk.
    fn sink(&mut self) {
        let Some(id) = self.oldest(Tier::Host) else { return };
        if let Place::Host(state) = self.lift(id) {
            let place = self.put_on_disk(&state);
            self.put(id, place);
        }
    }

    fn put_on_disk(&mut self, state: &SlotState) -> Place {
        if self.room(Tier::Disk) == 0 {
            return self.dropped_for_room();
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

    /// Drops the least recently used state on disk.
    fn drop_from_disk(&mut self) {
        let Some(id) = self.oldest(Tier::Disk) else { return };
        let place = self.lift(id);
        self.clear(place);
        let place = self.dropped_for_room();
        self.put(id, place);
    }

    /// Takes a state from the host or the disk.
    pub(super) fn take(&mut self, id: u64) -> Result<SlotState> {
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

    /// Frees a place.
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
        // Free memory is only kept while states are on the device.
        if self.count(Tier::Device) == 0 {
            self.idle.clear();
        }
    }

    /// Brings the host and the disk within their budgets, after the device.
    pub(super) fn fit(&mut self) {
        let room = self.room(Tier::Device).saturating_sub(self.count(Tier::Device));
        self.idle.truncate(room);
        while self.count(Tier::Host) > self.room(Tier::Host) {
            self.sink();
        }
        while self.count(Tier::Disk) > self.room(Tier::Disk) {
            self.drop_from_disk();
        }
    }
}
