//! The table of embeddings where it stays on the host: rows are decoded when tokens need them.

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

    /// The rows of these ids, one after the other.
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let table = self.source.get(&self.name, &self.shape)?;
        let columns = self.shape[1];
        let mut values = vec![0.0; ids.len() * columns];
        let mut blocks = vec![0; self.format.row_bytes(columns)];
        for (values, id) in values.chunks_exact_mut(columns).zip(ids) {
            let row = *id as usize;
            table.encode_rows(row..row + 1, self.format, &mut blocks);
            self.format.decode_row(&blocks, values);
        }
        Ok(values)
    }
}
