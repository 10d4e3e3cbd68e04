//! Turns. A turn is a decode step of every slot that can go on and one chunk of a prompt, so that nobody waits for long: a slot
//! that decodes is part of at least every second turn, and one that reads gets a chunk at least every so many turns as there
//! are slots.

use super::{Seat, Stepper};
use crate::error::Result;

impl Stepper {
    /// One turn for all: a decode step of the slots that can go on, and a chunk of the prompt whose turn it is. What goes wrong is
    /// told to the slots that it concerns.
    pub(in crate::runtime) async fn turn(&mut self) {
        self.counts.turns += 1;
        self.step().await;
        self.chunk().await;
        *self.published.lock() = self.counts;
    }

    fn can_go_on(&self, slot: usize) -> bool {
        self.seats[slot].decoding && self.position(slot) <= self.seats[slot].wanted
    }

    /// The slots that can go on.
    fn ready(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|slot| self.can_go_on(*slot)).collect()
    }

    async fn step(&mut self) {
        let mut rows = self.ready();
        let decoding = self.forward.as_ref().map_or(&[][..], |forward| forward.decoding());
        if rows != decoding {
            // Where somebody has not taken a token yet, they may by the time that what is under way is done; once.
            let all_can = self.seats.iter().filter(|seat| seat.decoding).count() == rows.len();
            let waited = rows.iter().any(|slot| self.seats[*slot].left_out > 0);
            let wait = !all_can && !waited && !self.under_way.is_empty();
            self.settle().await;
            if wait {
                for slot in rows {
                    let seat = &mut self.seats[slot];
                    seat.left_out += 1;
                    self.counts.longest_left_out = self.counts.longest_left_out.max(seat.left_out);
                }
                return;
            }
            rows = self.ready();
        }
        if !rows.is_empty() {
            match self.submit_step(&rows) {
                Ok(()) => rows.iter().for_each(|slot| self.seats[*slot].left_out = 0),
                Err(error) => {
                    // What the steps before it chose still comes, and has been consumed.
                    self.settle().await;
                    rows.iter().for_each(|slot| self.fail(*slot, error.again()));
                }
            }
        }
        let run_ahead = self.forward.as_ref().map_or(0, |forward| forward.run_ahead());
        let ahead = if rows.is_empty() { 0 } else { run_ahead };
        while self.under_way.len() > ahead {
            self.arrive().await;
        }
    }

    fn submit_step(&mut self, rows: &[usize]) -> Result<()> {
        let forward = self.forward()?;
        forward.set_decoding(rows)?;
        let step = forward.step()?;
        self.under_way.push_back(step);
        self.counts.steps += 1;
        self.counts.rows += rows.len() as u64;
        Ok(())
    }

    async fn chunk(&mut self) {
        let Some(slot) = self.reading.pop_front() else { return };
        for other in &self.reading {
            let seat = &mut self.seats[*other];
            seat.unfed += 1;
            self.counts.longest_unfed = self.counts.longest_unfed.max(seat.unfed);
        }
        let Some(forward) = &mut self.forward else { return };
        let seat = &mut self.seats[slot];
        let end = (seat.fed + forward.chunk_in_time()).min(seat.prompt.len());
        // With the logits after every chunk: should it be the last, because somebody cancels, the slot can go on from it.
        if let Err(error) = forward.feed_to_end(slot, &seat.prompt[seat.fed..end]).await {
            *seat = Seat { unfeedable: Some(error), ..Seat::default() };
            return;
        }
        self.counts.chunks += 1;
        self.counts.fed += (end - seat.fed) as u64;
        (seat.fed, seat.unfed) = (end, 0);
        if end < seat.prompt.len() {
            self.reading.push_back(slot);
        } else {
            seat.prompt = Vec::new();
        }
    }
}
