//! Runs of a plan, submitted in pieces that each take a short time.

use super::buffer::{Buf, Readback};
use super::clock::{Clock, Edges};
use super::plan::{Plan, Stages};
use super::submitted::{Run, Submitted};
use crate::error::Result;
use bytemuck::Pod;
use std::ops::Range;
use web_time::Instant;

/// Runs are shortened to a multiple of this many rows, the step of the products.
const ROWS_AT_A_TIME: usize = 16;

/// A copy to the host's memory at the end of a run.
pub struct ReadbackCopy<'a, T> {
    /// The source.
    pub from: &'a Buf<T>,
    /// Values to copy.
    pub range: Range<usize>,
    /// The destination.
    pub to: &'a Readback<T>,
}

impl Plan {
    /// Encodes and submits every dispatch for `rows` rows.
    pub fn run(&self, rows: usize) -> Result<Submitted> {
        self.run_to::<u32>(rows, Stages::ALL, None)
    }

    /// [`Plan::run`] with these stages, then a copy to the host in the same submission.
    pub fn run_to<T: Pod>(&self, rows: usize, stages: Stages, copy: Option<ReadbackCopy<'_, T>>) -> Result<Submitted> {
        self.run_timed((rows, stages), copy, None)
    }

    /// [`Plan::run_to`], with the device's clock read at its start and end.
    pub fn run_timed<T: Pod>(
        &self,
        run: (usize, Stages),
        copy: Option<ReadbackCopy<'_, T>>,
        clock: Option<&mut Clock>,
    ) -> Result<Submitted> {
        self.run_range(0..self.dispatches.len(), run, copy, clock)
    }

    /// Runs the plan dispatch by dispatch and calls `see` with each label, so that the kernel's outputs can be read.
    pub async fn run_stepwise(&self, rows: usize, mut see: impl AsyncFnMut(&str) -> Result<()>) -> Result<()> {
        for (i, dispatch) in self.dispatches.iter().enumerate() {
            self.run_range::<u32>(i..i + 1, (rows, Stages::ALL), None, None)?;
            see(&dispatch.label).await?;
        }
        Ok(())
    }

    /// Most rows of a run, up to `most`, for which no single dispatch exceeds the budget: a dispatch cannot be split.
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

    /// Most rows of a run, from `least` to `most`, whose work fits into so many submissions of the longest duration.
    pub fn rows_within(&self, least: usize, most: usize, submissions: u64) -> usize {
        let budget = self.budget.now().saturating_mul(submissions);
        let fits = |rows: usize| {
            let rows = u32::try_from(rows).unwrap_or(u32::MAX);
            self.dispatches.iter().fold(0, |sum: u64, dispatch| sum.saturating_add(dispatch.work(rows))) <= budget
        };
        let mut rows = most;
        while rows > least && !fits(rows) {
            rows = (rows / 2).next_multiple_of(ROWS_AT_A_TIME).max(least);
        }
        rows
    }

    fn run_range<T: Pod>(
        &self,
        range: Range<usize>,
        (rows, stages): (usize, Stages),
        copy: Option<ReadbackCopy<'_, T>>,
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
                return Ok(Submitted::run(last, Run::begin(&self.budget, work)));
            }
            // At most two pieces are in flight: the end of one is the start of the next, which gives its time.
            if let Some((earlier, work, submitted)) = earlier.replace((last, work, Instant::now())) {
                self.gpu.wait(earlier)?;
                let began = done.max(submitted);
                done = Instant::now();
                self.budget.took(work, done - began);
            }
        }
    }
}
