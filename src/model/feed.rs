//! Prefill: feeds chunks of tokens to a slot and makes the logits after them.

use super::forward::{Forward, Logits, Slot};
use super::state::VERSIONS;
use crate::error::{Error, Result};
use crate::kernels::{Batch, RowEntry, size};

/// Chunks that are submitted before the first of them is done: enough to keep the device busy, and few enough that a prompt of
/// any length takes the same memory and can be cancelled.
const CHUNKS_IN_FLIGHT: usize = 2;

impl Forward {
    /// Splits the next chunk off the remaining tokens; `None` at the end.
    pub fn next_chunk<'a>(&self, left: &mut &'a [u32]) -> Option<&'a [u32]> {
        let (chunk, rest) = left.split_at(self.chunk_in_time().min(left.len()));
        *left = rest;
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Feeds one chunk of at most [`Forward::chunk`] tokens to a slot. Submits it and waits until at most two chunks are in flight.
    /// After an error the slot is unchanged: its state is in a version that the chunk does not write.
    pub async fn feed(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        let before = self.slots[slot];
        self.submit_chunk(slot, ids).await.inspect_err(|_| self.take_back_chunk(slot, before))
    }

    /// [`Forward::feed`], then the logits after the chunk: [`Forward::end_feed`]. After an error the slot is unchanged.
    pub async fn feed_to_end(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        let before = self.slots[slot];
        let fed = self.submit_chunk(slot, ids).await.and_then(|()| self.end_feed(slot));
        fed.inspect_err(|_| self.take_back_chunk(slot, before))
    }

    fn take_back_chunk(&mut self, slot: usize, before: Slot) {
        self.slots[slot] = before;
        self.moved(slot);
        self.fed = None;
    }

    async fn submit_chunk(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.stage(slot, ids)?;
        self.in_flight.push_back(self.prefill.body.run(ids.len())?);
        while self.in_flight.len() > CHUNKS_IN_FLIGHT {
            let oldest = self.in_flight.pop_front().expect("there are several");
            oldest.done(&self.gpu).await?;
        }
        Ok(())
    }

    pub(super) fn stage(&mut self, slot: usize, ids: &[u32]) -> Result<()> {
        self.check_ids(ids)?;
        assert!(ids.len() <= self.chunk, "a chunk is at most {} tokens", self.chunk);
        let rows: Vec<RowEntry> = ids.iter().map(|id| RowEntry { id: *id, ..Default::default() }).collect();
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
        self.fed = Some((slot, ids.len()));
        self.moved(slot);
        self.gpu.write(&self.prefill.batch, 0, &[batch])
    }

    /// Feeds any number of tokens in chunks. `fed` gets the size of each chunk after it; its error stops the prefill.
    pub async fn prefill(&mut self, slot: usize, ids: &[u32], mut fed: impl FnMut(usize) -> Result<()>) -> Result<()> {
        self.check_ids(ids)?;
        let mut left = ids;
        while let Some(piece) = self.next_chunk(&mut left) {
            self.feed(slot, piece).await?;
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

    /// Feeds tokens and passes their logits to `see`, in pieces of `[rows, V]`, in order.
    pub async fn prefill_logits(
        &mut self,
        slot: usize,
        ids: &[u32],
        which: Logits,
        mut see: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check_ids(ids)?;
        let mut left = ids;
        while let Some(piece) = self.next_chunk(&mut left) {
            self.feed(slot, piece).await?;
            let first = match which {
                Logits::All => 0,
                Logits::Last if left.is_empty() => piece.len() - 1,
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

    /// Makes the slot's logits after the last chunk, which must have been this slot's. Sampling reads them, and saved states hold
    /// them.
    pub fn end_feed(&mut self, slot: usize) -> Result<()> {
        let Some((_, rows)) = self.fed.take_if(|(fed, _)| *fed == slot) else { return Err(Error::NoTokens) };
        self.run_head(slot, rows - 1, 1)?;
        self.state.keep_logits(slot, self.slots[slot].version as usize, &self.prefill.logits)
    }
}
