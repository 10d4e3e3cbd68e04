//! Mamba-1: Mamba (Gu and Dao, 2023, <https://arxiv.org/abs/2312.00752>) and Falcon Mamba (TII, 2024,
//! <https://arxiv.org/abs/2410.05355>), which adds RMS norms on dt, B and C.

mod decode;
mod export;
mod fingerprint;
mod gguf;
mod json;
mod names;
mod prefill;
mod reference;
mod scratch;
mod shapes;
mod state;
mod tensor_names;
mod tensors;
#[cfg(test)]
mod tests;
mod trace;
mod tune;
mod weights;

pub(super) use decode::decode;
pub use names::{LayerTensorId, TensorId};
pub(super) use prefill::prefill;
pub(super) use reference::{LayerReference, LayerState};
pub(super) use scratch::PrefillScratch;
pub use shapes::SHAPES;
pub(super) use tensor_names::TensorNames;
pub use tensors::LayerTensors;
pub(super) use tune::Tuned;
pub(super) use weights::Layer;

use super::architecture::{Architecture, Entry};
use super::config::{Config, Keys};
use crate::error::{Error, Result};

/// Which of the two families.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// Mamba.
    Mamba,
    /// Falcon Mamba: Mamba with RMS norms on dt, B and C.
    FalconMamba {
        /// Epsilon of those norms.
        mixer_rms_eps: f32,
    },
}

/// Sizes and constants of a Mamba-1 mixer. The letters are those of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mamba {
    /// Which family.
    pub family: Family,
    /// Channels of a mixer, D.
    pub inner: usize,
    /// States of a channel, N.
    pub state: usize,
    /// Width of dt before dt_proj, R.
    pub dt_rank: usize,
    /// Taps of the convolution, K.
    pub conv_kernel: usize,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
}

/// Mamba-1 in the registry.
pub(super) const ENTRY: Entry = Entry {
    claims: json::claims,
    from_json: json::read,
    gguf_name: gguf::ARCHITECTURE,
    from_gguf: gguf::read,
    names: &[MAMBA, FALCON_MAMBA],
    from_entry: fingerprint::read,
    shape: shapes::named,
};

/// Its keys in config.json.
pub(super) const JSON_KEYS: Keys = Keys { followed: json::FOLLOWED, refused: json::REFUSED, unneeded: json::UNNEEDED };

/// Its keys in GGUF files.
pub(super) const GGUF_KEYS: Keys =
    Keys { followed: gguf::FOLLOWED, refused: gguf::OF_OTHERS, unneeded: gguf::UNNEEDED };

const MAMBA: &str = "mamba";
const FALCON_MAMBA: &str = "falcon_mamba";

impl Mamba {
    /// `model_type` of transformers.
    pub(super) fn name(&self) -> &'static str {
        match self.family {
            Family::Mamba => MAMBA,
            Family::FalconMamba { .. } => FALCON_MAMBA,
        }
    }

    pub(super) fn display_name(&self) -> &'static str {
        match self.family {
            Family::Mamba => "Mamba",
            Family::FalconMamba { .. } => "Falcon Mamba",
        }
    }

    pub(super) fn inner_norm_eps(&self) -> Option<f32> {
        match self.family {
            Family::Mamba => None,
            Family::FalconMamba { mixer_rms_eps } => Some(mixer_rms_eps),
        }
    }

    /// Changes that epsilon; `false` where there are no such norms.
    pub(super) fn set_inner_norm_eps(&mut self, eps: f32) -> bool {
        match &mut self.family {
            Family::Mamba => false,
            Family::FalconMamba { mixer_rms_eps } => {
                *mixer_rms_eps = eps;
                true
            }
        }
    }

    /// Names and values of the sizes.
    pub(super) fn dimensions(&self) -> [(&'static str, usize); 4] {
        [("inner", self.inner), ("state", self.state), ("dt_rank", self.dt_rank), ("conv_kernel", self.conv_kernel)]
    }

    /// Rows of x_proj: dt, B and C.
    fn x_proj_rows(&self) -> usize {
        self.dt_rank + 2 * self.state
    }

    /// Parameters of a layer.
    pub(super) fn layer_parameters(&self, hidden: usize) -> usize {
        let matrices: usize = self.layer_matrices(hidden).iter().map(|[rows, columns]| rows * columns).sum();
        // Of a channel: taps and perhaps a bias, the bias of dt, A, and the skip D.
        let of_channel = self.conv_kernel + usize::from(self.conv_bias) + 1 + self.state + 1;
        hidden + matrices + self.inner * of_channel
    }

    /// Refuses sizes that the kernels do not run. `file` is the name for messages.
    pub(super) fn check(&self, file: &str) -> Result<()> {
        let unsupported =
            |what: String, hint: &str| Err(Error::Unsupported { file: file.to_owned(), what, hint: hint.to_owned() });
        // The kernels hold both in registers.
        if self.state > 64 {
            return unsupported(format!("a state size of {}", self.state), "supported are 1 to 64");
        }
        if !(2..=16).contains(&self.conv_kernel) {
            return unsupported(format!("a conv kernel of {}", self.conv_kernel), "supported are 2 to 16");
        }
        Ok(())
    }
}

/// The sizes of a model whose config this module has read.
fn sizes(config: &Config) -> &Mamba {
    let Architecture::Mamba(mamba) = &config.architecture;
    mamba
}
