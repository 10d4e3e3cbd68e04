//! Schedules the slots of a model on the device. An error fails only the slots whose work it was, and leaves their state as it
//! was before that work.

mod turn;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Choosing, Forward, RUN_AHEAD, Saved, SlotState};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The device that holds a session's state, by [`Scheduler::epoch`]; [`NOWHERE`] if the slot's state is unknown.
pub(super) type Epoch = Arc<AtomicU64>;

/// No device. Epochs count from 1.
pub(super) const NOWHERE: u64 = 0;

/// Counts of an engine's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns: each a decode step, a prefill chunk, or both.
    pub turns: u64,
    /// Prefill chunks.
    pub chunks: u64,
    /// Prompt tokens in them.
    pub fed: u64,
    /// Decode steps.
    pub steps: u64,
    /// Rows in them: one token of one slot each.
    pub rows: u64,
    /// Longest run of turns that left out a slot which could decode.
    pub longest_left_out: u64,
    /// Longest run of turns without a chunk for a slot that has a prompt to read.
    pub longest_unfed: u64,
}

/// A token generated for a slot.
pub(super) struct Token {
    pub(super) id: u32,
    /// `[V]`, if asked for.
    pub(super) logits: Option<Vec<f32>>,
}

/// How a slot's generation begins.
pub(super) struct Start<'a> {
    /// The last tokens consumed, and how many of them penalties look at.
    pub(super) recent: (&'a [u32], usize),
    /// Whether the logits of its tokens are wanted.
    pub(super) with_logits: bool,
    /// With a grammar: the bias `[V]` of the first choice. Each later one waits for [`Scheduler::set_bias`].
    pub(super) bias: Option<Vec<f32>>,
}

/// A slot in the schedule.
#[derive(Default)]
struct Sequence {
    /// Prompt to read; the first `fed` tokens are done.
    prompt: Vec<u32>,
    fed: usize,
    /// Why a chunk of it failed.
    failed: Option<Error>,
    /// Whether decode steps advance it.
    decoding: bool,
    /// Whether the logits of its tokens are wanted.
    with_logits: bool,
    /// Tokens read back and not taken yet.
    arrived: VecDeque<Result<Token>>,
    /// Its position after all tokens that it must consume. A step may go one beyond, which can be taken back.
    wanted: u64,
    /// With a grammar: the number of tokens that the slot has consumed when its bias holds for the choice after them. Only the step up
    /// to there may run.
    biased: Option<u64>,
    /// Whether the last token taken may end the answer, so that it need not be consumed.
    open: bool,
    /// Turns in a row that left it out.
    left_out: u64,
    /// Turns in a row without a chunk.
    unfed: u64,
}

/// The slots of an engine and their work in flight.
pub(super) struct Scheduler {
    /// `None` after a device loss, until another is opened.
    forward: Option<Forward>,
    /// Identifies the device, from 1 on; a loss increments it. A slot's state is lost with its device.
    epoch: u64,
    free: Vec<usize>,
    sequences: Vec<Sequence>,
    /// Slots with a prompt to read, next first.
    reading: VecDeque<usize>,
    in_flight: VecDeque<Choosing>,
    counts: Counts,
    /// The counts as of the last turn, readable while the scheduler is locked.
    published: Arc<Mutex<Counts>>,
}

impl Scheduler {
    /// Schedules the slots of a model; counts are published to `published` after each turn.
    pub(super) fn new(forward: Forward, slots: usize, published: Arc<Mutex<Counts>>) -> Self {
        Scheduler {
            forward: Some(forward),
            epoch: 1,
            free: (0..slots).rev().collect(),
            sequences: (0..slots).map(|_| Sequence::default()).collect(),
            reading: VecDeque::new(),
            in_flight: VecDeque::new(),
            counts: Counts::default(),
            published,
        }
    }

    /// Identifies the device; differs after each loss.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Drops the model after its device was lost. Work in flight fails with `reason`.
    pub(super) fn lose(&mut self, reason: &Error) {
        self.forward = None;
        self.epoch += 1;
        self.in_flight.clear();
        self.reading.clear();
        for sequence in &mut self.sequences {
            let (reads, decodes) = (!sequence.prompt.is_empty(), sequence.decoding || !sequence.arrived.is_empty());
            *sequence = Sequence::default();
            sequence.failed = reads.then(|| reason.duplicate());
            sequence.arrived.extend(decodes.then(|| Err(reason.duplicate())));
        }
    }

    /// Whether there is a model on a device.
    pub(super) fn has_device(&self) -> bool {
        self.forward.is_some()
    }

    /// Takes the model loaded on another device.
    pub(super) fn adopt(&mut self, forward: Forward) {
        self.forward = Some(forward);
    }

    /// The device, if there is one.
    pub(super) fn gpu(&self) -> Option<Gpu> {
        self.forward.as_ref().map(|forward| forward.gpu().clone())
    }

