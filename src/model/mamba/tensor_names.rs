//! Under which names a checkpoint has a model's tensors: those who train, wrap and save models put words before and into the
//! names of the same weights.

use super::names::{LayerPart, Naming, Part};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use std::collections::HashMap;

/// Words that wrappers of PyTorch put into names, anywhere.
const WRAPPERS: [&str; 5] =
    ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module"];

/// A model's tensors by the names that they have in a checkpoint.
#[derive(Debug)]
pub struct Layout {
    naming: Naming,
    /// What all but the head begin with, such as `backbone.`.
    prefix: String,
    names: HashMap<Part, String>,
}

/// A name that is known, without the words of wrappers.
struct Known {
    prefix: String,
    part: Part,
}

impl Layout {
    /// Finds the names of a model's tensors. Two models in one checkpoint are refused.
    pub fn of(source: &TensorSource) -> Result<Self> {
        let naming = Naming::of(source);
        if naming == Naming::Gguf {
            let known = source.names().filter_map(|name| Some((of_gguf(name)?, name.to_owned())));
            return Ok(Layout { naming, prefix: String::new(), names: known.collect() });
        }
        let all: Vec<(Known, &str)> = source.names().filter_map(|name| Some((known(name)?, name))).collect();
        let two = |what: String, hint: &str| Error::Unsupported {
            file: source.label().to_owned(),
            what,
            hint: hint.to_owned(),
        };
        let mut prefix: Option<(&str, &str)> = None;
        for (known, name) in all.iter().filter(|(known, _)| matches!(known.part, Part::Layer(..))) {
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
            return Ok(Layout { naming, prefix: "backbone.".to_owned(), names: HashMap::new() });
        };
        let prefix = prefix.to_owned();
        for part in [Part::Embedding, Part::FinalNorm] {
            let mut of_part = all.iter().filter(|(known, _)| known.part == part).peekable();
            if let Some((known, name)) = of_part.peek().copied()
                && of_part.all(|(known, _)| known.prefix != prefix)
            {
                let what =
                    format!("a checkpoint with {name} under the prefix {:?} and layers under {prefix:?}", known.prefix);
                return Err(two(what, "rename its tensors so that all have one prefix"));
            }
        }
        let mut names: HashMap<Part, String> = HashMap::new();
        for (known, name) in all {
            // A head may lie beside what it belongs to, or in it.
            if known.prefix != prefix && known.part != Part::Head {
                continue;
            }
            if let Some(other) = names.insert(known.part, name.to_owned()) {
                return Err(two(
                    format!("a checkpoint with {other} and {name}, the same part twice,"),
                    "keep one of them",
                ));
            }
        }
        Ok(Layout { naming, prefix, names })
    }

    /// Who named the tensors.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// Whether the checkpoint has anything of a layer.
    pub fn has_layers(&self) -> bool {
        self.names.keys().any(|part| matches!(part, Part::Layer(..)))
    }

    /// Whether the checkpoint has this part.
    pub fn has(&self, part: Part) -> bool {
        self.names.contains_key(&part)
    }

    /// The name of a part; where it is missing, the name that it would have.
    pub fn name(&self, part: Part) -> String {
        self.names.get(&part).cloned().unwrap_or_else(|| {
            let name = part.name(self.naming);
            match name.strip_prefix("backbone.") {
                Some(rest) if self.naming == Naming::Transformers => format!("{}{rest}", self.prefix),
                _ => name,
            }
        })
    }

    /// The parts that the checkpoint has, by their names.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &str)> {
        self.names.iter().map(|(part, name)| (*part, name.as_str()))
    }
}

/// The part that a tensor of this name is in any layout, and what is before it.
fn known(name: &str) -> Option<Known> {
    let words: Vec<&str> = name.split('.').filter(|word| !WRAPPERS.contains(word)).collect();
    let (first, part) = match &words[..] {
        [.., "embeddings", "weight"] => (words.len() - 2, Part::Embedding),
        [.., "norm_f", "weight"] => (words.len() - 2, Part::FinalNorm),
        [.., "lm_head", "weight"] => (words.len() - 2, Part::Head),
        [.., "embedding", "weight"] => (words.len() - 2, Part::Embedding),
        _ => of_layer(&words)?,
    };
    let prefix = words[..first].iter().map(|word| format!("{word}.")).collect();
    Some(Known { prefix, part })
}

/// The part of a layer, and the number of words before its `layers`.
fn of_layer(words: &[&str]) -> Option<(usize, Part)> {
    let first = words.iter().rposition(|word| *word == "layers")?;
    let [number, rest @ ..] = &words[first + 1..] else { return None };
    let part = LayerPart::of_transformers(&rest.join("."))?;
    Some((first, Part::Layer(layer_number(number)?, part)))
}

fn of_gguf(name: &str) -> Option<Part> {
    let whole = [Part::Embedding, Part::FinalNorm, Part::Head].into_iter().find(|part| part.name(Naming::Gguf) == name);
    whole.or_else(|| {
        let (number, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        Some(Part::Layer(layer_number(number)?, LayerPart::of_gguf(rest)?))
    })
}

/// A number as it is printed: no sign, no zeros before it.
fn layer_number(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix_and_part(name: &str) -> Option<(String, Part)> {
        known(name).map(|known| (known.prefix, known.part))
    }

    #[test]
    fn names_are_known_whatever_is_before_them() {
        let a = Part::Layer(12, LayerPart::A);
        for (name, prefix, part) in [
            ("backbone.layers.12.mixer.A_log", "backbone.", a),
            ("layers.12.mixer.A_log", "", a),
            ("model.layers.12.mixer.A_log", "model.", a),
            ("_orig_mod.backbone.layers.12.mixer.A_log", "backbone.", a),
            ("module.model.backbone.layers.12._checkpoint_wrapped_module.mixer.A_log", "model.backbone.", a),
            ("backbone.embedding.weight", "backbone.", Part::Embedding),
            ("embeddings.weight", "", Part::Embedding),
            ("x.y.norm_f.weight", "x.y.", Part::FinalNorm),
            ("module.lm_head.weight", "", Part::Head),
            ("backbone.layers.0.norm.weight", "backbone.", Part::Layer(0, LayerPart::Norm)),
        ] {
            assert_eq!(prefix_and_part(name), Some((prefix.to_owned(), part)), "{name}");
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
            assert_eq!(prefix_and_part(name), None, "{name}");
        }
        assert_eq!(of_gguf("blk.3.ssm_a"), Some(Part::Layer(3, LayerPart::A)));
        assert_eq!(of_gguf("output.weight"), Some(Part::Head));
        assert_eq!([of_gguf("blk.3.ssm_in.bias"), of_gguf("blk..ssm_a"), of_gguf("backbone.norm_f.weight")], [None; 3]);
    }
}
