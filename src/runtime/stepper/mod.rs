//! The slots of a model and what is under way for them on the device. What fails there fails the slots that it was for, with
//! their state as it was before, and no others.

mod schedule;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Choosing, Forward, RUN_AHEAD, Saved, SlotState};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// What an engine's turns have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns: of a decode step, a chunk of a prompt, or both.
    pub turns: u64,
    /// Chunks fed.
    pub chunks: u64,
    /// Tokens in them.
    pub fed: u64,
    /// Decode steps.
    pub steps: u64,
    /// Rows in them: tokens, for one slot each.
    pub rows: u64,
    /// The most turns in a row that a slot which could decode was left out.
    pub longest_left_out: u64,
    /// The most turns in a row that a slot with a prompt to read got no chunk.
    pub longest_unfed: u64,
}

/// A token that was chosen for a slot.
pub(super) struct Token {
    pub(super) id: u32,
    /// `[V]`, where they were asked for.
    pub(super) logits: Option<Vec<f32>>,
}

/// What the schedule knows of a slot.
#[derive(Default)]
struct Seat {
    /// Tokens to be fed, from `fed` on.
    prompt: Vec<u32>,
    fed: usize,
    /// Why a chunk of them could not be fed.
    unfeedable: Option<Error>,
    /// Whether steps advance it.
    decoding: bool,
    /// Whether the logits of its tokens are wanted.
    with_logits: bool,
    /// Tokens that have arrived and were not taken yet.
    arrived: VecDeque<Result<Token>>,
    /// Its position once all tokens that it will have to consume are. A step may go one beyond: that one can be undone.
    wanted: u64,
    /// Whether a token was taken that may not have to be consumed: one that ends the answer.
    open: bool,
    /// Turns since it could have gone on.
    left_out: u64,
    /// Turns since its last chunk.
    unfed: u64,
}

/// Slots, and what is under way on the device for them.
pub(super) struct Stepper {
    /// `None`: the device was lost and there is no other yet.
    forward: Option<Forward>,
    /// Counts the devices and their losses, from 1 on: what a slot held is gone with its device.
    epoch: u64,
    free: Vec<usize>,
    seats: Vec<Seat>,
    /// Slots with a prompt to read; the first is next.
    reading: VecDeque<usize>,
    under_way: VecDeque<Choosing>,
    counts: Counts,
    /// [`Stepper::counts`] as of the last turn, to be read while a turn is under way.
    published: Arc<Mutex<Counts>>,
}

impl Stepper {
    /// Slots of a model; `counts` is told what its turns have done.
    pub(super) fn new(forward: Forward, slots: usize, published: Arc<Mutex<Counts>>) -> Self {
        Stepper {
            forward: Some(forward),
            epoch: 1,
            free: (0..slots).rev().collect(),
            seats: (0..slots).map(|_| Seat::default()).collect(),
            reading: VecDeque::new(),
            under_way: VecDeque::new(),
            counts: Counts::default(),
            published,
        }
    }

    /// Tells one device from the others, and from none after a loss.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Gives up the model and its device, which was lost: all that slots were doing fails with that.
    pub(super) fn lose(&mut self, reason: &Error) {
        self.forward = None;
        self.epoch += 1;
        self.under_way.clear();
        self.reading.clear();
        for seat in &mut self.seats {
            let (reads, decodes) = (!seat.prompt.is_empty(), seat.decoding || !seat.arrived.is_empty());
            *seat = Seat::default();
            seat.unfeedable = reads.then(|| reason.again());
            seat.arrived.extend(decodes.then(|| Err(reason.again())));
        }
    }

    /// Whether there is a model on a device.
    pub(super) fn has_device(&self) -> bool {
        self.forward.is_some()
    }

    /// Takes the model on its new device.
    pub(super) fn adopt(&mut self, forward: Forward) {
        self.forward = Some(forward);
    }

    /// The device, where there is one.
    pub(super) fn gpu(&self) -> Option<Gpu> {
        self.forward.as_ref().map(|forward| forward.gpu().clone())
    }

    fn forward(&mut self) -> Result<&mut Forward> {
        let gone = || Error::DeviceLost { reason: "it was not opened again yet".to_owned() };
        self.forward.as_mut().ok_or_else(gone)
    }

