//! What steps take: counted from the plans, and timed on the device.

use super::forward::Forward;
use crate::error::Result;
use crate::gpu::{Clock, DispatchTime, Plan, Stages, Totals};
use crate::kernels::linear::Linear;
use crate::kernels::linear::Matrix;

/// Times of the dispatches of a step or a chunk, in their order.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Each as a pass of its own, with nothing beside it.
    pub alone: Vec<DispatchTime>,
    /// Each among its like, as [`Plan::run_in_a_row`] has it: the same kernel of all layers, one after the other.
    pub in_a_row: Vec<DispatchTime>,
}

async fn profile(plan: &Plan, rows: usize, stages: Stages) -> Result<Profile> {
    let alone = plan.run_profiled(rows, stages).await?;
    Ok(Profile { alone, in_a_row: plan.run_in_a_row(rows, stages, purpose).await? })
}

/// What a dispatch is for, by its label: `layer.3.in_proj` is for in_proj.
pub fn purpose(label: &str) -> &str {
    label.strip_prefix("layer.").and_then(|rest| rest.split_once('.')).map_or(label, |(_, purpose)| purpose)
}

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

    /// From here on the device's clock is read before and after each decode step, for so many steps at most. Nothing waits for
    /// it. Where the adapter has no such clock, nothing is done.
    pub fn time_steps(&mut self, steps: usize) -> Result<()> {
        self.decode.clock = Clock::new(&self.gpu, steps)?;
        Ok(())
    }

    /// Ends what [`Forward::time_steps`] began: seconds on the device of each step, from the beginning of its first kernel to
    /// the end of its last; none where the adapter has no clock.
    pub async fn step_seconds(&mut self) -> Result<Option<Vec<f64>>> {
        match self.decode.clock.take() {
            Some(clock) => Ok(Some(clock.seconds().await?)),
            None => Ok(None),
        }
    }

    /// Runs a decode step of the decoding slots and gives the time of each dispatch, alone and in a row of its like. Their
    /// states move on to what the host does not hear of: put them back to where they were, or to their start, afterwards.
    pub async fn profile_step(&mut self) -> Result<Profile> {
        let decoding = std::mem::take(&mut self.decoding);
        profile(&self.decode.plan, decoding.len(), self.stages_of(&decoding)).await
    }

    /// [`Forward::feed`], with the time of each dispatch, alone and in a row of its like. The slot's state is of no use then:
    /// put it back as after [`Forward::profile_step`].
    pub async fn profile_feed(&mut self, slot: usize, ids: &[u32]) -> Result<Profile> {
        self.stage(slot, ids)?;
        profile(&self.prefill.body, ids.len(), Stages::NONE).await
    }

    /// Makes the first slot the only row of what is timed next, and keeps a GPU at work with steps of it until its clocks have
    /// risen.
    pub(super) fn heat(&mut self) -> Result<()> {
        self.set_next(0, 0)?;
        self.set_decoding(&[0])?;
        self.decode.plan.heat(1)
    }

    /// Seconds that a decode step's product with this matrix takes, on average over those layers that have it and in a row.
    pub(super) async fn seconds_of_product(&self, matrix: &Matrix) -> Result<f64> {
        let is = |linear: &Linear| linear.matrix() == *matrix;
        let mut labels = Vec::new();
        for (i, layer) in self.weights().layers.iter().enumerate() {
            let of_layer = [("in_proj", &layer.in_proj), ("x_proj", &layer.x_proj), ("out_proj", &layer.out_proj)];
            labels.extend(of_layer.into_iter().filter(|(_, m)| is(m)).map(|(name, _)| format!("layer.{i}.{name}")));
        }
        labels.extend(is(&self.weights().head).then(|| "logits".to_owned()));
        self.decode.plan.seconds_in_a_row_of(1, |label| labels.iter().any(|l| l == label)).await
    }

    /// Seconds that a kernel of a decode step takes, on average over its dispatches and in a row.
    pub(super) async fn seconds_of_step(&self, wanted: &str) -> Result<f64> {
        self.decode.plan.seconds_in_a_row_of(1, |label| purpose(label) == wanted).await
    }

    /// Seconds that some kernels take in the first layers of a full chunk, on average over their dispatches and in a row.
    pub(super) async fn seconds_of_chunk(&mut self, layers: usize, wanted: impl Fn(&str) -> bool) -> Result<f64> {
        let ids = vec![0; self.chunk()];
        self.stage(0, &ids)?;
        let among = |label: &str| (0..layers).any(|i| label.starts_with(&format!("layer.{i}.")));
        self.prefill.body.seconds_in_a_row_of(ids.len(), |label| among(label) && wanted(purpose(label))).await
    }
}
