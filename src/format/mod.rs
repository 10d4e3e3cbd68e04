//! Checkpoints on disk: tensor containers, the encodings of their bytes, and the layout of weights in GPU memory.

mod block;
mod bnb;
mod ggml;
pub mod gguf;
mod pack;
#[cfg(feature = "pickle")]
mod pickle;
mod safetensors;
mod safetensors_write;
mod shards;
mod source;
mod tensor;
mod weight;

pub use ggml::RareBlock;
pub use pack::UNIT_BYTES;
pub use safetensors::{blocks_entry, safetensors_head};
pub use safetensors_write::{Entry, safetensors_header};
pub use source::TensorSource;
pub use tensor::{Encoding, Tensor};
pub use weight::WeightFormat;