    /// A slot that nobody has; it is the caller's until [`Stepper::free_slot`].
    pub(super) fn take_slot(&mut self) -> Result<usize> {
        self.free.pop().ok_or(Error::NoFreeSlot { slots: self.seats.len() })
    }

    pub(super) async fn free_slot(&mut self, slot: usize) {
        self.leave(slot).await;
        self.free.push(slot);
    }

    /// Takes a slot out of the schedule.
    async fn leave(&mut self, slot: usize) {
        self.settle().await;
        self.stop_feed(slot);
        self.seats[slot] = Seat::default();
    }

    /// Waits for all that is under way: the host then knows each slot's next token.
    async fn settle(&mut self) {
        while !self.under_way.is_empty() {
            self.arrive().await;
        }
    }

    /// Waits for the oldest step under way.
    async fn arrive(&mut self) {
        let Some(oldest) = self.under_way.pop_front() else { return };
        let slots = oldest.slots().to_vec();
        let arrived = match self.forward() {
            Ok(forward) => forward.arrived(oldest).await,
            Err(error) => Err(error),
        };
        match arrived {
            Ok(arrived) => {
                for (slot, id) in arrived {
                    self.seat_token(slot, id).await;
                }
            }
            Err(error) => slots.into_iter().for_each(|slot| self.fail(slot, error.again())),
        }
    }

    /// A step has chosen a token for a slot, or could not.
    async fn seat_token(&mut self, slot: usize, id: Result<u32>) {
        if !self.seats[slot].decoding {
            return;
        }
        let (with_logits, later) = (self.seats[slot].with_logits, self.steps_of(slot));
        let token = async {
            let id = id?;
            let forward = self.forward()?;
            let logits = if with_logits { Some(forward.logits(slot, later).await?) } else { None };
            Ok(Token { id, logits })
        };
        match token.await {
            Ok(token) => self.seats[slot].arrived.push_back(Ok(token)),
            Err(error) => self.fail(slot, error),
        }
    }

    /// Steps under way that a slot is part of.
    fn steps_of(&self, slot: usize) -> usize {
        self.under_way.iter().filter(|step| step.slots().contains(&slot)).count()
    }

    /// A slot gets an error in place of its next token, and none after that. It is left as after the last token that the host
    /// knows: what is under way behind the step that failed consumes one that nobody knows.
    fn fail(&mut self, slot: usize, error: Error) {
        if !std::mem::take(&mut self.seats[slot].decoding) {
            return;
        }
        self.seats[slot].arrived.push_back(Err(error));
        let unknown = self.steps_of(slot);
        if let Some(forward) = &mut self.forward {
            forward.take_back(slot, unknown);
        }
    }

    /// The model, with nothing under way.
    pub(super) async fn at_rest(&mut self) -> Result<&mut Forward> {
        self.settle().await;
        self.forward()
    }

    /// Tokens that a slot has consumed, those run ahead included.
    pub(super) fn position(&self, slot: usize) -> u64 {
        self.forward.as_ref().map_or(0, |forward| forward.position(slot))
    }

    /// Puts a slot back to before its first token.
    pub(super) async fn reset(&mut self, slot: usize) -> Result<()> {
        self.leave(slot).await;
        self.forward()?.reset(slot)
    }

    /// Gives a slot tokens to read.
    pub(super) fn begin_feed(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.forward()?.check_ids(ids)?;
        let seat = &mut self.seats[slot];
        (seat.prompt, seat.fed, seat.unfed, seat.unfeedable) = (ids.to_vec(), 0, 0, None);
        self.reading.push_back(slot);
        Ok(())
    }

    /// Whether a slot has read all that it was given, or cannot; `None`: not yet.
    pub(super) fn fed(&mut self, slot: usize) -> Option<Result<()>> {
        let seat = &mut self.seats[slot];
        match seat.unfeedable.take() {
            Some(error) => Some(Err(error)),
            None => seat.prompt.is_empty().then_some(Ok(())),
        }
    }

    /// Forgets what a slot has not read yet.
    pub(super) fn stop_feed(&mut self, slot: usize) {
        self.reading.retain(|reading| *reading != slot);
        self.seats[slot].prompt = Vec::new();
    }

