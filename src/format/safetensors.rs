//! Tensors of safetensors files: one, or several named by an index.
//! Format: <https://github.com/huggingface/safetensors#format>. The files are mapped, never read as a whole.

use super::{Tensor, WeightFormat, bnb};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// A read-only view of a checkpoint's tensors.
pub struct TensorSource {
    label: String,
    files: Vec<Mapped>,
    tensors: BTreeMap<String, Place>,
}

struct Mapped {
    label: String,
    bytes: Bytes,
}

enum Bytes {
    Map(memmap2::Mmap),
    Memory(Cow<'static, [u8]>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Map(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}

struct Place {
    file: usize,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl TensorSource {
    /// The tensors of a checkpoint folder: `model.safetensors`, else what `model.safetensors.index.json` names, else every
    /// `model-*.safetensors`.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut source = TensorSource { label: dir.display().to_string(), files: vec![], tensors: BTreeMap::new() };
        for path in shards(dir)? {
            let file = File::open(&path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::IncompleteCheckpoint {
                    dir: dir.to_owned(),
                    missing: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                },
                _ => Error::io("open", &path, e),
            })?;
            // SAFETY: the map is only read. Somebody who truncates the file meanwhile kills the process, as with every map.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", &path, e))?;
            source.add(path.display().to_string(), Bytes::Map(map))?;
        }
        Ok(source)
    }

    /// No tensors at all: for a shape without its weights.
    pub fn empty(label: &str) -> Self {
        TensorSource { label: label.to_owned(), files: vec![], tensors: BTreeMap::new() }
    }

    /// The tensors of a safetensors file in memory.
    pub fn from_bytes(label: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let mut source = TensorSource { label: label.to_owned(), files: vec![], tensors: BTreeMap::new() };
        source.add(label.to_owned(), Bytes::Memory(bytes.into()))?;
        Ok(source)
    }

    fn add(&mut self, label: String, bytes: Bytes) -> Result<()> {
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes)
            .map_err(|e| Error::BadSafetensors { file: label.clone(), problem: e.to_string() })?;
        let data = header + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            self.tensors.insert(
                name,
                Place {
                    file: self.files.len(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    range: data + start..data + end,
                },
            );
        }
        self.files.push(Mapped { label, bytes });
        Ok(())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Dimensions of a tensor; of a quantized one, those that its values have.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let stored = self.stored(name)?;
        let quantized = bnb::find(name, stored, &|name| self.stored(name)).ok().flatten();
        Some(quantized.map_or_else(|| stored.shape.to_vec(), |tensor| tensor.shape))
    }

    fn stored(&self, name: &str) -> Option<bnb::Stored<'_>> {
        let place = self.tensors.get(name)?;
        let file = &self.files[place.file];
        let bytes = &file.bytes[place.range.clone()];
        Some(bnb::Stored { file: &file.label, dtype: place.dtype, shape: &place.shape, bytes })
    }

    /// Lets go of the memory that `bytes` take, a part of a tensor, where they lie in a file: the next who reads them reads
    /// the file. Where they lie in memory, or the system knows no such thing, nothing happens.
    pub fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        for file in &self.files {
            let Bytes::Map(map) = &file.bytes else { continue };
            let (whole, part) = (map.as_ptr_range(), bytes.as_ptr_range());
            if whole.start <= part.start && part.end <= whole.end {
                let first = part.start as usize - whole.start as usize;
                // SAFETY: the map is of a file and is only read, so its pages hold nothing that is not in the file: whoever
                // still reads them, or the rest of the first and the last of them, finds the same bytes.
                // A refusal leaves them where they are.
                let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, bytes.len()) };
            }
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    /// The tensor of this name and these dimensions.
    pub fn get(&self, name: &str, dims: &[usize]) -> Result<Tensor<'_>> {
        let missing = || Error::MissingTensor { tensor: name.to_owned(), file: self.label.clone() };
        let stored = self.stored(name).ok_or_else(missing)?;
        if let Some(tensor) = bnb::find(name, stored, &|name| self.stored(name))? {
            return tensor.shaped(dims);
        }
        let format = match stored.dtype {
            safetensors::Dtype::F32 => WeightFormat::F32,
            safetensors::Dtype::F16 => WeightFormat::F16,
            safetensors::Dtype::BF16 => WeightFormat::Bf16,
            other => {
                return Err(Error::WrongDtype {
                    tensor: name.to_owned(),
                    file: stored.file.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        Tensor::of_blocks(name, stored.file, format, stored.shape, stored.bytes).shaped(dims)
    }
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
