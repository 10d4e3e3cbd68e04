//! Tensors of safetensors files: one, or several named by an index.
//! Format: <https://github.com/huggingface/safetensors#format>.
//!
//! The container has no block formats. A matrix of GGUF's blocks is kept as U8 `[rows, row bytes]`, its rows as GGUF has them,
//! and the file's `__metadata__` says of each: `"blocks:NAME": "FORMAT COLUMNS"`, such as `"q4_K 4096"`.

use super::source::{Bytes, Kind, Place};
use super::{TensorSource, WeightFormat};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

/// The formats that are kept as bytes; the others have types of the container, or tensors of bitsandbytes.
const KEPT_AS_BYTES: [WeightFormat; 5] =
    [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4K, WeightFormat::Q5K, WeightFormat::Q6K];

impl TensorSource {
    /// The tensors of a checkpoint folder: `model.safetensors`, else what `model.safetensors.index.json` names, else every
    /// `model-*.safetensors`.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut source = TensorSource::empty(&dir.display().to_string());
        for path in shards(dir)? {
            let file = File::open(&path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::IncompleteCheckpoint {
                    dir: dir.to_owned(),
                    missing: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                },
                _ => Error::io("open", &path, e),
            })?;
            add(&mut source, path.display().to_string(), Bytes::map(&path, &file)?)?;
        }
        Ok(source)
    }
}

/// The tensors of a file in memory.
pub(super) fn from_bytes(label: &str, bytes: Bytes) -> Result<TensorSource> {
    let mut source = TensorSource::empty(label);
    add(&mut source, label.to_owned(), bytes)?;
    Ok(source)
}

fn add(source: &mut TensorSource, label: String, bytes: Bytes) -> Result<()> {
    let bad = |problem: String| Error::BadSafetensors { file: label.clone(), problem };
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
    let data = header + size_of::<u64>();
    let file = source.add_file(label.clone(), bytes);
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let range = data + start..data + end;
        let mut place = Place { file, kind: Kind::Dtype(info.dtype), shape: info.shape.clone(), range };
        let said = metadata.metadata().as_ref().and_then(|said| said.get(&format!("{BLOCKS}{name}")));
        if let Some(said) = said {
            blocks(&mut place, said).ok_or_else(|| {
                bad(format!("its metadata says {said:?} of {name}, {:?} {:?}", info.dtype, info.shape))
            })?;
        }
        source.add_tensor(name, place);
    }
    Ok(())
}

/// Key of the metadata that says what the bytes of a matrix are, before its name; see [`said_of_blocks`].
pub(super) const BLOCKS: &str = "blocks:";

/// Key and value of the metadata for a matrix that is kept as U8 `[rows, row bytes]`.
pub fn said_of_blocks(name: &str, format: WeightFormat, columns: usize) -> (String, String) {
    (format!("{BLOCKS}{name}"), format!("{format} {columns}"))
}

/// Takes a matrix of bytes for the blocks that the metadata says it is; none where that cannot be.
fn blocks(place: &mut Place, said: &str) -> Option<()> {
    let (name, columns) = said.split_once(' ')?;
    let format = KEPT_AS_BYTES.into_iter().find(|format| format.name() == name)?;
    let columns: usize = columns.parse().ok().filter(|columns| (1..=1 << 32).contains(columns))?;
    let [rows, row_bytes] = place.shape[..] else { return None };
    if !matches!(place.kind, Kind::Dtype(safetensors::Dtype::U8)) || row_bytes != format.row_bytes(columns) {
        return None;
    }
    place.kind = Kind::Blocks(format);
    place.shape = vec![rows, columns];
    Some(())
}

/// The head of a safetensors file: the length of its JSON, filled up to whole words, and the JSON itself.
pub fn safetensors_head(fields: serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
    let mut json = serde_json::Value::Object(fields).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.append(&mut json);
    head
}

fn shards(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if index.exists() {
        return indexed(dir, &index);
    }
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("model-") && name.ends_with(".safetensors")
        })
        .collect();
    found.sort();
    if !found.is_empty() {
        return Ok(found);
    }
    if dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists() {
        return Err(Error::PickleOnly { dir: dir.to_owned() });
    }
    Err(Error::IncompleteCheckpoint { dir: dir.to_owned(), missing: "model.safetensors".to_owned() })
}

/// The files that an index names. Links are followed (the Hugging Face cache is made of them), but a name may not lead out.
fn indexed(dir: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let bad = |problem: String| Error::BadJson { file: index.display().to_string(), problem };
    let text = std::fs::read(index).map_err(|e| Error::io("read", index, e))?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| bad("it has no weight_map of tensor names to files".to_owned()))?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        let name = value.as_str().ok_or_else(|| bad(format!("weight_map names {value}, which is no file")))?;
        let inside = !name.is_empty()
            && !name.contains(['\\', ':'])
            && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(Error::UnsafeShard { index: index.display().to_string(), shard: name.to_owned() });
        }
        names.insert(name);
    }
    if names.is_empty() {
        return Err(bad("its weight_map is empty".to_owned()));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}
