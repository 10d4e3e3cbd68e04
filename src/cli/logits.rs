//! `peregrine logits`: the model's logits for given token ids, as a safetensors file, to compare peregrine with other runtimes.

use super::exit::usage_error;
use super::force::ForceArgs;
use super::interrupt::remove_files_on_signal;
use super::model::{ModelArgs, load_forward};
use anyhow::{Context, bail};
use clap::Args;
use peregrine::format::safetensors_head;
use peregrine::output::AtomicFile;
use peregrine::{Error, model};
use std::path::PathBuf;

#[derive(Args)]
#[command(group(clap::ArgGroup::new("input").required(true).args(["ids", "ids_file"])))]
pub struct Logits {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids separated by commas
    #[arg(long, value_name = "1,2,3", allow_hyphen_values = true)]
    ids: Option<String>,
    /// File of token ids separated by commas or white space
    #[arg(long, value_name = "FILE")]
    ids_file: Option<PathBuf>,
    /// Also write the recurrent states: conv_state.{layer} [D, K-1], oldest first, and ssm_state.{layer} [D, N]
    #[arg(long)]
    states: bool,
    /// Output file: tensor `logits` [ids, vocabulary], F32
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
}

impl Logits {
    pub fn run(self) -> anyhow::Result<()> {
        remove_files_on_signal();
        let ids = self.parse_ids()?;
        self.force.check(&self.output)?;
        let checkpoint = self.model.checkpoint()?;
        let config = checkpoint.config().clone();
        // Fail before any work on an unwritable output or an id out of range.
        let mut file = AtomicFile::create(&self.output)?;
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= config.vocab) {
            return Err(Error::IdOutOfRange { id: *id, at, vocab: config.vocab }.into());
        }
        let gpu = self.model.device.open(self.model.verbose)?;
        let mut forward = load_forward(&gpu, &checkpoint, self.model.options(), self.model.verbose)?;

        let mut tensors = vec![("logits".to_owned(), [ids.len(), config.vocab])];
        if self.states {
            for model::StateTensor { layer, name, shape: [rows, channels], .. } in config.state_layout().tensors() {
                tensors.push((format!("{name}_state.{layer}"), [*channels, *rows]));
            }
        }
        file.write(&header(&tensors))?;
        let rows = |values: &[f32]| file.write(bytemuck::cast_slice(values));
        pollster::block_on(forward.prefill_logits(0, &ids, model::Logits::All, rows))?;
        if self.states {
            let state = pollster::block_on(forward.state().read(0, forward.version(0)))?;
            for (tensor, values) in state.tensors() {
                file.write(bytemuck::cast_slice(&channels_first(values, tensor.shape[1])))?;
            }
        }
        file.commit()?;
        eprintln!("wrote the logits of {} tokens to {}", ids.len(), self.output.display());
        Ok(())
    }

    fn parse_ids(&self) -> anyhow::Result<Vec<u32>> {
        let text = match (&self.ids, &self.ids_file) {
            (Some(ids), _) => ids.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            (None, None) => bail!("give --ids or --ids-file"),
        };
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let ids = words.map(|word| word.parse().map_err(|_| usage_error(format!("{word:?} is not a token id"))));
        let ids: Vec<u32> = ids.collect::<anyhow::Result<_>>()?;
        if ids.is_empty() {
            return Err(usage_error("no token ids were given"));
        }
        Ok(ids)
    }
}

/// The header of a safetensors file with these F32 matrices in this order.
fn header(tensors: &[(String, [usize; 2])]) -> Vec<u8> {
    let mut at = 0;
    let entries = tensors.iter().map(|(name, shape)| {
        let first = at;
        at += shape[0] * shape[1] * size_of::<f32>();
        (name.clone(), serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [first, at] }))
    });
    safetensors_head(entries.collect())
}

/// Transposes `[K, D]` to `[D, K]`.
fn channels_first(values: &[f32], channels: usize) -> Vec<f32> {
    (0..channels).flat_map(|c| values.iter().skip(c).step_by(channels).copied()).collect()
}
