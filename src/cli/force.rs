//! `--force`: existing outputs are never overwritten without it.

use clap::Args;
use peregrine::{Error, Result};
use std::path::Path;

/// Whether an existing output may be replaced.
#[derive(Args)]
pub struct ForceArgs {
    /// Overwrite the output if it exists
    #[arg(long)]
    force: bool,
}

impl ForceArgs {
    /// An error if the file exists and --force was not given; called before any work.
    pub fn check(&self, path: &Path) -> Result<()> {
        if !self.force && path.is_file() {
            let problem = "it already exists; --force overwrites it".to_owned();
            return Err(Error::BadOutput { path: path.to_owned(), problem });
        }
        Ok(())
    }

    /// [`ForceArgs::check`] for a command that may write back to its input file `from`.
    pub fn check_unless_input(&self, path: &Path, from: Option<&Path>) -> Result<()> {
        match from {
            Some(from) if same_file::is_same_file(path, from).unwrap_or(false) => Ok(()),
            _ => self.check(path),
        }
    }

    pub fn is_given(&self) -> bool {
        self.force
    }
}
