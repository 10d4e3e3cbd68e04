//! The shape of a model. If a [`Config`] exists, the model can run it.

mod json;
mod keys;

pub use keys::UnusedKeys;

use crate::error::{Error, Result};
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
    /// The head is the embedding, and the files have none.
    pub tied: bool,
    /// Tokens that end a text, as config.json has them.
    pub eos: Vec<u32>,
}

/// Largest size of any dimension: products of two stay below 2^40, and every index of an activation below 2^32.
pub(crate) const LARGEST: usize = 1 << 20;

impl Config {
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

/// `eos_token_id` of a config or generation config: a number, a list, or nothing.
pub fn eos_ids(json: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match json.get("eos_token_id") {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => vec![],
    }
}
