//! Checkpoints on disk: containers of tensors, what their bytes mean, and how weights lie in GPU memory.

mod block;
mod bnb;
mod ggml;
pub mod gguf;
mod pack;
mod safetensors;
mod shards;
mod source;
mod tensor;
mod weight;

pub use ggml::RareBlock;
pub use pack::UNIT_BYTES;
pub use safetensors::{safetensors_head, said_of_blocks};
pub use source::TensorSource;
pub use tensor::{Encoding, Tensor};
pub use weight::WeightFormat;
