//! Tensors of PyTorch checkpoints: `.pth`, `.pt` and `pytorch_model.bin` as `torch.save` writes them since PyTorch 1.6.
//! Format: <https://docs.pytorch.org/docs/stable/notes/serialization.html>, a zip archive of stored entries under one folder:
//! `data.pkl`, a pickle that describes the tensors, and `data/KEY`, the bytes of each storage.
//!
//! The pickle is data here: no code of it runs. See [`machine`].

mod machine;
mod state_dict;

use super::TensorSource;
use super::source::{Bytes, StoredType, TensorLocation};
use crate::error::{Error, Result};
use crate::input::FileKind;
use machine::{Element, Pickle};
use safetensors::Dtype;
use state_dict::{Described, StorageLength};
use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

/// Whether a file is a zip archive or a pickle, by its first bytes.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    matches!(FileKind::of(bytes), Some(FileKind::Pickle | FileKind::Zip))
}

/// The first bytes of a file of PyTorch before 1.6: the number 0x1950a86a20f9469cfc6c as a pickle.
const OLD_FORMAT: &[u8] = &[0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Adds the tensors of a file.
pub(super) fn add(source: &mut TensorSource, label: String, bytes: Bytes) -> Result<()> {
    let bad = |problem: String| Error::BadPickle { file: label.clone(), problem };
    let tensors = locate(&bytes).map_err(bad)?;
    let file = source.add_file(label.clone(), bytes);
    for (name, place) in tensors {
        let location = TensorLocation { file, stored: place.stored, shape: place.shape, range: place.range };
        if source.has_another(&name, &location) {
            let first = source.file_of(&name).unwrap_or_default();
            return Err(bad(format!("it has {name}, which {first} has as well, with other values")));
        }
        source.add_tensor(name, location);
    }
    Ok(())
}

/// Where a tensor lies in its file.
struct Place {
    stored: StoredType,
    shape: Vec<usize>,
    range: Range<usize>,
}

fn locate(bytes: &[u8]) -> Result<Vec<(String, Place)>, String> {
    if !bytes.starts_with(b"PK") {
        let old = bytes.get(2..).is_some_and(|rest| rest.starts_with(OLD_FORMAT));
        let what = if old { "it has the format of PyTorch before 1.6" } else { "it is a bare pickle, no archive" };
        return Err(format!("{what}: load it with PyTorch and save it again"));
    }
    let entries = entries(bytes)?;
    let root = root(&entries)?;
    let of_program = |name: &str| name == "constants.pkl" || name.starts_with("code/");
    if entries.keys().any(|name| name.strip_prefix(root).is_some_and(of_program)) {
        return Err("it is a TorchScript program: save model.state_dict() instead".to_owned());
    }
    let entry = |name: &str| entries.get(&format!("{root}{name}")).map(|entry| entry.range(name)).transpose();
    if let Some(order) = entry("byteorder")?
        && bytes[order.clone()] != *b"little"
    {
        return Err("its values are not little-endian".to_owned());
    }
    let data = entry("data.pkl")?.ok_or("it has no data.pkl")?;
    let pickle = Pickle::read(&bytes[data])?;
    let mut found = Vec::new();
    for (name, described) in state_dict::tensors(&pickle)? {
        let storage = entry(&format!("data/{}", described.key))?;
        let place = storage.ok_or_else(|| format!("it has no entry data/{}", described.key));
        let place = place.and_then(|storage| place_of(&described, storage));
        found.push((name.clone(), place.map_err(|problem| format!("tensor {name}: {problem}"))?));
    }
    Ok(found)
}

/// An entry of the archive.
struct Entry {
    range: Range<usize>,
    /// Why its bytes cannot be used.
    unusable: Option<&'static str>,
}

impl Entry {
    fn range(&self, name: &str) -> Result<Range<usize>, String> {
        match self.unusable {
            Some(why) => Err(format!("its entry {name} is {why}")),
            None => Ok(self.range.clone()),
        }
    }
}

fn entries(bytes: &[u8]) -> Result<HashMap<String, Entry>, String> {
    let damaged = |problem: zip::result::ZipError| format!("it is damaged ({problem}): download it again");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(damaged)?;
        let name = String::from_utf8_lossy(file.name_raw()).into_owned();
        let range = file.data_start().and_then(|start| {
            let end = start.checked_add(file.compressed_size())?;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        });
        let range = range.filter(|range| range.end <= bytes.len());
        let range = range.ok_or_else(|| format!("its entry {name} ends behind the file: download it again"))?;
        let unusable = if file.encrypted() {
            Some("encrypted")
        } else if file.compression() != zip::CompressionMethod::Stored || file.size() != file.compressed_size() {
            Some("compressed, which torch.save never does: load it with PyTorch and save it again")
        } else {
            None
        };
        entries.insert(name, Entry { range, unusable });
    }
    Ok(entries)
}

/// The folder of `data.pkl`, with its slash.
fn root(entries: &HashMap<String, Entry>) -> Result<&str, String> {
    let roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let mut roots: Vec<&str> = roots.filter(|root| root.is_empty() || root.find('/') == Some(root.len() - 1)).collect();
    match (roots.pop(), roots.is_empty()) {
        (Some(root), true) => Ok(root),
        (None, _) => Err("it is a zip archive without data.pkl, not one of torch.save".to_owned()),
        (Some(_), false) => Err("it has more than one data.pkl".to_owned()),
    }
}

/// The bytes of a tensor in its storage.
fn place_of(described: &Described<'_>, storage: Range<usize>) -> Result<Place, String> {
    let shape = described.shape.clone();
    let unread = |what: String| {
        Ok(Place { stored: StoredType::Unread(what), shape: shape.clone(), range: storage.start..storage.start })
    };
    let dtype = match described.element {
        Element::Known(dtype) => dtype,
        Element::Other(name) => return unread(name.to_owned()),
    };
    let overflow = || "its size overflows".to_owned();
    let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size)).ok_or_else(overflow)?;
    // Row-major; a dimension of one may have any stride.
    let (mut wanted, mut contiguous) = (1usize, true);
    for (size, stride) in shape.iter().zip(&described.strides).rev() {
        contiguous &= *size == 1 || *stride == wanted;
        wanted = wanted.checked_mul((*size).max(1)).ok_or_else(overflow)?;
    }
    if !contiguous && count > 0 {
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return unread(format!("{dtype:?} out of order"));
        }
        let strides = &described.strides;
        return Err(format!(
            "its values are not in row-major order (shape {shape:?}, strides {strides:?}): save it as v.contiguous()"
        ));
    }
    let bytes_of = |values: usize| values.checked_mul(dtype.bitsize() / 8).ok_or_else(overflow);
    let stored = match described.length {
        StorageLength::Values(values) => bytes_of(values)?,
        StorageLength::Bytes(bytes) => bytes,
    };
    if stored > storage.len() {
        return Err(format!("its storage has {} bytes, {stored} are promised: download it again", storage.len()));
    }
    let first = bytes_of(described.offset)?;
    let end = first.checked_add(bytes_of(count)?).ok_or_else(overflow)?;
    if end > stored {
        return Err(format!("it ends at byte {end} of its storage, which has {stored}"));
    }
    let range = storage.start + first..storage.start + end;
    Ok(Place { stored: StoredType::Dtype(dtype), shape, range })
}
