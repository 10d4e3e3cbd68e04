//! Reading. Every length is checked against the rest of the file before memory is allocated for it.

use super::types::{BlockSize, TensorType};
use super::value::{ARRAY, Array, Metadata, STRING, Value, number_bytes};
use super::{ALIGNMENT, ALIGNMENT_KEY, MAGIC};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::format::source::{Bytes, StoredType, TensorLocation};
use crate::input::{FileKind, not_of_kind};
use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Upper limit on nested arrays.
const DEPTH: usize = 8;
/// Upper limit on the dimensions of a tensor.
const DIMENSIONS: u32 = 4;
/// Advice for a file whose end is missing.
const CUT: &str =
    "Download it again, or, if it is one of several pieces that were cut without regard to GGUF, join them with cat";
/// Largest alignment that is accepted.
const LARGEST_ALIGNMENT: u64 = 1 << 20;

/// Whether these bytes begin like a GGUF file.
pub(in crate::format) fn is_gguf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The tensors of a file in memory.
pub(in crate::format) fn from_bytes(label: &str, bytes: Bytes) -> Result<TensorSource> {
    let mut source = TensorSource::empty(label);
    let metadata = add(&mut source, label, bytes)?;
    let parts = Split::of(&metadata)?.count;
    if parts > 1 {
        return Err(Split::bad(
            &metadata,
            format!("it is one of {parts} parts; open it by its path, in one folder with the others"),
        ));
    }
    source.set_metadata(metadata);
    Ok(source)
}

impl TensorSource {
    /// The tensors of a GGUF file. Of a model in several parts, `path` may be any part; all are opened.
    pub fn open_gguf(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let mut source = TensorSource::empty(&label);
        let mut metadata = add(&mut source, &label, map(path)?)?;
        let Split { number, count, tensors } = Split::of(&metadata)?;
        if count > 1 {
            let parts = Split::paths(path, number, count).ok_or_else(|| {
                let name = format!("NAME-{:05}-of-{count:05}.gguf", number + 1);
                Split::bad(&metadata, format!("it is part {} of {count}, but is not called {name}", number + 1))
            })?;
            for (i, part) in parts.iter().enumerate().filter(|(i, _)| *i as u64 != number) {
                let said = add(&mut source, &part.display().to_string(), map_part(part, count)?)?;
                let of = Split::of(&said)?;
                if (of.number, of.count) != (i as u64, count) {
                    let found = format!("it says that it is part {} of {}", of.number + 1, of.count);
                    return Err(Split::bad(&said, format!("{found}, its name says part {} of {count}", i + 1)));
                }
                // The first part has the model's metadata.
                if i == 0 {
                    metadata = said;
                }
            }
            if tensors.is_some_and(|tensors| tensors != source.names().count() as u64) {
                let (has, said) = (source.names().count(), tensors.unwrap_or_default());
                return Err(Split::bad(&metadata, format!("its parts hold {has} tensors, not {said}")));
            }
        }
        source.set_metadata(metadata);
        Ok(source)
    }
}

fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(|e| Error::unreadable(path, e))?;
    Bytes::map(path, &file)
}

/// Maps one part of a model.
fn map_part(path: &Path, parts: u64) -> Result<Bytes> {
    map(path).map_err(|error| match error {
        Error::Unreadable { path, problem } if problem.kind() == ErrorKind::NotFound => Error::MissingShard {
            dir: path.parent().unwrap_or(Path::new("")).to_owned(),
            missing: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            shards: parts,
        },
        other => other,
    })
}

/// The keys of a file about the parts that its model is split into.
struct Split {
    /// Index of this part, from 0.
    number: u64,
    /// Number of parts; 1 where the model is whole.
    count: u64,
    /// Tensors of all parts.
    tensors: Option<u64>,
}

impl Split {
    fn of(metadata: &Metadata) -> Result<Self> {
        let count = metadata.whole("split.count")?.unwrap_or(1).max(1);
        let number = metadata.whole("split.no")?.unwrap_or(0);
        if number >= count || count > 99_999 {
            return Err(Self::bad(metadata, format!("split.no is {number}, of a split.count of {count}")));
        }
        Ok(Split { number, count, tensors: metadata.whole("split.tensors.count")? })
    }

    fn bad(metadata: &Metadata, problem: String) -> Error {
        Error::BadGguf { file: metadata.file().to_owned(), problem }
    }

