//! State files: snapshots in the safetensors container, readable by other programs, with a checksum of every byte.
//!
//! The `__metadata__` begins with the checksum: SHA-256 of the whole file without its own digits. The tensors are those of the
//! model's [`StateLayout`](crate::model::StateLayout), such as `layer.{i}.conv` `[K - 1, D]` and `layer.{i}.ssm` `[N, D]`, then
//! `logits` `[V]`, `recent`, and `ids` if the session kept them. In half precision the tensors of the layout are F16, and
//! `NAME.scale` has a factor for each of their rows. Format of the container:
//! <https://github.com/huggingface/safetensors#format>.

use super::fingerprint::hex;
use super::metadata::{Entries, entries};
use super::precision::{narrow, scale, widen};
use super::{Precision, Snapshot};
use crate::error::{Error, Result};
use crate::format::safetensors_head;
use crate::model::SlotState;
use crate::output::write_atomic;
use crate::runtime::conversation::Conversation;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

/// The value of `format` in the metadata.
const FORMAT: &str = "peregrine.state";
/// The version that is written, and the newest that is read.
const VERSION: u64 = 1;
/// The beginning of the header, after the eight bytes of its length.
const BEGIN: &str = "{\"__metadata__\":{\"checksum\":\"sha256:";
/// Digits of the checksum.
const DIGITS: usize = 64;
/// Their offset in the file.
const DIGITS_AT: usize = size_of::<u64>() + BEGIN.len();
/// Largest header in bytes, as in safetensors.
const LARGEST_HEAD: u64 = 100_000_000;
/// Largest file in bytes: a hundred times the largest state of any known model, with a billion ids.
const LARGEST: u64 = 1 << 33;

/// A tensor to be written.
struct Out<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Data<'a>,
}

