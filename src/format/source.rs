//! The tensors of a checkpoint, in one file or several.

use super::gguf::Metadata;
use super::{Encoding, RareBlock, Tensor, WeightFormat, bnb, shards};
use crate::error::{Error, Result};
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// A read-only view of a checkpoint's tensors. Files are mapped, never read as a whole.
pub struct TensorSource {
    label: String,
    files: Vec<Mapped>,
    tensors: BTreeMap<String, TensorLocation>,
    metadata: Option<Metadata>,
}

struct Mapped {
    label: String,
    bytes: Bytes,
}

/// The bytes of a file.
pub(super) enum Bytes {
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

impl Bytes {
    /// Maps a file.
    pub(super) fn map(path: &Path, file: &File) -> Result<Self> {
        // SAFETY: the map is only read. Truncating the file meanwhile kills the process, as with every map.
        let map = unsafe { memmap2::Mmap::map(file) }.map_err(|e| Error::unreadable(path, e))?;
        Ok(Bytes::Map(map))
    }
}

/// The type of a tensor as its container states it.
pub(super) enum StoredType {
    /// A dtype of safetensors: a weight, or a part of one that bitsandbytes quantized.
    Dtype(Dtype),
    /// Rows of blocks.
    Blocks(WeightFormat),
    /// Rows of blocks of a type that is converted.
    Rare(RareBlock),
    /// A type that peregrine does not read, by its name.
    Unread(String),
}

/// Where a tensor is stored. The code that makes one checks that the file has these bytes and that their number fits the shape,
/// except for [`StoredType::Unread`], whose size is unknown.
pub(super) struct TensorLocation {
    /// Its file, in the order of [`TensorSource::add_file`].
    pub(super) file: usize,
    pub(super) stored: StoredType,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

impl TensorSource {
    /// A source without tensors: for a shape without its weights.
    pub fn empty(label: &str) -> Self {
        TensorSource { label: label.to_owned(), files: vec![], tensors: BTreeMap::new(), metadata: None }
    }

    /// The tensors of a checkpoint folder: of its safetensors files; without such files and with the feature `pickle`, of its only
    /// .pth or .pt file, else of pytorch_model.bin or the files that its index names.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut source = TensorSource::empty(&dir.display().to_string());
        for path in shards::of(dir)? {
            source.add_path(&path)?;
        }
        Ok(source)
    }

    /// The tensors of one file: safetensors or, with the feature `pickle`, a checkpoint of PyTorch by its first bytes. A file whose
    /// name ends in .safetensors is read as nothing else.
    pub fn open_file(path: &Path) -> Result<Self> {
        let mut source = TensorSource::empty(&path.display().to_string());
        source.add_path(path)?;
        Ok(source)
    }

    fn add_path(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(|e| Error::unreadable(path, e))?;
        self.add_bytes(path.display().to_string(), Bytes::map(path, &file)?)
    }

    fn add_bytes(&mut self, label: String, bytes: Bytes) -> Result<()> {
        #[cfg(feature = "pickle")]
        if !label.ends_with(".safetensors") && super::pickle::is_pickle(&bytes) {
            return super::pickle::add(self, label, bytes);
        }
        super::safetensors::add(self, label, bytes)
    }

    /// The tensors of a file in memory: GGUF by its first four bytes, else as [`TensorSource::open_file`] reads it.
    pub fn from_bytes(label: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let bytes = Bytes::Memory(bytes.into());
        if super::gguf::is_gguf(&bytes) {
            return super::gguf::from_bytes(label, bytes);
        }
        let mut source = TensorSource::empty(label);
        source.add_bytes(label.to_owned(), bytes)?;
        Ok(source)
    }

    /// The tensors of several files in memory.
    pub fn from_files(label: &str, files: impl IntoIterator<Item = (String, Cow<'static, [u8]>)>) -> Result<Self> {
        let mut source = TensorSource::empty(label);
        for (name, bytes) in files {
            source.add_bytes(name, Bytes::Memory(bytes))?;
        }
        Ok(source)
    }

    /// Adds a file; returns its index.
    pub(super) fn add_file(&mut self, label: String, bytes: Bytes) -> usize {
        self.files.push(Mapped { label, bytes });
        self.files.len() - 1
    }

    /// Adds a tensor; returns the one that had this name before.
    pub(super) fn add_tensor(&mut self, name: String, location: TensorLocation) -> Option<TensorLocation> {
        self.tensors.insert(name, location)
    }

    /// Whether a tensor of this name exists with another shape or other bytes.
    pub(super) fn has_another(&self, name: &str, location: &TensorLocation) -> bool {
        let bytes = |location: &TensorLocation| &self.files[location.file].bytes[location.range.clone()];
        self.tensors.get(name).is_some_and(|own| own.shape != location.shape || bytes(own) != bytes(location))
    }

    pub(super) fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = Some(metadata);
    }

