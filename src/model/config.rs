//! The shape of a model, from config.json. If a [`Config`] exists, the model can run it.

use crate::error::{Error, Result};
use crate::format::TensorSource;
use serde_json::Value;

/// Which of the two families.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// Mamba (Gu and Dao, 2023).
    Mamba,
    /// Falcon Mamba (TII, 2024): Mamba with RMS norms on dt, B and C.
    FalconMamba {
        /// Epsilon of those norms.
        mixer_rms_eps: f32,
    },
}

/// Sizes and constants of a model. The letters are those of the papers.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which family.
    pub family: Family,
    /// Tokens, V: rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream, H.
    pub hidden: usize,
    /// Channels of a mixer, D.
    pub inner: usize,
    /// States of a channel, N.
    pub state: usize,
    /// Width of dt before dt_proj, R.
    pub dt_rank: usize,
    /// Taps of the convolution, K.
    pub conv_kernel: usize,
    /// Layers.
    pub layers: usize,
    /// Epsilon of the norms before each mixer and the head.
    pub norm_eps: f32,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Tokens that end a text, as config.json has them.
    pub eos: Vec<u32>,
}

/// Largest size of any dimension: products of two stay below 2^40, and every index of an activation below 2^32.
pub(crate) const LARGEST: usize = 1 << 20;

/// config.json with the name it goes by in messages.
struct Json<'a> {
    file: &'a str,
    value: &'a Value,
}

impl Json<'_> {
    fn bad(&self, problem: String) -> Error {
        Error::BadConfig { file: self.file.to_owned(), problem }
    }

    fn unsupported(&self, what: impl Into<String>, hint: &str) -> Error {
        Error::Unsupported { file: self.file.to_owned(), what: what.into(), hint: hint.to_owned() }
    }

    /// A key that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=LARGEST).contains(&n) => Ok(Some(n)),
            _ => Err(self.bad(format!("{key} is {value}, it must be a whole number from 1 to {LARGEST}"))),
        }
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.bad(format!("{key} is missing")))
    }

    fn eps(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_f64() {
            Some(eps) if (0.0..1.0).contains(&eps) => Ok(eps as f32),
            _ => Err(self.bad(format!("{key} is {value}, it must be a small number from 0 on"))),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.bad(format!("{key} is {value}, it must be true or false")))
    }
}

impl Config {
    /// Reads config.json, in the style of transformers (`falcon_mamba`, `mamba`) or of mamba_ssm. Where a size is missing
    /// there, the shape of a weight has it. `file` is the name for messages.
    pub fn from_json(file: &str, value: &Value, source: &TensorSource) -> Result<Self> {
        let json = Json { file, value };
        if !value.is_object() {
            return Err(json.bad("it is not a JSON object".to_owned()));
        }
        let kind = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let architectures = json.get("architectures").and_then(Value::as_array);
        let falcon_named =
            architectures.is_some_and(|names| names.iter().any(|name| name.as_str() == Some("FalconMambaForCausalLM")));
        let config = match kind {
            "falcon_mamba" => Self::transformers(&json, source, true)?,
            "mamba" => Self::transformers(&json, source, falcon_named)?,
            "" if json.get("d_model").is_some() && json.get("n_layer").is_some() => Self::mamba_ssm(&json, source)?,
            other => {
                let what = if other.is_empty() {
                    "a config without model_type".to_owned()
                } else {
                    format!("model_type {other:?}")
                };
                return Err(json.unsupported(what, "supported are falcon_mamba, mamba and mamba_ssm checkpoints"));
            }
        };
        config.check(file)
    }

    fn transformers(json: &Json, source: &TensorSource, falcon: bool) -> Result<Self> {
        if json.flag("use_bias", false)? {
            return Err(json.unsupported("use_bias: true", "no published model has biases in in_proj and out_proj"));
        }
        match json.get("hidden_act").and_then(Value::as_str) {
            None | Some("silu" | "swish") => {}
            Some(other) => return Err(json.unsupported(format!("hidden_act {other:?}"), "supported is silu")),
        }
        let hidden = json.needed("hidden_size")?;
        // `expand` is 16 in falcon-mamba-7b, whose inner size is 2 x 4096: only intermediate_size and the weights are right.
        let inner = match json.size("intermediate_size")? {
            Some(inner) => inner,
            None => inner_of(source).ok_or_else(|| json.bad("intermediate_size is missing".to_owned()))?,
        };
        let dt_rank = match json.get("time_step_rank") {
            Some(Value::String(auto)) if auto == "auto" => hidden.div_ceil(16),
            _ => json.size("time_step_rank")?.unwrap_or(hidden.div_ceil(16)),
        };
        Ok(Config {
            family: if falcon {
                // Absent in falcon-mamba-7b, where transformers takes 1e-6.
                Family::FalconMamba { mixer_rms_eps: json.eps("mixer_rms_eps", 1e-6)? }
            } else {
                Family::Mamba
            },
            vocab: json.needed("vocab_size")?,
            hidden,
            inner,
            state: json.size("state_size")?.unwrap_or(16),
            dt_rank,
            conv_kernel: json.size("conv_kernel")?.unwrap_or(4),
            layers: json.needed("num_hidden_layers")?,
            norm_eps: json.eps("layer_norm_epsilon", 1e-5)?,
            conv_bias: json.flag("use_conv_bias", true)?,
            eos: eos_ids(json.value),
        })
    }

