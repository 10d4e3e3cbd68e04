//! What steps take: counted from the plans, and timed on the device.

use super::forward::Forward;
use crate::error::Result;
use crate::gpu::{Stages, Timed, Totals};

impl Forward {
    /// What a decode step of `rows` slots takes, by the rules that the slots have now.
    pub fn decode_totals(&self, rows: usize) -> Totals {
        self.decode.plan.totals(rows, self.all_stages())
    }

    /// What feeding a chunk of `tokens` takes, without the head.
    pub fn feed_totals(&self, tokens: usize) -> Totals {
        self.prefill.body.totals(tokens, Stages::NONE)
    }

    /// What the choice after a prompt takes: the head on one row, and the selection, by the rules that the slots have now.
    pub fn choice_totals(&self) -> Totals {
        self.prefill.head.totals(1, Stages::NONE).and(self.prefill.select.totals(1, self.all_stages()))
    }

    /// Runs a decode step of the decoding slots and gives the time of each dispatch. Their states move on by a token that
    /// the host does not hear of: put them back to where they were, or to their start, afterwards.
    pub async fn profile_step(&mut self) -> Result<Vec<Timed>> {
        let decoding = std::mem::take(&mut self.decoding);
        self.decode.plan.run_profiled(decoding.len(), self.stages_of(&decoding)).await
    }

    /// [`Forward::feed`], with the time of each dispatch.
    pub async fn profile_feed(&mut self, slot: usize, ids: &[u32]) -> Result<Vec<Timed>> {
        self.stage(slot, ids)?;
        self.prefill.body.run_profiled(ids.len(), Stages::NONE).await
    }
}
