//! The model on the device: runs the plans of prefill and decode.

use super::config::Config;
use super::layers::{Builder, Decode, Prefill};
use super::options::{AUTOMATIC, ForwardOptions};
use super::scratch::{Layout, Scratch};
use super::slots::{Slot, UNKNOWN};
use super::state::{RUN_AHEAD, StateBank, VERSIONS};
use super::tune;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::gpu::{Buf, Copy, Gpu, Pending, Usage};
use crate::kernels::embed::GivenRows;
use crate::kernels::scan;
use crate::kernels::select::{ALL_BANNED, NOT_FINITE, Rules, WINDOW};
use crate::kernels::variants::Variants;
use crate::kernels::{Batch, Phase, Row, size};
use std::sync::Arc;

/// Tokens of a chunk, at most.
const MAX_CHUNK: usize = 8192;

/// Which logits a prefill is to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// After the last token.
    Last,
    /// After each token.
    All,
}

/// A model ready to run, with the states of its slots.
pub struct Forward {
    pub(super) gpu: Gpu,
    pub(super) config: Config,
    variants: Variants,
    weights: Arc<Weights>,
    pub(super) state: StateBank,
    pub(super) slots: Vec<Slot>,
    /// Slots of the rows of a decode step, in order.
    pub(super) decoding: Vec<usize>,
    /// The row table: a row for each slot, and one more for the choice after a prefill.
    pub(super) table: Buf<Row>,
    pub(super) rules: Buf<Rules>,
    pub(super) bias: Buf<f32>,
    pub(super) recent: Buf<u32>,
    chunk: usize,
    /// Rows of the last chunk.
    fed_rows: usize,
    /// What made the last choice, and so holds its logits.
    last_choice: Phase,
    pub(super) prefill: Prefill,
    pub(super) decode: Decode,
}

/// The tokens that a decode step chooses, on their way to the host.
pub struct Choosing {
    pending: Pending<u32>,
    slots: Vec<usize>,
    positions: Vec<u64>,
    decode: bool,
}

impl Choosing {
    /// The first of its slots.
    pub fn slot(&self) -> usize {
        self.slots[0]
    }
}

impl Forward {
    /// Chooses the forms of the kernels, records the plans and makes the states, all zero.
    pub fn new(gpu: &Gpu, config: &Config, weights: Arc<Weights>, options: ForwardOptions) -> Result<Self> {
        let mut options = options;
        if options.segments == AUTOMATIC {
            options.segments = scan::segments_for(gpu.caps(), config.inner, config.state, options.chunk);
        }
        for (name, value) in [("slots", options.slots), ("chunk", options.chunk), ("segments", options.segments)] {
            if !(1..=MAX_CHUNK).contains(&value) {
                return Err(Error::BadSetting { name, value: value.to_string(), problem: "it must be from 1 to 8192" });
            }
        }
        let variants = tune::variants(gpu, config, &weights, options)?;
        Self::with_variants(gpu, config, weights, options, variants)
    }

