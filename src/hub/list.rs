//! What the cache holds.

use super::cache::RepoCache;
use super::choose::{PREFERRED, choose, gguf_models, has_quant};
use super::{Choice, opened, weights};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// A model in the cache, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// The name that `-hf` takes.
    pub name: String,
    /// The repository.
    pub repo: String,
    /// The commit; empty where no file of a model is complete.
    pub commit: String,
    /// Branches and tags that were this commit at the last download.
    pub refs: Vec<String>,
    /// The kind of its files.
    pub format: Format,
    /// Bytes of its files with weights.
    pub bytes: u64,
    /// What `Checkpoint::open` takes; `None` for an unfinished download.
    pub path: Option<PathBuf>,
}

/// The kind of a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A folder with .safetensors files.
    Safetensors,
    /// A pickle of PyTorch.
    Pickle,
    /// A GGUF file, with its quantization where the name says it.
    Gguf(Option<&'static str>),
    /// A download that is not complete.
    Unfinished,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Format::Safetensors => f.write_str("safetensors"),
            Format::Pickle => f.write_str("pickle"),
            Format::Gguf(None) => f.write_str("GGUF"),
            Format::Gguf(Some(quant)) => write!(f, "GGUF {quant}"),
            Format::Unfinished => f.write_str("unfinished"),
        }
    }
}

/// All models of a cache, by repository.
pub(super) fn all(root: &Path) -> Result<Vec<CachedModel>> {
    let mut models = vec![];
    for (repo, cache) in RepoCache::all(root)? {
        let refs = cache.refs();
        for commit in cache.commits() {
            let named = refs.iter().filter(|(_, of)| *of == commit).map(|(name, _)| name.clone());
            let seen = Snapshot { repo: &repo, commit: &commit, refs: named.collect(), dir: cache.snapshot(&commit) };
            models.extend(seen.models(&cache.files(&commit)));
        }
        let unfinished = cache.unfinished_bytes();
        if unfinished > 0 {
            let (name, commit, format) = (repo.clone(), String::new(), Format::Unfinished);
            models.push(CachedModel { name, repo, commit, refs: vec![], format, bytes: unfinished, path: None });
        }
    }
    Ok(models)
}

struct Snapshot<'a> {
    repo: &'a str,
    commit: &'a str,
    refs: Vec<String>,
    dir: PathBuf,
}

impl Snapshot<'_> {
    /// The folder as one model, and each GGUF model.
    fn models(&self, files: &[String]) -> Vec<CachedModel> {
        let ggufs = gguf_models(files).into_iter().map(|file| {
            let quant = PREFERRED.into_iter().find(|quant| has_quant(file, quant));
            (Choice::File(file.to_owned()), Format::Gguf(quant))
        });
        let folder = match choose(files, &Choice::Default) {
            Ok(chosen) if chosen.small.is_empty() => None,
            Ok(_) if files.iter().any(|file| file.ends_with(".safetensors")) => Some(Format::Safetensors),
            Ok(_) => Some(Format::Pickle),
            Err(_) => None,
        };
        let folder = folder.map(|format| (Choice::Default, format));
        folder.into_iter().chain(ggufs).filter_map(|(choice, format)| self.model(files, choice, format)).collect()
    }

    /// A model whose files are all there.
    fn model(&self, files: &[String], choice: Choice, format: Format) -> Option<CachedModel> {
        let chosen = choose(files, &choice).ok()?;
        let weights = weights(&self.dir, &chosen.weights).ok()?;
        let sizes: Option<Vec<u64>> =
            weights.iter().map(|file| Some(std::fs::metadata(self.dir.join(file)).ok()?.len())).collect();
        let at = match self.refs.iter().any(|name| name == "main") {
            true => String::new(),
            false => format!("@{}", self.refs.first().map_or(self.commit, String::as_str)),
        };
        let file = match choice {
            Choice::File(file) => format!(":{file}"),
            _ => String::new(),
        };
        Some(CachedModel {
            name: format!("{}{at}{file}", self.repo),
            repo: self.repo.to_owned(),
            commit: self.commit.to_owned(),
            refs: self.refs.clone(),
            format,
            bytes: sizes?.iter().sum(),
            path: Some(opened(&self.dir, &chosen)),
        })
    }
}
