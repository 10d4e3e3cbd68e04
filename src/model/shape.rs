//! The shapes of published models, for measuring without their weights.

use super::config::{Config, Family};

/// A model's shape, and whether its head is its embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Its usual name.
    pub name: String,
    /// Sizes and constants.
    pub config: Config,
    /// The head is the embedding.
    pub tied: bool,
}

/// Names of the shapes that [`Shape::named`] knows.
pub const SHAPES: [&str; 6] = ["falcon-mamba-7b", "mamba-130m", "mamba-370m", "mamba-790m", "mamba-1.4b", "mamba-2.8b"];

impl Shape {
    /// A published shape: tiiuae/falcon-mamba-7b, or state-spaces/mamba-130m to 2.8b.
    pub fn named(name: &str) -> Option<Self> {
        let (hidden, layers) = match name {
            "falcon-mamba-7b" => (4096, 64),
            "mamba-130m" => (768, 24),
            "mamba-370m" => (1024, 48),
            "mamba-790m" => (1536, 48),
            "mamba-1.4b" => (2048, 48),
            "mamba-2.8b" => (2560, 64),
            _ => return None,
        };
        let falcon = name == "falcon-mamba-7b";
        let config = Config {
            family: if falcon { Family::FalconMamba { mixer_rms_eps: 1e-6 } } else { Family::Mamba },
            vocab: if falcon { 65024 } else { 50280 },
            hidden,
            inner: 2 * hidden,
            state: 16,
            dt_rank: hidden / 16,
            conv_kernel: 4,
            layers,
            norm_eps: 1e-5,
            conv_bias: true,
            tied: !falcon,
            eos: vec![],
        };
        Some(Shape { name: name.to_owned(), config, tied: !falcon })
    }
}
