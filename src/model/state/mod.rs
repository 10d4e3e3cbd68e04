//! The recurrent state of the slots, and their logits. A step reads one version of a slot's state and writes the next, so that
//! steps which the host ran ahead can be taken back: a recurrent state cannot be undone otherwise.

mod layout;

pub use layout::{StateDtype, StateLayout, StateTensor};

use crate::error::Result;
use crate::gpu::{Buf, BufferCopy, Gpu, Usage};
use crate::kernels::Activation;
use std::ops::Range;

/// Steps that the host may submit before it has seen the outcome of the first of them.
pub const RUN_AHEAD: usize = 1;
/// Versions of each slot's state: those that steps ahead write, and the one before.
pub const VERSIONS: usize = RUN_AHEAD + 1;

/// State of `slots` conversations. A slot never looks at another.
pub struct StateBank {
    gpu: Gpu,
    slots: usize,
    layout: StateLayout,
    /// Each tensor of the layout: `[slot][version]` and its shape.
    tensors: Vec<Buf<f32>>,
    /// `[slot][version][V]`: after the last token consumed, before sampling changes them.
    pub(super) logits: Activation,
}

/// A slot's state at one moment, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotState {
    layout: StateLayout,
    /// The values of each tensor of the layout, row-major.
    tensors: Vec<Vec<f32>>,
    /// `[V]`: what the next token is chosen from.
    pub logits: Vec<f32>,
}

impl SlotState {
    /// The state before any token. Its logits mean nothing.
    pub fn zero(layout: &StateLayout) -> Self {
        SlotState {
            layout: layout.clone(),
            tensors: layout.tensors().iter().map(|tensor| vec![0.0; tensor.len()]).collect(),
            logits: vec![0.0; layout.logits()],
        }
    }

    /// A state with these values of the layout's tensors, in order.
    pub fn new(layout: &StateLayout, tensors: Vec<Vec<f32>>, logits: Vec<f32>) -> Self {
        let lengths = tensors.iter().chain([&logits]).map(Vec::len);
        assert!(lengths.eq(layout.lengths()), "values of another layout");
        SlotState { layout: layout.clone(), tensors, logits }
    }

    /// What it consists of.
    pub fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// Each tensor of the layout with its values, row-major.
    pub fn tensors(&self) -> impl Iterator<Item = (&StateTensor, &[f32])> {
        self.layout.tensors().iter().zip(self.tensors.iter().map(Vec::as_slice))
    }

    /// [`SlotState::tensors`], to be changed.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (&StateTensor, &mut [f32])> {
        self.layout.tensors().iter().zip(self.tensors.iter_mut().map(Vec::as_mut_slice))
    }

    /// All values, in the order in which they are copied: the tensors, then the logits.
    pub fn values(&self) -> impl Iterator<Item = &[f32]> {
        self.tensors.iter().chain([&self.logits]).map(Vec::as_slice)
    }

    /// [`SlotState::values`], to be filled.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.tensors.iter_mut().chain([&mut self.logits]).map(Vec::as_mut_slice)
    }

    fn from_values(layout: &StateLayout, mut values: &[f32]) -> Self {
        let mut state = SlotState::zero(layout);
        for to in state.values_mut() {
            let (tensor, rest) = values.split_at(to.len());
            to.copy_from_slice(tensor);
            values = rest;
        }
        state
    }
}

/// A slot's state at one moment, on the device.
pub struct Saved {
    layout: StateLayout,
    /// In the order of [`SlotState::values`].
    bufs: Vec<Buf<f32>>,
}

impl Saved {
    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Reads it back.
    pub async fn read(&self, gpu: &Gpu) -> Result<SlotState> {
        let regions: Vec<_> = self.bufs.iter().map(|buf| (buf, 0..buf.len())).collect();
        Ok(SlotState::from_values(&self.layout, &gpu.gather(&regions).await?))
    }

    /// Overwrites it with a state of the same model.
    pub fn write(&self, gpu: &Gpu, state: &SlotState) -> Result<()> {
        assert_eq!(state.layout, self.layout, "a state of another model");
        self.bufs.iter().zip(state.values()).try_for_each(|(buf, values)| gpu.write(buf, 0, values))
    }
}