    fn mamba_ssm(json: &Json, source: &TensorSource) -> Result<Self> {
        let inside = Value::Object(Default::default());
        let ssm = Json { file: json.file, value: json.get("ssm_cfg").unwrap_or(&inside) };
        if let Some(layer) = ssm.get("layer").and_then(Value::as_str).filter(|layer| *layer != "Mamba1") {
            return Err(json.unsupported(format!("ssm_cfg.layer {layer:?}"), "supported is Mamba1"));
        }
        if json.get("attn_layer_idx").and_then(Value::as_array).is_some_and(|layers| !layers.is_empty()) {
            return Err(json.unsupported("attn_layer_idx", "supported are pure Mamba models"));
        }
        if !json.flag("rms_norm", true)? {
            return Err(json.unsupported("rms_norm: false", "supported are models with RMSNorm"));
        }
        let hidden = json.needed("d_model")?;
        let multiple = json.size("pad_vocab_size_multiple")?.unwrap_or(8);
        let dt_rank = match ssm.get("dt_rank") {
            None => hidden.div_ceil(16),
            Some(Value::String(auto)) if auto == "auto" => hidden.div_ceil(16),
            Some(_) => ssm.needed("dt_rank")?,
        };
        Ok(Config {
            family: Family::Mamba,
            vocab: json.needed("vocab_size")?.next_multiple_of(multiple),
            hidden,
            inner: inner_of(source).unwrap_or(hidden * ssm.size("expand")?.unwrap_or(2)),
            state: ssm.size("d_state")?.unwrap_or(16),
            dt_rank,
            conv_kernel: ssm.size("d_conv")?.unwrap_or(4),
            layers: json.needed("n_layer")?,
            norm_eps: 1e-5,
            conv_bias: ssm.flag("conv_bias", true)?,
            eos: eos_ids(json.value),
        })
    }

    /// Refuses what the kernels do not do. `file` is the name for messages.
    pub(crate) fn check(self, file: &str) -> Result<Self> {
        let unsupported =
            |what: String, hint: &str| Err(Error::Unsupported { file: file.to_owned(), what, hint: hint.to_owned() });
        // Held in registers by the kernels.
        if self.state > 64 {
            return unsupported(format!("a state size of {}", self.state), "supported are 1 to 64");
        }
        if !(2..=16).contains(&self.conv_kernel) {
            return unsupported(format!("a conv kernel of {}", self.conv_kernel), "supported are 2 to 16");
        }
        if self.layers > 4096 {
            return unsupported(format!("{} layers", self.layers), "supported are up to 4096");
        }
        Ok(self)
    }

    /// Number of parameters, the head counted once if it is tied to the embedding.
    pub fn parameters(&self, tied: bool) -> u64 {
        let (h, d, n, r, k) = (self.hidden, self.inner, self.state, self.dt_rank, self.conv_kernel);
        let layer = h
            + 2 * d * h
            + d * k
            + if self.conv_bias { d } else { 0 }
            + (r + 2 * n) * d
            + d * r
            + d
            + d * n
            + d
            + h * d;
        (layer * self.layers + self.vocab * h * if tied { 1 } else { 2 } + h) as u64
    }
}

/// Half the rows of the first in_proj.
fn inner_of(source: &TensorSource) -> Option<usize> {
    let shape = source.shape("backbone.layers.0.mixer.in_proj.weight")?;
    Some(shape.first()? / 2).filter(|inner| (1..=LARGEST).contains(inner))
}

/// `eos_token_id` of a config or generation config: a number, a list, or nothing.
pub fn eos_ids(json: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match json.get("eos_token_id") {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => vec![],
    }
}
