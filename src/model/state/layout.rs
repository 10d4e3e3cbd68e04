//! What the state of a model consists of: named tensors of each layer. Everything that holds, copies, counts or stores states
//! follows this layout.

use std::sync::Arc;

/// The type of a state's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDtype {
    /// IEEE single precision.
    F32,
}

impl StateDtype {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            StateDtype::F32 => size_of::<f32>(),
        }
    }
}

/// A tensor of a model's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTensor {
    /// Its layer.
    pub layer: usize,
    /// Its name within the layer, such as `conv`.
    pub name: &'static str,
    /// Rows and columns. In half precision each row has its own scale.
    pub shape: [usize; 2],
    /// Its type.
    pub dtype: StateDtype,
}

impl StateTensor {
    /// Its name in the model and in state files: `layer.3.conv`.
    pub fn full_name(&self) -> String {
        format!("layer.{}.{}", self.layer, self.name)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tensors of one conversation's state, and the logits `[V]` that belong to it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLayout {
    tensors: Arc<[StateTensor]>,
    logits: usize,
}

impl StateLayout {
    /// These tensors, in the order in which they are copied, and logits of `vocab` tokens.
    pub fn new(tensors: Vec<StateTensor>, vocab: usize) -> Self {
        StateLayout { tensors: tensors.into(), logits: vocab }
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> &[StateTensor] {
        &self.tensors
    }

    /// Values of the logits.
    pub fn logits(&self) -> usize {
        self.logits
    }

    /// Bytes of the tensors without the logits.
    pub fn recurrent_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| (tensor.len() * tensor.dtype.bytes()) as u64).sum()
    }

    /// Bytes of the whole state: tensors and logits.
    pub fn bytes(&self) -> u64 {
        self.recurrent_bytes() + (self.logits * size_of::<f32>()) as u64
    }

    /// Lengths of the tensors and of the logits, in the order in which they are copied.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.tensors.iter().map(StateTensor::len).chain([self.logits])
    }
}
