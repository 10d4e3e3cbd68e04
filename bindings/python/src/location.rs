//! Where a model is: compiled in, a path, or a name on the Hugging Face hub. Also the folder of compiled pipelines.

use peregrine::hub::ModelName;
use std::env::var_os;
use std::path::{Path, PathBuf};

pub enum Location {
    CompiledIn,
    Path(PathBuf),
    Hub(ModelName),
}

impl Location {
    /// What exists is a path, and so is what looks like one: `./x`, `x.gguf`, `x/y` where there is a folder `x`. Else `x/y` is a
    /// repository of the hub, and `x` one of the library's short names, if there is such a name.
    pub fn of(model: Option<PathBuf>) -> peregrine::Result<Self> {
        let Some(path) = model else { return Ok(Location::CompiledIn) };
        let name = path.to_str().filter(|name| !path.exists() && is_name(name)).map(str::to_owned);
        Ok(match name {
            Some(name) => Location::Hub(ModelName::parse(&name)?),
            None => Location::Path(path),
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

/// The folder for compiled pipelines, which the command line shares: `PEREGRINE_CACHE`, or one in the user's cache folder. An empty
/// value turns it off.
pub fn cache_dir() -> Option<PathBuf> {
    if let Some(dir) = var_os("PEREGRINE_CACHE") {
        return (!dir.is_empty()).then(|| dir.into());
    }
    let home = || var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let of_user = if cfg!(windows) {
        var_os("LOCALAPPDATA").map(PathBuf::from)
    } else if cfg!(target_vendor = "apple") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        let set = var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        set.or_else(|| home().map(|home| home.join(".cache")))
    };
    of_user.map(|dir| dir.join("peregrine"))
}
