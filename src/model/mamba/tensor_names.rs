//! The names that a checkpoint gives to a Mamba's tensors. Training code, wrappers and converters add prefixes and words to the
//! names of the same weights.

use super::names::{LayerTensorId, TensorId};
use super::sizes;
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::model::config::Config;
use crate::model::naming::Naming;
use std::collections::HashMap;

/// Words that PyTorch's wrappers insert anywhere in a name.
const WRAPPERS: [&str; 5] =
    ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module"];

/// Beginnings of words in names of parts that a Mamba does not have, with the error hint.
const OTHER_PARTS: [(&[&str], &str); 4] = [
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

/// The name of each tensor of a model in one checkpoint.
#[derive(Debug)]
pub struct TensorNames {
    naming: Naming,
    /// Prefix of all names but the head's, such as `backbone.`.
    prefix: String,
    names: HashMap<TensorId, String>,
}

/// A recognized name, without the wrappers' words.
struct Known {
    prefix: String,
    id: TensorId,
}

impl TensorNames {
    /// Finds the names of a model's tensors. Refuses a checkpoint that holds two models.
    pub fn of(source: &TensorSource) -> Result<Self> {
        let naming = Naming::of(source);
        if naming == Naming::Gguf {
            let known = source.names().filter_map(|name| Some((of_gguf(name)?, name.to_owned())));
            return Ok(TensorNames { naming, prefix: String::new(), names: known.collect() });
        }
        let all: Vec<(Known, &str)> = source.names().filter_map(|name| Some((known(name)?, name))).collect();
        let two = |what: String, hint: &str| Error::Unsupported {
            file: source.label().to_owned(),
            what,
            hint: hint.to_owned(),
        };
        let mut prefix: Option<(&str, &str)> = None;
        for (known, name) in all.iter().filter(|(known, _)| matches!(known.id, TensorId::Layer(..))) {
            match prefix {
                None => prefix = Some((&known.prefix, name)),
                Some((first, of)) if first != known.prefix => {
                    let what = format!(
                        "a checkpoint whose layers have two prefixes ({of} and {name}, under {first:?} and {:?})",
                        known.prefix
                    );
                    return Err(two(what, "rename its tensors, or keep those of one model only"));
                }
                Some(_) => {}
            }
        }
        let Some((prefix, _)) = prefix else {
            return Ok(TensorNames { naming, prefix: "backbone.".to_owned(), names: HashMap::new() });
        };
        let prefix = prefix.to_owned();
        for id in [TensorId::Embedding, TensorId::FinalNorm] {
            let mut found = all.iter().filter(|(known, _)| known.id == id).peekable();
            if let Some((known, name)) = found.peek().copied()
                && found.all(|(known, _)| known.prefix != prefix)
            {
                let what =
                    format!("a checkpoint with {name} under the prefix {:?} and layers under {prefix:?}", known.prefix);
                return Err(two(what, "rename its tensors so that all have one prefix"));
            }
        }
        let mut names: HashMap<TensorId, String> = HashMap::new();
        for (known, name) in all {
            // The head may lie beside the backbone or inside it.
            if known.prefix != prefix && known.id != TensorId::Head {
                continue;
            }
            if let Some(other) = names.insert(known.id, name.to_owned()) {
                return Err(two(
                    format!("a checkpoint with {other} and {name}, the same tensor twice,"),
                    "keep one of them",
                ));
            }
        }
        Ok(TensorNames { naming, prefix, names })
    }

    /// Who named the tensors.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// Whether the checkpoint has a tensor of any layer.
    pub fn has_layers(&self) -> bool {
        self.names.keys().any(|id| matches!(id, TensorId::Layer(..)))
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, id: TensorId) -> bool {
        self.names.contains_key(&id)
    }

    /// The name of a tensor; of a missing one, the name that it would have.
    pub fn name(&self, id: TensorId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| {
            let name = id.name(self.naming);
            match name.strip_prefix("backbone.") {
                Some(rest) if self.naming == Naming::Transformers => format!("{}{rest}", self.prefix),
                _ => name,
            }
        })
    }

    /// Names of the tensors that a model of this config reads.
    pub fn used(&self, config: &Config) -> impl Iterator<Item = &str> {
        let (layers, conv_bias) = (config.layers, sizes(config).conv_bias);
        let is_used = move |id: TensorId| match id {
            TensorId::Layer(layer, id) => layer < layers && (conv_bias || id != LayerTensorId::ConvBias),
            TensorId::Embedding | TensorId::FinalNorm | TensorId::Head => true,
        };
        self.names.iter().filter(move |(id, _)| is_used(**id)).map(|(_, name)| name.as_str())
    }

    /// What an unknown tensor may be, as far as its name and the config tell.
    pub fn hint(&self, name: &str, config: &Config) -> String {
        let says = if self.naming == Naming::Gguf { "its metadata" } else { "config.json" };
        let id = self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        if let Some(TensorId::Layer(layer, _)) = id {
            return match layer < config.layers {
                true => format!("{says} says that the convolution has no bias (use_conv_bias or conv_bias)"),
                false => format!("{says} says that the model has {} layers: is it of another model?", config.layers),
            };
        }
        let known = OTHER_PARTS.iter().find(|(beginnings, _)| {
            name.split('.').any(|word| beginnings.iter().any(|beginning| word.starts_with(beginning)))
        });
        known.map_or_else(
            || {
                "the file is of a model of another kind, or of several: peregrine would leave out what these do"
                    .to_owned()
            },
            |(_, hint)| (*hint).to_owned(),
        )
    }
}

