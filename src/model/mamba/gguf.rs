//! A Mamba's keys in GGUF files. llama.cpp has one architecture for both families, "mamba".

use super::names::{LayerTensorId, TensorId};
use super::{Family, Mamba};
use crate::error::Result;
use crate::format::TensorSource;
use crate::format::gguf::{Metadata, Value};
use crate::model::architecture::Architecture;
use crate::model::config::{Config, GgufKeys};
use crate::model::naming::Naming;

/// `general.architecture`.
pub(super) const ARCHITECTURE: &str = "mamba";

/// peregrine's own key for the epsilon of the norms on dt, B and C; llama.cpp has none and takes that of the other norms.
const MIXER_RMS_EPS: &str = "peregrine.mixer_rms_eps";

/// Keys that are read.
pub(super) const FOLLOWED: &[&str] = &[
    "embedding_length",
    "block_count",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "ssm.dt_b_c_rms",
    "attention.layer_norm_rms_epsilon",
];

/// Keys of parts that other architectures have. They must be absent, 0 or empty.
pub(super) const OF_OTHERS: &[&str] = &[
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "expert_count",
    "expert_used_count",
    "ssm.group_count",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "final_logit_softcapping",
];

/// Keys without effect.
pub(super) const UNNEEDED: &[&str] = &["context_length", "vocab_size"];

/// Reads the metadata. Falcon Mamba is a model with `mamba.ssm.dt_b_c_rms`. Other converters write no epsilon for those norms;
/// it is 1e-6 then, as transformers takes for falcon-mamba-7b.
pub(super) fn read(keys: &GgufKeys<'_>, source: &TensorSource) -> Result<Config> {
    let name = |id: TensorId| id.name(Naming::Gguf);
    keys.refuse(OF_OTHERS, "no Mamba that is supported has such a part")?;
    let norms = keys.flag("ssm.dt_b_c_rms")?;
    let eos = keys.eos()?;
    let family = if norms {
        Family::FalconMamba { mixer_rms_eps: keys.eps_at(MIXER_RMS_EPS)?.unwrap_or(1e-6) }
    } else {
        Family::Mamba
    };
    let vocab = keys.vocab(&name(TensorId::Embedding), source)?;
    let hidden = keys.size("embedding_length")?;
    let mamba = Mamba {
        family,
        inner: keys.size("ssm.inner_size")?,
        state: keys.size("ssm.state_size")?,
        dt_rank: keys.size("ssm.time_step_rank")?,
        conv_kernel: keys.size("ssm.conv_kernel")?,
        conv_bias: source.has(&name(TensorId::Layer(0, LayerTensorId::ConvBias))),
    };
    Ok(Config {
        architecture: Architecture::Mamba(mamba),
        vocab,
        hidden,
        layers: keys.size("block_count")?,
        norm_eps: keys.eps("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
        // No key says it: a file without a head ties it to the embedding.
        tied: !source.has(&name(TensorId::Head)),
        eos,
    })
}

impl Mamba {
    /// Sets what a GGUF file must say beside the keys of llama.cpp.
    pub(in crate::model) fn complete_gguf(&self, keys: &mut Metadata) {
        if let Some(eps) = self.inner_norm_eps() {
            keys.set(MIXER_RMS_EPS, Value::F32(eps));
        }
    }

    /// Sets the keys that llama.cpp's converter writes of the model.
    pub(in crate::model) fn describe_gguf(&self, config: &Config, keys: &mut Metadata) {
        let mut set = |key: &str, value: Value| keys.set(&format!("{ARCHITECTURE}.{key}"), value);
        let size = |n: usize| Value::U32(u32::try_from(n).expect("a config's sizes are at most 2^20"));
        // The state limits no length; the converter writes this number.
        set("context_length", size(1 << 20));
        set("embedding_length", size(config.hidden));
        set("feed_forward_length", size(0));
        set("attention.head_count", size(0));
        set("block_count", size(config.layers));
        set("ssm.conv_kernel", size(self.conv_kernel));
        set("ssm.inner_size", size(self.inner));
        set("ssm.state_size", size(self.state));
        set("ssm.time_step_rank", size(self.dt_rank));
        set("attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps));
        set("ssm.dt_b_c_rms", Value::Bool(self.inner_norm_eps().is_some()));
    }
}
