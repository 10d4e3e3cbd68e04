//! Export: writes a checkpoint with its matrices in another format, as a GGUF file or as a folder in Hugging Face's layout.
//! Weights are converted a few rows at a time, whatever the size of the model.

mod encode;
mod folder;
mod gguf;
mod staged;
mod staged_folder;

use super::checkpoint::Checkpoint;
use super::checkpoint::{Location, gguf::is_called_gguf};
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::model::{ModelTensors, Naming, Progress, Recipe, Role, TensorId, ValueMap};
pub(crate) use staged::OutputKind;
use staged::Staged;
use std::path::Path;

/// Options of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// The format of the matrices, except for those that it does not suit; see [`Recipe::To`].
    pub weights: WeightFormat,
    /// What to do with an output that already exists.
    pub existing: Existing,
}

/// What to do with an output that already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Keep it and fail.
    Refuse,
    /// Replace it once the new one is complete.
    Replace,
}

/// How a tensor is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Rows of blocks.
    Blocks(WeightFormat),
    /// As f32, each value mapped.
    Mapped(ValueMap),
    /// Codes, scales, map and quant_state of bitsandbytes: NF4 or FP4.
    Bnb4(WeightFormat),
    /// Codes and scales of bitsandbytes.
    BnbInt8,
}

/// A tensor to be written.
struct Planned<'a> {
    id: TensorId,
    tensor: &'a Tensor<'a>,
    target: Target,
}

/// All tensors with their targets. Tensors whose values the output stores in another form are mapped; `choose` picks the target of
/// the others by their role and the recipe's format.
fn planned<'a>(
    tensors: &'a ModelTensors<'a>,
    recipe: Recipe,
    naming: Naming,
    choose: impl Fn(Option<Role>, &Tensor<'a>, WeightFormat) -> Target,
) -> Vec<Planned<'a>> {
    let tied = tensors.head.is_none();
    let target = |id: TensorId, tensor: &Tensor<'a>| match tensors.value_map(id, naming) {
        ValueMap::Same => {
            let stored = tensor.held_as();
            let role = id.role(tied);
            let format = role.map_or(stored, |role| recipe.format(role, stored, tensor.columns()));
            choose(role, tensor, format)
        }
        map => Target::Mapped(map),
    };
    tensors.all().map(|(id, tensor)| Planned { id, tensor, target: target(id, tensor) }).collect()
}

impl Checkpoint {
    /// Writes the checkpoint with its matrices in another format: to a GGUF file if `out` ends in .gguf, else to a folder. The
    /// output appears complete or not at all. Returns its size in bytes; `progress` reports how much of the input is done.
    ///
    /// A folder stores matrices in the dtypes of safetensors, in bitsandbytes' layout (NF4, FP4, int8), or as bytes that its
    /// metadata describes (GGUF's formats).
    pub fn export(
        &self,
        out: impl AsRef<Path>,
        options: ExportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64> {
        let out = out.as_ref();
        let to_gguf = is_called_gguf(out);
        if to_gguf && matches!(options.weights, WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8) {
            return Err(Error::BadOutput {
                path: out.to_owned(),
                problem: format!("a GGUF file cannot hold {}, which is bitsandbytes'; write a folder", options.weights),
            });
        }
        let input = match self.location() {
            Location::Folder(path) | Location::Gguf(path) => Some(path.as_path()),
            Location::Memory { .. } => None,
        };
        let kind = if to_gguf { OutputKind::File } else { OutputKind::Folder };
        write_staged(out, kind, (input, options.existing), |to| match kind {
            OutputKind::File => self.write_gguf(to, options.weights, progress),
            OutputKind::Folder => self.write_folder(to, options.weights, progress),
        })
    }
}

/// Writes an output that appears complete or not at all: `write` fills its temporary place and returns the bytes to report. `input`
/// is the model that is read.
pub(crate) fn write_staged(
    out: &Path,
    kind: OutputKind,
    (input, existing): (Option<&Path>, Existing),
    write: impl FnOnce(&Path) -> Result<u64>,
) -> Result<u64> {
    let staged = Staged::new(out, kind, input, existing)?;
    let bytes = write(staged.path())?;
    staged.commit()?;
    Ok(bytes)
}

/// Counts the bytes of the input that are done and releases their memory.
struct Meter<'a> {
    tensors: &'a ModelTensors<'a>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Meter<'a> {
    fn new(tensors: &'a ModelTensors<'a>, progress: &'a mut dyn FnMut(Progress)) -> Self {
        Meter { tensors, done: 0, total: tensors.bytes(), progress }
    }

    fn passed(&mut self, tensor: &Tensor<'_>, rows: std::ops::Range<usize>) {
        for part in tensor.parts(rows) {
            self.tensors.release(part);
            self.done += part.len() as u64;
        }
        (self.progress)(Progress { done: self.done.min(self.total), total: self.total });
    }
}
