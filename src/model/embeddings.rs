//! The table of embeddings where it stays on the host: rows go up when tokens need them.

use crate::error::Result;
use crate::format::{Tensor, TensorSource, WeightFormat};
use std::sync::Arc;

/// Where the table of embeddings lies. A head that is tied to it needs it on the device, wherever it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Embeddings {
    /// On the device, as all weights.
    #[default]
    Device,
    /// On the host, where the checkpoint lies: a chunk or a step takes the rows of its tokens along. Saves the device the table,
    /// and costs the step that runs ahead: the host must know a token before its row can go up. The results are the same.
    Host,
}

/// A table of embeddings in its checkpoint.
pub(super) struct HostTable {
    source: Arc<TensorSource>,
    name: String,
    shape: [usize; 2],
    /// What the table would have on the device: where it lies does not change a value.
    format: WeightFormat,
}

impl HostTable {
    /// That of `tensor`, which is of this source.
    pub(super) fn new(source: &Arc<TensorSource>, tensor: &Tensor<'_>, format: WeightFormat) -> Self {
        let shape = [tensor.rows(), tensor.columns()];
        HostTable { source: source.clone(), name: tensor.name.clone(), shape, format }
    }

    /// The format of its rows.
    pub(super) fn format(&self) -> WeightFormat {
        self.format
    }

    /// The rows of these ids as the device would have them, one after the other.
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let table = self.source.get(&self.name, &self.shape)?;
        let row_bytes = self.format.device_row_bytes(self.shape[1]);
        let mut packed = vec![0; ids.len() * row_bytes];
        for (packed, id) in packed.chunks_exact_mut(row_bytes).zip(ids) {
            table.pack_rows(*id as usize..*id as usize + 1, self.format, packed);
        }
        Ok(packed)
    }
}
