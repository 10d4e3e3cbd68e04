//! One rule for outputs: what is there stays there, unless --force says otherwise.

use clap::Args;
use peregrine::{Error, Result};
use std::path::Path;

/// Whether an output may take the place of what is there.
#[derive(Args)]
pub struct ForceArgs {
    /// Replace the output if it is there already; without this it is never overwritten
    #[arg(long)]
    force: bool,
}

impl ForceArgs {
    /// Refuses, before any work, a file that is there.
    pub fn check(&self, path: &Path) -> Result<()> {
        if !self.force && path.is_file() {
            let problem = "it is there already; --force replaces it".to_owned();
            return Err(Error::BadOutput { path: path.to_owned(), problem });
        }
        Ok(())
    }

    /// The same for a command that goes on with what it has read `from`: that may be its output as well.
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