/// The tensor that this name means under any prefix, and that prefix.
fn known(name: &str) -> Option<Known> {
    let words: Vec<&str> = name.split('.').filter(|word| !WRAPPERS.contains(word)).collect();
    let (first, id) = match &words[..] {
        [.., "embeddings", "weight"] => (words.len() - 2, TensorId::Embedding),
        [.., "norm_f", "weight"] => (words.len() - 2, TensorId::FinalNorm),
        [.., "lm_head", "weight"] => (words.len() - 2, TensorId::Head),
        [.., "embedding", "weight"] => (words.len() - 2, TensorId::Embedding),
        _ => of_layer(&words)?,
    };
    let prefix = words[..first].iter().map(|word| format!("{word}.")).collect();
    Some(Known { prefix, id })
}

/// The tensor of a layer, and the number of words before its `layers`.
fn of_layer(words: &[&str]) -> Option<(usize, TensorId)> {
    let first = words.iter().rposition(|word| *word == "layers")?;
    let [number, rest @ ..] = &words[first + 1..] else { return None };
    let id = LayerTensorId::of_transformers(&rest.join("."))?;
    Some((first, TensorId::Layer(layer_number(number)?, id)))
}

fn of_gguf(name: &str) -> Option<TensorId> {
    let mut of_model = [TensorId::Embedding, TensorId::FinalNorm, TensorId::Head].into_iter();
    of_model.find(|id| id.name(Naming::Gguf) == name).or_else(|| {
        let (number, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        Some(TensorId::Layer(layer_number(number)?, LayerTensorId::of_gguf(rest)?))
    })
}

/// A layer's number without sign or leading zeros.
fn layer_number(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix_and_id(name: &str) -> Option<(String, TensorId)> {
        known(name).map(|known| (known.prefix, known.id))
    }

    #[test]
    fn names_are_known_whatever_is_before_them() {
        let a = TensorId::Layer(12, LayerTensorId::A);
        for (name, prefix, id) in [
            ("backbone.layers.12.mixer.A_log", "backbone.", a),
            ("layers.12.mixer.A_log", "", a),
            ("model.layers.12.mixer.A_log", "model.", a),
            ("_orig_mod.backbone.layers.12.mixer.A_log", "backbone.", a),
            ("module.model.backbone.layers.12._checkpoint_wrapped_module.mixer.A_log", "model.backbone.", a),
            ("backbone.embedding.weight", "backbone.", TensorId::Embedding),
            ("embeddings.weight", "", TensorId::Embedding),
            ("x.y.norm_f.weight", "x.y.", TensorId::FinalNorm),
            ("module.lm_head.weight", "", TensorId::Head),
            ("backbone.layers.0.norm.weight", "backbone.", TensorId::Layer(0, LayerTensorId::Norm)),
        ] {
            assert_eq!(prefix_and_id(name), Some((prefix.to_owned(), id)), "{name}");
        }
        for name in [
            "",
            ".",
            "layers",
            "layers.0",
            "word_embeddings.weight",
            "my_lm_head.weight",
            "backbone.layers.x.mixer.A_log",
            "backbone.layers.+1.mixer.A_log",
            "backbone.layers.01.mixer.A_log",
            "backbone.layers.0.mixer.norm.weight",
            "backbone.layers.0.mixer.in_proj.bias",
            "backbone.layers.0.mixer.in_proj.weight.absmax",
            "layers.99999999999999999999999.mixer.D",
        ] {
            assert_eq!(prefix_and_id(name), None, "{name}");
        }
        assert_eq!(of_gguf("blk.3.ssm_a"), Some(TensorId::Layer(3, LayerTensorId::A)));
        assert_eq!(of_gguf("output.weight"), Some(TensorId::Head));
        assert_eq!([of_gguf("blk.3.ssm_in.bias"), of_gguf("blk..ssm_a"), of_gguf("backbone.norm_f.weight")], [None; 3]);
    }
}
