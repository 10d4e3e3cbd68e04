//! Runs of a plan: handed to the device in pieces that it does in a short time.

use super::budget::Budget;
use super::buffer::Readback;
use super::clock::{Clock, Edges};
use super::plan::{Dispatch, Plan, Stages};
use super::{Buf, Gpu};
use crate::error::Result;
use bytemuck::Pod;
use std::ops::Range;
use std::sync::Arc;
use web_time::Instant;

/// Rows of a run are cut to a multiple of this: what products take at a time.
const ROWS_AT_A_TIME: usize = 16;

/// Something that was handed to the device.
pub struct Submitted {
    last: wgpu::SubmissionIndex,
    /// The run that it is the end of, if any.
    run: Option<Run>,
}

/// A run under way.
struct Run {
    budget: Arc<Budget>,
    /// Of its last piece.
    work: u64,
    /// Runs of the plan that were under way then, with this one.
    under_way: u32,
}

impl Run {
    fn begin(budget: &Arc<Budget>, work: u64) -> Self {
        Run { budget: budget.clone(), work, under_way: budget.begin() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.budget.end();
    }
}

impl Submitted {
    /// Commands that are no run of a plan.
    pub(super) fn commands(last: wgpu::SubmissionIndex) -> Self {
        Submitted { last, run: None }
    }

    /// Waits until it is done. Natively the device is polled until then, and the future is ready at its first poll.
    pub async fn done(self, gpu: &Gpu) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        gpu.work_done().await?;
        self.wait(gpu)
    }

    /// Waits until it is done, where a thread can wait: a browser's cannot, and goes on. It keeps few submissions under way;
    /// who needs the results awaits them.
    pub fn wait(self, gpu: &Gpu) -> Result<()> {
        let started = Instant::now();
        let outcome = gpu.wait(self.last);
        if let Some(run) = self.run {
            run.budget.waited(run.work, run.under_way, started.elapsed());
        }
        outcome
    }
}

/// A copy to the host's memory at the end of a run.
pub struct Copy<'a, T> {
    /// From where.
    pub from: &'a Buf<T>,
    /// Which values.
    pub range: Range<usize>,
    /// To where.
    pub to: &'a Readback<T>,
}

impl Plan {
    /// Encodes and submits every dispatch for `rows` rows.
    pub fn run(&self, rows: usize) -> Result<Submitted> {
        self.run_to::<u32>(rows, Stages::ALL, None)
    }

    /// [`Plan::run`] with these stages, then a copy to the host in the same submission.
    pub fn run_to<T: Pod>(&self, rows: usize, stages: Stages, copy: Option<Copy<'_, T>>) -> Result<Submitted> {
        self.run_timed((rows, stages), copy, None)
    }

    /// [`Plan::run_to`], with the device's clock read at its beginning and its end.
    pub fn run_timed<T: Pod>(
        &self,
        run: (usize, Stages),
        copy: Option<Copy<'_, T>>,
        clock: Option<&mut Clock>,
    ) -> Result<Submitted> {
        self.run_range(0..self.dispatches.len(), run, copy, clock)
    }

    /// Runs the plan dispatch by dispatch and hands each label to `see`: the bindings that the
    /// kernel wrote can then be read.
    pub async fn run_stepwise(&self, rows: usize, mut see: impl AsyncFnMut(&str) -> Result<()>) -> Result<()> {
        for (i, dispatch) in self.dispatches.iter().enumerate() {
            self.run_range::<u32>(i..i + 1, (rows, Stages::ALL), None, None)?;
            see(&dispatch.label).await?;
        }
        Ok(())
    }

    /// Rows of a run, of at most so many, with which no single dispatch takes too long: those cannot be cut.
    pub fn rows_in_time(&self, most: usize) -> usize {
        let fits = |rows: usize| {
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            self.dispatches.iter().all(|dispatch| dispatch.work(rows) <= self.budget.now())
        };
        let mut rows = most;
        while rows > ROWS_AT_A_TIME && !fits(rows) {
            rows = (rows / 2).next_multiple_of(ROWS_AT_A_TIME);
        }
        rows
    }

    /// How many dispatches fit into one submission, at least one, and their work.
    pub(super) fn piece_length(&self, dispatches: &[Dispatch], rows: u32) -> (usize, u64) {
        let (most, mut work) = (self.budget.now(), 0);
        for (i, dispatch) in dispatches.iter().enumerate() {
            let own = dispatch.work(rows);
            if i > 0 && work + own > most {
                return (i, work);
            }
            work += own;
        }
        (dispatches.len(), work)
    }

    fn run_range<T: Pod>(
        &self,
        range: Range<usize>,
        (rows, stages): (usize, Stages),
        copy: Option<Copy<'_, T>>,
        clock: Option<&mut Clock>,
    ) -> Result<Submitted> {
        self.gpu.check()?;
        let rows = u32::try_from(rows).expect("a chunk has at most 65535 rows");
        let device = &self.gpu.shared.device;
        let mut left = &self.dispatches[range];
        let span = clock.and_then(Clock::next);
        let mut begins = true;
        let mut earlier: Option<(wgpu::SubmissionIndex, u64, Instant)> = None;
        let mut done = Instant::now();
        loop {
            let (length, work) = self.piece_length(left, rows);
            let (piece, rest) = left.split_at(length);
            left = rest;
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(self.label) });
            {
                let edges = Edges { begins, ends: left.is_empty() };
                begins = false;
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(self.label),
                    timestamp_writes: span.as_ref().and_then(|span| span.writes(edges)),
                });
                let mut needed = piece.iter().filter(|dispatch| dispatch.is_of(stages));
                needed.try_for_each(|dispatch| dispatch.encode(&mut pass, &self.gpu, rows))?;
            }
            if let (true, Some(copy)) = (left.is_empty(), &copy) {
                let (first, bytes) = copy.from.bytes(&copy.range);
                encoder.copy_buffer_to_buffer(copy.from.raw(), first, &copy.to.buffer, 0, bytes);
            }
            let last = self.gpu.submit(Some(encoder.finish()))?;
            self.gpu.check()?;
            if left.is_empty() {
                return Ok(Submitted { last, run: Some(Run::begin(&self.budget, work)) });
            }
            // At most two pieces are under way: the end of one is the beginning of the next, whose time is then known.
            if let Some((earlier, work, submitted)) = earlier.replace((last, work, Instant::now())) {
                self.gpu.wait(earlier)?;
                let began = done.max(submitted);
                done = Instant::now();
                self.budget.took(work, done - began);
            }
        }
    }
}
