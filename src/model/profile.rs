//! What steps take: counted from the plans, and timed on the device.

use super::forward::Forward;
use crate::error::Result;
use crate::gpu::{Timed, Totals};

impl Forward {
    /// What a decode step of `rows` slots takes.
    pub fn decode_totals(&self, rows: usize) -> Totals {
        self.decode.plan.totals(rows)
    }

    /// What feeding a chunk of `tokens` takes, without the head.
    pub fn feed_totals(&self, tokens: usize) -> Totals {
        self.prefill.body.totals(tokens)
    }

    /// What the choice after a prompt takes: the head on one row, and the selection.
    pub fn choice_totals(&self) -> Totals {
        self.prefill.head.totals(1).and(self.prefill.select.totals(1))
    }

    /// Runs a decode step of the decoding slots and gives the time of each dispatch. Their states move on by a token that
    /// the host does not hear of: put them back to where they were, or to their start, afterwards.
    pub async fn profile_step(&mut self) -> Result<Vec<Timed>> {
        let rows = self.decoding.len();
        self.decoding.clear();
        self.decode.plan.run_profiled(rows).await
    }

    /// [`Forward::feed`], with the time of each dispatch.
    pub async fn profile_feed(&mut self, slot: usize, ids: &[u32]) -> Result<Vec<Timed>> {
        self.stage(slot, ids)?;
        self.prefill.body.run_profiled(ids.len()).await
    }
}
