//! The configs of published Mambas.

use super::{Family, Mamba};
use crate::model::architecture::Architecture;
use crate::model::config::Config;

const FALCON_MAMBA_7B: &str = "falcon-mamba-7b";

/// Names of the shapes.
pub const SHAPES: [&str; 6] = [FALCON_MAMBA_7B, "mamba-130m", "mamba-370m", "mamba-790m", "mamba-1.4b", "mamba-2.8b"];

/// tiiuae/falcon-mamba-7b, or state-spaces/mamba-130m to 2.8b.
pub(super) fn named(name: &str) -> Option<Config> {
    let (hidden, layers) = match name {
        FALCON_MAMBA_7B => (4096, 64),
        "mamba-130m" => (768, 24),
        "mamba-370m" => (1024, 48),
        "mamba-790m" => (1536, 48),
        "mamba-1.4b" => (2048, 48),
        "mamba-2.8b" => (2560, 64),
        _ => return None,
    };
    let falcon = name == FALCON_MAMBA_7B;
    let mamba = Mamba {
        family: if falcon { Family::FalconMamba { mixer_rms_eps: 1e-6 } } else { Family::Mamba },
        inner: 2 * hidden,
        state: 16,
        dt_rank: hidden / 16,
        conv_kernel: 4,
        conv_bias: true,
    };
    Some(Config {
        architecture: Architecture::Mamba(mamba),
        vocab: if falcon { 65024 } else { 50280 },
        hidden,
        layers,
        norm_eps: 1e-5,
        tied: !falcon,
        eos: vec![],
    })
}
