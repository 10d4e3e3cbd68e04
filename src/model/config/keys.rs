//! The keys of config.json that any model may have: read, unneeded, or refused because they ask for what is not supported.

use super::json::Json;
use crate::error::Result;
use crate::input::shown;
use crate::model::architecture::Architecture;
use serde_json::Value;

/// Keys of a config that have no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnusedKeys {
    /// Known to be unneeded.
    pub known: Vec<String>,
    /// Unknown: peregrine does not do what they ask for.
    pub unknown: Vec<String>,
}

/// Keys that are read, or refused where they ask for what is not supported.
const FOLLOWED: &[&str] = &[
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "layer_norm_epsilon",
    "tie_word_embeddings",
    "eos_token_id",
    "quantization_config",
    "compression_config",
    "quantization",
];

/// Unneeded keys, by the reason.
const UNNEEDED: &[(&str, &[&str])] = &[
    (
        "initialization and training",
        &[
            "initializer_range",
            "gradient_checkpointing",
            "dropout",
            "hidden_dropout",
            "hidden_dropout_prob",
            "classifier_dropout",
        ],
    ),
    (
        "other implementations; here sums are f32 and states are kept",
        &[
            "use_cache",
            "torch_dtype",
            "dtype",
            "attn_implementation",
            "auto_map",
            "torchscript",
            "use_bfloat16",
            "chunk_size_feed_forward",
            "pruned_heads",
            "tf_legacy_loss",
            "pretraining_tp",
        ],
    ),
    ("also said by other keys", &["num_layers", "n_layers", "n_embd", "hidden_dim"]),
    (
        "names and versions",
        &[
            "name_or_path",
            "transformers_version",
            "model_name",
            "unsloth_version",
            "unsloth_fixed",
            "license",
            "language",
            "tags",
            "revision",
        ],
    ),
    (
        "lengths, which are unlimited here",
        &[
            "max_position_embeddings",
            "n_positions",
            "n_ctx",
            "max_seq_len",
            "max_sequence_length",
            "seq_length",
            "model_max_length",
        ],
    ),
    (
        "tokens, which come from the tokenizer",
        &[
            "bos_token_id",
            "pad_token_id",
            "unk_token_id",
            "sep_token_id",
            "cls_token_id",
            "mask_token_id",
            "decoder_start_token_id",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "tokenizer_class",
            "prefix",
        ],
    ),
    (
        "other tasks than text",
        &[
            "id2label",
            "label2id",
            "num_labels",
            "problem_type",
            "finetuning_task",
            "task_specific_params",
            "is_encoder_decoder",
            "is_decoder",
            "add_cross_attention",
            "cross_attention_hidden_size",
            "tie_encoder_decoder",
            "output_attentions",
            "output_hidden_states",
            "output_scores",
            "return_dict",
            "return_dict_in_generate",
        ],
    ),
    (
        "sampling, which comes from generation_config.json",
        &[
            "do_sample",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
            "num_beams",
            "num_beam_groups",
            "diversity_penalty",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
            "suppress_tokens",
            "begin_suppress_tokens",
            "exponential_decay_length_penalty",
            "num_return_sequences",
            "early_stopping",
            "max_length",
            "min_length",
            "max_new_tokens",
            "remove_invalid_values",
        ],
    ),
];

/// Factors of other architectures, which change every number unless they are 1.
const FACTORS: [&str; 12] = [
    "embedding_multiplier",
    "embedding_scale",
    "scale_embeddings",
    "lm_head_multiplier",
    "logit_scale",
    "logits_scaling",
    "residual_multiplier",
    "residual_scale",
    "final_logit_softcapping",
    "logits_soft_cap",
    "ssm_in_multiplier",
    "ssm_out_multiplier",
];

/// Refuses settings that are not supported for any model.
pub(super) fn check(json: &Json<'_>) -> Result<()> {
    for key in FACTORS {
        let one = |value: &Value| value.as_f64() == Some(1.0);
        if let Some(value) = json.get(key).filter(|value| !asks_nothing(value) && !one(value)) {
            return Err(
                json.unsupported(format!("{key} {}", shown(value)), "no Mamba that is supported has such a factor")
            );
        }
    }
    quantizer(json)
}

/// Refuses weights quantized by anything but bitsandbytes.
fn quantizer(json: &Json<'_>) -> Result<()> {
    for key in ["quantization_config", "compression_config", "quantization"] {
        let Some(said) = json.get(key).filter(|said| !asks_nothing(said)) else { continue };
        let flag = |key: &str| said.get(key).and_then(Value::as_bool) == Some(true);
        let method = match said.get("quant_method") {
            Some(Value::String(method)) => method.clone(),
            _ if flag("load_in_4bit") || flag("load_in_8bit") => continue,
            _ if key == "quantization" => "MLX".to_owned(),
            _ if key == "compression_config" => "compressed-tensors".to_owned(),
            _ => shown(said),
        };
        if !method.starts_with("bitsandbytes") && method != "peregrine" {
            let hint =
                "supported are bitsandbytes' nf4, fp4 and int8: take the model as it was before, or a GGUF file of it";
            return Err(json.unsupported(format!("{key}: {method}"), hint));
        }
    }
    Ok(())
}

/// Whether this value of a key asks for nothing: null, false, 0 or empty.
pub(in crate::model) fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

impl UnusedKeys {
    /// The unused keys of a config.json, whose config has this architecture.
    pub fn of_json(architecture: &Architecture, value: &Value) -> Self {
        let mut unused = UnusedKeys::default();
        let of_architecture = architecture.json_keys();
        for (key, value) in value.as_object().into_iter().flatten() {
            let named = |keys: &[&str]| keys.contains(&key.as_str());
            let of_architecture = of_architecture.find(key);
            if named(FOLLOWED) || named(&FACTORS) || of_architecture == Some(Use::Followed) {
                continue;
            }
            let unneeded = of_architecture.is_some() || UNNEEDED.iter().any(|(_, keys)| named(keys));
            let known = unneeded || key.starts_with('_') || asks_nothing(value);
            let list = if known { &mut unused.known } else { &mut unused.unknown };
            list.push(key.clone());
        }
        unused
    }
}

/// The keys that an architecture adds to those of every model.
pub(in crate::model) struct Keys {
    /// Read.
    pub(in crate::model) followed: &'static [&'static str],
    /// Refused where they ask for something.
    pub(in crate::model) refused: &'static [&'static str],
    /// Without effect.
    pub(in crate::model) unneeded: &'static [&'static str],
}

/// What happens to a key that an architecture knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is read or refused.
    Followed,
    /// It has no effect.
    Unneeded,
}

impl Keys {
    /// What happens to this key; `None` where it is unknown.
    pub(super) fn find(&self, key: &str) -> Option<Use> {
        let is_in = |keys: &[&str]| keys.contains(&key);
        match () {
            () if is_in(self.followed) || is_in(self.refused) => Some(Use::Followed),
            () if is_in(self.unneeded) => Some(Use::Unneeded),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;

    #[test]
    fn no_key_is_in_two_lists() {
        let architecture = Shape::named("falcon-mamba-7b").unwrap().config.architecture;
        let Keys { followed, refused, unneeded } = architecture.json_keys();
        let lists = UNNEEDED.iter().map(|(_, keys)| *keys).chain([FOLLOWED, &FACTORS, followed, refused, unneeded]);
        let mut all: Vec<&str> = lists.flatten().copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
