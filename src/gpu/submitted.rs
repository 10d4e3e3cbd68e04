//! Submitted work.

use super::budget::Budget;
use super::device::Gpu;
use crate::error::Result;
use std::sync::Arc;
use web_time::Instant;

/// Submitted commands, or a run.
pub struct Submitted {
    last: wgpu::SubmissionIndex,
    /// The run that it ends, if any.
    run: Option<Run>,
}

/// A run in flight.
pub(super) struct Run {
    budget: Arc<Budget>,
    /// Work of its last piece.
    work: u64,
    /// Runs of the plan in flight at its submission, including this one.
    under_way: u32,
}

impl Run {
    pub(super) fn begin(budget: &Arc<Budget>, work: u64) -> Self {
        Run { budget: budget.clone(), work, under_way: budget.begin() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.budget.end();
    }
}

impl Submitted {
    /// The last piece of a run.
    pub(super) fn run(last: wgpu::SubmissionIndex, run: Run) -> Self {
        Submitted { last, run: Some(run) }
    }

    /// Commands other than a run of a plan.
    pub(super) fn commands(last: wgpu::SubmissionIndex) -> Self {
        Submitted { last, run: None }
    }

    /// Waits until it is done. Natively it polls the device until then, so the future is ready at its first poll.
    pub async fn done(self, gpu: &Gpu) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        gpu.work_done().await?;
        self.wait(gpu)
    }

    /// Waits until it is done, where a thread can wait. A browser's cannot and continues: it keeps few submissions in flight, and whoever
    /// needs results awaits them.
    pub fn wait(self, gpu: &Gpu) -> Result<()> {
        let started = Instant::now();
        let outcome = gpu.wait(self.last);
        if let Some(run) = self.run {
            run.budget.waited(run.work, run.under_way, started.elapsed());
        }
        outcome
    }
}