impl StateBank {
    /// Slots with all states zero.
    pub fn new(gpu: &Gpu, layout: StateLayout, slots: usize) -> Result<Self> {
        let tensors = layout.tensors().iter().map(|tensor| {
            let label = format!("{}_state", tensor.full_name());
            gpu.buffer(label, slots * VERSIONS * tensor.len(), Usage::Storage)
        });
        let tensors = tensors.collect::<Result<_>>()?;
        let logits = Activation::dense(gpu, "logits", slots * VERSIONS, layout.logits())?;
        Ok(StateBank { gpu: gpu.clone(), slots, layout, tensors, logits })
    }

    /// A layer's tensor of all slots, `[slot][version]` and its shape. The layout has it.
    pub(super) fn tensor(&self, layer: usize, name: &str) -> &Buf<f32> {
        let is = |tensor: &StateTensor| tensor.layer == layer && tensor.name == name;
        let at = self.layout.tensors().iter().position(is);
        &self.tensors[at.expect("an architecture asks for the state that it has laid out")]
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// What the state of a slot consists of.
    pub fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// Bytes of one slot's recurrent state, all versions.
    pub fn slot_bytes(&self) -> u64 {
        self.layout.recurrent_bytes() * VERSIONS as u64
    }

    /// The regions of one version of a slot, in the order of [`SlotState::values`].
    fn regions(&self, slot: usize, version: usize) -> impl Iterator<Item = (&Buf<f32>, Range<usize>)> {
        let bufs = self.tensors.iter().chain([&self.logits.buf]);
        bufs.zip(self.layout.lengths()).map(move |(buf, len)| {
            let first = (slot * VERSIONS + version % VERSIONS) * len;
            (buf, first..first + len)
        })
    }

    /// Sets one version of a slot to zero: the state before any token.
    pub fn reset(&self, slot: usize, version: usize) -> Result<()> {
        self.gpu.clear(&self.regions(slot, version).collect::<Vec<_>>())
    }

    /// Memory for one slot's state, beside the bank.
    pub fn saved(&self) -> Result<Saved> {
        let bufs = self.regions(0, 0).map(|(buf, range)| {
            self.gpu.buffer(format!("{} of a saved state", buf.label()), range.len(), Usage::Storage)
        });
        Ok(Saved { layout: self.layout.clone(), bufs: bufs.collect::<Result<_>>()? })
    }

    /// Copies one version of a slot out, after all that was submitted before.
    pub fn save(&self, slot: usize, version: usize, to: &Saved) -> Result<()> {
        let regions = self.regions(slot, version).zip(&to.bufs);
        let moves = regions.map(|((bank, range), saved)| BufferCopy { from: bank, range, to: saved, at: 0 });
        self.gpu.copy(&moves.collect::<Vec<_>>())
    }

    /// Copies a state back into one version of a slot, before anything submitted later runs.
    pub fn restore(&self, slot: usize, version: usize, from: &Saved) -> Result<()> {
        let regions = self.regions(slot, version).zip(&from.bufs);
        let moves = regions.map(|((bank, range), saved)| BufferCopy {
            from: saved,
            range: 0..range.len(),
            to: bank,
            at: range.start,
        });
        self.gpu.copy(&moves.collect::<Vec<_>>())
    }

    /// Reads one version of a slot.
    pub async fn read(&self, slot: usize, version: usize) -> Result<SlotState> {
        let regions: Vec<_> = self.regions(slot, version).collect();
        Ok(SlotState::from_values(&self.layout, &self.gpu.gather(&regions).await?))
    }

    /// Overwrites one version of a slot with a state of the same model, before anything submitted later runs.
    pub fn write(&self, slot: usize, version: usize, state: &SlotState) -> Result<()> {
        assert_eq!(state.layout, self.layout, "a state of another model");
        let mut regions = self.regions(slot, version).zip(state.values());
        regions.try_for_each(|((bank, range), values)| self.gpu.write(bank, range.start, values))
    }

    /// Reads the logits `[V]` of one version of a slot.
    pub async fn read_logits(&self, slot: usize, version: usize) -> Result<Vec<f32>> {
        let first = (slot * VERSIONS + version % VERSIONS) * self.layout.logits();
        self.gpu.read(&self.logits.buf, first..first + self.layout.logits()).await
    }

    /// Copies the first row of `from` to a slot's logits.
    pub(super) fn keep_logits(&self, slot: usize, version: usize, from: &Activation) -> Result<()> {
        let at = (slot * VERSIONS + version % VERSIONS) * self.layout.logits();
        self.gpu.copy(&[BufferCopy { from: &from.buf, range: 0..self.layout.logits(), to: &self.logits.buf, at }])
    }
}
