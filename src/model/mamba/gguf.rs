//! The shape of a model, from the keys of a GGUF file. llama.cpp has one architecture for both families: "mamba".

use super::config::{Config, Family, LARGEST, UnusedKeys};
use super::names::{LayerPart, Naming, Part};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::format::gguf::{Metadata, Value};

/// Epsilon of the norms on dt, B and C: a key of our own, since there is no other. llama.cpp takes that of the other norms.
pub const MIXER_RMS_EPS: &str = "peregrine.mixer_rms_eps";

impl Config {
    /// Reads the metadata of a GGUF file. Falcon Mamba is a model with `mamba.ssm.dt_b_c_rms`; the epsilon of those norms is
    /// 1e-6, as transformers takes for falcon-mamba-7b, where the file does not say (and no other converter writes it).
    pub fn from_gguf(metadata: &Metadata, source: &TensorSource) -> Result<Self> {
        let keys = Keys { metadata };
        let architecture = metadata.text("general.architecture")?;
        if architecture != Some("mamba") {
            let what = architecture.map_or("no general.architecture".to_owned(), |a| format!("the architecture {a:?}"));
            return Err(keys.unsupported(what, "supported is mamba, which Falcon Mamba has as well"));
        }
        let naming = Naming::Gguf;
        let embedding = Part::Embedding.name(naming);
        let vocab = source.shape(&embedding).and_then(|shape| shape.first().copied());
        keys.check()?;
        let missing = || Error::MissingTensor {
            tensor: embedding.clone(),
            file: metadata.file().to_owned(),
            hint: "the file holds no whole model".to_owned(),
        };
        let norms = metadata.flag("mamba.ssm.dt_b_c_rms")?.unwrap_or(false);
        let mut eos = Vec::new();
        for key in ["eos", "eot", "eom"] {
            eos.extend(metadata.id(&format!("tokenizer.ggml.{key}_token_id"))?);
        }
        let config = Config {
            family: if norms {
                Family::FalconMamba { mixer_rms_eps: keys.eps(MIXER_RMS_EPS)?.unwrap_or(1e-6) }
            } else {
                Family::Mamba
            },
            vocab: vocab.ok_or_else(missing)?,
            hidden: keys.size("mamba.embedding_length")?,
            inner: keys.size("mamba.ssm.inner_size")?,
            state: keys.size("mamba.ssm.state_size")?,
            dt_rank: keys.size("mamba.ssm.time_step_rank")?,
            conv_kernel: keys.size("mamba.ssm.conv_kernel")?,
            layers: keys.size("mamba.block_count")?,
            norm_eps: keys.eps("mamba.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            conv_bias: source.has(&Part::Layer(0, LayerPart::ConvBias).name(naming)),
            // No key says it: a head that is not there is the embedding.
            tied: !source.has(&Part::Head.name(naming)),
            eos,
        };
        if config.vocab > LARGEST {
            let problem = format!("{embedding} has {} rows, it may have {LARGEST}", config.vocab);
            return Err(Error::BadConfig { file: metadata.file().to_owned(), problem });
        }
        config.check(metadata.file())
    }
}

/// Keys of the architecture that are followed, and those that say nothing of how it is computed.
const FOLLOWED: [&str; 8] = [
    "embedding_length",
    "block_count",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "ssm.dt_b_c_rms",
    "attention.layer_norm_rms_epsilon",
];
const OF_NO_USE: [&str; 2] = ["context_length", "vocab_size"];

impl UnusedKeys {
    /// Of a GGUF file. Keys that are not about the architecture, the text or the sampling only describe the file.
    pub fn of_gguf(metadata: &Metadata) -> Self {
        let mut unused = UnusedKeys::default();
        for (key, _) in metadata.entries() {
            let used =
                ["tokenizer.", "split.", "peregrine.", "general.sampling."].iter().any(|known| key.starts_with(known));
            if used || ["general.architecture", "general.type", "general.alignment"].contains(&key.as_str()) {
                continue;
            }
            match key.strip_prefix("mamba.") {
                Some(of_model) if FOLLOWED.contains(&of_model) || OF_OTHERS.contains(&of_model) => {}
                Some(of_model) if !OF_NO_USE.contains(&of_model) => unused.unknown.push(key.clone()),
                _ => unused.known.push(key.clone()),
            }
        }
        unused
    }
}

struct Keys<'a> {
    metadata: &'a Metadata,
}

/// Keys of what other models have, and this architecture has none of: it must be 0 or empty where it is said.
const OF_OTHERS: [&str; 10] = [
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

impl Keys<'_> {
    /// Refuses what the keys ask for and is not done.
    fn check(&self) -> Result<()> {
        let kind = self.metadata.text("general.type")?;
        if let Some(other) = kind.filter(|kind| *kind != "model") {
            return Err(self.unsupported(format!("a GGUF file of the type {other:?}"), "give that of the model itself"));
        }
        for key in OF_OTHERS.map(|key| format!("mamba.{key}")) {
            let neutral = |value: &Value| value.is_zero() || (key.ends_with("_scale") && *value == Value::F32(1.0));
            if self.metadata.get(&key).is_some_and(|value| !neutral(value)) {
                return Err(self.unsupported(key, "no Mamba that is supported has such a part"));
            }
        }
        Ok(())
    }

    fn bad(&self, problem: String) -> Error {
        Error::BadConfig { file: self.metadata.file().to_owned(), problem }
    }

    fn unsupported(&self, what: String, hint: &str) -> Error {
        Error::Unsupported { file: self.metadata.file().to_owned(), what, hint: hint.to_owned() }
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.metadata.whole(key)?.ok_or_else(|| self.bad(format!("{key} is missing")))?;
        let size = usize::try_from(value).ok().filter(|n| (1..=LARGEST).contains(n));
        size.ok_or_else(|| self.bad(format!("{key} is {value}, it must be from 1 to {LARGEST}")))
    }

    fn eps(&self, key: &str) -> Result<Option<f32>> {
        match self.metadata.float(key)? {
            Some(eps) if !(0.0..1.0).contains(&eps) => {
                Err(self.bad(format!("{key} is {eps}, it must be a small number from 0 on")))
            }
            eps => Ok(eps),
        }
    }
}
