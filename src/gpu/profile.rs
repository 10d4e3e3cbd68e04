//! Times of a plan's dispatches: each alone, and back to back with dispatches of the same kind.

use super::clock::{Clock, Edges};
use super::device::Gpu;
use super::plan::{Dispatch, Plan, Stages};
use super::submitted::Submitted;
use crate::error::{Error, Result};
use std::time::Duration;
use web_time::Instant;

/// The time of one dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct DispatchTime {
    /// The dispatch's label.
    pub label: String,
    /// Its kernel.
    pub kernel: &'static str,
    /// Seconds on the device.
    pub seconds: f64,
    /// Multiply-adds.
    pub macs: u64,
    /// Least bytes that must be moved.
    pub bytes: u64,
}

/// Least dispatches back to back: fewer of a kind are repeated.
const IN_A_ROW: usize = 8;

/// Measurements, of which the best counts.
const ROWS_TIMED: usize = 4;

/// Time to warm up: a GPU's clocks are low while it is idle, and take a while to rise.
const HEATING: Duration = Duration::from_millis(200);

/// Submissions in order, with at most two in flight.
#[derive(Default)]
struct Pace(Option<Submitted>);

impl Pace {
    fn submitted(&mut self, gpu: &Gpu, last: Submitted) -> Result<()> {
        self.0.replace(last).map_or(Ok(()), |earlier| earlier.wait(gpu))
    }
}