enum Data<'a> {
    Values(&'a [f32]),
    Scales(&'a [f32]),
    Halves(&'a [f32]),
    Ids(&'a [u32]),
}

impl Out<'_> {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * if self.dtype == Dtype::F16 { 2 } else { 4 }
    }

    fn append(&self, bytes: &mut Vec<u8>) {
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        match self.data {
            Data::Values(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Data::Ids(ids) => bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
            Data::Scales(values) => {
                let rows = values.chunks(values.len() / columns);
                bytes.extend(rows.flat_map(|row| scale(row).to_le_bytes()));
            }
            Data::Halves(values) => {
                for row in values.chunks(columns) {
                    let scale = scale(row);
                    bytes.extend(row.iter().flat_map(|v| narrow(*v, scale).to_le_bytes()));
                }
            }
        }
    }
}

impl Snapshot {
    /// Writes the file atomically: an older file stays until the new one is on disk.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_bytes().map_err(|error| match error {
            Error::BadOutput { problem, .. } => Error::BadOutput { path: path.to_owned(), problem },
            other => other,
        })?;
        write_atomic(path, &bytes)
    }

    /// Reads a file. Refuses files that are not states, are newer than this program, or are cut off or changed anywhere.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        let fail = |problem| Error::unreadable(path, problem);
        let mut file = std::fs::File::open(path).map_err(fail)?;
        let about = file.metadata().map_err(fail)?;
        // An endless device or another kind of file is not read into memory.
        let mut bytes = vec![];
        file.by_ref().take(DIGITS_AT as u64).read_to_end(&mut bytes).map_err(fail)?;
        if about.len() <= LARGEST && about.is_file() && bytes[..].get(size_of::<u64>()..) == Some(BEGIN.as_bytes()) {
            let most = usize::try_from(about.len()).unwrap_or(usize::MAX);
            bytes.try_reserve_exact(most.saturating_sub(bytes.len())).map_err(|e| fail(std::io::Error::other(e)))?;
            file.take(about.len()).read_to_end(&mut bytes).map_err(fail)?;
        }
        Self::from_bytes(&label, &bytes)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let tensors = self.tensors();
        let mut metadata = Map::new();
        metadata.insert("checksum".to_owned(), format!("sha256:{}", "0".repeat(DIGITS)).into());
        metadata.insert("format".to_owned(), FORMAT.into());
        metadata.insert("version".to_owned(), VERSION.to_string().into());
        metadata.extend(entries(self));
        let mut fields = Map::from_iter([("__metadata__".to_owned(), Value::from(metadata))]);
        let mut end = 0;
        for tensor in &tensors {
            let start = end;
            end += tensor.bytes();
            let dtype = format!("{:?}", tensor.dtype);
            let field = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]});
            fields.insert(tensor.name.clone(), field);
        }
        let mut bytes = safetensors_head(fields);
        if (bytes.len() + end) as u64 > LARGEST || bytes.len() as u64 > LARGEST_HEAD {
            let problem = "the conversation's text or its ids are too long for a file".to_owned();
            return Err(Error::BadOutput { path: "the snapshot".into(), problem });
        }
        bytes.reserve_exact(end);
        tensors.iter().for_each(|tensor| tensor.append(&mut bytes));
        let digits = checksum(&bytes);
        bytes[DIGITS_AT..DIGITS_AT + DIGITS].copy_from_slice(digits.as_bytes());
        Ok(bytes)
    }

    /// Reads the bytes of a file; `label` is its name for messages.
    pub fn from_bytes(label: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |problem: String| Error::DamagedState { file: label.to_owned(), problem };
        let metadata = sound_head(label, bytes)?;
        let said = metadata.metadata().clone().unwrap_or_default();
        let entries = Entries(&said);
        if said.get("format").is_none_or(|format| format != FORMAT) {
            return Err(Error::NotAState { file: label.to_owned() });
        }
        let version = entries.number("version").map_err(damaged)?;
        if version > VERSION {
            return Err(Error::NewerState { file: label.to_owned(), version, known: VERSION });
        }
        let length = bytes[..size_of::<u64>()].try_into().expect("eight bytes");
        let data = &bytes[size_of::<u64>() + u64::from_le_bytes(length) as usize..];
        let snapshot = Tensors { tensors: metadata.tensors(), data, taken: HashSet::new() }.snapshot(&entries);
        let snapshot = snapshot.map_err(damaged)?;
        snapshot.check(&snapshot.origin.identity.config).map_err(damaged)?;
        Ok(snapshot)
    }

    fn tensors(&self) -> Vec<Out<'_>> {
        let Conversation { recent, ids, .. } = &self.conversation;
        let mut tensors = vec![];
        let mut add = |name: String, dtype, shape, data| tensors.push(Out { name, dtype, shape, data });
        add("logits".to_owned(), Dtype::F32, vec![self.state.logits.len()], Data::Values(&self.state.logits));
        add("recent".to_owned(), Dtype::U32, vec![recent.len()], Data::Ids(recent));
        if let Some(ids) = ids {
            add("ids".to_owned(), Dtype::U32, vec![ids.len()], Data::Ids(ids));
        }
        // Four-byte types first: this aligns every tensor.
        for (tensor, values) in self.state.tensors() {
            let name = tensor.full_name();
            match self.precision {
                Precision::Whole => add(name, Dtype::F32, tensor.shape.to_vec(), Data::Values(values)),
                Precision::Half => {
                    add(format!("{name}.scale"), Dtype::F32, vec![tensor.shape[0]], Data::Scales(values));
                }
            }
        }
        if self.precision == Precision::Half {
            for (tensor, values) in self.state.tensors() {
                add(tensor.full_name(), Dtype::F16, tensor.shape.to_vec(), Data::Halves(values));
            }
        }
        tensors
    }
}

/// The checksum of a file's bytes without its own digits. The file must be long enough to hold them.
fn checksum(bytes: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(&bytes[..DIGITS_AT]);
    digest.update(&bytes[DIGITS_AT + DIGITS..]);
    hex(&digest.finalize())
}

/// The header of a file whose checksum is right.
fn sound_head(label: &str, bytes: &[u8]) -> Result<Metadata> {
    let damaged = |problem: String| Error::DamagedState { file: label.to_owned(), problem };
    let begun = bytes.get(size_of::<u64>()..).unwrap_or_default();
    let common = begun.len().min(BEGIN.len());
    if begun[..common] != BEGIN.as_bytes()[..common] {
        return Err(Error::NotAState { file: label.to_owned() });
    }
    let cut_off = |wanted: Option<u64>| {
        let wanted = wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"));
        damaged(format!("it is cut off after {} bytes{wanted}", bytes.len()))
    };
    if bytes.len() < DIGITS_AT + DIGITS {
        return Err(cut_off(None));
    }
    let length = u64::from_le_bytes(bytes[..size_of::<u64>()].try_into().expect("eight bytes"));
    if length > LARGEST_HEAD {
        return Err(damaged(format!("its header would be {length} bytes long")));
    }
    let data_at = size_of::<u64>() + length as usize;
    let Some(head) = bytes.get(size_of::<u64>()..data_at) else { return Err(cut_off(None)) };
    let unchanged = checksum(bytes).as_bytes() == &bytes[DIGITS_AT..DIGITS_AT + DIGITS];
    let read = safetensors::SafeTensors::read_metadata(bytes);
    match read {
        Ok((_, metadata)) if unchanged => Ok(metadata),
        // The checksum is right, but it is not a safetensors file: another program made it.
        Err(e) if unchanged => Err(damaged(e.to_string())),
        _ => {
            let wanted = data_end(head).map(|end| data_at as u64 + end).filter(|wanted| *wanted > bytes.len() as u64);
            match wanted {
                Some(wanted) => Err(cut_off(Some(wanted))),
                None => Err(damaged("its bytes are not those that were written: the checksum differs".to_owned())),
            }
        }
    }
}

