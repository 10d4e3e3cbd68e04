//! The model on the device: runs the plans of prefill and decode.

use super::capacity::Capacity;
use super::chunk;
use super::config::Config;
use super::options::{AUTOMATIC, ForwardOptions};
use super::plans::{Decode, Prefill, Recorder};
use super::state::{RUN_AHEAD, StateBank, VERSIONS};
use super::tune;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::gpu::{Buf, Gpu, Pending, ReadbackCopy, Stages, Submitted, Usage};
use crate::kernels::embed::GivenRows;
use crate::kernels::select::{ALL_BANNED, NOT_FINITE, SamplingParams, SelectVariant, Tallies, WINDOW};
use crate::kernels::variants::Variants;
use crate::kernels::{Batch, RowEntry, size};
use std::collections::VecDeque;
use std::sync::Arc;

/// No token; vocabularies are smaller.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// The host's view of a slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    /// Tokens consumed.
    pub(super) position: u64,
    /// Steps taken.
    pub(super) version: u32,
    /// The token to feed next; [`UNKNOWN`] while it is on its way from the device.
    pub(super) next: u32,
}

/// Which logits a prefill returns.
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
    pub(super) table: Buf<RowEntry>,
    pub(super) rules: Buf<SamplingParams>,
    /// The stages of sampling that each slot's rules need.
    pub(super) stages: Vec<Stages>,
    pub(super) bias: Buf<f32>,
    pub(super) recent: Buf<u32>,
    pub(super) chunk: usize,
    pub(super) segments: usize,
    /// The last chunk: its slot and rows.
    pub(super) fed: Option<(usize, usize)>,
    /// Chunks in flight, oldest first.
    pub(super) in_flight: VecDeque<Submitted>,
    pub(super) prefill: Prefill,
    pub(super) decode: Decode,
}

/// The tokens that a decode step has chosen, on their way to the host.
pub struct Choosing {
    pending: Pending<u32>,
    slots: Vec<usize>,
    positions: Vec<u64>,
    decode: bool,
}

impl Choosing {
    /// Its slots, in the order of its rows.
    pub fn slots(&self) -> &[usize] {
        &self.slots
    }
}

impl Forward {
    /// Chooses the forms of the kernels, records the plans and allocates the states, all zero.
    pub async fn new_async(gpu: &Gpu, config: &Config, weights: Arc<Weights>, options: ForwardOptions) -> Result<Self> {
        options.check()?;
        let mut options = options;
        if options.chunk == AUTOMATIC {
            options.chunk = chunk::USUAL;
        }
        if options.segments == AUTOMATIC {
            options.segments = config.architecture.segments(gpu.caps(), options.chunk);
        }
        let variants = tune::variants(gpu, config, &weights, options).await?;
        Self::with_variants(gpu, config, weights, options, variants)
    }

    /// [`Forward::new_async`] with given forms.
    pub(super) fn with_variants(
        gpu: &Gpu,
        config: &Config,
        weights: Arc<Weights>,
        options: ForwardOptions,
        variants: Variants,
    ) -> Result<Self> {
        let limit = gpu.caps().span_limit();
        let row = config.widest_row();
        if row > limit {
            return Err(Error::RowTooLarge { what: "an activation".to_owned(), bytes: row, limit });
        }
        // Buffers that are bound for all slots at once.
        let limit_of_slots = gpu.caps().device_binding_limit;
        let tallies = Tallies::widest(SelectVariant::of(config.vocab), config.vocab);
        for (what, words) in [
            ("the tokens that penalties look at", WINDOW + config.vocab),
            ("logits", VERSIONS * config.vocab),
            ("the tallies of sampling", tallies),
        ] {
            let bytes = (words * size_of::<u32>() * options.slots) as u64;
            if bytes > limit_of_slots {
                return Err(Error::RowTooLarge { what: format!("{what}, of all slots"), bytes, limit: limit_of_slots });
            }
        }
        let capacity = Capacity::of(config, options, limit);
        let state = StateBank::new(gpu, config.state_layout(), options.slots)?;
        let table = gpu.buffer("row table", options.slots + 1, Usage::Storage)?;
        let rules = gpu.upload("rules", &vec![SamplingParams::GREEDY; options.slots], Usage::Storage)?;
        let bias = gpu.buffer("bias", options.slots * config.vocab, Usage::Storage)?;
        let recent = gpu.buffer("recent", options.slots * (WINDOW + config.vocab), Usage::Storage)?;
        let tallies = Tallies::new(gpu, SelectVariant::of(config.vocab), options.slots, config.vocab)?;
        let recorder = Recorder {
            gpu,
            variants: &variants,
            config,
            weights: &weights,
            state: &state,
            table: &table,
            rules: &rules,
            bias: &bias,
            recent: &recent,
            tallies: &tallies,
        };
        let prefill = recorder.prefill(capacity)?;
        let decode = recorder.decode(options.slots)?;
        Ok(Forward {
            gpu: gpu.clone(),
            config: config.clone(),
            variants,
            state,
            slots: vec![Slot::default(); options.slots],
            decoding: vec![],
            table,
            rules,
            stages: vec![Stages::NONE; options.slots],
            bias,
            recent,
            chunk: capacity.chunk,
            segments: capacity.segments,
            fed: None,
            in_flight: VecDeque::new(),
            prefill,
            decode,
            weights,
        })
    }

