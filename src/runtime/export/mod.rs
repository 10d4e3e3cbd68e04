//! Checkpoints written anew, with their matrices in another format: as a GGUF file, or as a folder in Hugging Face's layout.
//! Weights go through by some rows at a time, whatever the size of the model.

mod encode;
mod folder;
mod gguf;
mod place;
mod staged_folder;

use super::Checkpoint;
use super::checkpoint::{Origin, gguf::is_called_gguf};
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::model::{AForm, ModelTensors, Part, Progress, Recipe, Role};
use place::Staged;
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
enum Form {
    /// Rows of blocks.
    Blocks(WeightFormat),
    /// As f32, each value through a function of its own.
    Mapped(Map),
    /// Codes, scales, map and state of bitsandbytes: NF4 or FP4.
    Bnb4(WeightFormat),
    /// Codes and scales of bitsandbytes.
    BnbInt8,
}

/// What becomes of each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
    Same,
    /// A_log to A.
    MinusExp,
    /// A to A_log.
    LogOfMinus,
}

impl Map {
    fn of(self, value: f32) -> f32 {
        match self {
            Map::Same => value,
            Map::MinusExp => -f64::from(value).exp() as f32,
            Map::LogOfMinus => (-f64::from(value)).ln() as f32,
        }
    }

    /// From A as the checkpoint has it to A as the output has it.
    fn of_a(from: AForm, to: AForm) -> Self {
        match (from, to) {
            (AForm::Log, AForm::Itself) => Map::MinusExp,
            (AForm::Itself, AForm::Log) => Map::LogOfMinus,
            _ => Map::Same,
        }
    }
}

/// A tensor on its way.
struct Planned<'a> {
    part: Part,
    tensor: &'a Tensor<'a>,
    form: Form,
}

/// Every tensor with what becomes of it: matrices as `matrix` has it, A as `a` has it, the other vectors as `vector` has them.
fn planned<'a>(
    tensors: &'a ModelTensors<'a>,
    recipe: Recipe,
    a: AForm,
    other: impl Fn(Option<Role>, &Tensor<'a>, WeightFormat) -> Form,
) -> Vec<Planned<'a>> {
    let has = tensors.layers.first().map_or(a, |layer| layer.a_form);
    let form = |part: Part, tensor: &Tensor<'a>| match part {
        Part::Layer(_, crate::model::LayerPart::A) if has != a => Form::Mapped(Map::of_a(has, a)),
        _ => {
            let stored = tensor.held_as();
            let role = part.role(tensors.head.is_none());
            let format = role.map_or(stored, |role| recipe.format(role, stored, tensor.columns()));
            other(role, tensor, format)
        }
    };
    tensors.parts().map(|(part, tensor)| Planned { part, tensor, form: form(part, tensor) }).collect()
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
        let input = match self.origin() {
            Origin::Folder(path) | Origin::Gguf(path) => Some(path.as_path()),
            Origin::CompiledIn => None,
        };
        let kind = if to_gguf { place::Kind::File } else { place::Kind::Folder };
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
