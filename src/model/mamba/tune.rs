//! What the choice of kernel forms needs to know of a Mamba.

use super::Mamba;
use crate::gpu::Caps;
use crate::kernels::scan;
use crate::kernels::variants::Sizes;
use crate::model::weights::Weights;

/// Kernels of a layer with several forms to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Tuned {
    /// The recurrence of a decode step.
    StepScan,
    /// The recurrence of a prefill chunk.
    ChunkScan,
    /// The products of a prefill chunk.
    ChunkProducts,
}

impl Tuned {
    /// Whether a dispatch with this purpose in its label is one of them.
    pub(in crate::model) fn has(self, purpose: &str) -> bool {
        match self {
            Tuned::StepScan => purpose == "ssm_step",
            Tuned::ChunkScan => purpose.contains("scan"),
            Tuned::ChunkProducts => purpose.ends_with("_proj"),
        }
    }
}

impl Mamba {
    /// The sizes that forms are chosen by.
    pub(in crate::model) fn kernel_sizes(&self, weights: &Weights) -> Sizes {
        Sizes {
            matrices: weights.step_matrices(),
            by_groups: weights.cut_by_groups(),
            channels: self.inner,
            states: self.state,
        }
    }

    /// Segments of a full chunk that suit the adapter.
    pub(in crate::model) fn segments(&self, caps: &Caps, chunk: usize) -> usize {
        scan::segments_for(caps, self.inner, self.state, chunk)
    }
}
