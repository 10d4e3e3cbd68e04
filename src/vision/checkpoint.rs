//! A Vision Mamba as published: weights, config and preprocessing, from a folder or a file.

use super::Preprocess;
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input;
use crate::model::{Vim, VimTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The names of ImageNet's classes, a line each.
const IMAGENET: &str = include_str!("imagenet.txt");
const IMAGENET_CLASSES: usize = 1000;

/// A Vision Mamba's files. Opening maps the weights and reads the small ones.
pub struct VisionCheckpoint {
    label: String,
    source: TensorSource,
    vim: Vim,
    preprocess: Preprocess,
    /// The folder or file; `None` where it is compiled in.
    path: Option<PathBuf>,
    config: Option<Value>,
    preprocessor: Option<Vec<u8>>,
}

/// Reads a small file of a checkpoint by its name.
type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

impl VisionCheckpoint {
    /// Opens a folder (config.json and preprocessor_config.json where it has them, and its weights as safetensors or .pth), or a
    /// file of weights. Sizes come from the shapes of the tensors where no config says them; pictures are prepared as for the
    /// released models where no preprocessor_config.json says otherwise.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        if path.is_file() {
            let folder = path.parent().unwrap_or(Path::new(""));
            let opened = Self::assemble(label, TensorSource::open_file(path)?, folder, &read_in(folder))?;
            return Ok(VisionCheckpoint { path: Some(path.to_owned()), ..opened });
        }
        if !path.exists() {
            return Err(Error::ModelNotFound { path: path.to_owned(), near: None });
        }
        let opened = Self::assemble(label, TensorSource::open(path)?, path, &read_in(path))?;
        Ok(VisionCheckpoint { path: Some(path.to_owned()), ..opened })
    }

    /// Whether a path is of a Vision Mamba, as far as its config.json, or the name of a file or of the files in a folder without
    /// one, tells.
    pub fn is_at(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        let is_pickle = |path: &Path| path.extension().is_some_and(|ending| ending == "pth" || ending == "pt");
        if path.is_file() {
            return is_pickle(path);
        }
        match std::fs::read(path.join("config.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).is_ok_and(|config| Vim::claims(&config)),
            Err(_) => std::fs::read_dir(path)
                .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_pickle(&entry.path())))),
        }
    }

    /// The compiled-in model, vim-digits: it reads handwritten digits.
    #[cfg(feature = "embedded-model")]
    pub fn embedded() -> Result<Self> {
        let file = |name: &str| -> Option<&'static [u8]> {
            match name {
                "config.json" => Some(include_bytes!("../../models/vim-digits/config.json")),
                "preprocessor_config.json" => Some(include_bytes!("../../models/vim-digits/preprocessor_config.json")),
                _ => None,
            }
        };
        let weights: &'static [u8] = include_bytes!("../../models/vim-digits/model.safetensors");
        let source = TensorSource::from_bytes("vim-digits/model.safetensors", weights)?;
        let label = "vim-digits (compiled in)".to_owned();
        Self::assemble(label, source, Path::new("vim-digits"), &|name| Ok(file(name).map(<[u8]>::to_vec)))
    }

    fn assemble(label: String, source: TensorSource, folder: &Path, read: Read<'_>) -> Result<Self> {
        let name = |file: &str| folder.join(file).display().to_string();
        let config = read("config.json")?.map(|bytes| input::json(&name("config.json"), &bytes)).transpose()?;
        let said = config.as_ref().unwrap_or(&Value::Null);
        if config.is_some() && said.get("model_type").is_some() && !Vim::claims(said) {
            return Err(Error::Unsupported {
                file: name("config.json"),
                what: format!("model_type {} for pictures", input::shown(&said["model_type"])),
                hint: "supported is vim, Vision Mamba".to_owned(),
            });
        }
        let named = if config.is_some() { name("config.json") } else { source.label().to_owned() };
        let vim = Vim::from_json(&named, said, &source)?;
        let preprocessor = read("preprocessor_config.json")?;
        let preprocess = match &preprocessor {
            Some(bytes) => {
                let file = name("preprocessor_config.json");
                Preprocess::from_json(input::text(&file, bytes)?, &file)?
            }
            None => Preprocess::imagenet(vim.image[0]),
        };
        Ok(VisionCheckpoint { label, source, vim, preprocess, path: None, config, preprocessor })
    }

    /// Its name for people.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its sizes.
    pub fn vim(&self) -> &Vim {
        &self.vim
    }

    /// How it prepares pictures.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Its tensors, all of them found and their shapes checked.
    pub fn tensors(&self) -> Result<VimTensors<'_>> {
        VimTensors::find(&self.vim, &self.source)
    }

    /// The name of a class: by the config, else ImageNet's where there are as many classes, else its number.
    pub fn class_name(&self, class: usize) -> String {
        let imagenet = || IMAGENET.lines().nth(class).filter(|_| self.vim.classes == IMAGENET_CLASSES);
        match self.vim.labels.get(class).map(String::as_str).or_else(imagenet) {
            Some(label) => label.to_owned(),
            None => class.to_string(),
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    pub(super) fn preprocessor(&self) -> Option<&[u8]> {
        self.preprocessor.as_deref()
    }
}

fn read_in(folder: &Path) -> impl Fn(&str) -> Result<Option<Vec<u8>>> {
    move |name| input::read_if_present(&folder.join(name))
}
