//! The tensors of a checkpoint, whatever files hold them.

use super::gguf::Metadata;
use super::{Encoding, RareBlock, Tensor, WeightFormat, bnb};
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
    tensors: BTreeMap<String, Place>,
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
        // SAFETY: the map is only read. Somebody who truncates the file meanwhile kills the process, as with every map.
        let map = unsafe { memmap2::Mmap::map(file) }.map_err(|e| Error::unreadable(path, e))?;
        Ok(Bytes::Map(map))
    }
}

/// What the bytes of a tensor are, by the word of its container.
pub(super) enum Kind {
    /// A type of safetensors: a weight, or a part of one that bitsandbytes quantized.
    Dtype(Dtype),
    /// Rows of blocks.
    Blocks(WeightFormat),
    /// Rows of blocks of a type that becomes another.
    Rare(RareBlock),
    /// A type that is not read, by its name.
    Unread(String),
}

/// Where a tensor lies. Whoever makes one has checked that the file has those bytes, and that they are as many as the shape
/// asks for; but for [`Kind::Unread`], of which nothing is known.
pub(super) struct Place {
    /// Its file, in the order of [`TensorSource::add_file`].
    pub(super) file: usize,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

impl TensorSource {
    /// No tensors at all: for a shape without its weights.
    pub fn empty(label: &str) -> Self {
        TensorSource { label: label.to_owned(), files: vec![], tensors: BTreeMap::new(), metadata: None }
    }

    /// The tensors of a file in memory: safetensors, or GGUF by its first four bytes.
    pub fn from_bytes(label: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let bytes = Bytes::Memory(bytes.into());
        if super::gguf::is_gguf(&bytes) {
            return super::gguf::from_bytes(label, bytes);
        }
        super::safetensors::from_bytes(label, bytes)
    }

    /// The next file.
    pub(super) fn add_file(&mut self, label: String, bytes: Bytes) -> usize {
        self.files.push(Mapped { label, bytes });
        self.files.len() - 1
    }

    /// A tensor of this name. Gives the one that had the name before.
    pub(super) fn add_tensor(&mut self, name: String, place: Place) -> Option<Place> {
        self.tensors.insert(name, place)
    }

    /// Whether there is a tensor of this name whose bytes or whose shape are others.
    pub(super) fn has_another(&self, name: &str, place: &Place) -> bool {
        let bytes = |place: &Place| &self.files[place.file].bytes[place.range.clone()];
        self.tensors.get(name).is_some_and(|own| own.shape != place.shape || bytes(own) != bytes(place))
    }

    pub(super) fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = Some(metadata);
    }

    /// What a GGUF file says besides its tensors; none for other containers.
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

    /// Dimensions of a tensor; of a quantized one, those that its values have.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let place = self.tensors.get(name)?;
        let quantized = self.quantized(name).ok().flatten();
        Some(quantized.map_or_else(|| place.shape.clone(), |tensor| tensor.shape))
    }

    /// The tensor of this name, if bitsandbytes quantized it.
    fn quantized(&self, name: &str) -> Result<Option<Tensor<'_>>> {
        let Some(stored) = self.stored(name) else { return Ok(None) };
        bnb::find(name, stored, &|name| self.stored(name))
    }

    /// A tensor as a safetensors file has it.
    fn stored(&self, name: &str) -> Option<bnb::Stored<'_>> {
        let place = self.tensors.get(name)?;
        let Kind::Dtype(dtype) = place.kind else { return None };
        let file = &self.files[place.file];
        let bytes = &file.bytes[place.range.clone()];
        Some(bnb::Stored { file: &file.label, dtype, shape: &place.shape, bytes })
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

    /// The weight that a tensor of this name belongs to, where bitsandbytes keeps a weight in several.
    pub fn belongs_to(name: &str) -> Option<String> {
        bnb::weight_of(name)
    }

    /// The file that a tensor lies in.
    pub fn file_of(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|place| self.files[place.file].label.as_str())
    }

    /// Where the tensors lie, for messages: the only file, or the folder.
    pub fn label(&self) -> &str {
        match &self.files[..] {
            [only] => &only.label,
            _ => &self.label,
        }
    }

    /// Whether a tensor has no values at all.
    pub fn is_empty(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|place| place.shape.contains(&0))
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
        let place = self.tensors.get(name).ok_or_else(missing)?;
        if let Some(quantized) = self.quantized(name)? {
            return Ok(quantized);
        }
        let file = &self.files[place.file];
        let unread = |found: String| Error::WrongDtype { tensor: name.to_owned(), file: file.label.clone(), found };
        let encoding = match &place.kind {
            Kind::Dtype(Dtype::F32) => Encoding::Blocks(WeightFormat::F32),
            Kind::Dtype(Dtype::F16) => Encoding::Blocks(WeightFormat::F16),
            Kind::Dtype(Dtype::BF16) => Encoding::Blocks(WeightFormat::Bf16),
            Kind::Dtype(other) => return Err(unread(format!("{other:?}"))),
            Kind::Blocks(format) => Encoding::Blocks(*format),
            Kind::Rare(block) => Encoding::Rare(*block),
            Kind::Unread(name) => return Err(unread(name.clone())),
        };
        Ok(Tensor {
            name: name.to_owned(),
            file: &file.label,
            encoding,
            shape: place.shape.clone(),
            bytes: &file.bytes[place.range.clone()],
        })
    }
}
