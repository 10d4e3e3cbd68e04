//! Tensors of safetensors files.
//! Format: <https://github.com/huggingface/safetensors#format>.
//!
//! The container has no block formats. A matrix in GGUF's blocks is stored as U8 `[rows, row bytes]`, each row as in GGUF, and
//! the file's `__metadata__` has an entry for it: `"blocks:NAME": "FORMAT COLUMNS"`, such as `"q4_K 4096"`.

use super::source::{Bytes, StoredType, TensorLocation};
use super::{TensorSource, WeightFormat};
use crate::error::{Error, Result};
use crate::input::{FileKind, not_of_kind};

/// The formats that are stored as bytes. The others are dtypes of the container or tensors of bitsandbytes.
const STORED_AS_BYTES: [WeightFormat; 5] =
    [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4K, WeightFormat::Q5K, WeightFormat::Q6K];

/// Adds the tensors of a file.
pub(super) fn add(source: &mut TensorSource, label: String, bytes: Bytes) -> Result<()> {
    let bad = |problem: String| Error::BadSafetensors { file: label.clone(), problem };
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| {
        let empty = bytes.is_empty().then(|| bad("it is empty".to_owned()));
        empty.or_else(|| not_of_kind(FileKind::Safetensors, &label, &bytes)).unwrap_or_else(|| bad(e.to_string()))
    })?;
    let data = header + size_of::<u64>();
    let file = source.add_file(label.clone(), bytes);
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let range = data + start..data + end;
        let mut location =
            TensorLocation { file, stored: StoredType::Dtype(info.dtype), shape: info.shape.clone(), range };
        let said = metadata.metadata().as_ref().and_then(|said| said.get(&format!("{BLOCKS}{name}")));
        if let Some(said) = said {
            blocks(&mut location, said).ok_or_else(|| {
                bad(format!("its metadata says {said:?} of {name}, {:?} {:?}", info.dtype, info.shape))
            })?;
        }
        if source.has_another(&name, &location) {
            let first = source.file_of(&name).unwrap_or_default();
            return Err(bad(format!("it has {name}, which {first} has as well, with other values")));
        }
        source.add_tensor(name, location);
    }
    Ok(())
}

/// Prefix of the metadata keys that describe matrices in blocks; see [`blocks_entry`].
pub(super) const BLOCKS: &str = "blocks:";

/// The metadata entry (key and value) of a matrix that is stored as U8 `[rows, row bytes]`.
pub fn blocks_entry(name: &str, format: WeightFormat, columns: usize) -> (String, String) {
    (format!("{BLOCKS}{name}"), format!("{format} {columns}"))
}

/// Turns a matrix of bytes into the blocks that its metadata entry describes; `None` where the two do not fit.
fn blocks(location: &mut TensorLocation, said: &str) -> Option<()> {
    let (name, columns) = said.split_once(' ')?;
    let format = STORED_AS_BYTES.into_iter().find(|format| format.name() == name)?;
    let columns: usize = columns.parse().ok().filter(|columns| (1..=u32::MAX as usize).contains(columns))?;
    let [rows, row_bytes] = location.shape[..] else { return None };
    if !matches!(location.stored, StoredType::Dtype(safetensors::Dtype::U8)) || row_bytes != format.row_bytes(columns) {
        return None;
    }
    location.stored = StoredType::Blocks(format);
    location.shape = vec![rows, columns];
    Some(())
}

/// The header of a safetensors file: the length of its JSON, and the JSON padded to whole words.
pub fn safetensors_head(fields: serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
    let mut json = serde_json::Value::Object(fields).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.append(&mut json);
    head
}
