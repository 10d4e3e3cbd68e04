//! The time of each dispatch of a plan, by timestamp queries.

use super::{Plan, Stages, Usage};
use crate::error::{Error, Result};

/// Dispatches timed in one submission: two queries each, of the 4096 that every adapter has in a set.
const AT_A_TIME: usize = 1024;

/// What one dispatch took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// The dispatch's label.
    pub label: String,
    /// Its kernel.
    pub kernel: &'static str,
    /// Seconds on the device.
    pub seconds: f64,
    /// Multiply-adds.
    pub macs: u64,
    /// Bytes that must be moved, at the least.
    pub bytes: u64,
}

impl Plan {
    /// Runs the plan with these stages for `rows` rows and gives the time of each dispatch. Each is a pass of its own, so that none overlaps
    /// another; the sum is somewhat more than a plain run takes.
    pub async fn run_profiled(&self, rows: usize, stages: Stages) -> Result<Vec<Timed>> {
        let gpu = &self.gpu;
        if !gpu.caps().timestamps {
            let problem = "this adapter has no timestamp queries, or they are disabled".to_owned();
            return Err(Error::Gpu { what: "profiling".to_owned(), problem });
        }
        let device = &gpu.shared.device;
        let period = f64::from(gpu.shared.queue.get_timestamp_period()) * 1e-9;
        let count = u32::try_from(rows).expect("a chunk has at most 65535 rows");
        let needed: Vec<_> = self.dispatches.iter().filter(|dispatch| dispatch.is_of(stages)).collect();
        let mut timed = Vec::with_capacity(needed.len());
        for piece in needed.chunks(AT_A_TIME) {
            let queries = u32::try_from(2 * piece.len()).expect("a piece is small");
            let set = gpu.scoped("timestamps", || {
                device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count: queries,
                })
            })?;
            let ticks = gpu.buffer::<u64>("timestamps", 2 * piece.len(), Usage::Queries)?;
            for (i, dispatch) in (0..).zip(piece) {
                // A submission each: no watchdog fires, whatever the chunk.
                let mut encoder = device.create_command_encoder(&Default::default());
                {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: Some(&dispatch.label),
                        timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                            query_set: &set,
                            beginning_of_pass_write_index: Some(2 * i),
                            end_of_pass_write_index: Some(2 * i + 1),
                        }),
                    });
                    dispatch.encode(&mut pass, gpu, count)?;
                }
                gpu.shared.queue.submit([encoder.finish()]);
            }
            let mut encoder = device.create_command_encoder(&Default::default());
            encoder.resolve_query_set(&set, 0..queries, ticks.raw(), 0);
            gpu.shared.queue.submit([encoder.finish()]);
            let ticks = gpu.read(&ticks, 0..2 * piece.len()).await?;
            timed.extend(piece.iter().zip(ticks.chunks_exact(2)).map(|(dispatch, ticks)| Timed {
                label: dispatch.label.clone(),
                kernel: dispatch.name,
                seconds: ticks[1].saturating_sub(ticks[0]) as f64 * period,
                macs: dispatch.macs(count),
                bytes: dispatch.bytes(count),
            }));
        }
        Ok(timed)
    }
}
