//! Log-probabilities and logits of a text that the model reads.

use super::Session;
use super::generation::{Logprobs, logprobs};
use crate::error::{Error, Result};
use crate::model::Logits;
use std::sync::atomic::Ordering;

impl Session {
    /// Feeds tokens and returns the log-probability of each but the first, with those of the `top` most probable tokens at its
    /// place. Reads back `[V]` logits of each token; the prefix cache is not used. A cancel ends it with [`Error::Cancelled`]; the
    /// chunks fed so far stay fed.
    pub async fn score_async(&mut self, ids: &[u32], top: usize) -> Result<Vec<Logprobs>> {
        let vocab = self.engine.checkpoint().config().vocab;
        let mut scores = Vec::with_capacity(ids.len());
        let mut next = ids.iter().skip(1);
        self.read_logits(ids, |rows| {
            let scored = rows.chunks(vocab).zip(next.by_ref());
            scores.extend(scored.map(|(logits, next)| logprobs(logits, *next, top)));
        })
        .await?;
        Ok(scores)
    }

    /// Feeds tokens and returns the logits after each, `[ids, V]`: 4 V bytes of host memory a token. The prefix cache is not used. A
    /// cancel ends it with [`Error::Cancelled`]; the chunks fed so far stay fed.
    pub async fn logits_async(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        self.read_logits(ids, |rows| logits.extend_from_slice(rows)).await?;
        Ok(logits)
    }

    /// Feeds tokens chunk by chunk; `each` gets the logits after one or more of them, in their order: `[_, V]`.
    async fn read_logits(&mut self, ids: &[u32], mut each: impl FnMut(&[f32])) -> Result<()> {
        self.begin_call();
        let chunk = self.schedule().await?.at_rest().await?.chunk();
        for piece in ids.chunks(chunk) {
            if self.cancelled.swap(false, Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            // Locked for one chunk at a time: other sessions take turns.
            let mut scheduler = self.schedule().await?;
            let doubt = self.doubt_on_drop();
            let forward = scheduler.at_rest().await?;
            let each = |rows: &[f32]| {
                each(rows);
                Ok(())
            };
            let read = forward.prefill_logits(self.slot, piece, Logits::All, each).await;
            read.and_then(|()| forward.end_feed(self.slot))?;
            doubt.finished();
            drop(scheduler);
            self.conversation.consume(piece, piece.len());
            self.conversation.unfinished.clear();
            self.conversation.ended = false;
            self.backup.read(piece);
        }
        // After an error it is tried again after the next tokens.
        let _ = self.back_up().await;
        Ok(())
    }
}
