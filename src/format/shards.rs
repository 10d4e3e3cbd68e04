//! Finds the files of a checkpoint folder that hold its tensors.

use crate::error::{Error, Result};
use crate::input;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const ENDING: &str = ".safetensors";

/// `model.safetensors`, else the files that an index names, else all parts of `NAME-00001-of-00003.safetensors` and the like,
/// else the only .safetensors file, else [`pickles`].
pub(super) fn of(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let names = names(dir)?;
    if let Some(index) = index(dir, &names)? {
        return indexed(dir, &index);
    }
    let mut files: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.ends_with(ENDING)).collect();
    // Files beside the model's own are ignored.
    let of_model: Vec<&str> = files.iter().copied().filter(|name| name.starts_with("model-")).collect();
    if files.len() > 1 && !of_model.is_empty() {
        files = of_model;
    }
    if names.iter().any(|name| is_pickle(name)) {
        // Beside a pickle, only files with such names hold the same weights.
        files.retain(|name| ["model", "weight", "consolidated"].iter().any(|word| name.contains(word)));
        if files.is_empty() {
            return pickles(dir, &names);
        }
    }
    if files.is_empty() {
        return Err(missing(dir, "model.safetensors"));
    }
    if let Some(first) = files.iter().find_map(|name| Numbered::of(name)) {
        let parts = first.all();
        if let Some(other) = files.iter().find(|name| !parts.iter().any(|part| part == *name)) {
            return Err(several(dir, &[parts[0].as_str(), other]));
        }
        if let Some(missing) = parts.iter().find(|part| !files.contains(&part.as_str())) {
            let (dir, missing, parts) = (dir.to_owned(), missing.clone(), first.count.into());
            return Err(Error::MissingShard { dir, missing, shards: parts });
        }
    } else if files.len() > 1 && !files[0].starts_with("model-") {
        return Err(several(dir, &files));
    }
    Ok(files.into_iter().map(|name| dir.join(name)).collect())
}

const PICKLE: &str = "pytorch_model.bin";
const PICKLE_INDEX: &str = "pytorch_model.bin.index.json";

/// Whether a file holds weights as a pickle; training programs write the excluded ones beside a model.
fn is_pickle(name: &str) -> bool {
    [PICKLE, PICKLE_INDEX].contains(&name) || is_checkpoint(name)
}

/// A .pth or .pt file, which is read with the feature `pickle` only.
fn is_checkpoint(name: &str) -> bool {
    let of_training = ["optimizer", "scheduler", "scaler", "rng_state"];
    cfg!(feature = "pickle")
        && [".pth", ".pt"].iter().any(|ending| name.ends_with(ending))
        && !of_training.iter().any(|word| name.starts_with(word))
}

#[cfg(not(feature = "pickle"))]
fn pickles(dir: &Path, _: &[String]) -> Result<Vec<PathBuf>> {
    Err(Error::PickleOnly { dir: dir.to_owned() })
}

/// The only .pth or .pt file, else pytorch_model.bin, else the files that its index names.
#[cfg(feature = "pickle")]
fn pickles(dir: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let found: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_checkpoint(name)).collect();
    match found[..] {
        [only] => Ok(vec![dir.join(only)]),
        [] if names.iter().any(|name| name == PICKLE) => Ok(vec![dir.join(PICKLE)]),
        [] => indexed(dir, &dir.join(PICKLE_INDEX)),
        _ => Err(Error::Unsupported {
            file: dir.display().to_string(),
            what: format!("a folder of several checkpoints ({})", found.join(", ")),
            hint: "keep one of them in it".to_owned(),
        }),
    }
}

/// Names of the files of a folder without hidden ones, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::unreadable(dir, e))?;
    let visible = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        (!name.starts_with('.') && entry.path().is_file()).then_some(name)
    };
    let mut names: Vec<String> = entries.filter_map(visible).collect();
    names.sort();
    Ok(names)
}

fn missing(dir: &Path, name: &str) -> Error {
    Error::IncompleteCheckpoint { dir: dir.to_owned(), missing: name.to_owned() }
}

fn several(dir: &Path, files: &[&str]) -> Error {
    Error::Unsupported {
        file: dir.display().to_string(),
        what: format!("a folder of several models ({})", files.join(", ")),
        hint: "keep one of them in it, or name the one to use model.safetensors".to_owned(),
    }
}

/// A name such as `model-00002-of-00003.safetensors`.
struct Numbered<'a> {
    /// The part before the numbers.
    name: &'a str,
    /// Digits of each number.
    digits: usize,
    count: u32,
}

impl<'a> Numbered<'a> {
    fn of(file: &'a str) -> Option<Self> {
        let stem = file.strip_suffix(ENDING)?;
        let (stem, count) = stem.rsplit_once("-of-")?;
        let (name, part) = stem.rsplit_once('-')?;
        let is_number = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(count) || !is_number(part) {
            return None;
        }
        let (digits, count) = (count.len(), count.parse().ok()?);
        (count > 0).then_some(Numbered { name, digits, count })
    }

    /// Names of all parts.
    fn all(&self) -> Vec<String> {
        let Numbered { name, digits, count } = self;
        (1..=*count).map(|i| format!("{name}-{i:0digits$}-of-{count:0digits$}{ENDING}")).collect()
    }
}

