//! Every named value of a chunk on its way through the layers, to be compared with the reference.

use super::forward::Forward;
use super::plans::Place;
use crate::error::Result;

/// A named place in the model where a value can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Tap {
    /// As in [`super::reference::Reference::forward`].
    pub name: String,
    /// `[rows, width]`.
    pub values: Vec<f32>,
}

impl Forward {
    /// Feeds one chunk kernel by kernel and reads every tap on the way.
    pub async fn trace(&mut self, slot: usize, ids: &[u32]) -> Result<Vec<Tap>> {
        self.stage(slot, ids)?;
        let rows = ids.len();
        let scratch = &self.prefill.scratch;
        let mut taps = Vec::new();
        let see = async |label: &str| {
            let (layer, kernel) = label.rsplit_once('.').unwrap_or(("", label));
            let index = layer.rsplit_once('.').and_then(|(_, i)| i.parse::<usize>().ok()).unwrap_or(0);
            for Place { name, activation, columns } in scratch.places(&self.config, index, kernel) {
                let name = if layer.is_empty() { name.to_owned() } else { format!("{layer}.{name}") };
                let values = activation.read(&self.gpu, rows, columns).await?;
                // A sharded product comes here once a shard; the last reading counts.
                taps.retain(|tap: &Tap| tap.name != name);
                taps.push(Tap { name, values });
            }
            Ok(())
        };
        self.prefill.body.run_stepwise(rows, see).await?;
        Ok(taps)
    }
}
