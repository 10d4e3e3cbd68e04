//! The recurrent state of the slots, and the logits that it leads to. A step reads one version of a slot's state and writes the
//! next, so that steps which the host ran ahead can be taken back: a Mamba state cannot be undone otherwise.

use super::config::Config;
use crate::error::Result;
use crate::gpu::{Buf, BufferCopy, Gpu, Usage};
use crate::kernels::Activation;
use std::ops::Range;

/// Steps that the host may submit before it has seen the outcome of the first of them.
pub const RUN_AHEAD: usize = 1;
/// Versions of each slot's state: what the run-ahead overwrites, and the one before.
pub const VERSIONS: usize = RUN_AHEAD + 1;

/// State of `slots` conversations. A slot never looks at another.
pub struct StateBank {
    gpu: Gpu,
    slots: usize,
    sizes: Sizes,
    /// A layer: `[slot][version][K - 1][D]`, the inputs of the convolution, oldest first.
    pub(super) conv: Vec<Buf<f32>>,
    /// A layer: `[slot][version][N][D]`, h.
    pub(super) ssm: Vec<Buf<f32>>,
    /// `[slot][version][V]`: after the last token consumed, before any rule of sampling.
    pub(super) logits: Activation,
}

/// Values of one slot's state in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    layers: usize,
    conv: usize,
    ssm: usize,
    logits: usize,
}

impl Sizes {
    fn of(config: &Config) -> Self {
        Sizes {
            layers: config.layers,
            conv: (config.conv_kernel - 1) * config.inner,
            ssm: config.state * config.inner,
            logits: config.vocab,
        }
    }

    fn bytes(self) -> u64 {
        ((self.layers * (self.conv + self.ssm) + self.logits) * size_of::<f32>()) as u64
    }
}

/// A slot's state at one moment, on the host: a layer's values in the order of [`StateBank`].
#[derive(Debug, Clone, PartialEq)]
pub struct SlotState {
    /// A layer: `[K - 1, D]`, oldest first.
    pub conv: Vec<Vec<f32>>,
    /// A layer: `[N, D]`.
    pub ssm: Vec<Vec<f32>>,
    /// `[V]`: what the next token is chosen from.
    pub logits: Vec<f32>,
}

impl SlotState {
    /// The state before any token of a model; its logits say nothing.
    pub fn zero(config: &Config) -> Self {
        let sizes = Sizes::of(config);
        SlotState {
            conv: vec![vec![0.0; sizes.conv]; sizes.layers],
            ssm: vec![vec![0.0; sizes.ssm]; sizes.layers],
            logits: vec![0.0; sizes.logits],
        }
    }

    fn sizes(&self) -> Option<Sizes> {
        let layers = self.conv.len();
        let sizes =
            Sizes { layers, conv: self.conv.first()?.len(), ssm: self.ssm.first()?.len(), logits: self.logits.len() };
        let alike = self.ssm.len() == layers
            && self.conv.iter().all(|conv| conv.len() == sizes.conv)
            && self.ssm.iter().all(|ssm| ssm.len() == sizes.ssm);
        alike.then_some(sizes)
    }

    /// Whether it is of a model of this shape.
    pub fn fits(&self, config: &Config) -> bool {
        self.sizes() == Some(Sizes::of(config))
    }

    /// The parts in the order in which they are copied: convolutions, states, logits.
    pub fn parts(&self) -> impl Iterator<Item = &[f32]> {
        self.conv.iter().chain(&self.ssm).chain([&self.logits]).map(Vec::as_slice)
    }

    /// [`SlotState::parts`], to be filled.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.conv.iter_mut().chain(&mut self.ssm).chain([&mut self.logits]).map(Vec::as_mut_slice)
    }

    fn of_parts(mut values: &[f32], sizes: Sizes) -> Self {
        let mut take = |len: usize| {
            let (part, rest) = values.split_at(len);
            values = rest;
            part.to_vec()
        };
        SlotState {
            conv: (0..sizes.layers).map(|_| take(sizes.conv)).collect(),
            ssm: (0..sizes.layers).map(|_| take(sizes.ssm)).collect(),
            logits: take(sizes.logits),
        }
    }
}

/// A slot's state at one moment, on the device.
pub struct Saved {
    sizes: Sizes,
    /// In the order of [`SlotState::parts`].
    parts: Vec<Buf<f32>>,
}

impl Saved {
    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        self.sizes.bytes()
    }

    /// Reads it back.
    pub async fn read(&self, gpu: &Gpu) -> Result<SlotState> {
        let regions: Vec<_> = self.parts.iter().map(|part| (part, 0..part.len())).collect();
        Ok(SlotState::of_parts(&gpu.gather(&regions).await?, self.sizes))
    }

    /// Makes it this state, which must be of the same model.
    pub fn write(&self, gpu: &Gpu, state: &SlotState) -> Result<()> {
        assert_eq!(state.sizes(), Some(self.sizes), "a state of another model");
        self.parts.iter().zip(state.parts()).try_for_each(|(part, values)| gpu.write(part, 0, values))
    }
}

