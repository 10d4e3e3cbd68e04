//! The cost of steps: counted from the plans and timed on the device.

use super::architecture::Tuned;
use super::chunk;
use super::forward::Forward;
use crate::error::Result;
use crate::gpu::{Clock, DispatchTime, Plan, Stages, Totals};
use crate::kernels::linear::Linear;
use crate::kernels::linear::Matrix;

/// Times of the dispatches of a step or a chunk, in their order.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Each alone, in its own pass.
    pub alone: Vec<DispatchTime>,
    /// The same kernel of all layers in a row; see [`Plan::run_in_a_row`].
    pub in_a_row: Vec<DispatchTime>,
}

async fn profile(plan: &Plan, rows: usize, stages: Stages) -> Result<Profile> {
    let alone = plan.run_profiled(rows, stages).await?;
    Ok(Profile { alone, in_a_row: plan.run_in_a_row(rows, stages, purpose).await? })
}

/// The purpose of a dispatch, by its label: that of `layer.3.in_proj` is `in_proj`.
pub fn purpose(label: &str) -> &str {
    label.strip_prefix("layer.").and_then(|rest| rest.split_once('.')).map_or(label, |(_, purpose)| purpose)
}

impl Forward {
    /// The cost of a decode step of `rows` slots, with the slots' current rules.
    pub fn decode_totals(&self, rows: usize) -> Totals {
        self.decode.plan.totals(rows, self.all_stages())
    }

    /// The cost of feeding a chunk of `tokens`, without the head.
    pub fn feed_totals(&self, tokens: usize) -> Totals {
        self.prefill.body.totals(tokens, Stages::NONE)
    }

    /// The cost of sampling after a prompt: the head on one row and the selection, with the slots' current rules.
    pub fn choice_totals(&self) -> Totals {
        self.prefill.head.totals(1, Stages::NONE).and(self.prefill.select.totals(1, self.all_stages()))
    }

    /// Starts timing decode steps by the device's clock, at most `steps` of them, without waiting for results. Does nothing where
    /// the adapter has no clock.
    pub fn time_steps(&mut self, steps: usize) -> Result<()> {
        self.decode.clock = Clock::new(&self.gpu, steps)?;
        Ok(())
    }

    /// Stops what [`Forward::time_steps`] started. Returns each step's seconds on the device, from the start of its first kernel to
    /// the end of its last; `None` where the adapter has no clock.
    pub async fn step_seconds(&mut self) -> Result<Option<Vec<f64>>> {
        match self.decode.clock.take() {
            Some(clock) => Ok(Some(clock.seconds().await?)),
            None => Ok(None),
        }
    }

    /// Runs a decode step of the decoding slots and returns the time of each dispatch, alone and in a row. This advances their
    /// states without the host's knowledge: restore or reset the slots afterwards.
    pub async fn profile_step(&mut self) -> Result<Profile> {
        let decoding = std::mem::take(&mut self.decoding);
        profile(&self.decode.plan, decoding.len(), self.stages_of(&decoding)).await
    }

    /// [`Forward::feed`] with the time of each dispatch, alone and in a row. The slot's state is invalid afterwards: restore or reset
    /// the slot.
    pub async fn profile_feed(&mut self, slot: usize, ids: &[u32]) -> Result<Profile> {
        self.stage(slot, ids)?;
        profile(&self.prefill.body, ids.len(), Stages::NONE).await
    }

    /// Makes slot 0 the only decoding slot and runs steps of it until the GPU's clock frequency has risen.
    pub(super) fn heat(&mut self) -> Result<()> {
        self.set_next(0, 0)?;
        self.set_decoding(&[0])?;
        self.decode.plan.heat(1)
    }

    /// Seconds of a decode step's product with this matrix: the average over the layers that have it, in a row.
    pub(super) async fn seconds_of_product(&self, matrix: &Matrix) -> Result<f64> {
        let is = |linear: &Linear| linear.matrix() == *matrix;
        let mut labels = Vec::new();
        for (i, layer) in self.weights().layers.iter().enumerate() {
            let of_layer = layer.step_matrices();
            labels.extend(of_layer.into_iter().filter(|(_, m)| is(m)).map(|(name, _)| format!("layer.{i}.{name}")));
        }
        labels.extend(is(&self.weights().head).then(|| "logits".to_owned()));
        self.decode.plan.seconds_in_a_row_of(1, |label| labels.iter().any(|l| l == label)).await
    }

    /// Seconds of a kernel of a decode step: the average over its dispatches, in a row.
    pub(super) async fn seconds_of_step(&self, wanted: Tuned) -> Result<f64> {
        self.decode.plan.seconds_in_a_row_of(1, |label| wanted.has(purpose(label))).await
    }

    /// Seconds of some kernels in the first layers of a chunk: the average over their dispatches, in a row. The slow forms of a kernel
    /// would occupy the device for too long with a chunk of more tokens than usual.
    pub(super) async fn seconds_of_chunk(&mut self, layers: usize, wanted: Tuned) -> Result<f64> {
        let ids = vec![0; self.chunk().min(chunk::USUAL)];
        self.stage(0, &ids)?;
        let among = |label: &str| (0..layers).any(|i| label.starts_with(&format!("layer.{i}.")));
        self.prefill.body.seconds_in_a_row_of(ids.len(), |label| among(label) && wanted.has(purpose(label))).await
    }
}