impl Plan {
    /// Runs the plan with these stages for `rows` rows and returns the time of each dispatch. Each is a separate pass, so that none
    /// overlaps another; the sum is somewhat longer than a plain run.
    pub async fn run_profiled(&self, rows: usize, stages: Stages) -> Result<Vec<DispatchTime>> {
        let gpu = &self.gpu;
        let needed = self.needed(stages);
        let mut clock = Clock::new(gpu, needed.len())?.ok_or_else(no_clock)?;
        let count = rows_of_a_run(rows);
        for dispatch in &needed {
            // One submission each, so that no watchdog fires for any chunk.
            let mut encoder = gpu.shared.device.create_command_encoder(&Default::default());
            {
                let span = clock.next().expect("there are as many as dispatches");
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(&dispatch.label),
                    timestamp_writes: span.writes(Edges::BOTH),
                });
                dispatch.encode(&mut pass, gpu, count)?;
            }
            gpu.submit(Some(encoder.finish()))?;
        }
        let seconds = clock.seconds().await?;
        Ok(timed(&needed, count, &seconds))
    }

    /// The dispatches of a run with these stages.
    fn needed(&self, stages: Stages) -> Vec<&Dispatch> {
        self.dispatches.iter().filter(|dispatch| dispatch.is_of(stages)).collect()
    }

    /// The time of each dispatch of a run with these stages for `rows` rows, back to back with its kind: all with the same
    /// `purpose` and kernel run in one pass and share its time. Their results are meaningless.
    pub async fn run_in_a_row(
        &self,
        rows: usize,
        stages: Stages,
        purpose: fn(&str) -> &str,
    ) -> Result<Vec<DispatchTime>> {
        if !self.gpu.caps().timestamps {
            return Err(no_clock());
        }
        let count = rows_of_a_run(rows);
        self.heat(rows)?;
        let needed = self.needed(stages);
        let mut seconds = vec![None; needed.len()];
        while let Some(first) = seconds.iter().position(Option::is_none) {
            let kind = |dispatch: &Dispatch| (purpose(&dispatch.label).to_owned(), dispatch.name);
            let of_first = kind(needed[first]);
            let row: Vec<usize> = (first..needed.len()).filter(|at| kind(needed[*at]) == of_first).collect();
            let times = IN_A_ROW.div_ceil(row.len());
            let dispatches: Vec<&Dispatch> = row.iter().map(|at| needed[*at]).collect();
            let each = self.seconds_in_a_row(&dispatches.repeat(times), count).await? / (times * row.len()) as f64;
            row.into_iter().for_each(|at| seconds[at] = Some(each));
        }
        let seconds: Vec<f64> = seconds.into_iter().flatten().collect();
        Ok(timed(&needed, count, &seconds))
    }

    /// Runs the plan until a GPU's clocks have risen. Does nothing on a CPU.
    pub fn heat(&self, rows: usize) -> Result<()> {
        let (mut pace, started) = (Pace::default(), Instant::now());
        while !self.gpu.caps().cpu && started.elapsed() < HEATING {
            pace.submitted(&self.gpu, self.run(rows)?)?;
        }
        Ok(())
    }

    /// Seconds of a run after a warm-up: the best mean of some rounds, of as many runs back to back as take `seconds`, but `most`.
    pub async fn best_seconds(&self, rows: usize, rounds: usize, (seconds, most): (f64, f64)) -> Result<f64> {
        self.heat(rows)?;
        let once = self.seconds_of(rows, 1).await?;
        let times = (seconds / once).clamp(1.0, most) as usize;
        let mut best = once;
        for _ in 0..rounds {
            best = best.min(self.seconds_of(rows, times).await?);
        }
        Ok(best)
    }

    /// Mean seconds of `times` runs back to back: by the device's clock if it has one, else by the host's. Long runs are split into
    /// several submissions.
    pub async fn seconds_of(&self, rows: usize, times: usize) -> Result<f64> {
        let all: Vec<&Dispatch> = self.dispatches.iter().collect();
        Ok(self.seconds_in_a_row(&all.repeat(times), rows_of_a_run(rows)).await? / times as f64)
    }

    /// Mean seconds of the dispatches whose label `wanted` selects, run back to back: the best of a few measurements, because
    /// other load only makes them longer.
    pub async fn seconds_in_a_row_of(&self, rows: usize, wanted: impl Fn(&str) -> bool) -> Result<f64> {
        let picked: Vec<&Dispatch> = self.dispatches.iter().filter(|dispatch| wanted(&dispatch.label)).collect();
        if picked.is_empty() {
            return Ok(0.0);
        }
        let row = picked.repeat(IN_A_ROW.div_ceil(picked.len()));
        let mut best = f64::INFINITY;
        // The first also compiles.
        for _ in 0..ROWS_TIMED {
            best = best.min(self.seconds_in_a_row(&row, rows_of_a_run(rows)).await?);
        }
        Ok(best / row.len() as f64)
    }

    /// Total seconds of these dispatches back to back.
    async fn seconds_in_a_row(&self, row: &[&Dispatch], rows: u32) -> Result<f64> {
        let gpu = &self.gpu;
        let mut pieces: Vec<Vec<&Dispatch>> = Vec::new();
        let mut work = u64::MAX;
        for dispatch in row {
            work = work.saturating_add(dispatch.work(rows));
            if work > self.budget.now() {
                pieces.push(Vec::new());
                work = dispatch.work(rows);
            }
            pieces.last_mut().expect("the first began one").push(*dispatch);
        }
        let mut clock = Clock::new(gpu, pieces.len())?;
        let (mut pace, started) = (Pace::default(), Instant::now());
        for piece in pieces {
            let mut encoder = gpu.shared.device.create_command_encoder(&Default::default());
            {
                let span = clock.as_mut().and_then(Clock::next);
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some("in a row"),
                    timestamp_writes: span.as_ref().and_then(|span| span.writes(Edges::BOTH)),
                });
                piece.iter().try_for_each(|dispatch| dispatch.encode(&mut pass, gpu, rows))?;
            }
            pace.submitted(gpu, Submitted::commands(gpu.submit(Some(encoder.finish()))?))?;
        }
        gpu.flush()?;
        let by_host = started.elapsed().as_secs_f64();
        let by_device = match clock {
            Some(clock) => clock.seconds().await?.iter().sum(),
            None => 0.0,
        };
        // Some drivers' clocks do not advance.
        Ok(if by_device > 0.0 { by_device } else { by_host })
    }
}

/// Each dispatch with its seconds.
fn timed(dispatches: &[&Dispatch], rows: u32, seconds: &[f64]) -> Vec<DispatchTime> {
    let timed = dispatches.iter().zip(seconds).map(|(dispatch, seconds)| DispatchTime {
        label: dispatch.label.clone(),
        kernel: dispatch.name,
        seconds: *seconds,
        macs: dispatch.macs(rows),
        bytes: dispatch.bytes(rows),
    });
    timed.collect()
}

fn rows_of_a_run(rows: usize) -> u32 {
    u32::try_from(rows).expect("a chunk has at most 65535 rows")
}

fn no_clock() -> Error {
    let problem = "this adapter has no timestamp queries, or they are disabled".to_owned();
    Error::Gpu { what: "profiling".to_owned(), problem }
}
