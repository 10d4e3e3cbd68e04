//! How state files identify a Mamba: its config as a JSON entry, and a sample of its weights.

use super::tensors::LayerTensors;
use super::{FALCON_MAMBA, Family, Mamba};
use crate::format::Tensor;
use crate::model::architecture::Architecture;
use crate::model::config::{Config, ConfigEntry};
use serde_json::{Map, Value, json};

/// Reads what [`Mamba::config_entry`] has written.
pub(super) fn read(entry: &ConfigEntry<'_>) -> Result<Config, String> {
    let family = match entry.text("family")? {
        FALCON_MAMBA => Family::FalconMamba { mixer_rms_eps: entry.number("mixer_rms_eps")? },
        _ => Family::Mamba,
    };
    let (vocab, hidden) = (entry.size("vocab")?, entry.size("hidden")?);
    let mamba = Mamba {
        family,
        inner: entry.size("inner")?,
        state: entry.size("state")?,
        dt_rank: entry.size("dt_rank")?,
        conv_kernel: entry.size("conv_kernel")?,
        conv_bias: entry.get("conv_bias")?.as_bool().ok_or("conv_bias is neither true nor false")?,
    };
    Ok(Config {
        architecture: Architecture::Mamba(mamba),
        vocab,
        hidden,
        layers: entry.size("layers")?,
        norm_eps: entry.number("norm_eps")?,
        tied: false,
        eos: vec![],
    })
}

impl Mamba {
    /// The config as state files write it. EOS tokens, and whether a tied head is stored twice, vary between copies of a model
    /// and are left out.
    pub(in crate::model) fn config_entry(&self, config: &Config) -> Map<String, Value> {
        let entry = json!({
            "family": self.name(), "mixer_rms_eps": self.inner_norm_eps(), "vocab": config.vocab,
            "hidden": config.hidden, "inner": self.inner, "state": self.state, "dt_rank": self.dt_rank,
            "conv_kernel": self.conv_kernel, "layers": config.layers, "norm_eps": config.norm_eps,
            "conv_bias": self.conv_bias,
        });
        match entry {
            Value::Object(entry) => entry,
            _ => unreachable!("json! of braces is an object"),
        }
    }

    /// The sizes that two copies of a model share. The epsilon in the mixer is not among them: GGUF files lack it.
    pub(in crate::model) fn identity(&self) -> Vec<(&'static str, String)> {
        vec![
            ("inner size", self.inner.to_string()),
            ("state size", self.state.to_string()),
            ("dt rank", self.dt_rank.to_string()),
            ("conv kernel", self.conv_kernel.to_string()),
            ("conv bias", self.conv_bias.to_string()),
        ]
    }
}

impl<'a> LayerTensors<'a> {
    /// Vectors that a fingerprint samples: every format keeps their values.
    pub(crate) fn sampled_vectors(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.plain_vectors().chain([&self.skip])
    }

    /// Vectors that kernels read as they are stored.
    pub(crate) fn plain_vectors(&self) -> impl Iterator<Item = &Tensor<'a>> {
        let all = [Some(&self.norm), Some(&self.conv_weight), self.conv_bias.as_ref(), Some(&self.dt_bias)];
        all.into_iter().flatten()
    }

    /// Matrices that a fingerprint samples.
    pub(crate) fn sampled_matrices(&self) -> [&Tensor<'a>; 3] {
        [&self.in_proj, &self.x_proj, &self.out_proj]
    }

    /// The middle row of A as the kernels read it, however it is stored, with the first channel's skip D.
    pub(crate) fn sampled_a(&self) -> Vec<f32> {
        let row = self.a.rows() / 2;
        let mut a = vec![0.0; self.a.columns()];
        self.a.decode_rows(row..row + 1, &mut a);
        let mut skip = vec![0.0; self.skip.columns()];
        self.skip.decode_rows(0..1, &mut skip);
        self.pack_a(&a, &skip[..1])
    }
}
