//! The host's side of the slots: their positions, their sampling rules, and which of them decode.

use super::forward::Forward;
use super::state::{RUN_AHEAD, Saved, SlotState, VERSIONS};
use crate::error::Result;
use crate::gpu::Stages;
use crate::kernels::select::{self, SamplingParams, WINDOW};
use crate::kernels::{Batch, RowEntry, size};

impl Forward {
    /// Tokens that a slot has consumed.
    pub fn position(&self, slot: usize) -> u64 {
        self.slots[slot].position
    }

    /// The current version of a slot's state, for [`super::StateBank::read`].
    pub fn version(&self, slot: usize) -> usize {
        self.slots[slot].version as usize % VERSIONS
    }

    /// Resets a slot to before its first token. Nothing may be in flight. After an error the slot is unchanged.
    pub fn reset(&mut self, slot: usize) -> Result<()> {
        self.state.reset(slot, self.next_version(slot))?;
        self.arrive_at(slot, 0);
        Ok(())
    }

    /// The version that the next step of a slot writes. Until the step is done, the previous version holds the state.
    fn next_version(&self, slot: usize) -> usize {
        (self.slots[slot].version as usize + 1) % VERSIONS
    }

    /// Makes the next version of a slot its state, after `position` tokens.
    fn arrive_at(&mut self, slot: usize, position: u64) {
        self.moved(slot);
        let now = &mut self.slots[slot];
        (now.position, now.version) = (position, now.version.wrapping_add(1));
    }

    /// Sets a slot's sampling rules.
    pub fn set_rules(&mut self, slot: usize, rules: SamplingParams) -> Result<()> {
        self.stages[slot] = rules.stages(self.config.vocab);
        self.gpu.write(&self.rules, slot, &[rules])
    }

    /// The stages of sampling that these slots need.
    pub(super) fn stages_of(&self, slots: &[usize]) -> Stages {
        slots.iter().map(|slot| self.stages[*slot]).fold(Stages::NONE, Stages::and)
    }

    /// The stages of sampling that all slots together need.
    pub(super) fn all_stages(&self) -> Stages {
        self.stages.iter().copied().fold(Stages::NONE, Stages::and)
    }

    /// Sets the bias `[V]` that is added to a slot's logits before sampling; -inf bans a token.
    pub fn set_bias(&mut self, slot: usize, bias: &[f32]) -> Result<()> {
        self.gpu.write(&self.bias, slot * self.config.vocab, bias)
    }

    /// Sets the tokens that a slot's penalties look at: the last `window` of `tokens`, which end at position `end` of the slot's
    /// text.
    pub fn set_recent(&mut self, slot: usize, (tokens, end): (&[u32], u64), window: usize) -> Result<()> {
        let vocab = self.config.vocab;
        let recent = select::recent(tokens, end, window, vocab);
        self.gpu.write(&self.recent, slot * (WINDOW + vocab), &recent)
    }

    /// Sets the slots that the next decode steps advance, in the order of their rows. Nothing may be in flight.
    pub fn set_decoding(&mut self, slots: &[usize]) -> Result<()> {
        if self.decoding == slots {
            return Ok(());
        }
        let rows: Vec<RowEntry> = slots
            .iter()
            .map(|slot| {
                let now = self.slots[*slot];
                RowEntry { slot: size(*slot), id: now.next, position: now.position as u32, version: now.version }
            })
            .collect();
        self.decoding.clear(); // until the device has the new table
        self.gpu.write(&self.table, 0, &rows)?;
        let batch = Batch { rows: size(slots.len()), advance: 1, ..Default::default() };
        self.gpu.write(&self.decode.batch, 0, &[batch])?;
        self.decoding = slots.to_vec();
        Ok(())
    }

    /// Takes back the last `steps` decode steps of a slot (at most [`RUN_AHEAD`]), as if it had not consumed their tokens.
    pub fn take_back(&mut self, slot: usize, steps: usize) {
        assert!(steps <= RUN_AHEAD, "at most {RUN_AHEAD} steps can be taken back");
        let now = &mut self.slots[slot];
        now.position -= steps as u64;
        now.version = now.version.wrapping_sub(size(steps));
        self.moved(slot);
    }

    /// Copies a slot's state of `steps` decode steps ago (at most [`RUN_AHEAD`]); those steps may still be in flight.
    pub fn save(&self, slot: usize, steps: usize, to: &Saved) -> Result<()> {
        assert!(steps <= RUN_AHEAD, "at most {RUN_AHEAD} steps back are kept");
        self.state.save(slot, self.slots[slot].version.wrapping_sub(size(steps)) as usize, to)
    }

    /// Restores a slot to a state that was saved after `position` tokens. Nothing may be in flight. After an error the slot is
    /// unchanged.
    pub fn restore(&mut self, slot: usize, position: u64, from: &Saved) -> Result<()> {
        self.state.restore(slot, self.next_version(slot), from)?;
        self.arrive_at(slot, position);
        Ok(())
    }

    /// Reads a slot's state and logits of `steps` decode steps ago (at most [`RUN_AHEAD`]); those steps may still be in flight.
    pub async fn read_state(&self, slot: usize, steps: usize) -> Result<SlotState> {
        assert!(steps <= RUN_AHEAD, "at most {RUN_AHEAD} steps back are kept");
        self.state.read(slot, self.slots[slot].version.wrapping_sub(size(steps)) as usize).await
    }

    /// Overwrites a slot's state with one of this model, after `position` tokens. Nothing may be in flight. After an error the slot
    /// is unchanged.
    pub fn write_state(&mut self, slot: usize, position: u64, state: &SlotState) -> Result<()> {
        self.state.write(slot, self.next_version(slot), state)?;
        self.arrive_at(slot, position);
        Ok(())
    }

    /// Bytes of a [`Saved`], or of a [`SlotState`].
    pub fn state_bytes(&self) -> u64 {
        self.state.layout().bytes()
    }

    /// Memory for [`Forward::save`].
    pub fn saved(&self) -> Result<Saved> {
        self.state.saved()
    }

    /// Sets the token that a slot is fed next, instead of the sampled one.
    pub fn set_next(&mut self, slot: usize, id: u32) -> Result<()> {
        self.check_ids(&[id])?;
        self.slots[slot].next = id;
        self.moved(slot);
        Ok(())
    }

    /// Notes that the device's row table no longer matches a slot.
    pub(super) fn moved(&mut self, slot: usize) {
        if self.decoding.contains(&slot) {
            self.decoding.clear();
        }
    }

    /// The slots that the next step advances, in the order of their rows.
    pub fn decoding(&self) -> &[usize] {
        &self.decoding
    }
}
