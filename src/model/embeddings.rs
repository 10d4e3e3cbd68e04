//! The table of embeddings on the host: its rows are uploaded when tokens need them.

use crate::error::Result;
use crate::format::{Tensor, TensorSource, WeightFormat};
use std::sync::Arc;

/// Where the table of embeddings is kept. A tied head always needs it on the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Embeddings {
    /// On the device, like all weights.
    #[default]
    Device,
    /// On the host, in the checkpoint's file: each chunk or step uploads the rows of its tokens. This saves the table's device
    /// memory and costs the run-ahead step: the host must know a token before it can upload its row. The results are the same.
    Host,
}

/// A table of embeddings in its checkpoint.
pub(super) struct HostTable {
    source: Arc<TensorSource>,
    name: String,
    shape: [usize; 2],
    /// The format that the table would have on the device, so that its place does not change a value.
    format: WeightFormat,
}

impl HostTable {
    /// The table in `tensor`, which is one of this source.
    pub(super) fn new(source: &Arc<TensorSource>, tensor: &Tensor<'_>, format: WeightFormat) -> Self {
        let shape = [tensor.rows(), tensor.columns()];
        HostTable { source: source.clone(), name: tensor.name.clone(), shape, format }
    }

    /// The format of its rows.
    pub(super) fn format(&self) -> WeightFormat {
        self.format
    }

    /// The rows of these ids, packed for the device, in order.
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
