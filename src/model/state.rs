//! The recurrent state of the slots. A step reads one version of a slot's state and writes the next, so that steps which
//! the host ran ahead can be taken back: a Mamba state cannot be undone otherwise.

use super::config::Config;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Move, Usage};
use std::ops::Range;

/// Steps that the host may submit before it has seen the outcome of the first of them.
pub const RUN_AHEAD: usize = 1;
/// Versions of each slot's state: what the run-ahead overwrites, and the one before.
pub const VERSIONS: usize = RUN_AHEAD + 1;

/// State of `slots` conversations. A slot never looks at another.
pub struct StateBank {
    gpu: Gpu,
    slots: usize,
    conv_len: usize,
    ssm_len: usize,
    /// A layer: `[slot][version][K - 1][D]`, the inputs of the convolution, oldest first.
    pub(super) conv: Vec<Buf<f32>>,
    /// A layer: `[slot][version][N][D]`, h.
    pub(super) ssm: Vec<Buf<f32>>,
}

/// A slot's state at one moment, on the host: a layer's values in the order of [`StateBank`].
#[derive(Debug, Clone, PartialEq)]
pub struct SlotState {
    /// A layer: `[K - 1, D]`, oldest first.
    pub conv: Vec<Vec<f32>>,
    /// A layer: `[N, D]`.
    pub ssm: Vec<Vec<f32>>,
}

/// A slot's state at one moment, on the device.
pub struct Saved {
    conv: Vec<Buf<f32>>,
    ssm: Vec<Buf<f32>>,
}

impl StateBank {
    /// Slots with all states zero.
    pub fn new(gpu: &Gpu, config: &Config, slots: usize) -> Result<Self> {
        let conv_len = (config.conv_kernel - 1) * config.inner;
        let ssm_len = config.state * config.inner;
        let bufs = |what: &str, len: usize| {
            (0..config.layers)
                .map(|i| gpu.buffer(format!("layer.{i}.{what}_state"), slots * VERSIONS * len, Usage::Storage))
                .collect::<Result<Vec<_>>>()
        };
        Ok(StateBank {
            gpu: gpu.clone(),
            slots,
            conv_len,
            ssm_len,
            conv: bufs("conv", conv_len)?,
            ssm: bufs("ssm", ssm_len)?,
        })
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of one slot, all versions.
    pub fn slot_bytes(&self) -> u64 {
        ((self.conv_len + self.ssm_len) * size_of::<f32>() * VERSIONS * self.conv.len()) as u64
    }

    fn range(len: usize, slot: usize, version: usize) -> Range<usize> {
        let first = (slot * VERSIONS + version % VERSIONS) * len;
        first..first + len
    }

    /// Sets one version of a slot to zero: the state before any token.
    pub fn reset(&self, slot: usize, version: usize) -> Result<()> {
        let conv = self.conv.iter().map(|buf| (buf, Self::range(self.conv_len, slot, version)));
        let ssm = self.ssm.iter().map(|buf| (buf, Self::range(self.ssm_len, slot, version)));
        self.gpu.clear(&conv.chain(ssm).collect::<Vec<_>>())
    }

    /// Memory for one slot's state, beside the bank.
    pub fn saved(&self) -> Result<Saved> {
        let bufs = |what: &str, len: usize| {
            (0..self.conv.len())
                .map(|i| self.gpu.buffer(format!("layer.{i}.{what}_saved"), len, Usage::Storage))
                .collect::<Result<Vec<_>>>()
        };
        Ok(Saved { conv: bufs("conv", self.conv_len)?, ssm: bufs("ssm", self.ssm_len)? })
    }

    /// Each layer's part of one version of a slot, with its place in a [`Saved`].
    fn parts<'a>(
        &'a self,
        slot: usize,
        version: usize,
        saved: &'a Saved,
    ) -> impl Iterator<Item = (&'a Buf<f32>, Range<usize>, &'a Buf<f32>)> {
        let conv = Self::range(self.conv_len, slot, version);
        let ssm = Self::range(self.ssm_len, slot, version);
        let conv = self.conv.iter().zip(&saved.conv).map(move |(bank, saved)| (bank, conv.clone(), saved));
        conv.chain(self.ssm.iter().zip(&saved.ssm).map(move |(bank, saved)| (bank, ssm.clone(), saved)))
    }

    /// Copies one version of a slot out, after all that was submitted before.
    pub fn save(&self, slot: usize, version: usize, to: &Saved) -> Result<()> {
        let parts = self.parts(slot, version, to);
        let moves: Vec<_> = parts.map(|(bank, range, saved)| Move { from: bank, range, to: saved, at: 0 }).collect();
        self.gpu.copy(&moves)
    }

    /// Copies a state back into one version of a slot, before anything submitted later runs.
    pub fn restore(&self, slot: usize, version: usize, from: &Saved) -> Result<()> {
        let parts = self.parts(slot, version, from);
        let back =
            parts.map(|(bank, range, saved)| Move { from: saved, range: 0..range.len(), to: bank, at: range.start });
        self.gpu.copy(&back.collect::<Vec<_>>())
    }

    /// Reads one version of a slot.
    pub async fn read(&self, slot: usize, version: usize) -> Result<SlotState> {
        let mut state = SlotState { conv: vec![], ssm: vec![] };
        for (conv, ssm) in self.conv.iter().zip(&self.ssm) {
            state.conv.push(self.gpu.read(conv, Self::range(self.conv_len, slot, version)).await?);
            state.ssm.push(self.gpu.read(ssm, Self::range(self.ssm_len, slot, version)).await?);
        }
        Ok(state)
    }
}
