//! Checkpoints written anew, with their matrices in another format: as a GGUF file, or as a folder in Hugging Face's layout.
//! Weights go through by some rows at a time, whatever the size of the model.

mod encode;
mod folder;
mod gguf;
mod staged;
mod staged_folder;

use super::Checkpoint;
use super::checkpoint::{Location, gguf::is_called_gguf};
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::model::{ModelTensors, Naming, Progress, Recipe, Role, TensorId, ValueMap};
use staged::{OutputKind, Staged};
use std::path::Path;

/// How a checkpoint is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// The format of the matrices, but for those that it serves badly.
    pub weights: WeightFormat,
    /// What becomes of an output that is there already.
    pub existing: Existing,
}

/// What becomes of an output that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Refuse,
    /// It gives way once the new one is whole.
    Replace,
}

/// What becomes of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Rows of blocks.
    Blocks(WeightFormat),
    /// As f32, each value through a function of its own.
    Mapped(ValueMap),
    /// Codes, scales, map and state of bitsandbytes: NF4 or FP4.
    Bnb4(WeightFormat),
    /// Codes and scales of bitsandbytes.
    BnbInt8,
}

/// A tensor on its way.
struct Planned<'a> {
    id: TensorId,
    tensor: &'a Tensor<'a>,
    target: Target,
}

/// Every tensor with its target: A is mapped where the output stores it otherwise, `choose` picks the target of the others by
/// their role and the format that the recipe gives them.
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
    /// Writes the checkpoint with its matrices in another format: to a GGUF file where `out` ends in .gguf, else to a folder.
    /// The output is there whole or not at all. Gives its bytes; `progress` tells how much of the input is done.
    ///
    /// A folder has its matrices in the types of safetensors, in bitsandbytes' layout (NF4, FP4, int8), or as bytes that its
    /// metadata names (the formats of GGUF).
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
            Location::CompiledIn => None,
        };
        let kind = if to_gguf { OutputKind::File } else { OutputKind::Folder };
        let staged = Staged::new(out, kind, input, options.existing)?;
        let bytes = if to_gguf {
            self.write_gguf(staged.path(), options.weights, progress)?
        } else {
            self.write_folder(staged.path(), options.weights, progress)?
        };
        staged.commit()?;
        Ok(bytes)
    }
}

/// Counts the bytes of the input that are done, and lets go of them.
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