/// The index of a folder: `model.safetensors.index.json`, else the only index.
fn index(dir: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    const USUAL: &str = "model.safetensors.index.json";
    let is_index = |name: &&String| name.contains(".safetensors.index") && name.ends_with(".json");
    let found: Vec<&String> = names.iter().filter(is_index).collect();
    match found[..] {
        [] => Ok(None),
        [only] => Ok(Some(dir.join(only))),
        _ if found.iter().any(|name| *name == USUAL) => Ok(Some(dir.join(USUAL))),
        _ => Err(several(dir, &found.iter().map(|name| name.as_str()).collect::<Vec<_>>())),
    }
}

/// The files that an index names. Links are followed (the Hugging Face cache consists of links), but a name may not leave the
/// folder.
fn indexed(dir: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let label = index.display().to_string();
    let bad = |problem: String| Error::BadJson { file: label.clone(), problem };
    let json = input::json(&label, &std::fs::read(index).map_err(|e| Error::unreadable(index, e))?)?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| bad("it has no weight_map of tensor names to files".to_owned()))?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        let shown = input::shown(value);
        let name = value.as_str().ok_or_else(|| bad(format!("weight_map names {shown}, which is not a file name")))?;
        let inside = !name.is_empty()
            && !name.contains(['\\', ':'])
            && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(Error::UnsafeShard { index: label, shard: name.to_owned() });
        }
        names.insert(name);
    }
    if names.is_empty() {
        return Err(bad("its weight_map is empty".to_owned()));
    }
    let parts = names.len() as u64;
    match names.iter().find(|name| !dir.join(name).exists()) {
        None => Ok(names.into_iter().map(|name| dir.join(name)).collect()),
        Some(name) if parts == 1 => Err(missing(dir, name)),
        Some(name) => Err(Error::MissingShard { dir: dir.to_owned(), missing: (*name).to_owned(), shards: parts }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the files of a folder that holds empty files with these names.
    fn found(files: &[&str]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let json = "{\"weight_map\": {\"a\": \"x-1.safetensors\", \"b\": \"x-2.safetensors\"}}";
            std::fs::write(dir.path().join(name), if name.ends_with(".json") { json } else { "" }).unwrap();
        }
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        match of(dir.path()) {
            Ok(paths) => Ok(paths.into_iter().map(name).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_folders_tensors_are_found_whatever_their_files_are_called() {
        let one =
            ["weights.safetensors", "model.fp16.safetensors", "consolidated.safetensors", "pytorch_model.safetensors"];
        for name in one {
            assert_eq!(found(&[name, "config.json", "notes.txt", ".hidden.safetensors"]).unwrap(), [name]);
        }
        assert_eq!(found(&["model.safetensors", "model.fp16.safetensors"]).unwrap(), ["model.safetensors"]);
        let parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(found(&parts).unwrap(), parts);
        assert_eq!(found(&[parts[0], parts[1], "adapter_model.safetensors"]).unwrap(), parts);
        let beside = ["pytorch_model.bin", "pytorch_model.safetensors", "expected.safetensors"];
        assert_eq!(found(&beside).unwrap(), ["pytorch_model.safetensors"]);
        if cfg!(feature = "pickle") {
            assert_eq!(found(&[beside[0], beside[2]]).unwrap(), [beside[0]]);
            assert_eq!(found(&["vim.pth", "optimizer.pt", beside[0], beside[2]]).unwrap(), ["vim.pth"]);
            assert_eq!(found(&["vim.pth", "model.fp16.safetensors"]).unwrap(), ["model.fp16.safetensors"]);
            assert!(found(&["a.pth", "b.pt"]).unwrap_err().contains("several checkpoints"));
        } else {
            assert!(found(&[beside[0], beside[2]]).unwrap_err().contains("holds only pytorch_model.bin"));
        }
        let others = ["w-1-of-2.safetensors", "w-2-of-2.safetensors"];
        assert_eq!(found(&others).unwrap(), others);
        let indexed = ["x-1.safetensors", "x-2.safetensors"];
        for index in ["model.safetensors.index.json", "w.safetensors.index.json", "model.safetensors.index.fp16.json"] {
            assert_eq!(found(&[indexed[0], indexed[1], "y.safetensors", index]).unwrap(), indexed, "{index}");
        }
    }

    #[test]
    fn shards_are_counted_and_several_models_rejected() {
        let numbered = |i: u32| format!("model-{i:05}-of-00003.safetensors");
        for (left, missing) in [([1, 2], 3), ([1, 3], 2), ([2, 3], 1)] {
            let said = found(&left.map(numbered).each_ref().map(String::as_str)).unwrap_err();
            assert!(said.contains(&numbered(missing)) && said.contains("has 3 shards"), "{said}");
        }
        for files in [
            &["a.safetensors", "b.safetensors"][..],
            &["a-00001-of-00001.safetensors", "b-00001-of-00001.safetensors"],
            &[
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model-00001-of-00003.safetensors",
            ],
            &["a.safetensors.index.json", "b.safetensors.index.json"],
        ] {
            let said = found(files).unwrap_err();
            assert!(said.contains("several models"), "{files:?}: {said}");
        }
        assert!(
            found(&["x-1.safetensors", "model.safetensors.index.json"]).unwrap_err().contains("no x-2.safetensors")
        );
        assert!(found(&["config.json"]).unwrap_err().contains("no model.safetensors"));
    }
}