impl StateBank {
    /// Slots with all states zero.
    pub fn new(gpu: &Gpu, config: &Config, slots: usize) -> Result<Self> {
        let sizes = Sizes::of(config);
        let bufs = |what: &str, len: usize| {
            (0..config.layers)
                .map(|i| gpu.buffer(format!("layer.{i}.{what}_state"), slots * VERSIONS * len, Usage::Storage))
                .collect::<Result<Vec<_>>>()
        };
        Ok(StateBank {
            gpu: gpu.clone(),
            slots,
            sizes,
            conv: bufs("conv", sizes.conv)?,
            ssm: bufs("ssm", sizes.ssm)?,
            logits: Activation::dense(gpu, "logits", slots * VERSIONS, sizes.logits)?,
        })
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of one slot's recurrent state, all versions.
    pub fn slot_bytes(&self) -> u64 {
        ((self.sizes.conv + self.sizes.ssm) * size_of::<f32>() * VERSIONS * self.sizes.layers) as u64
    }

    /// Bytes of a [`Saved`], or of a [`SlotState`].
    pub fn saved_bytes(&self) -> u64 {
        self.sizes.bytes()
    }

    /// Each part of one version of a slot, in the order of [`SlotState::parts`].
    fn parts(&self, slot: usize, version: usize) -> impl Iterator<Item = (&Buf<f32>, Range<usize>)> {
        let range = move |len: usize| {
            let first = (slot * VERSIONS + version % VERSIONS) * len;
            first..first + len
        };
        let sizes = self.sizes;
        let conv = self.conv.iter().map(move |buf| (buf, range(sizes.conv)));
        let ssm = self.ssm.iter().map(move |buf| (buf, range(sizes.ssm)));
        conv.chain(ssm).chain([(&self.logits.buf, range(sizes.logits))])
    }

    /// Sets one version of a slot to zero: the state before any token.
    pub fn reset(&self, slot: usize, version: usize) -> Result<()> {
        self.gpu.clear(&self.parts(slot, version).collect::<Vec<_>>())
    }

    /// Memory for one slot's state, beside the bank.
    pub fn saved(&self) -> Result<Saved> {
        let parts = self.parts(0, 0);
        let parts = parts.map(|(buf, range)| {
            self.gpu.buffer(format!("{} of a saved state", buf.label()), range.len(), Usage::Storage)
        });
        Ok(Saved { sizes: self.sizes, parts: parts.collect::<Result<_>>()? })
    }

    /// Copies one version of a slot out, after all that was submitted before.
    pub fn save(&self, slot: usize, version: usize, to: &Saved) -> Result<()> {
        let parts = self.parts(slot, version).zip(&to.parts);
        let moves: Vec<_> =
            parts.map(|((bank, range), saved)| BufferCopy { from: bank, range, to: saved, at: 0 }).collect();
        self.gpu.copy(&moves)
    }

    /// Copies a state back into one version of a slot, before anything submitted later runs.
    pub fn restore(&self, slot: usize, version: usize, from: &Saved) -> Result<()> {
        let parts = self.parts(slot, version).zip(&from.parts);
        let back = parts.map(|((bank, range), saved)| BufferCopy {
            from: saved,
            range: 0..range.len(),
            to: bank,
            at: range.start,
        });
        self.gpu.copy(&back.collect::<Vec<_>>())
    }

    /// Reads one version of a slot.
    pub async fn read(&self, slot: usize, version: usize) -> Result<SlotState> {
        let regions: Vec<_> = self.parts(slot, version).collect();
        Ok(SlotState::of_parts(&self.gpu.gather(&regions).await?, self.sizes))
    }

    /// Makes one version of a slot this state, which must fit the model, before anything submitted later runs.
    pub fn write(&self, slot: usize, version: usize, state: &SlotState) -> Result<()> {
        assert_eq!(state.sizes(), Some(self.sizes), "a state of another model");
        let parts = self.parts(slot, version).zip(state.parts());
        parts.into_iter().try_for_each(|((bank, range), values)| self.gpu.write(bank, range.start, values))
    }

    /// Reads the logits `[V]` of one version of a slot.
    pub async fn read_logits(&self, slot: usize, version: usize) -> Result<Vec<f32>> {
        let first = (slot * VERSIONS + version % VERSIONS) * self.sizes.logits;
        self.gpu.read(&self.logits.buf, first..first + self.sizes.logits).await
    }

    /// Keeps the first row of `from` as a slot's logits.
    pub(super) fn keep_logits(&self, slot: usize, version: usize, from: &Activation) -> Result<()> {
        let at = (slot * VERSIONS + version % VERSIONS) * self.sizes.logits;
        self.gpu.copy(&[BufferCopy { from: &from.buf, range: 0..self.sizes.logits, to: &self.logits.buf, at }])
    }
}
