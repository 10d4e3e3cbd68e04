//! `peregrine quantize`: converts a checkpoint's matrices to another format.

use super::force::ForceArgs;
use super::interrupt::remove_files_on_signal;
use super::model::{CheckpointArgs, LoadBar};
use super::weight_format::FormatArg;
use clap::Args;
use peregrine::model::Bytes;
use peregrine::runtime::{Existing, ExportOptions};
use peregrine::vision::VisionCheckpoint;
use std::path::PathBuf;

#[derive(Args)]
pub struct Quantize {
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Matrix format: f32, f16, bf16, q8_0, q4_0, q4_K, q5_K, q6_K, and in a folder also nf4, fp4, int8. Matrices whose rows
    /// its blocks do not divide get another
    #[arg(short, long, value_name = "FORMAT", value_parser = FormatArg::parse)]
    weights: FormatArg,
    /// Output: a file if the name ends in .gguf, else a folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
}

impl Quantize {
    pub fn run(self) -> anyhow::Result<()> {
        remove_files_on_signal();
        self.weights.report();
        let existing = if self.force.is_given() { Existing::Replace } else { Existing::Refuse };
        let options = ExportOptions { weights: self.weights.format, existing };
        let path = self.checkpoint.locate()?;
        let mut bar = LoadBar::of("writing");
        let (before, bytes) = match &path {
            Some(path) if VisionCheckpoint::is_at(path) => {
                let checkpoint = VisionCheckpoint::open(path)?;
                let before = checkpoint.tensors()?.bytes();
                (before, checkpoint.export(&self.output, options, &mut |progress| bar.show(progress))?)
            }
            _ => {
                let checkpoint = self.checkpoint.open(path.as_deref())?;
                let before = checkpoint.tensors()?.bytes();
                (before, checkpoint.export(&self.output, options, &mut |progress| bar.show(progress))?)
            }
        };
        bar.finish();
        eprintln!("wrote {}: {} of weights converted to {}", self.output.display(), Bytes(before), Bytes(bytes));
        Ok(())
    }
}