    fn forward(&mut self) -> Result<&mut Forward> {
        let gone = || Error::DeviceLost { reason: "it was not opened again yet".to_owned() };
        self.forward.as_mut().ok_or_else(gone)
    }

    /// Allocates a free slot; [`Scheduler::free_slot`] frees it.
    pub(super) fn take_slot(&mut self) -> Result<usize> {
        self.free.pop().ok_or(Error::NoFreeSlot { slots: self.sequences.len() })
    }

    pub(super) async fn free_slot(&mut self, slot: usize) {
        self.leave(slot).await;
        self.free.push(slot);
    }

    /// Takes a slot out of the schedule.
    async fn leave(&mut self, slot: usize) {
        self.settle().await;
        self.stop_feed(slot);
        self.sequences[slot] = Sequence::default();
    }

    /// Waits for all work in flight: the host then knows each slot's next token.
    async fn settle(&mut self) {
        while !self.in_flight.is_empty() {
            self.arrive().await;
        }
    }

    /// Waits for the oldest step in flight.
    async fn arrive(&mut self) {
        let Some(oldest) = self.in_flight.pop_front() else { return };
        let slots = oldest.slots().to_vec();
        let arrived = match self.forward() {
            Ok(forward) => forward.arrived(oldest).await,
            Err(error) => Err(error),
        };
        match arrived {
            Ok(arrived) => {
                for (slot, id) in arrived {
                    self.hand_over(slot, id).await;
                }
            }
            Err(error) => slots.into_iter().for_each(|slot| self.fail(slot, error.duplicate())),
        }
    }

    /// Hands a slot the token that a step generated, or its error.
    async fn hand_over(&mut self, slot: usize, id: Result<u32>) {
        if !self.sequences[slot].decoding {
            return;
        }
        let (with_logits, later) = (self.sequences[slot].with_logits, self.steps_of(slot));
        let token = async {
            let id = id?;
            let forward = self.forward()?;
            let logits = if with_logits { Some(forward.logits(slot, later).await?) } else { None };
            Ok(Token { id, logits })
        };
        match token.await {
            Ok(token) => self.sequences[slot].arrived.push_back(Ok(token)),
            Err(error) => self.fail(slot, error),
        }
    }

    /// Number of steps in flight that contain a slot.
    fn steps_of(&self, slot: usize) -> usize {
        self.in_flight.iter().filter(|step| step.slots().contains(&slot)).count()
    }

    /// Ends a slot's generation with an error. Its state is that of the last token that the host knows; later steps in flight
    /// are taken back, as they consume a token that was never read back.
    fn fail(&mut self, slot: usize, error: Error) {
        if !std::mem::take(&mut self.sequences[slot].decoding) {
            return;
        }
        self.sequences[slot].arrived.push_back(Err(error));
        let unknown = self.steps_of(slot);
        if let Some(forward) = &mut self.forward {
            forward.take_back(slot, unknown);
        }
    }

    /// The model, with nothing in flight.
    pub(super) async fn at_rest(&mut self) -> Result<&mut Forward> {
        self.settle().await;
        self.forward()
    }

    /// Tokens that a slot has consumed, steps in flight included.
    pub(super) fn position(&self, slot: usize) -> u64 {
        self.forward.as_ref().map_or(0, |forward| forward.position(slot))
    }

    /// Resets a slot to the state before its first token.
    pub(super) async fn reset(&mut self, slot: usize) -> Result<()> {
        self.leave(slot).await;
        self.forward()?.reset(slot)
    }

    /// Gives a slot a prompt to read.
    pub(super) fn begin_feed(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.forward()?.check_ids(ids)?;
        let sequence = &mut self.sequences[slot];
        (sequence.prompt, sequence.fed, sequence.unfed, sequence.failed) = (ids.to_vec(), 0, 0, None);
        self.reading.push_back(slot);
        Ok(())
    }

    /// Whether a slot has read its prompt, or the error that ended it; `None`: not yet.
    pub(super) fn fed(&mut self, slot: usize) -> Option<Result<()>> {
        let sequence = &mut self.sequences[slot];
        match sequence.failed.take() {
            Some(error) => Some(Err(error)),
            None => sequence.prompt.is_empty().then_some(Ok(())),
        }
    }

    /// Drops what a slot has not read yet.
    pub(super) fn stop_feed(&mut self, slot: usize) {
        self.reading.retain(|reading| *reading != slot);
        self.sequences[slot].prompt = Vec::new();
    }

    /// Starts to generate from a slot's logits.
    pub(super) async fn begin(&mut self, slot: usize, start: Start<'_>) -> Result<()> {
        let Start { recent: (read, window), with_logits, bias } = start;
        // A step of its last answer may be in flight.
        let forward = self.at_rest().await?;
        let wanted = forward.position(slot);
        if window > 0 {
            forward.set_recent(slot, (read, wanted), window)?;
        }
        if let Some(bias) = &bias {
            forward.set_bias(slot, bias)?;
        }
        let choosing = forward.choose(slot)?;
        let biased = bias.map(|_| wanted);
        self.sequences[slot] = Sequence { decoding: true, with_logits, wanted, biased, ..Sequence::default() };
        self.in_flight.push_back(choosing);
        Ok(())
    }

