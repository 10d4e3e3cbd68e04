//! What steps take: counted from the plans, and timed on the device.

use super::forward::Forward;
use crate::error::Result;
use crate::gpu::{Clock, Plan, Timed, Totals};

/// Times of the dispatches of a step or a chunk, in their order.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Each as a pass of its own, with nothing beside it.
    pub alone: Vec<Timed>,
    /// Each among its like, as [`Plan::run_in_a_row`] has it: the same kernel of all layers, one after the other.
    pub in_a_row: Vec<Timed>,
}

async fn profile(plan: &Plan, rows: usize) -> Result<Profile> {
    let alone = plan.run_profiled(rows).await?;
    Ok(Profile { alone, in_a_row: plan.run_in_a_row(rows, purpose).await? })
}

/// What a dispatch is for, by its label: `layer.3.in_proj` is for in_proj.
pub fn purpose(label: &str) -> &str {
    label.strip_prefix("layer.").and_then(|rest| rest.split_once('.')).map_or(label, |(_, purpose)| purpose)
}

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
        let rows = self.decoding.len();
        self.decoding.clear();
        profile(&self.decode.plan, rows).await
    }

    /// [`Forward::feed`], with the time of each dispatch, alone and in a row of its like. The slot's state is of no use then:
    /// put it back as after [`Forward::profile_step`].
    pub async fn profile_feed(&mut self, slot: usize, ids: &[u32]) -> Result<Profile> {
        self.stage(slot, ids)?;
        profile(&self.prefill.body, ids.len()).await
    }
}
