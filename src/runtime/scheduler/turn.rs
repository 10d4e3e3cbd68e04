//! Turns. A turn is one decode step of every slot that is ready and one prefill chunk of one slot. A slot that decodes is part of
//! at least every second turn; with n slots, one that reads gets a chunk at least every n turns.

use super::{Scheduler, Sequence};
use crate::error::Result;

impl Scheduler {
    /// Runs one turn. Errors are handed to the slots whose work failed.
    pub(in crate::runtime) async fn turn(&mut self) {
        self.counts.turns += 1;
        self.step().await;
        self.chunk().await;
        *self.published.lock() = self.counts;
    }

    fn is_ready(&self, slot: usize) -> bool {
        let (sequence, position) = (&self.sequences[slot], self.position(slot));
        let has_bias = sequence.biased.is_none_or(|biased| position < biased);
        sequence.decoding && position <= sequence.wanted && has_bias
    }

    /// The slots that are ready for a decode step.
    fn ready(&self) -> Vec<usize> {
        (0..self.sequences.len()).filter(|slot| self.is_ready(*slot)).collect()
    }

    async fn step(&mut self) {
        let mut rows = self.ready();
        let decoding = self.forward.as_ref().map_or(&[][..], |forward| forward.decoding());
        if rows != decoding {
            // A session that has not taken its token yet may do so while the step in flight ends. Wait for that once.
            let all_can = self.sequences.iter().filter(|sequence| sequence.decoding).count() == rows.len();
            let waited = rows.iter().any(|slot| self.sequences[*slot].left_out > 0);
            let wait = !all_can && !waited && !self.in_flight.is_empty();
            self.settle().await;
            if wait {
                for slot in rows {
                    let sequence = &mut self.sequences[slot];
                    sequence.left_out += 1;
                    self.counts.longest_left_out = self.counts.longest_left_out.max(sequence.left_out);
                }
                return;
            }
            rows = self.ready();
        }
        if !rows.is_empty() {
            match self.submit_step(&rows) {
                Ok(()) => rows.iter().for_each(|slot| self.sequences[*slot].left_out = 0),
                Err(error) => {
                    // Tokens of the steps before it still arrive.
                    self.settle().await;
                    rows.iter().for_each(|slot| self.fail(*slot, error.duplicate()));
                }
            }
        }
        let run_ahead = self.forward.as_ref().map_or(0, |forward| forward.run_ahead());
        let ahead = if rows.is_empty() { 0 } else { run_ahead };
        while self.in_flight.len() > ahead {
            self.arrive().await;
        }
    }

    fn submit_step(&mut self, rows: &[usize]) -> Result<()> {
        let forward = self.forward()?;
        forward.set_decoding(rows)?;
        let step = forward.step()?;
        self.in_flight.push_back(step);
        self.counts.steps += 1;
        self.counts.rows += rows.len() as u64;
        Ok(())
    }

    async fn chunk(&mut self) {
        let Some(slot) = self.reading.pop_front() else { return };
        for other in &self.reading {
            let sequence = &mut self.sequences[*other];
            sequence.unfed += 1;
            self.counts.longest_unfed = self.counts.longest_unfed.max(sequence.unfed);
        }
        let Some(forward) = &mut self.forward else { return };
        let sequence = &mut self.sequences[slot];
        let end = (sequence.fed + forward.chunk_in_time()).min(sequence.prompt.len());
        // With the logits after every chunk: a cancel may make this the last one, and the slot can go on from it.
        if let Err(error) = forward.feed_to_end(slot, &sequence.prompt[sequence.fed..end]).await {
            *sequence = Sequence { failed: Some(error), ..Sequence::default() };
            return;
        }
        self.counts.chunks += 1;
        self.counts.fed += (end - sequence.fed) as u64;
        (sequence.fed, sequence.unfed) = (end, 0);
        if end < sequence.prompt.len() {
            self.reading.push_back(slot);
        } else {
            sequence.prompt = Vec::new();
        }
    }
}
