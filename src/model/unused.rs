//! Tensors of a checkpoint that no part of its model reads: of no use to anybody, or a reason to refuse it.

use super::config::Config;
use super::layout::Layout;
use super::names::{LayerPart, Naming, Part};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use std::collections::HashSet;

/// A tensor that nothing is computed with, and why that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Its name.
    pub name: String,
    /// Why it is of no use.
    pub why: &'static str,
}

/// Words of names, and why what is called so is of no use.
const OF_NO_USE: [(&str, &str); 4] = [
    ("optimizer", "state of an optimizer, for training"),
    ("inv_freq", "angles of rotary positions, which no part of a Mamba has"),
    ("rope_freqs", "angles of rotary positions, which no part of a Mamba has"),
    ("v_head", "a value head, for training by rewards"),
];

/// Words of names that say how all weights of the files were changed, so that those of the model are not there.
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

/// Beginnings of words of names, and what is called so.
const PARTS_OF_OTHERS: [(&[&str], &str); 4] = [
    (&["mlp", "norm2", "ffn", "feed_forward", "moe"], "an MLP beside the mixers is not supported"),
    (&["attn_q", "attn_k", "attn_v", "attn_out", "self_attn", "mha"], "attention layers are not supported"),
    (
        &[
            "dt_layernorm",
            "b_layernorm",
            "c_layernorm",
            "dt_norm",
            "b_norm",
            "c_norm",
            "ssm_dt_norm",
            "ssm_b_norm",
            "ssm_c_norm",
        ],
        "norms on dt, B and C are supported without weights of their own only",
    ),
    (&["bias"], "biases are supported in conv1d and dt_proj only"),
];

/// Refuses files whose weights are not those of a model, but an adapter's or another quantizer's.
pub(super) fn refuse_foreign(source: &TensorSource) -> Result<()> {
    let hint = |name: &str| FOREIGN.iter().find(|(words, _)| name.split('.').any(|word| words.contains(&word)));
    let found: Vec<&str> = source.names().filter(|name| hint(name).is_some()).collect();
    match found.first() {
        None => Ok(()),
        Some(name) => Err(refused(source, &found, hint(name).map_or("", |(_, hint)| hint).to_owned())),
    }
}

/// What is left of the files' tensors beside those of the model; an error where that is more than is known to be of no use.
pub(super) fn account(source: &TensorSource, layout: &Layout, config: &Config) -> Result<Vec<Unused>> {
    let asked_for = |part: &Part| match part {
        Part::Layer(i, part) => *i < config.layers && (config.conv_bias || *part != LayerPart::ConvBias),
        Part::Embedding | Part::FinalNorm | Part::Head => true,
    };
    let used: HashSet<&str> = layout.parts().filter(|(part, _)| asked_for(part)).map(|(_, name)| name).collect();
    let (mut unused, mut unknown) = (vec![], vec![]);
    for name in source.names().filter(|name| !used.contains(name)) {
        if TensorSource::belongs_to(name).is_some_and(|whole| used.contains(whole.as_str())) {
            continue;
        }
        match of_no_use(source, name) {
            Some(why) => unused.push(Unused { name: name.to_owned(), why }),
            None => unknown.push(name),
        }
    }
    match unknown.first() {
        None => Ok(unused),
        Some(name) => Err(refused(source, &unknown, hint(name, layout, config))),
    }
}

fn of_no_use(source: &TensorSource, name: &str) -> Option<&'static str> {
    let known = OF_NO_USE.iter().find(|(word, _)| name.split('.').any(|other| other == *word));
    known.map(|(_, why)| *why).or_else(|| source.is_empty(name).then_some("it has no values"))
}

fn hint(name: &str, layout: &Layout, config: &Config) -> String {
    let says = if layout.naming() == Naming::Gguf { "its metadata" } else { "config.json" };
    let part = layout.parts().find(|(_, known)| *known == name).map(|(part, _)| part);
    if let Some(Part::Layer(i, _)) = part {
        return match i < config.layers {
            true => format!("{says} says that the convolution has no bias (use_conv_bias or conv_bias)"),
            false => format!("{says} says that the model has {} layers: is it of another model?", config.layers),
        };
    }
    let known = PARTS_OF_OTHERS.iter().find(|(beginnings, _)| {
        name.split('.').any(|word| beginnings.iter().any(|beginning| word.starts_with(beginning)))
    });
    known.map_or_else(
        || "the file is of a model of another kind, or of several: peregrine would leave out what these do".to_owned(),
        |(_, hint)| (*hint).to_owned(),
    )
}

fn refused(source: &TensorSource, names: &[&str], hint: String) -> Error {
    Error::UnusedTensor {
        tensor: names[0].to_owned(),
        file: source.file_of(names[0]).unwrap_or_else(|| source.label()).to_owned(),
        more: names.len() - 1,
        hint,
    }
}
