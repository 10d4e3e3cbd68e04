//! Every named value of a chunk on its way through the layers, to be held against the reference.

use super::forward::Forward;
use super::scratch::layout;
use crate::error::Result;
use crate::kernels::Activation;

/// A named place in the model where a value can be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Tap {
    /// As in [`super::reference::Reference::forward`].
    pub name: String,
    /// `[rows, width]`.
    pub values: Vec<f32>,
}

impl Forward {
    /// Feeds one chunk step by step and reads every tap on the way.
    pub async fn trace(&mut self, slot: usize, ids: &[u32]) -> Result<Vec<Tap>> {
        self.stage(slot, ids)?;
        let rows = ids.len();
        let config = &self.config;
        let scratch = &self.prefill.scratch;
        let b = layout(config).b_first();
        let mut taps = Vec::new();
        let see = async |label: &str| {
            let (layer, kernel) = label.rsplit_once('.').unwrap_or(("", label));
            let index = layer.rsplit_once('.').and_then(|(_, i)| i.parse::<usize>().ok()).unwrap_or(0);
            let places: Vec<(&str, &Activation, std::ops::Range<usize>)> = match kernel {
                "embed" => vec![("embed", &scratch.x[0], 0..config.hidden)],
                "norm" => vec![("norm", &scratch.normed, 0..config.hidden)],
                "in_proj" => {
                    vec![("x", &scratch.xz, 0..config.inner), ("z", &scratch.xz, config.inner..2 * config.inner)]
                }
                "conv" => vec![("conv", &scratch.conv, 0..config.inner)],
                "dbc" => vec![
                    ("dt", &scratch.dbc, 0..config.dt_rank),
                    ("B", &scratch.dbc, b..b + config.state),
                    ("C", &scratch.dbc, b + config.state..b + 2 * config.state),
                ],
                "dt_proj" => vec![("delta", &scratch.dt, 0..config.inner)],
                "scan" => vec![("gated", &scratch.gated, 0..config.inner)],
                "out_proj" => vec![("resid", &scratch.x[(index + 1) % 2], 0..config.hidden)],
                _ => vec![],
            };
            for (name, activation, columns) in places {
                let name = if layer.is_empty() { name.to_owned() } else { format!("{layer}.{name}") };
                let values = activation.read(&self.gpu, rows, columns).await?;
                // A product in shards passes here once a shard; the last look counts.
                taps.retain(|tap: &Tap| tap.name != name);
                taps.push(Tap { name, values });
            }
            Ok(())
        };
        self.prefill.body.run_stepwise(rows, see).await?;
        Ok(taps)
    }
}
