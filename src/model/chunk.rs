//! The tokens of a prefill chunk where the caller does not choose their number.

use super::config::Config;
use super::forward::Forward;
use super::memory::{Matrices, MemoryPlan, Room};
use super::options::{AUTOMATIC, ForwardOptions};
use super::shape::Shape;
use super::tensors::ModelTensors;
use crate::gpu::Gpu;

/// Tokens of a chunk on any adapter.
pub(super) const USUAL: usize = 512;
/// Tokens of a chunk on a discrete GPU that has room for its activations: its products are faster with more tokens.
const LARGE: usize = 2048;

/// Submissions of the longest duration that the work of a chunk above [`USUAL`] may take: other conversations and a cancel wait for it.
const SUBMISSIONS: u64 = 8;

impl ForwardOptions {
    /// These options with a number of tokens for a chunk that is [`AUTOMATIC`]: 2048 on a discrete GPU where the model's plan
    /// leaves room, else 512. Results do not depend on it: where several segments would make them, it is 512.
    #[must_use]
    pub fn settled(self, gpu: &Gpu, config: &Config, tensors: &ModelTensors<'_>) -> Self {
        self.settled_for(gpu, config, &Matrices::of(tensors, self.embeddings))
    }

    /// The same for a shape's made-up weights.
    #[must_use]
    pub fn settled_for_shape(self, gpu: &Gpu, shape: &Shape) -> Self {
        self.settled_for(gpu, &shape.config, &Matrices::of_shape(shape))
    }

    pub(super) fn settled_for(self, gpu: &Gpu, config: &Config, matrices: &Matrices) -> Self {
        let room = Room::of(gpu, &self);
        let plan = |options| MemoryPlan::of_matrices(config, matrices, options, gpu.caps().span_limit());
        let segments = match self.segments {
            AUTOMATIC => config.architecture.segments(gpu.caps(), LARGE),
            given => given,
        };
        self.settled_by(gpu.caps().discrete && segments == 1, room, plan)
    }

    fn settled_by(self, large: bool, room: Option<Room>, plan: impl Fn(Self) -> MemoryPlan) -> Self {
        // Kept states and other programs take memory too.
        let leaves_room =
            |plan: &MemoryPlan| room.is_some_and(|room| room.holds(plan) && plan.total() <= room.bytes() / 8 * 7);
        let chunk = match self.chunk {
            AUTOMATIC if large && leaves_room(&plan(self.chunk(LARGE))) => LARGE,
            AUTOMATIC => USUAL,
            given => given,
        };
        self.chunk(chunk)
    }
}

impl Forward {
    /// Most tokens that the next prefill step should take: fewer than [`Forward::chunk`] on a device where a single kernel, or a chunk
    /// of over 512 tokens, would take too long. The bits are the same. With several segments they would depend on it, so it is
    /// [`Forward::chunk`] then.
    pub fn chunk_in_time(&self) -> usize {
        if self.segments > 1 {
            return self.chunk;
        }
        let body = &self.prefill.body;
        body.rows_in_time(body.rows_within(USUAL, self.chunk, SUBMISSIONS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::embeddings::Embeddings;

    fn plan(options: ForwardOptions) -> MemoryPlan {
        MemoryPlan {
            weights: 600,
            state_per_slot: 0,
            activations: options.chunk as u64 / 16,
            staging: 0,
            backup_per_slot: 0,
            slots: 1,
            largest_matrix: 0,
            embeddings: Embeddings::Device,
            chunk: options.chunk,
        }
    }

    #[test]
    fn a_chunk_is_large_where_that_helps_and_leaves_room() {
        let automatic = ForwardOptions::default();
        for (large, room, chunk) in [
            (true, Some(1000), 2048),
            (true, Some(830), 512),
            (true, Some(100), 512),
            (true, None, 512),
            (false, Some(1000), 512),
        ] {
            let settled = automatic.settled_by(large, room.map(Room::Allowed), plan);
            assert_eq!(settled.chunk, chunk, "{large} {room:?}");
            let given = automatic.chunk(7).settled_by(large, room.map(Room::Allowed), plan);
            assert_eq!(given.chunk, 7, "{large} {room:?}");
        }
    }
}