    /// Starts to choose tokens after those that a slot has consumed, from its logits. Penalties look at the last `window` of
    /// `read`.
    pub(super) async fn begin(
        &mut self,
        slot: usize,
        (read, window): (&[u32], usize),
        with_logits: bool,
    ) -> Result<()> {
        // A step of its last answer may be under way.
        let forward = self.at_rest().await?;
        let wanted = forward.position(slot);
        if window > 0 {
            forward.set_recent(slot, (read, wanted), window)?;
        }
        let choosing = forward.choose(slot)?;
        self.seats[slot] = Seat { decoding: true, with_logits, wanted, ..Seat::default() };
        self.under_way.push_back(choosing);
        Ok(())
    }

    /// Whether a token of a slot has arrived; what went wrong with it is taken.
    pub(super) fn peek(&mut self, slot: usize) -> Option<Result<()>> {
        match self.seats[slot].arrived.front() {
            Some(Ok(_)) => Some(Ok(())),
            _ => self.take(slot).map(|token| token.map(|_| ())),
        }
    }

    /// A token of a slot that has arrived; an error where none will. Whether it has to be consumed shows when the next one is
    /// wanted.
    fn take(&mut self, slot: usize) -> Option<Result<Token>> {
        let seat = &mut self.seats[slot];
        match seat.arrived.pop_front() {
            None if seat.decoding => None,
            None => Some(Err(Error::NothingToResume)),
            Some(token) => {
                seat.open = true;
                Some(token)
            }
        }
    }

    /// Goes on after the token that was taken last, and takes the next if it has arrived.
    pub(super) fn next(&mut self, slot: usize) -> Option<Result<Token>> {
        let seat = &mut self.seats[slot];
        seat.wanted += u64::from(std::mem::take(&mut seat.open));
        self.take(slot)
    }

    /// Keeps the state that a slot had when it had consumed `position` tokens, now or a step ago.
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

    /// The state that a slot had when it had consumed `position` tokens, now or a step ago.
    pub(super) async fn read_state(&mut self, slot: usize, position: u64) -> Result<SlotState> {
        let forward = self.forward()?;
        let steps = run_ahead_of(position, forward.position(slot))?;
        forward.read_state(slot, steps).await
    }

    /// Puts a slot to a state of when it had consumed `position` tokens.
    pub(super) async fn write_state(&mut self, slot: usize, position: u64, state: &SlotState) -> Result<()> {
        self.leave(slot).await;
        self.forward()?.write_state(slot, position, state)
    }

    /// Puts a slot back to a state kept at `position`, then has it consume `ids` once more, step by step as before: the
    /// bits are those that were.
    pub(super) async fn rewind(&mut self, slot: usize, (saved, position): (&Saved, u64), ids: &[u32]) -> Result<()> {
        self.leave(slot).await;
        self.forward()?.restore(slot, position, saved)?;
        self.consume(slot, ids).await
    }

    /// Has a slot alone consume tokens step by step, whatever would be chosen after each.
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

    /// Takes a slot out of the schedule at exactly `position`, and says whether that is done: steps that ran ahead are taken
    /// back; a token that it has not consumed yet takes another turn. `last` is the token before `position`, where there is one.
    pub(super) async fn finish(&mut self, slot: usize, position: u64, last: Option<u32>) -> Result<bool> {
        let now = self.forward()?.position(slot);
        if now < position && self.seats[slot].decoding {
            return Ok(false);
        }
        self.seats[slot] = Seat::default();
        match last {
            // The step that was to consume it failed.
            Some(last) if now + 1 == position => self.consume(slot, &[last]).await?,
            _ => {
                let steps = run_ahead_of(position, now)?;
                self.forward()?.take_back(slot, steps);
            }
        }
        Ok(true)
    }
}

/// Steps from one position of a slot to another that it is at: as many as the host may run ahead, at most.
fn run_ahead_of(position: u64, now: u64) -> Result<usize> {
    let steps = now.checked_sub(position).and_then(|steps| usize::try_from(steps).ok());
    steps.filter(|steps| *steps <= RUN_AHEAD).ok_or_else(|| Error::StateNotKept {
        why: format!("a step failed: the state is that of {now} tokens, and {position} were given out"),
    })
}
