//! The device's clock: durations of passes, by timestamp queries.

use super::buffer::Usage;
use super::device::Gpu;
use crate::error::Result;

/// Spans in one query set: two queries each, of the 4096 that every adapter has in a set.
const SPANS_A_SET: usize = 2048;

/// Reads the device's clock before and after each span of work; the host reads all times at the end.
pub struct Clock {
    gpu: Gpu,
    sets: Vec<wgpu::QuerySet>,
    most: usize,
    taken: usize,
}

/// The two queries of a span.
pub(super) struct Span<'a> {
    set: &'a wgpu::QuerySet,
    first: u32,
}

/// Which ends of a span a pass contains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edges {
    pub(super) begins: bool,
    pub(super) ends: bool,
}

impl Edges {
    /// A span of one pass.
    pub(super) const BOTH: Edges = Edges { begins: true, ends: true };
}

impl Span<'_> {
    /// The timestamps that a pass with these edges writes.
    pub(super) fn writes(&self, edges: Edges) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        (edges.begins || edges.ends).then(|| wgpu::ComputePassTimestampWrites {
            query_set: self.set,
            beginning_of_pass_write_index: edges.begins.then_some(self.first),
            end_of_pass_write_index: edges.ends.then_some(self.first + 1),
        })
    }
}

impl Clock {
    /// A clock for at most `spans` spans; `None` if the adapter has no timestamp queries.
    pub fn new(gpu: &Gpu, spans: usize) -> Result<Option<Self>> {
        if !gpu.caps().timestamps {
            return Ok(None);
        }
        let set = |first: usize| {
            let spans = SPANS_A_SET.min(spans - first);
            let descriptor = wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: u32::try_from(2 * spans).expect("a set is small"),
            };
            gpu.scoped("timestamps", || gpu.shared.device.create_query_set(&descriptor))
        };
        let sets = (0..spans).step_by(SPANS_A_SET).map(set).collect::<Result<Vec<_>>>()?;
        Ok(Some(Clock { gpu: gpu.clone(), sets, most: spans, taken: 0 }))
    }

    /// The next span; `None` when all are taken.
    pub(super) fn next(&mut self) -> Option<Span<'_>> {
        let at = self.taken;
        if at == self.most {
            return None;
        }
        self.taken += 1;
        let first = u32::try_from(2 * (at % SPANS_A_SET)).expect("a set is small");
        Some(Span { set: &self.sets[at / SPANS_A_SET], first })
    }

    /// Seconds of each span taken so far, in order. Waits for them.
    pub async fn seconds(&self) -> Result<Vec<f64>> {
        let gpu = &self.gpu;
        let period = f64::from(gpu.shared.queue.get_timestamp_period()) * 1e-9;
        let mut seconds = Vec::with_capacity(self.taken);
        for (i, set) in self.sets.iter().enumerate() {
            let spans = self.taken.saturating_sub(i * SPANS_A_SET).min(SPANS_A_SET);
            if spans == 0 {
                break;
            }
            let ticks = gpu.buffer::<u64>("timestamps", 2 * spans, Usage::Queries)?;
            let mut encoder = gpu.shared.device.create_command_encoder(&Default::default());
            encoder.resolve_query_set(set, 0..u32::try_from(2 * spans).expect("a set is small"), ticks.raw(), 0);
            gpu.submit(Some(encoder.finish()))?;
            let ticks = gpu.read(&ticks, 0..2 * spans).await?;
            seconds.extend(ticks.chunks_exact(2).map(|ticks| ticks[1].saturating_sub(ticks[0]) as f64 * period));
        }
        Ok(seconds)
    }
}
