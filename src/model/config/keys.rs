//! The keys of config.json: which are followed, which are of no use, and which are refused, as what they ask for is not done.

use super::json::Json;
use crate::error::Result;
use crate::input::shown;
use serde_json::Value;

/// Keys of a config that nothing is computed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnusedKeys {
    /// Those known to be of no use.
    pub known: Vec<String>,
    /// The others: what they ask for is not known, and not done.
    pub unknown: Vec<String>,
}

/// Keys that are read, or refused where they ask for what is not supported.
const FOLLOWED: &[&str] = &[
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "state_size",
    "time_step_rank",
    "conv_kernel",
    "num_hidden_layers",
    "layer_norm_epsilon",
    "mixer_rms_eps",
    "use_conv_bias",
    "use_bias",
    "hidden_act",
    "tie_word_embeddings",
    "eos_token_id",
    "quantization_config",
    "compression_config",
    "quantization",
    "d_model",
    "n_layer",
    "ssm_cfg",
    "tie_embeddings",
    "rms_norm",
    "d_intermediate",
    "attn_layer_idx",
    "pad_vocab_size_multiple",
];

/// Keys of no use, by the reason.
const OF_NO_USE: &[(&str, &[&str])] = &[
    (
        "how weights begin, and how they are trained",
        &[
            "initializer_range",
            "rescale_prenorm_residual",
            "time_step_scale",
            "time_step_min",
            "time_step_max",
            "time_step_floor",
            "time_step_init_scheme",
            "time_step_limit",
            "gradient_checkpointing",
            "dropout",
            "hidden_dropout",
            "hidden_dropout_prob",
            "classifier_dropout",
            "use_mambapy",
            "use_falcon_mambapy",
            "use_associative_scan",
        ],
    ),
    (
        "how it is computed elsewhere; here sums are f32 and states are kept",
        &[
            "residual_in_fp32",
            "fused_add_norm",
            "use_cache",
            "torch_dtype",
            "dtype",
            "attn_cfg",
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
    ("said by other keys too", &["expand", "d_inner", "num_layers", "n_layers", "n_embd", "hidden_dim"]),
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
        "lengths, which have no end here",
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
        "tokens, which the tokenizer knows",
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
        "sampling, which generation_config.json is for",
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

/// Factors of other families of models, which change every number where they are not 1.
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

/// Keys of mamba_ssm's Mamba; other keys of `ssm_cfg` are of other mixers, and it refuses them too.
const OF_MIXER: [&str; 13] = [
    "layer",
    "d_state",
    "d_conv",
    "expand",
    "dt_rank",
    "dt_min",
    "dt_max",
    "dt_init",
    "dt_scale",
    "dt_init_floor",
    "conv_bias",
    "bias",
    "use_fast_path",
];

/// Refuses what a config asks for and is not done.
pub(super) fn check(json: &Json) -> Result<()> {
    const NO_BIASES: &str = "supported are models without biases in in_proj and out_proj";
    if json.flag("use_bias")? == Some(true) {
        return Err(json.unsupported("use_bias: true", NO_BIASES));
    }
    match json.get("hidden_act") {
        None => {}
        Some(Value::String(name)) if name == "silu" || name == "swish" => {}
        Some(other) => return Err(json.unsupported(format!("hidden_act {}", shown(other)), "supported is silu")),
    }
    let ssm = json.object("ssm_cfg", "ssm_cfg.")?;
    if let Some(layer) = ssm.get("layer").filter(|layer| layer.as_str() != Some("Mamba1")) {
        return Err(json.unsupported(format!("ssm_cfg.layer {}", shown(layer)), "supported is Mamba1"));
    }
    if ssm.flag("bias")? == Some(true) {
        return Err(json.unsupported("ssm_cfg.bias: true", NO_BIASES));
    }
    for (key, value) in ssm.value.as_object().into_iter().flatten() {
        if !OF_MIXER.contains(&key.as_str()) && !asks_nothing(value) {
            return Err(json.unsupported(format!("ssm_cfg.{key}"), "mamba_ssm's Mamba1 has no such setting"));
        }
    }
    if json.get("attn_layer_idx").is_some_and(|layers| !asks_nothing(layers)) {
        return Err(json.unsupported("attn_layer_idx", "supported are pure Mamba models, without attention"));
    }
    if let Some(size) = json.get("d_intermediate").filter(|size| !asks_nothing(size)) {
        let hint = "supported are pure Mamba models, without MLPs between the mixers";
        return Err(json.unsupported(format!("d_intermediate {}", shown(size)), hint));
    }
    if json.flag("rms_norm")? == Some(false) {
        return Err(json.unsupported("rms_norm: false", "supported are models with RMSNorm"));
    }
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

/// Refuses weights that another than bitsandbytes quantized.
fn quantizer(json: &Json) -> Result<()> {
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

/// Whether a value is one that keys have which ask for nothing.
fn asks_nothing(value: &Value) -> bool {
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
    /// Of a config.json.
    pub fn of_json(value: &Value) -> Self {
        let mut unused = UnusedKeys::default();
        for (key, value) in value.as_object().into_iter().flatten() {
            let of_no_use = OF_NO_USE.iter().any(|(_, keys)| keys.contains(&key.as_str())) || key.starts_with('_');
            if FOLLOWED.contains(&key.as_str()) || FACTORS.contains(&key.as_str()) {
                continue;
            }
            let list = if of_no_use || asks_nothing(value) { &mut unused.known } else { &mut unused.unknown };
            list.push(key.clone());
        }
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_two_lists() {
        let of_no_use = OF_NO_USE.iter().flat_map(|(_, keys)| keys.iter());
        let mut all: Vec<&str> = FOLLOWED.iter().chain(&FACTORS).chain(of_no_use).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