/// The end of the last tensor, by a header that may be damaged.
fn data_end(head: &[u8]) -> Option<u64> {
    let metadata: Metadata = serde_json::from_slice(head).ok()?;
    metadata.tensors().values().map(|info| info.data_offsets.1 as u64).max()
}

/// The tensors of a file, each read once.
struct Tensors<'a> {
    tensors: HashMap<String, &'a TensorInfo>,
    data: &'a [u8],
    taken: HashSet<String>,
}

impl<'a> Tensors<'a> {
    fn snapshot(mut self, entries: &Entries<'_>) -> Result<Snapshot, String> {
        let config = entries.config()?;
        let precision = entries.precision()?;
        let layout = config.state_layout();
        if self.tensors.len() < layout.tensors().len() {
            return Err(format!("it holds {} tensors for {} layers", self.tensors.len(), config.layers));
        }
        let logits = self.values("logits", &[layout.logits()])?;
        // Memory is allocated only for tensors that the file holds.
        let tensors = layout.tensors().iter().map(|tensor| self.matrix(&tensor.full_name(), tensor.shape, precision));
        let state = SlotState::new(&layout, tensors.collect::<Result<_, _>>()?, logits);
        let recent = self.ids("recent")?;
        let ids = self.tensors.contains_key("ids").then(|| self.ids("ids")).transpose()?;
        if let Some(name) = self.tensors.keys().find(|name| !self.taken.contains(*name)) {
            return Err(format!("it holds a tensor {name}, which no state has"));
        }
        entries.snapshot(state, recent, ids)
    }

    /// The shape and the bytes of a tensor.
    fn take(&mut self, name: &str, dtype: Dtype) -> Result<(&'a [usize], &'a [u8]), String> {
        let info = *self.tensors.get(name).ok_or_else(|| format!("it has no tensor {name}"))?;
        if info.dtype != dtype {
            return Err(format!("{name} is {:?}, it must be {dtype:?}", info.dtype));
        }
        self.taken.insert(name.to_owned());
        let (start, end) = info.data_offsets;
        let bytes = self.data.get(start..end).ok_or_else(|| format!("{name} lies outside of the file"))?;
        Ok((&info.shape, bytes))
    }

    fn shaped(&mut self, name: &str, dtype: Dtype, wanted: &[usize]) -> Result<&'a [u8], String> {
        let (shape, bytes) = self.take(name, dtype)?;
        if shape != wanted {
            return Err(format!("{name} is {shape:?}, its model has {wanted:?}"));
        }
        Ok(bytes)
    }

    fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let words = self.shaped(name, Dtype::F32, shape)?.chunks_exact(4);
        Ok(words.map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect())
    }

    fn matrix(&mut self, name: &str, [rows, columns]: [usize; 2], precision: Precision) -> Result<Vec<f32>, String> {
        if precision == Precision::Whole {
            return self.values(name, &[rows, columns]);
        }
        let scales = self.values(&format!("{name}.scale"), &[rows])?;
        let halves = self.shaped(name, Dtype::F16, &[rows, columns])?.chunks_exact(2);
        let halves = halves.map(|b| f16::from_le_bytes(b.try_into().expect("two bytes")));
        Ok(halves.enumerate().map(|(i, v)| widen(v, scales[i / columns])).collect())
    }

    fn ids(&mut self, name: &str) -> Result<Vec<u32>, String> {
        let (shape, bytes) = self.take(name, Dtype::U32)?;
        if shape.len() != 1 {
            return Err(format!("{name} is {shape:?}, it must be a list"));
        }
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes"))).collect())
    }
}
