//! GGUF files of llama.cpp: a model's metadata and its tensors, in one file or several.
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod read;
mod types;
mod value;
mod write;

pub(super) use read::{from_bytes, is_gguf};
pub use types::TensorType;
pub use value::{Array, Metadata, Value};
pub use write::{Header, Outline};

const MAGIC: &[u8] = b"GGUF";
/// Tensors begin at multiples of this, unless the file says otherwise.
const ALIGNMENT: usize = 32;
const ALIGNMENT_KEY: &str = "general.alignment";
