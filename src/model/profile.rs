//! What steps take: counted from the plans, and timed on the device.

use super::forward::Forward;
use crate::error::Result;
use crate::gpu::{Timed, Totals};
use crate::kernels::matvec::Matrix;

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

    /// Seconds that a product of a decode step takes among its like.
    pub(super) fn seconds_of_product(&mut self, matrix: &Matrix) -> Result<f64> {
        let _ = matrix;
        unimplemented!()
    }

    /// Seconds that a kernel of a decode step takes among its like.
    pub(super) fn seconds_of_step_kernel(&mut self, name: &str) -> Result<f64> {
        let _ = name;
        unimplemented!()
    }

    /// Seconds that some dispatches of the first layers of a full chunk take.
    pub(super) fn seconds_of_layers(&mut self, layers: usize, which: impl Fn(&str) -> bool) -> Result<f64> {
        let _ = (layers, which);
        unimplemented!()
    }
}
