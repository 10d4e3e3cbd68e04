//! Where the kernels of a Mamba leave the values that the reference names.

use super::scratch::PrefillScratch;
use super::sizes;
use crate::model::config::Config;
use crate::model::plans::Place;

impl PrefillScratch {
    /// The values that this kernel of a layer leaves.
    pub(in crate::model) fn places(&self, config: &Config, layer: usize, kernel: &str) -> Vec<Place<'_>> {
        let mamba = sizes(config);
        let (d, n, b) = (mamba.inner, mamba.state, mamba.dbc_layout().b_first());
        let place = |name, activation, columns| Place { name, activation, columns };
        match kernel {
            "embed" => vec![place("embed", &self.x[0], 0..config.hidden)],
            "norm" => vec![place("norm", &self.normed, 0..config.hidden)],
            "in_proj" => vec![place("x", &self.xz, 0..d), place("z", &self.xz, d..2 * d)],
            "conv" => vec![place("conv", &self.conv, 0..d)],
            "dbc" => vec![
                place("dt", &self.dbc, 0..mamba.dt_rank),
                place("B", &self.dbc, b..b + n),
                place("C", &self.dbc, b + n..b + 2 * n),
            ],
            "dt_proj" => vec![place("delta", &self.dt, 0..d)],
            "scan" => vec![place("gated", &self.gated, 0..d)],
            "out_proj" => vec![place("resid", &self.x[(layer + 1) % 2], 0..config.hidden)],
            _ => vec![],
        }
    }
}