    /// The metadata of a GGUF file; `None` for other containers.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Dimensions of a tensor; for a quantized one, those of its values.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let location = self.tensors.get(name)?;
        let quantized = self.quantized(name).ok().flatten();
        Some(quantized.map_or_else(|| location.shape.clone(), |tensor| tensor.shape))
    }

    /// The tensor of this name, if bitsandbytes quantized it.
    fn quantized(&self, name: &str) -> Result<Option<Tensor<'_>>> {
        let Some(stored) = self.stored(name) else { return Ok(None) };
        bnb::find(name, stored, &|name| self.stored(name))
    }

    /// A tensor as its safetensors file stores it.
    fn stored(&self, name: &str) -> Option<bnb::Stored<'_>> {
        let location = self.tensors.get(name)?;
        let StoredType::Dtype(dtype) = location.stored else { return None };
        let file = &self.files[location.file];
        let bytes = &file.bytes[location.range.clone()];
        Some(bnb::Stored { file: &file.label, dtype, shape: &location.shape, bytes })
    }

    /// Releases the mapped memory of `bytes`, a piece of a tensor; reading it again reads the file. Without a mapped file, or on a
    /// system without such an advice, this does nothing.
    pub fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        for file in &self.files {
            let Bytes::Map(map) = &file.bytes else { continue };
            let (whole, part) = (map.as_ptr_range(), bytes.as_ptr_range());
            if whole.start <= part.start && part.end <= whole.end {
                let first = part.start as usize - whole.start as usize;
                // SAFETY: the map is of a file and is only read, so its pages equal the file: later reads of them, and of the
                // rest of the first and the last page, see the same bytes. A refusal leaves the pages in memory.
                let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, bytes.len()) };
            }
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    /// The tensor of this name, which must have these dimensions.
    pub fn get(&self, name: &str, dims: &[usize]) -> Result<Tensor<'_>> {
        let tensor = self.find(name)?;
        if tensor.shape == dims {
            return Ok(tensor);
        }
        Err(Error::WrongShape {
            tensor: tensor.name,
            file: tensor.file.to_owned(),
            found: tensor.shape,
            wanted: dims.to_vec(),
            said_by: if self.metadata.is_some() { "its metadata" } else { "config.json" },
        })
    }

    /// The name of the weight that a tensor of this name is a part of, where bitsandbytes splits a weight into several tensors.
    pub fn belongs_to(name: &str) -> Option<String> {
        bnb::weight_of(name)
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|location| self.files[location.file].label.as_str())
    }

    /// The only file, or the folder, for messages.
    pub fn label(&self) -> &str {
        match &self.files[..] {
            [only] => &only.label,
            _ => &self.label,
        }
    }

    /// Whether a tensor has no values.
    pub fn is_empty(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|location| location.shape.contains(&0))
    }

    fn find(&self, name: &str) -> Result<Tensor<'_>> {
        let missing = || Error::MissingTensor {
            tensor: name.to_owned(),
            file: self.label().to_owned(),
            hint: if self.metadata.is_some() {
                "the file is of another model, or damaged: download it again".to_owned()
            } else {
                "is config.json of another model?".to_owned()
            },
        };
        let location = self.tensors.get(name).ok_or_else(missing)?;
        if let Some(quantized) = self.quantized(name)? {
            return Ok(quantized);
        }
        let file = &self.files[location.file];
        let unread = |found: String| Error::WrongDtype { tensor: name.to_owned(), file: file.label.clone(), found };
        let encoding = match &location.stored {
            StoredType::Dtype(Dtype::F32) => Encoding::Blocks(WeightFormat::F32),
            StoredType::Dtype(Dtype::F16) => Encoding::Blocks(WeightFormat::F16),
            StoredType::Dtype(Dtype::BF16) => Encoding::Blocks(WeightFormat::Bf16),
            StoredType::Dtype(other) => return Err(unread(format!("{other:?}"))),
            StoredType::Blocks(format) => Encoding::Blocks(*format),
            StoredType::Rare(block) => Encoding::Rare(*block),
            StoredType::Unread(name) => return Err(unread(name.clone())),
        };
        Ok(Tensor {
            name: name.to_owned(),
            file: &file.label,
            encoding,
            shape: location.shape.clone(),
            bytes: &file.bytes[location.range.clone()],
        })
    }
}