    /// The paths of all parts; `None` where `path` is not named like part `number`.
    fn paths(path: &Path, number: u64, count: u64) -> Option<Vec<PathBuf>> {
        let end = |number: u64| format!("-{:05}-of-{count:05}.gguf", number + 1);
        let name = path.file_name()?.to_str()?;
        let beginning = name.strip_suffix(&end(number))?;
        Some((0..count).map(|i| path.with_file_name(format!("{beginning}{}", end(i)))).collect())
    }
}

/// Reads a file's bytes from front to back.
struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bad(&self, problem: impl Into<String>) -> Error {
        Error::BadGguf { file: self.file.to_owned(), problem: problem.into() }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Takes the next `count` items of `size` bytes each.
    fn take(&mut self, count: u64, size: usize, what: &str) -> Result<&'a [u8]> {
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let Some(bytes) = bytes.filter(|bytes| *bytes <= self.left()) else {
            let (at, left) = (self.at, self.left());
            let of = if size == 1 { String::new() } else { format!(" of {size} bytes each") };
            return Err(self.bad(format!("{what} at byte {at} takes {count}{of}, but only {left} bytes are left")));
        };
        self.at += bytes;
        Ok(&self.bytes[self.at - bytes..self.at])
    }

    /// Fails where the rest of the file is too short for `count` items of at least `least` bytes each.
    fn room(&mut self, count: u64, least: usize, what: &str) -> Result<()> {
        let at = self.at;
        self.take(count, least, what)?;
        self.at = at;
        Ok(())
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(1, 4, what)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(1, 8, what)?.try_into().expect("eight bytes")))
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let len = self.u64(what)?;
        let at = self.at;
        let text = std::str::from_utf8(self.take(len, 1, what)?);
        text.map(str::to_owned).map_err(|_| self.bad(format!("{what} at byte {at} is not UTF-8 text")))
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let what = format!("the value of {key}");
        match self.u32(&what)? {
            STRING => Ok(Value::String(self.string(&what)?)),
            ARRAY => Ok(Value::Array(self.array(&what, 1)?)),
            kind => {
                let unknown = || self.bad(format!("{what} has the type {kind}, which GGUF does not know"));
                let size = number_bytes(kind).ok_or_else(unknown)?;
                let bytes = self.take(1, size, &what)?;
                Ok(Value::number(kind, bytes).expect("as many bytes as the type has"))
            }
        }
    }

    fn array(&mut self, what: &str, depth: usize) -> Result<Array> {
        let kind = self.u32(what)?;
        let count = self.u64(what)?;
        let least = match kind {
            STRING => 8,
            ARRAY => 12,
            _ => number_bytes(kind)
                .ok_or_else(|| self.bad(format!("{what} is an array of type {kind}, which GGUF does not know")))?,
        };
        self.room(count, least, what)?;
        match kind {
            STRING => Ok(Array::Strings((0..count).map(|_| self.string(what)).collect::<Result<_>>()?)),
            ARRAY if depth == DEPTH => Err(self.bad(format!("{what} has more than {DEPTH} arrays in one another"))),
            ARRAY => Ok(Array::Arrays((0..count).map(|_| self.array(what, depth + 1)).collect::<Result<_>>()?)),
            _ => Ok(Array::Numbers { kind, bytes: self.take(count, least, what)?.to_vec() }),
        }
    }
}

