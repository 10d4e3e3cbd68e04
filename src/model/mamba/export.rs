//! A Mamba's config.json for exports, and its shapes in GGUF files. Its GGUF keys are in `gguf.rs`.

use super::names::{LayerTensorId, TensorId};
use super::{Family, Mamba};
use crate::model::config::Config;
use serde_json::{Value, json};

impl Mamba {
    /// Sets what a config.json must say that a converter may have left out.
    pub(in crate::model) fn complete_json(&self, config: &mut Value) {
        if let Some(eps) = self.inner_norm_eps() {
            config["mixer_rms_eps"] = short(eps);
        }
    }

    /// A config.json for a model that came without one.
    pub(in crate::model) fn describe_json(&self, config: &Config, tied: bool) -> Value {
        let class = match self.family {
            Family::Mamba => "MambaForCausalLM",
            Family::FalconMamba { .. } => "FalconMambaForCausalLM",
        };
        json!({
            "architectures": [class],
            "model_type": self.name(),
            "vocab_size": config.vocab,
            "hidden_size": config.hidden,
            "intermediate_size": self.inner,
            "expand": self.inner / config.hidden,
            "num_hidden_layers": config.layers,
            "state_size": self.state,
            "conv_kernel": self.conv_kernel,
            "time_step_rank": self.dt_rank,
            "layer_norm_epsilon": short(config.norm_eps),
            "hidden_act": "silu",
            "use_bias": false,
            "use_conv_bias": self.conv_bias,
            "residual_in_fp32": true,
            "tie_word_embeddings": tied,
            "eos_token_id": config.eos.first(),
            "torch_dtype": "float32",
        })
    }
}

/// The shortest number that reads back as the same f32: 1e-5, not 0.000009999999747378752.
fn short(value: f32) -> Value {
    format!("{value:e}").parse::<f64>().unwrap_or(value.into()).into()
}

impl TensorId {
    /// The shape in a GGUF file of a tensor of this shape: its convolutions have no axis of length 1.
    pub(crate) fn gguf_shape(self, shape: &[usize]) -> Vec<usize> {
        match self {
            TensorId::Layer(_, LayerTensorId::ConvWeight) => vec![shape[0], shape[2]],
            _ => shape.to_vec(),
        }
    }
}
