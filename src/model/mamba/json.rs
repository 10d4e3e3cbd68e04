//! A Mamba's config.json, with the keys of transformers or of mamba_ssm.

use super::names::{LayerTensorId, TensorId};
use super::tensor_names::TensorNames;
use super::{FALCON_MAMBA, Family, MAMBA, Mamba};
use crate::error::Result;
use crate::format::TensorSource;
use crate::input::shown;
use crate::model::architecture::Architecture;
use crate::model::config::{Config, Json, LARGEST, asks_nothing, eos_ids};
use serde_json::Value;

/// Keys that are read, beside those of every model.
pub(super) const FOLLOWED: &[&str] = &[
    "intermediate_size",
    "state_size",
    "time_step_rank",
    "conv_kernel",
    "mixer_rms_eps",
    "use_conv_bias",
    "d_model",
    "n_layer",
    "ssm_cfg",
    "tie_embeddings",
    "pad_vocab_size_multiple",
];

/// Keys that are refused where they ask for what is not supported.
pub(super) const REFUSED: &[&str] = &["use_bias", "hidden_act", "rms_norm", "d_intermediate", "attn_layer_idx"];

/// Keys that inference does not need: initialization, other implementations, other keys' values.
pub(super) const UNNEEDED: &[&str] = &[
    "rescale_prenorm_residual",
    "time_step_scale",
    "time_step_min",
    "time_step_max",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_limit",
    "use_mambapy",
    "use_falcon_mambapy",
    "use_associative_scan",
    "residual_in_fp32",
    "fused_add_norm",
    "attn_cfg",
    "expand",
    "d_inner",
];

/// Keys of mamba_ssm's Mamba. Other keys of `ssm_cfg` belong to other mixers, and mamba_ssm refuses them too.
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

/// Whether a config.json is a Mamba's. mamba_ssm writes no `model_type`.
pub(super) fn claims(json: &Json<'_>) -> bool {
    match json.get("model_type") {
        Some(kind) => [MAMBA, FALCON_MAMBA].iter().any(|name| kind == name),
        None => json.get("d_model").is_some() && json.get("n_layer").is_some(),
    }
}

/// Reads it. Sizes that it lacks come from the shapes of the weights.
pub(super) fn read(json: &Json<'_>, source: &TensorSource) -> Result<Config> {
    check(json)?;
    let names = TensorNames::of(source)?;
    let shape = |id: TensorId| source.shape(&names.name(id));
    let has = Weights {
        // Half the rows of the first in_proj.
        inner: shape(TensorId::Layer(0, LayerTensorId::InProj))
            .and_then(|shape| Some(shape.first()? / 2))
            .filter(|inner| (1..=LARGEST).contains(inner)),
        vocab: shape(TensorId::Embedding).and_then(|shape| shape.first().copied()),
        head: names.has(TensorId::Head),
    };
    match json.get("hidden_size") {
        None if json.get("d_model").is_some() => mamba_ssm(json, &has),
        _ => transformers(json, &has),
    }
}

fn transformers(json: &Json<'_>, has: &Weights) -> Result<Config> {
    let hidden = json.needed(["hidden_size", "d_model"])?;
    // `expand` is 16 in falcon-mamba-7b, whose inner size is 2 x 4096: only intermediate_size and the weights are right.
    let inner = json.size("intermediate_size")?.or(has.inner);
    let family = family(json)?;
    let vocab = json.needed(["vocab_size", "vocab_size"])?;
    let mamba = Mamba {
        family,
        inner: inner.ok_or_else(|| json.bad("intermediate_size is missing".to_owned()))?,
        state: json.size("state_size")?.unwrap_or(16),
        dt_rank: dt_rank(json, "time_step_rank")?.unwrap_or(hidden.div_ceil(16)),
        conv_kernel: json.size("conv_kernel")?.unwrap_or(4),
        conv_bias: json.flag("use_conv_bias")?.unwrap_or(true),
    };
    Ok(Config {
        architecture: Architecture::Mamba(mamba),
        vocab,
        hidden,
        layers: json.needed(["num_hidden_layers", "n_layer"])?,
        norm_eps: json.eps("layer_norm_epsilon", 1e-5)?,
        tied: has.no_head(json.flag("tie_word_embeddings")?.or(json.flag("tie_embeddings")?)),
        eos: eos_ids(json.value),
    })
}

/// Keys of mamba_ssm's MambaConfig. Some converters add `model_type` and keys of transformers.
fn mamba_ssm(json: &Json<'_>, has: &Weights) -> Result<Config> {
    let ssm = json.object("ssm_cfg", "ssm_cfg.")?;
    let hidden = json.needed(["d_model", "hidden_size"])?;
    let expand = ssm.size("expand")?.or(json.size("expand")?).unwrap_or(2);
    let dt_rank = dt_rank(&ssm, "dt_rank")?.or(dt_rank(json, "time_step_rank")?);
    let vocab = json.needed(["vocab_size", "vocab_size"])?;
    let multiple = json.size("pad_vocab_size_multiple")?.unwrap_or(8);
    let mamba = Mamba {
        family: family(json)?,
        inner: has.inner.unwrap_or(hidden * expand),
        state: ssm.size("d_state")?.or(json.size("state_size")?).unwrap_or(16),
        dt_rank: dt_rank.unwrap_or(hidden.div_ceil(16)),
        conv_kernel: ssm.size("d_conv")?.or(json.size("conv_kernel")?).unwrap_or(4),
        conv_bias: ssm.flag("conv_bias")?.or(json.flag("use_conv_bias")?).unwrap_or(true),
    };
    Ok(Config {
        architecture: Architecture::Mamba(mamba),
        // A converter that adds keys may have counted the padded rows.
        vocab: if has.vocab == Some(vocab) { vocab } else { vocab.next_multiple_of(multiple) },
        hidden,
        layers: json.needed(["n_layer", "num_hidden_layers"])?,
        norm_eps: json.eps("layer_norm_epsilon", 1e-5)?,
        tied: has.no_head(json.flag("tie_embeddings")?.or(json.flag("tie_word_embeddings")?)),
        eos: eos_ids(json.value),
    })
}

/// Facts that the weights give.
struct Weights {
    inner: Option<usize>,
    vocab: Option<usize>,
    head: bool,
}

impl Weights {
    /// Whether the embedding is the head. A head in the files is used, whatever the config says; one that the config promises
    /// must be there.
    fn no_head(&self, said_to_be_tied: Option<bool>) -> bool {
        said_to_be_tied != Some(false) && !self.head
    }
}

fn family(json: &Json<'_>) -> Result<Family> {
    let architectures = json.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = |name: &str| architectures.iter().any(|other| other == name);
    let falcon = match json.get("model_type") {
        Some(kind) if kind == FALCON_MAMBA => true,
        Some(_) => named("FalconMambaForCausalLM") || named("FalconMambaModel"),
        None => false,
    };
    // Absent in falcon-mamba-7b, where transformers takes 1e-6.
    Ok(if falcon { Family::FalconMamba { mixer_rms_eps: json.eps("mixer_rms_eps", 1e-6)? } } else { Family::Mamba })
}

/// A rank of dt; `None` where it is absent or "auto".
fn dt_rank(json: &Json<'_>, key: &str) -> Result<Option<usize>> {
    if json.get(key).and_then(Value::as_str) == Some("auto") { Ok(None) } else { json.size(key) }
}

/// Refuses settings that are not supported.
fn check(json: &Json<'_>) -> Result<()> {
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
    Ok(())
}
