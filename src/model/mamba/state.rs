//! The recurrent state of a Mamba layer.

use super::Mamba;
use crate::model::state::{StateDtype, StateTensor};

/// The last inputs of the convolution, oldest first.
pub(super) const CONV: &str = "conv";
/// h of the selective scan.
pub(super) const SSM: &str = "ssm";

impl Mamba {
    /// The state tensors of all layers, layer by layer: `conv` `[K - 1, D]` and `ssm` `[N, D]`.
    pub(in crate::model) fn state_tensors(&self, layers: usize) -> Vec<StateTensor> {
        let of_layer = [(CONV, self.conv_kernel - 1), (SSM, self.state)];
        let tensor = |layer, name, rows| StateTensor { layer, name, shape: [rows, self.inner], dtype: StateDtype::F32 };
        (0..layers).flat_map(|layer| of_layer.map(|(name, rows)| tensor(layer, name, rows))).collect()
    }
}