    /// Whether a slot has a token to take. An error is taken.
    pub(super) fn peek(&mut self, slot: usize) -> Option<Result<()>> {
        match self.sequences[slot].arrived.front() {
            Some(Ok(_)) => Some(Ok(())),
            _ => self.take(slot).map(|token| token.map(|_| ())),
        }
    }

    /// Takes a slot's next token if it was read back; an error if none will come. It must be consumed only if the caller asks
    /// for another one.
    fn take(&mut self, slot: usize) -> Option<Result<Token>> {
        let sequence = &mut self.sequences[slot];
        match sequence.arrived.pop_front() {
            None if sequence.decoding => None,
            None => Some(Err(Error::NothingToResume)),
            Some(token) => {
                sequence.open = true;
                Some(token)
            }
        }
    }

    /// Sets the bias `[V]` of the choice after the last token taken, which a slot with a grammar waits for.
    pub(super) fn set_bias(&mut self, slot: usize, bias: &[f32]) -> Result<()> {
        self.forward()?.set_bias(slot, bias)?;
        let sequence = &mut self.sequences[slot];
        sequence.biased = Some(sequence.wanted + u64::from(sequence.open));
        Ok(())
    }

    /// Continues after the last token taken, and takes the next one if it was read back.
    pub(super) fn next(&mut self, slot: usize) -> Option<Result<Token>> {
        let sequence = &mut self.sequences[slot];
        sequence.wanted += u64::from(std::mem::take(&mut sequence.open));
        self.take(slot)
    }

    /// Saves the state that a slot had at `position`: its current one, or the one before the last step.
    pub(super) fn save(&mut self, slot: usize, position: u64, to: &mut Option<Saved>) -> Result<()> {
        let forward = self.forward()?;
        let steps = run_ahead_of(position, forward.position(slot))?;
        let saved = match to.take() {
            Some(saved) => saved,
            None => forward.saved()?,
        };
        forward.save(slot, steps, &saved)?;
        *to = Some(saved);
        Ok(())
    }

    /// Reads back the state that a slot had at `position`: its current one, or the one before the last step.
    pub(super) async fn read_state(&mut self, slot: usize, position: u64) -> Result<SlotState> {
        let forward = self.forward()?;
        let steps = run_ahead_of(position, forward.position(slot))?;
        forward.read_state(slot, steps).await
    }

    /// Writes a slot's state, which is that of `position` tokens.
    pub(super) async fn write_state(&mut self, slot: usize, position: u64, state: &SlotState) -> Result<()> {
        self.leave(slot).await;
        self.forward()?.write_state(slot, position, state)
    }

    /// Restores a state saved at `position` and replays `ids` by decode steps, which gives the same bits as before.
    pub(super) async fn rewind(&mut self, slot: usize, (saved, position): (&Saved, u64), ids: &[u32]) -> Result<()> {
        self.leave(slot).await;
        self.forward()?.restore(slot, position, saved)?;
        self.consume(slot, ids).await
    }

    /// Runs decode steps of one slot alone on given tokens.
    pub(super) async fn consume(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        for id in ids {
            let forward = self.at_rest().await?;
            forward.set_next(slot, *id)?;
            forward.set_decoding(&[slot])?;
            let step = forward.step()?;
            forward.arrived(step).await?;
        }
        Ok(())
    }

    /// Takes a slot out of the schedule with the state at exactly `position`. Steps that ran ahead are taken back. Returns false
    /// if a token is not consumed yet: run another turn and call again. `last` is the token before `position`, if any.
    pub(super) async fn finish(&mut self, slot: usize, position: u64, last: Option<u32>) -> Result<bool> {
        let now = self.forward()?.position(slot);
        // The token that the last step chooses is not used.
        self.sequences[slot].biased = None;
        if now < position && self.sequences[slot].decoding {
            return Ok(false);
        }
        self.sequences[slot] = Sequence::default();
        match last {
            // The step that should have consumed it failed.
            Some(last) if now + 1 == position => self.consume(slot, &[last]).await?,
            _ => {
                let steps = run_ahead_of(position, now)?;
                self.forward()?.take_back(slot, steps);
            }
        }
        Ok(true)
    }
}

/// Steps from `position` to a slot's current one, at most [`RUN_AHEAD`].
fn run_ahead_of(position: u64, now: u64) -> Result<usize> {
    let steps = now.checked_sub(position).and_then(|steps| usize::try_from(steps).ok());
    steps.filter(|steps| *steps <= RUN_AHEAD).ok_or_else(|| Error::StateNotKept {
        why: format!("a step failed: the state is that of {now} tokens, and {position} were given out"),
    })
}
