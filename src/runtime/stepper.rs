//! The schedule of a model's slots. A turn is a decode step of every slot that can go on and one chunk of a prompt, so that
//! nobody waits for long: a slot that decodes is part of at least every second turn, and one that reads gets a chunk at least
//! every so many turns as there are slots.

use crate::error::{Error, Result};
use crate::model::{Choosing, Forward, Saved};
use std::collections::VecDeque;

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
    forward: Forward,
    free: Vec<usize>,
    seats: Vec<Seat>,
    /// Slots with a prompt to read; the first is next.
    reading: VecDeque<usize>,
    under_way: VecDeque<Choosing>,
    counts: Counts,
}

impl Stepper {
    pub(super) fn new(forward: Forward, slots: usize) -> Self {
        Stepper {
            forward,
            free: (0..slots).rev().collect(),
            seats: (0..slots).map(|_| Seat::default()).collect(),
            reading: VecDeque::new(),
            under_way: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// A slot that nobody has; it is the caller's until [`Stepper::free_slot`].
    pub(super) fn take_slot(&mut self) -> Result<usize> {
        self.free.pop().ok_or(Error::NoFreeSlot { slots: self.seats.len() })
    }

    pub(super) fn free_slot(&mut self, slot: usize) {
        self.leave(slot);
        self.free.push(slot);
    }

    /// Takes a slot out of the schedule.
    fn leave(&mut self, slot: usize) {
        // What fails here fails again, and is reported, at the next use of the device.
        let _ = self.settle();
        self.stop_feed(slot);
        self.seats[slot] = Seat::default();
    }

    /// Waits for all that is under way: the host then knows each slot's next token.
    fn settle(&mut self) -> Result<()> {
        while !self.under_way.is_empty() {
            self.arrive()?;
        }
        Ok(())
    }

    /// Waits for the oldest step under way.
    fn arrive(&mut self) -> Result<()> {
        let Some(oldest) = self.under_way.pop_front() else { return Ok(()) };
        let slots = oldest.slots().to_vec();
        let arrived = pollster::block_on(self.forward.arrived(oldest)).inspect_err(|error| {
            // Whoever waits for one of these tokens would wait for ever.
            for slot in slots {
                let problem = error.to_string();
                self.seats[slot].decoding = false;
                self.seats[slot].arrived.push_back(Err(Error::Gpu { what: "a step".to_owned(), problem }));
            }
        })?;
        for (slot, id) in arrived {
            let seat = &mut self.seats[slot];
            if !seat.decoding {
                continue;
            }
            let token = id.and_then(|id| {
                let logits = seat.with_logits.then(|| {
                    let later = self.under_way.iter().filter(|step| step.slots().contains(&slot)).count();
                    pollster::block_on(self.forward.logits(slot, later))
                });
                Ok(Token { id, logits: logits.transpose()? })
            });
            seat.decoding = token.is_ok();
            seat.arrived.push_back(token);
        }
        Ok(())
    }

    /// The model, with nothing under way.
    pub(super) fn at_rest(&mut self) -> Result<&mut Forward> {
        self.settle()?;
        Ok(&mut self.forward)
    }

    /// Tokens that a slot has consumed, those run ahead included.
    pub(super) fn position(&self, slot: usize) -> u64 {
        self.forward.position(slot)
    }

    /// Puts a slot back to before its first token.
    pub(super) fn reset(&mut self, slot: usize) -> Result<()> {
        self.leave(slot);
        self.forward.reset(slot)
    }

    /// Gives a slot tokens to read.
    pub(super) fn begin_feed(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.forward.check_ids(ids)?;
        let seat = &mut self.seats[slot];
        (seat.prompt, seat.fed, seat.unfed) = (ids.to_vec(), 0, 0);
        self.reading.push_back(slot);
        Ok(())
    }

    pub(super) fn is_fed(&self, slot: usize) -> bool {
        self.seats[slot].prompt.is_empty()
    }

    /// Forgets what a slot has not read yet.
    pub(super) fn stop_feed(&mut self, slot: usize) {
        self.reading.retain(|reading| *reading != slot);
        self.seats[slot].prompt = Vec::new();
    }

    /// Starts to choose tokens after those that a slot has consumed, from its logits. Penalties look at the last `window` of
    /// `read`.
    pub(super) fn begin(&mut self, slot: usize, (read, window): (&[u32], usize), with_logits: bool) -> Result<()> {
        // A step of its last answer may be under way.
        self.settle()?;
        if window > 0 {
            self.forward.set_recent(slot, (read, self.forward.position(slot)), window)?;
        }
        let choosing = self.forward.choose(slot)?;
        let wanted = self.forward.position(slot);
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

    /// One turn for all: a decode step of the slots that can go on, and a chunk of the prompt whose turn it is.
    pub(super) fn turn(&mut self) -> Result<()> {
        self.counts.turns += 1;
        self.step()?;
        self.chunk()
    }

    fn can_go_on(&self, slot: usize) -> bool {
        self.seats[slot].decoding && self.forward.position(slot) <= self.seats[slot].wanted
    }

    /// The slots that can go on.
    fn ready(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|slot| self.can_go_on(*slot)).collect()
    }

    fn step(&mut self) -> Result<()> {
        let mut rows = self.ready();
        if rows != self.forward.decoding() {
            // Where somebody has not taken a token yet, they may by the time that what is under way is done; once.
            let all_can = self.seats.iter().filter(|seat| seat.decoding).count() == rows.len();
            let waited = rows.iter().any(|slot| self.seats[*slot].left_out > 0);
            let wait = !all_can && !waited && !self.under_way.is_empty();
            self.settle()?;
            if wait {
                for slot in rows {
                    let seat = &mut self.seats[slot];
                    seat.left_out += 1;
                    self.counts.longest_left_out = self.counts.longest_left_out.max(seat.left_out);
                }
                return Ok(());
            }
            rows = self.ready();
        }
        if !rows.is_empty() {
            self.forward.set_decoding(&rows)?;
            self.under_way.push_back(self.forward.step()?);
            self.counts.steps += 1;
            self.counts.rows += rows.len() as u64;
            rows.iter().for_each(|slot| self.seats[*slot].left_out = 0);
        }
        let ahead = if rows.is_empty() { 0 } else { self.forward.run_ahead() };
        while self.under_way.len() > ahead {
            self.arrive()?;
        }
        Ok(())
    }

    fn chunk(&mut self) -> Result<()> {
        let Some(slot) = self.reading.pop_front() else { return Ok(()) };
        for other in &self.reading {
            let seat = &mut self.seats[*other];
            seat.unfed += 1;
            self.counts.longest_unfed = self.counts.longest_unfed.max(seat.unfed);
        }
        let seat = &mut self.seats[slot];
        let end = (seat.fed + self.forward.chunk()).min(seat.prompt.len());
        if let Err(error) = self.forward.feed(slot, &seat.prompt[seat.fed..end]) {
            // Its own session is to meet with it too, whoever's turn this was.
            self.reading.push_front(slot);
            return Err(error);
        }
        self.counts.chunks += 1;
        self.counts.fed += (end - seat.fed) as u64;
        (seat.fed, seat.unfed) = (end, 0);
        if end < seat.prompt.len() {
            self.reading.push_back(slot);
        } else {
            seat.prompt = Vec::new();
        }
        // After every chunk: should it be the last, because somebody cancels, the slot can go on from it.
        self.forward.end_feed(slot)
    }

    /// Keeps the state that a slot had when it had consumed `position` tokens, now or a step ago.
    pub(super) fn save(&mut self, slot: usize, position: u64, to: &mut Option<Saved>) -> Result<()> {
        let saved = match to.take() {
            Some(saved) => saved,
            None => self.forward.saved()?,
        };
        let steps = usize::try_from(self.forward.position(slot) - position).unwrap_or(usize::MAX);
        self.forward.save(slot, steps, &saved)?;
        *to = Some(saved);
        Ok(())
    }

    /// Puts a slot back to a state kept at `position`, then has it consume `ids` once more, step by step as before: the
    /// bits are those that were.
    pub(super) fn rewind(&mut self, slot: usize, (saved, position): (&Saved, u64), ids: &[u32]) -> Result<()> {
        self.leave(slot);
        self.forward.restore(slot, position, saved)?;
        ids.iter().try_for_each(|id| self.consume(slot, *id))
    }

    /// Has a slot alone consume a token, whatever would be chosen after it.
    fn consume(&mut self, slot: usize, id: u32) -> Result<()> {
        self.settle()?;
        self.forward.set_next(slot, id)?;
        self.forward.set_decoding(&[slot])?;
        let step = self.forward.step()?;
        pollster::block_on(self.forward.arrived(step)).map(|_| ())
    }

    /// Takes a slot out of the schedule at exactly `position`, and says whether that is done: steps that ran ahead are taken
    /// back; a token that it has not consumed yet takes another turn.
    pub(super) fn finish(&mut self, slot: usize, position: u64) -> bool {
        let now = self.forward.position(slot);
        if now < position && self.seats[slot].decoding {
            return false;
        }
        self.seats[slot] = Seat::default();
        if now > position {
            self.forward.take_back(slot, usize::try_from(now - position).unwrap_or(usize::MAX));
        }
        true
    }
}
