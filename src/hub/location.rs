//! Where a model is that a user names by one text: a path, or a name on the hub.

use super::ModelName;
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder or a file.
    Path(PathBuf),
    /// On the hub.
    Hub(ModelName),
}

impl Location {
    /// What exists is a path, and so is what looks like one: `./x`, `x.gguf`, `x/y` where there is a folder `x`. Else `x/y` is a
    /// repository of the hub, and `x` a short name of [`SHORT_NAMES`](super::SHORT_NAMES), if it is one.
    pub fn of(model: &Path) -> Result<Self> {
        Ok(match model.to_str().filter(|name| !model.exists() && is_name(name)) {
            Some(name) => Location::Hub(ModelName::parse(name)?),
            None => Location::Path(model.to_owned()),
        })
    }
}

fn is_name(text: &str) -> bool {
    if ModelName::is_short(text) {
        return true;
    }
    let repo = text.split(['@', ':']).next().unwrap_or_default();
    let Some((owner, model)) = repo.split_once('/') else { return false };
    let plain = |part: &str| !part.is_empty() && !part.starts_with(['.', '~']);
    plain(owner) && plain(model) && !model.contains('/') && !model.ends_with(".gguf") && !Path::new(owner).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_the_hub_and_what_exists_or_looks_like_a_path_is_not() {
        for name in ["nobody/nothing", "falcon-mamba-7b", "nobody/nothing:Q4_K_M", "nobody/nothing@main"] {
            assert!(matches!(Location::of(Path::new(name)), Ok(Location::Hub(_))), "{name}");
        }
        let here = env!("CARGO_MANIFEST_DIR");
        for path in ["./nobody/nothing", "nobody", "tests/nothing", "nobody/x.gguf", "~/model", "a/b/c", "", here] {
            assert_eq!(Location::of(Path::new(path)).unwrap(), Location::Path(path.into()));
        }
    }
}