    /// [`Forward::new`] with forms that were chosen already.
    pub(super) fn with_variants(
        gpu: &Gpu,
        config: &Config,
        weights: Arc<Weights>,
        options: ForwardOptions,
        variants: Variants,
    ) -> Result<Self> {
        let limit = gpu.caps().span_limit();
        let row = Scratch::widest_row(config).max((config.vocab * size_of::<f32>() * options.slots) as u64);
        if row > limit {
            return Err(Error::RowTooLarge { what: "an activation".to_owned(), bytes: row, limit });
        }
        let memory = ((WINDOW + config.vocab) * size_of::<u32>() * options.slots) as u64;
        let limit_of_memory = gpu.caps().device_binding_limit;
        if memory > limit_of_memory {
            let what = "what penalties look at, of all slots".to_owned();
            return Err(Error::RowTooLarge { what, bytes: memory, limit: limit_of_memory });
        }
        let layout = Layout::of(config, options, limit);
        let state = StateBank::new(gpu, config, options.slots)?;
        let table = gpu.buffer("row table", options.slots + 1, Usage::Storage)?;
        let rules = gpu.upload("rules", &vec![Rules::GREEDY; options.slots], Usage::Storage)?;
        let bias = gpu.buffer("bias", options.slots * config.vocab, Usage::Storage)?;
        let recent = gpu.buffer("recent", options.slots * (WINDOW + config.vocab), Usage::Storage)?;
        let build = Builder {
            gpu,
            variants,
            config,
            weights: &weights,
            state: &state,
            table: &table,
            rules: &rules,
            bias: &bias,
            recent: &recent,
        };
        let prefill = build.prefill(layout)?;
        let decode = build.decode(options.slots)?;
        Ok(Forward {
            gpu: gpu.clone(),
            config: config.clone(),
            variants,
            state,
            slots: vec![Slot::default(); options.slots],
            decoding: vec![],
            table,
            rules,
            bias,
            recent,
            chunk: layout.chunk,
            fed_rows: 0,
            last_choice: Phase::Prefill,
            prefill,
            decode,
            weights,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which forms of the kernels it runs.
    pub fn variants(&self) -> Variants {
        self.variants
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The states.
    pub fn state(&self) -> &StateBank {
        &self.state
    }

    /// Tokens that a prefill step takes, at most.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    pub(super) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.config.vocab;
        match ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            Some((at, id)) => Err(Error::IdOutOfRange { id: *id, at, vocab }),
            None if ids.is_empty() => Err(Error::NoTokens),
            None => Ok(()),
        }
    }

    /// Feeds one chunk of at most [`Forward::chunk`] tokens to a slot. Submits and returns.
    pub fn feed(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.stage(slot, ids)?;
        self.prefill.body.run(ids.len())?;
        Ok(())
    }

    pub(super) fn stage(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.check_ids(ids)?;
        assert!(ids.len() <= self.chunk, "a chunk is at most {} tokens", self.chunk);
        let rows: Vec<Row> = ids.iter().map(|id| Row { id: *id, ..Default::default() }).collect();
        self.gpu.write(&self.prefill.rows, 0, &rows)?;
        self.give(&self.prefill.given, ids)?;
        let now = &mut self.slots[slot];
        let version = |v: u32| v % size(VERSIONS);
        let batch = Batch {
            rows: size(ids.len()),
            slot: size(slot),
            read_version: version(now.version),
            write_version: version(now.version + 1),
            ..Default::default()
        };
        now.version = now.version.wrapping_add(1);
        now.position += ids.len() as u64;
        self.fed_rows = ids.len();
        self.decoding.clear();
        self.gpu.write(&self.prefill.batch, 0, &[batch])
    }

    /// Sends the rows of these tokens where the table of embeddings is on the host.
    fn give(&self, given: &Option<GivenRows>, ids: &[u32]) -> Result<()> {
        match (given, self.weights.embedding.on_host()) {
            (Some(given), Some(table)) => given.set(&self.gpu, &table.rows(ids)?),
            _ => Ok(()),
        }
    }

    /// Steps that may be submitted before the tokens of the one before them have arrived: [`RUN_AHEAD`], or none where the
    /// table of embeddings is on the host.
    pub fn run_ahead(&self) -> usize {
        if self.decode.given.is_some() { 0 } else { RUN_AHEAD }
    }

    /// Feeds any number of tokens in chunks; `fed` is told after each chunk and may stop by an error.
    pub fn prefill(&mut self, slot: usize, ids: &[u32], mut fed: impl FnMut(usize) -> Result<()>) -> Result<()> {
        self.check_ids(ids)?;
        for piece in ids.chunks(self.chunk) {
            self.feed(slot, piece)?;
            fed(piece.len())?;
        }
        Ok(())
    }

    /// Runs the head on rows `first..first + count` of the last chunk.
    fn run_head(&self, slot: usize, first: usize, count: usize) -> Result<()> {
        let entry = size(self.slots.len());
        let batch = Batch { rows: size(count), first: size(first), slot: size(slot), entry, ..Default::default() };
        self.gpu.write(&self.prefill.head_batch, 0, &[batch])?;
        self.prefill.head.run(count)?;
        Ok(())
    }

    /// Feeds tokens and hands their logits to `see`, some `[rows, V]` at a time, in order.
    pub async fn prefill_logits(
        &mut self,
        slot: usize,
        ids: &[u32],
        which: Logits,
        mut see: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check_ids(ids)?;
        let mut left = ids.len();
        for piece in ids.chunks(self.chunk) {
            self.feed(slot, piece)?;
            left -= piece.len();
            let first = match which {
                Logits::All => 0,
                Logits::Last if left == 0 => piece.len() - 1,
                Logits::Last => continue,
            };
            for at in (first..piece.len()).step_by(self.prefill.head_rows) {
                let count = self.prefill.head_rows.min(piece.len() - at);
                self.run_head(slot, at, count)?;
                see(&self.prefill.logits.read(&self.gpu, count, 0..self.config.vocab).await?)?;
            }
        }
        Ok(())
    }

    /// Chooses the token after the last chunk, which must have been this slot's.
    pub fn choose_after(&mut self, slot: usize) -> Result<Choosing> {
        if self.fed_rows == 0 {
            return Err(Error::NoTokens);
        }
        let now = self.slots[slot];
        let entry = Row { slot: size(slot), id: 0, position: now.position as u32, version: now.version };
        self.gpu.write(&self.table, self.slots.len(), &[entry])?;
        self.run_head(slot, self.fed_rows - 1, 1)?;
        self.last_choice = Phase::Prefill;
        let to = self.gpu.readback("chosen", 1)?;
        let copy = Copy { from: &self.prefill.chosen, range: 0..1, to: &to };
        let submitted = self.prefill.select.run_to(1, Some(copy))?;
        Ok(Choosing { pending: to.after(submitted), slots: vec![slot], positions: vec![now.position], decode: false })
    }

    /// Feeds each decoding slot its chosen token and chooses the next. Submits and returns; at most [`Forward::run_ahead`] steps may
    /// be under way beside it.
    pub fn step(&mut self) -> Result<Choosing> {
        let count = self.decoding.len();
        if count == 0 {
            return Err(Error::NoTokens);
        }
        if self.decode.given.is_some() {
            let ids: Vec<u32> = self.decoding.iter().map(|slot| self.slots[*slot].next).collect();
            assert!(!ids.contains(&UNKNOWN), "a step needs the tokens that the one before it chose");
            self.give(&self.decode.given, &ids)?;
        }
        let to = match self.decode.readbacks.pop() {
            Some(readback) => readback,
            None => self.gpu.readback("chosen", self.slots.len())?,
        };
        let copy = Copy { from: &self.decode.chosen, range: 0..count, to: &to };
        let submitted = self.decode.plan.run_to(count, Some(copy))?;
        self.last_choice = Phase::Decode;
        for slot in &self.decoding {
            let now = &mut self.slots[*slot];
            now.position += 1;
            if self.decode.given.is_some() {
                now.next = UNKNOWN;
            }
            now.version = now.version.wrapping_add(1);
        }
        Ok(Choosing {
            pending: to.after(submitted),
            positions: self.decoding.iter().map(|slot| self.slots[*slot].position).collect(),
            slots: self.decoding.clone(),
            decode: true,
        })
    }

    /// Waits for the tokens of a step, in the order of its rows.
    pub async fn chosen(&mut self, choosing: Choosing) -> Result<Vec<u32>> {
        let (mut ids, readback) = choosing.pending.get().await?;
        if choosing.decode && self.decode.readbacks.len() <= RUN_AHEAD {
            self.decode.readbacks.push(readback);
        }
        ids.truncate(choosing.slots.len());
        for ((slot, id), position) in choosing.slots.iter().zip(&ids).zip(&choosing.positions) {
            match *id {
                NOT_FINITE => return Err(Error::NotFinite { position: *position }),
                ALL_BANNED => return Err(Error::AllBanned { position: *position }),
                id => self.slots[*slot].next = id,
            }
        }
        Ok(ids)
    }

    /// Logits `[V]` that the last choice was made from, of its first row.
    pub async fn last_logits(&self) -> Result<Vec<f32>> {
        match self.last_choice {
            Phase::Prefill => self.gpu.read(&self.prefill.logits.buf, 0..self.config.vocab).await,
            Phase::Decode => self.decode_logits(0).await,
        }
    }

    /// Logits `[V]` of a row of the last decode step.
    pub async fn decode_logits(&self, row: usize) -> Result<Vec<f32>> {
        let vocab = self.config.vocab;
        self.gpu.read(&self.decode.logits.buf, row * vocab..(row + 1) * vocab).await
    }
}
