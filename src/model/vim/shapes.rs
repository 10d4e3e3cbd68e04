//! The shapes of the published Vision Mambas.

use super::Vim;

/// Names of the published shapes; `-s8` are those with a step of 8 pixels.
pub const VIM_SHAPES: [&str; 5] = ["vim-tiny", "vim-tiny-s8", "vim-small", "vim-small-s8", "vim-base"];

impl Vim {
    /// A published shape by one of the names in [`VIM_SHAPES`].
    pub fn named(name: &str) -> Option<Self> {
        VIM_SHAPES.contains(&name).then_some(())?;
        let (size, step) = name.strip_suffix("-s8").map_or((name, 16), |size| (size, 8));
        let hidden = match size {
            "vim-tiny" => 192,
            "vim-small" => 384,
            _ => 768,
        };
        Some(Vim {
            image: [224; 2],
            channels: 3,
            patch: 16,
            step,
            hidden,
            layers: 24,
            inner: 2 * hidden,
            state: 16,
            dt_rank: hidden.div_ceil(16),
            conv_kernel: 4,
            classes: 1000,
            norm_eps: 1e-5,
            class_in_middle: true,
            halved: true,
            labels: vec![],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_shapes_have_their_parameters_and_tokens() {
        let millions = |name: &str| (Vim::named(name).unwrap().parameters() as f64 / 1e6).round();
        assert_eq!(["vim-tiny", "vim-small", "vim-base"].map(millions), [7.0, 26.0, 98.0]);
        let tokens = |name: &str, side| Vim::named(name).unwrap().patches([side; 2]).tokens();
        assert_eq!([tokens("vim-tiny", 224), tokens("vim-tiny-s8", 224), tokens("vim-tiny", 1248)], [197, 730, 6085]);
        assert_eq!(Vim::named("vim-tiny").unwrap().patches([224; 2]).class_at, 98);
        assert_eq!(Vim::named("vim-base-s8"), None);
    }
}
