//! What a model takes of the device's memory, before anything is uploaded.

use super::config::Config;
use super::forward::ForwardOptions;
use super::scratch::Layout;
use super::state::VERSIONS;
use super::weights::ModelTensors;
use crate::format::Tensor;
use crate::gpu::staging_bytes;

/// Bytes on the device, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, in the types of the checkpoint.
    pub weights: u64,
    /// Recurrent state of one slot, all versions.
    pub state_per_slot: u64,
    /// Activations, logits and tables of sampling.
    pub activations: u64,
    /// Host memory through which weights go up, at most.
    pub staging: u64,
    /// Slots.
    pub slots: u64,
    /// Bytes of the largest matrix: more than the adapter binds is cut into shards.
    pub largest_matrix: u64,
}

impl MemoryPlan {
    /// Of a model with these tensors, laid out by `options` on an adapter that binds `span_limit` bytes.
    pub fn of(config: &Config, tensors: &ModelTensors<'_>, options: ForwardOptions, span_limit: u64) -> Self {
        let matrix = |tensor: &Tensor| (tensor.shape[0] * tensor.held_as().device_row_bytes(tensor.shape[1])) as u64;
        let matrices: Vec<u64> = tensors.matrices().map(matrix).collect();
        let Config { hidden, inner, state, conv_kernel, layers, .. } = *config;
        // Norms, taps with bias, dt bias, A with the skip: f32.
        let vectors = (hidden + (conv_kernel + 1) * inner + inner + (state + 1) * inner) * layers + hidden;
        // Matrices go up by some rows at a time, the rest as a whole.
        let largest_row =
            tensors.matrices().map(|tensor| tensor.held_as().device_row_bytes(tensor.shape[1])).max().unwrap_or(0);
        let largest_piece = largest_row.max(inner * size_of::<f32>() * (state.max(conv_kernel) + 1));
        MemoryPlan {
            weights: matrices.iter().sum::<u64>() + (vectors * size_of::<f32>()) as u64,
            state_per_slot: ((conv_kernel - 1 + state) * inner * size_of::<f32>() * VERSIONS * layers) as u64,
            activations: Layout::of(config, options, span_limit).bytes(config),
            staging: staging_bytes(largest_piece) as u64,
            slots: options.slots as u64,
            largest_matrix: matrices.iter().copied().max().unwrap_or(0),
        }
    }

    /// All that lies on the device.
    pub fn total(&self) -> u64 {
        self.weights + self.slots * self.state_per_slot + self.activations
    }
}