    /// The model's config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The forms of its kernels.
    pub fn variants(&self) -> &Variants {
        &self.variants
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

    /// Most tokens of a prefill step.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Checks that there are ids and that the vocabulary has them.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.config.vocab;
        match ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            Some((at, id)) => Err(Error::IdOutOfRange { id: *id, at, vocab }),
            None if ids.is_empty() => Err(Error::NoTokens),
            None => Ok(()),
        }
    }

    /// Uploads the embeddings of these tokens where the table is on the host.
    pub(super) fn give(&self, given: &Option<GivenRows>, ids: &[u32]) -> Result<()> {
        match (given, self.weights.embedding.on_host()) {
            (Some(given), Some(table)) => given.set(&self.gpu, &table.rows(ids)?),
            _ => Ok(()),
        }
    }

    /// Steps that may be submitted before the tokens of an earlier step have arrived: [`RUN_AHEAD`], or 0 where the table of
    /// embeddings is on the host.
    pub fn run_ahead(&self) -> usize {
        if self.decode.given.is_some() { 0 } else { RUN_AHEAD }
    }

    /// Samples a token from the slot's logits, which are those after the last token that it has consumed. Submits and returns.
    pub fn choose(&mut self, slot: usize) -> Result<Choosing> {
        let now = self.slots[slot];
        // The row table will not hold this token for the next step.
        self.decoding.clear();
        let row = RowEntry { slot: size(slot), id: 0, position: now.position as u32, version: now.version };
        let entry = size(self.slots.len());
        self.gpu.write(&self.table, self.slots.len(), &[row])?;
        self.gpu.write(&self.prefill.head_batch, 0, &[Batch { rows: 1, entry, ..Default::default() }])?;
        let to = self.gpu.readback("chosen", 1)?;
        let copy = ReadbackCopy { from: &self.prefill.chosen, range: 0..1, to: &to };
        let submitted = self.prefill.select.run_to(1, self.stages[slot], Some(copy))?;
        Ok(Choosing { pending: to.after(submitted), slots: vec![slot], positions: vec![now.position], decode: false })
    }

    /// Samples the token after the last chunk, which must have been this slot's.
    pub fn choose_after(&mut self, slot: usize) -> Result<Choosing> {
        self.end_feed(slot)?;
        self.choose(slot)
    }

    /// Feeds each decoding slot its chosen token and samples the next. Submits and returns; at most [`Forward::run_ahead`] other
    /// steps may be in flight. After an error the slots are unchanged, and no slot is decoding.
    pub fn step(&mut self) -> Result<Choosing> {
        let count = self.decoding.len();
        if count == 0 {
            return Err(Error::NoTokens);
        }
        if self.decode.given.is_some() {
            let ids: Vec<u32> = self.decoding.iter().map(|slot| self.slots[*slot].next).collect();
            assert!(!ids.contains(&UNKNOWN), "a step needs the tokens that the step before it chose");
            self.give(&self.decode.given, &ids)?;
        }
        let to = match self.decode.readbacks.pop() {
            Some(readback) => readback,
            None => self.gpu.readback("chosen", self.slots.len())?,
        };
        let copy = ReadbackCopy { from: &self.decode.chosen, range: 0..count, to: &to };
        let run = (count, self.stages_of(&self.decoding));
        let submitted = self.decode.plan.run_timed(run, Some(copy), self.decode.clock.as_mut());
        // After a failed step the contents of the device's row table are unknown.
        let submitted = submitted.inspect_err(|_| self.decoding.clear())?;
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

    /// Waits for the tokens of a step, in the order of its rows. Fails with the first row that has no token.
    pub async fn chosen(&mut self, choosing: Choosing) -> Result<Vec<u32>> {
        self.arrived(choosing).await?.into_iter().map(|(_, id)| id).collect()
    }

    /// Waits for the tokens of a step: each slot's token, or the reason why it has none.
    pub async fn arrived(&mut self, choosing: Choosing) -> Result<Vec<(usize, Result<u32>)>> {
        let (ids, readback) = choosing.pending.get().await?;
        if choosing.decode && self.decode.readbacks.len() <= RUN_AHEAD {
            self.decode.readbacks.push(readback);
        }
        let rows = choosing.slots.into_iter().zip(choosing.positions).zip(ids);
        let outcomes = rows.map(|((slot, position), id)| {
            let id = match id {
                NOT_FINITE => Err(Error::NotFinite { position }),
                ALL_BANNED => Err(Error::AllBanned { position }),
                id => {
                    self.slots[slot].next = id;
                    Ok(id)
                }
            };
            (slot, id)
        });
        Ok(outcomes.collect())
    }

    /// Logits `[V]` after the last token that a slot has consumed, including steps in flight, or `steps` (at most [`RUN_AHEAD`])
    /// earlier.
    pub async fn logits(&self, slot: usize, steps: usize) -> Result<Vec<f32>> {
        assert!(steps <= RUN_AHEAD, "at most {RUN_AHEAD} steps back are kept");
        self.state.read_logits(slot, self.slots[slot].version.wrapping_sub(size(steps)) as usize).await
    }
}
