//! A folder of shaders that replace those compiled in: to try versions of a kernel without a rebuild.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whether this build reads shaders from a folder: debug builds do, and those with the feature `shader-folder`.
pub const READS_SHADERS: bool = cfg!(any(debug_assertions, feature = "shader-folder"));

/// The shader files of a folder, read when the device is opened, with the same paths as below `shaders/`. Files that it lacks are used
/// as compiled in.
#[derive(Clone)]
pub struct ShaderFolder {
    dir: PathBuf,
    texts: BTreeMap<String, String>,
}

impl ShaderFolder {
    /// Reads the folder that `PEREGRINE_SHADERS` names; an error in a build that cannot.
    pub(super) fn read(dir: &Path, reads_shaders: bool) -> Result<Self> {
        if !reads_shaders {
            let problem = "this build reads no shaders; debug builds do, and those with --features shader-folder";
            let (value, problem) = (dir.display().to_string(), problem.to_owned());
            return Err(Error::BadSwitch { switch: "PEREGRINE_SHADERS", value, problem });
        }
        let mut texts = BTreeMap::new();
        collect(dir, "", &mut texts)?;
        let library = dir.join("lib");
        if library.is_dir() {
            collect(&library, "lib/", &mut texts)?;
        }
        Ok(ShaderFolder { dir: dir.to_owned(), texts })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its files, by their paths below `shaders/`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// The text of a file, if the folder has it.
    pub(super) fn text(&self, file: &str) -> Option<&str> {
        self.texts.get(file).map(String::as_str)
    }
}

/// Omits the texts: [`Caps`](super::Caps) are printed in tests and errors.
impl std::fmt::Debug for ShaderFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files of {}", self.texts.len(), self.dir.display())
    }
}

fn collect(dir: &Path, prefix: &str, texts: &mut BTreeMap<String, String>) -> Result<()> {
    let bad = |path: &Path, problem: std::io::Error| Error::BadShaders { path: path.to_owned(), problem };
    for entry in std::fs::read_dir(dir).map_err(|e| bad(dir, e))? {
        let path = entry.map_err(|e| bad(dir, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".wgsl"));
        if let Some(name) = name {
            texts.insert(format!("{prefix}{name}"), std::fs::read_to_string(&path).map_err(|e| bad(&path, e))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_reads_no_shaders_refuses_the_switch() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ShaderFolder::read(dir.path(), true).is_ok());
        let refused = ShaderFolder::read(dir.path(), false).unwrap_err();
        assert!(matches!(refused, Error::BadSwitch { switch: "PEREGRINE_SHADERS", .. }), "{refused}");
        assert!(refused.to_string().contains("shader-folder"), "{refused}");
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        let file = dir.path().join("text.wgsl");
        std::fs::write(&file, b"\xff").unwrap();
        for (folder, named) in [(missing.as_path(), missing.as_path()), (dir.path(), file.as_path())] {
            let error = ShaderFolder::read(folder, true).unwrap_err();
            assert!(matches!(&error, Error::BadShaders { path, .. } if path == named), "{error}");
            assert!(error.to_string().contains(&named.display().to_string()), "{error}");
        }
    }
}