/// Adds a file's tensors to a source; returns its metadata.
fn add(source: &mut TensorSource, label: &str, bytes: Bytes) -> Result<Metadata> {
    let mut reader = Reader { file: label, bytes: &bytes, at: 0 };
    if !is_gguf(&bytes) {
        let other = not_of_kind(FileKind::Gguf, label, &bytes);
        return Err(other.unwrap_or_else(|| reader.bad("it does not begin with GGUF")));
    }
    reader.at = MAGIC.len();
    let version = reader.u32("the version")?;
    if version & 0xffff == 0 && version != 0 {
        return Err(reader.bad("it is big endian; convert it to little endian with gguf-convert-endian"));
    }
    if !(2..=3).contains(&version) {
        return Err(reader.bad(format!("it is of version {version}, known are 2 and 3")));
    }
    let tensor_count = reader.u64("the number of tensors")?;
    let key_count = reader.u64("the number of keys")?;
    let metadata = keys(&mut reader, key_count)?;
    let infos = infos(&mut reader, tensor_count)?;

    let alignment = match metadata.whole(ALIGNMENT_KEY)? {
        None => ALIGNMENT,
        Some(alignment) if alignment.is_power_of_two() && alignment <= LARGEST_ALIGNMENT => alignment as usize,
        Some(other) => {
            return Err(
                reader.bad(format!("{ALIGNMENT_KEY} is {other}, it must be a power of two up to {LARGEST_ALIGNMENT}"))
            );
        }
    };
    // At most one alignment past the file's length: no overflow.
    let data = reader.at.next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(infos.len());
    for TensorInfo { name, stored, shape, bytes: len, offset } in infos {
        if offset % alignment as u64 != 0 {
            return Err(reader.bad(format!("{name} begins at {offset}, which is no multiple of {alignment}")));
        }
        let range = match stored {
            StoredType::Unread(_) => 0..0,
            _ => {
                let first = usize::try_from(offset).ok().and_then(|first| first.checked_add(data));
                let range = first.and_then(|first| Some(first..first.checked_add(len)?));
                range.filter(|range| range.end <= bytes.len()).ok_or_else(|| {
                    let whole = bytes.len();
                    reader.bad(format!(
                        "{name} takes {len} bytes from {offset} on, past the end of the file at {whole}; was it cut off? {CUT}"
                    ))
                })?
            }
        };
        tensors.push((name, TensorLocation { file: 0, stored, shape, range }));
    }
    let mut in_order: Vec<_> = tensors.iter().filter(|(_, location)| !location.range.is_empty()).collect();
    in_order.sort_by_key(|(_, location)| location.range.start);
    if let Some(pair) = in_order.windows(2).find(|pair| pair[0].1.range.end > pair[1].1.range.start) {
        return Err(reader.bad(format!("{} and {} share bytes", pair[0].0, pair[1].0)));
    }
    let file = source.add_file(label.to_owned(), bytes);
    for (name, location) in tensors {
        if source.add_tensor(name.clone(), TensorLocation { file, ..location }).is_some() {
            return Err(Error::BadGguf { file: label.to_owned(), problem: format!("it has {name} twice") });
        }
    }
    Ok(metadata)
}

fn keys(reader: &mut Reader<'_>, count: u64) -> Result<Metadata> {
    // The shortest entry: an empty key, a type, one byte.
    reader.room(count, 8 + 4 + 1, "the list of keys")?;
    let mut metadata = Metadata::new(reader.file);
    let mut seen = HashSet::new();
    for _ in 0..count {
        let key = reader.string("a key")?;
        if !seen.insert(key.clone()) {
            return Err(reader.bad(format!("it has the key {key} twice")));
        }
        let value = reader.value(&key)?;
        metadata.push(key, value);
    }
    Ok(metadata)
}

/// An entry of the list of tensors.
struct TensorInfo {
    name: String,
    stored: StoredType,
    shape: Vec<usize>,
    /// Its bytes; 0 where the type is unknown.
    bytes: usize,
    /// Where it begins within the data.
    offset: u64,
}

/// Reads the list of tensors.
fn infos(reader: &mut Reader<'_>, count: u64) -> Result<Vec<TensorInfo>> {
    // The shortest entry: an empty name, one dimension, a type, an offset.
    reader.room(count, 8 + 4 + 8 + 4 + 8, "the list of tensors")?;
    let mut infos = Vec::new();
    for _ in 0..count {
        let name = reader.string("the name of a tensor")?;
        let dimensions = reader.u32(&name)?;
        if name.is_empty() {
            return Err(reader.bad(format!("a tensor before byte {} has no name", reader.at)));
        }
        if !(1..=DIMENSIONS).contains(&dimensions) {
            return Err(reader.bad(format!("{name} has {dimensions} dimensions, it must be 1 to {DIMENSIONS}")));
        }
        // The file has the fastest dimension first.
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.insert(0, reader.u64(&name)?);
        }
        let tensor_type = TensorType(reader.u32(&name)?);
        let offset = reader.u64(&name)?;
        let (stored, block) = tensor_type.stored();
        let wrong = |problem: &str| reader.bad(format!("{name} is {} {shape:?}, {problem}", tensor_type.name()));
        let sizes: Option<Vec<usize>> = shape.iter().map(|n| usize::try_from(*n).ok().filter(|n| *n > 0)).collect();
        let sizes = sizes.ok_or_else(|| wrong("which cannot be"))?;
        let bytes = match block {
            None => 0,
            Some(BlockSize { values, bytes }) => {
                if sizes[sizes.len() - 1] % values != 0 {
                    return Err(wrong(&format!("but its blocks have {values} values")));
                }
                let all = sizes.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
                all.and_then(|all| (all / values).checked_mul(bytes)).ok_or_else(|| wrong("which is too large"))?
            }
        };
        infos.push(TensorInfo { name, stored, shape: sizes, bytes, offset });
    }
    Ok(infos)
}
