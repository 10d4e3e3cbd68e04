//! Tensors of a checkpoint that its model does not read: known to be unneeded, or a reason to refuse the checkpoint.

use super::architecture::TensorNames;
use super::config::Config;
use crate::error::{Error, Result};
use crate::format::TensorSource;
use std::collections::HashSet;

/// A tensor that the model does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Its name.
    pub name: String,
    /// Why it is not needed.
    pub why: &'static str,
}

/// Words in names of unneeded tensors, with the reason.
const UNNEEDED: [(&str, &str); 4] = [
    ("optimizer", "optimizer state, for training"),
    ("inv_freq", "rotary position angles, which a Mamba does not use"),
    ("rope_freqs", "rotary position angles, which a Mamba does not use"),
    ("v_head", "a value head, for training with rewards"),
];

/// Words in names which show that the files hold changed weights instead of the model's own, with advice.
const FOREIGN: [(&[&str], &str); 3] = [
    (
        &["lora_A", "lora_B", "lora_magnitude_vector", "base_layer"],
        "this is an adapter (LoRA) that is not merged: merge it into its model first, with merge_and_unload of PEFT",
    ),
    (
        &["qweight", "qzeros", "g_idx", "scales"],
        "these weights were quantized by GPTQ, AWQ, MLX or the like: take the model as it was before, or a GGUF file of it",
    ),
    (
        &["weight_packed", "weight_scale", "weight_scale_inv", "input_scale"],
        "these weights were quantized by compressed-tensors or as FP8: take the model as it was before, or a GGUF file of it",
    ),
];

/// Refuses the weights of an adapter (LoRA) or of an unsupported quantizer.
pub(super) fn refuse_foreign(source: &TensorSource) -> Result<()> {
    let hint = |name: &str| FOREIGN.iter().find(|(words, _)| name.split('.').any(|word| words.contains(&word)));
    let found: Vec<&str> = source.names().filter(|name| hint(name).is_some()).collect();
    match found.first() {
        None => Ok(()),
        Some(name) => Err(refused(source, &found, hint(name).map_or("", |(_, hint)| hint).to_owned())),
    }
}

/// The files' tensors that the model does not read; an error where one of them is not known to be unneeded.
pub(super) fn account(source: &TensorSource, names: &TensorNames, config: &Config) -> Result<Vec<Unused>> {
    let used: HashSet<&str> = names.used(config).collect();
    let (mut unused, mut unknown) = (vec![], vec![]);
    for name in source.names().filter(|name| !used.contains(name)) {
        if TensorSource::belongs_to(name).is_some_and(|whole| used.contains(whole.as_str())) {
            continue;
        }
        match unneeded(source, name) {
            Some(why) => unused.push(Unused { name: name.to_owned(), why }),
            None => unknown.push(name),
        }
    }
    match unknown.first() {
        None => Ok(unused),
        Some(name) => Err(refused(source, &unknown, names.hint(name, config))),
    }
}

fn unneeded(source: &TensorSource, name: &str) -> Option<&'static str> {
    let known = UNNEEDED.iter().find(|(word, _)| name.split('.').any(|other| other == *word));
    known.map(|(_, why)| *why).or_else(|| source.is_empty(name).then_some("it has no values"))
}

fn refused(source: &TensorSource, names: &[&str], hint: String) -> Error {
    Error::UnusedTensor {
        tensor: names[0].to_owned(),
        file: source.file_of(names[0]).unwrap_or_else(|| source.label()).to_owned(),
        more: names.len() - 1,
        hint,
    }
}
