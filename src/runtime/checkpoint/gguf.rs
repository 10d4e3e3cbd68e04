//! A checkpoint from a GGUF file: the tokenizer, the chat template and EOS tokens of its keys.

use super::chat::{Chat, no_template};
use super::component::Component;
use super::defaults::Defaults;
use super::{Checkpoint, Location};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::format::gguf::Metadata;
use crate::model::{Config, UnusedKeys};
use crate::text::{GrammarCompiler, Template, TokenKind, Tokenizer, Vocabulary};
use std::io::Read;
use std::path::{Path, PathBuf};

impl Checkpoint {
    /// Opens a GGUF file; of a model in several parts, any part.
    pub(super) fn open_gguf(path: &Path) -> Result<Self> {
        let source = TensorSource::open_gguf(path)?;
        Self::from_gguf(source, Location::Gguf(path.to_owned()))
    }

    pub(super) fn from_gguf(source: TensorSource, location: Location) -> Result<Self> {
        let metadata = source.metadata().expect("a GGUF source has metadata");
        let config = Config::from_gguf(metadata, &source)?;
        let tokenizer = tokenizer(metadata, config.vocab)?;
        let chat = chat(metadata)?;
        let (label, eos) = (metadata.file().to_owned(), config.eos.clone());
        let (unused_keys, defaults) =
            (UnusedKeys::of_gguf(&config.architecture, metadata), Defaults::of_gguf(metadata));
        let source = source.into();
        let grammars = GrammarCompiler::default();
        let mut checkpoint =
            Checkpoint { label, source, config, unused_keys, tokenizer, chat, eos, defaults, location, grammars };
        checkpoint.add_end_of_turn();
        Ok(checkpoint)
    }
}

/// Names of special tokens: in GGUF keys and in chat templates.
pub(super) const TOKENS: [(&str, &str); 8] = [
    ("bos", "bos_token"),
    ("eos", "eos_token"),
    ("padding", "pad_token"),
    ("unknown", "unk_token"),
    // GGUF's spelling.
    ("seperator", "sep_token"),
    ("cls", "cls_token"),
    ("mask", "mask_token"),
    ("eot", "eot_token"),
];

fn tokenizer(metadata: &Metadata, rows: usize) -> Result<Component<Tokenizer>> {
    let file = metadata.file();
    let read = match vocabulary(metadata, rows)? {
        Ok(vocabulary) => vocabulary.to_json(file),
        Err(problem) => Err(Error::Tokenizer { file: file.to_owned(), problem }),
    };
    Ok(Component::of(read.and_then(|json| Tokenizer::from_json(file, json.to_string().as_bytes()))))
}

fn chat(metadata: &Metadata) -> Result<Chat> {
    let file = metadata.file();
    let texts = metadata.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let mut tokens = serde_json::Map::new();
    for (key, name) in TOKENS {
        let id = metadata.id(&format!("tokenizer.ggml.{key}_token_id"))?;
        if let Some(text) = id.and_then(|id| texts.get(id as usize)) {
            tokens.insert(name.to_owned(), text.as_str().into());
        }
    }
    let template = match metadata.text("tokenizer.chat_template")? {
        Some(source) => Component::of(Template::new(file, source)),
        None => {
            let named: Vec<&str> =
                metadata.texts("tokenizer.chat_templates")?.unwrap_or_default().iter().map(String::as_str).collect();
            let problem = no_template(&named, "tokenizer.chat_template");
            Component::Missing(Error::Template { file: file.to_owned(), problem })
        }
    };
    Ok(Chat { template, tokens })
}

/// The vocabulary that the keys describe; the inner error says why there is no usable one.
pub(in crate::runtime) fn vocabulary(metadata: &Metadata, rows: usize) -> Result<Result<Vocabulary, String>> {
    match metadata.text("tokenizer.ggml.model")? {
        Some("gpt2") => {}
        None | Some("no_vocab") => {
            return Ok(Err("it has no tokenizer; give the model's tokenizer.json with --tokenizer".to_owned()));
        }
        Some(other) => {
            return Ok(Err(format!(
                "it has a tokenizer of the kind {other:?}, supported is gpt2; give the model's tokenizer.json with --tokenizer"
            )));
        }
    }
    let bad = |problem: String| Error::BadGguf { file: metadata.file().to_owned(), problem };
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    if tokens.is_empty() || tokens.len() > rows {
        return Err(bad(format!("it has {} tokens, but rows for {rows}", tokens.len())));
    }
    let kinds = match metadata.wholes("tokenizer.ggml.token_type")? {
        None => vec![TokenKind::Normal; tokens.len()],
        Some(numbers) if numbers.len() == tokens.len() => {
            let kinds = numbers.iter().map(|n| {
                TokenKind::of_number(*n).ok_or_else(|| bad(format!("a token is of type {n}, known are 1 to 6")))
            });
            kinds.collect::<Result<_>>()?
        }
        Some(numbers) => return Err(bad(format!("it has {} tokens and {} token types", tokens.len(), numbers.len()))),
    };
    let added = |name: &str| -> Result<Option<u32>> {
        let adds = metadata.flag(&format!("tokenizer.ggml.add_{name}_token"))?.unwrap_or(false);
        let id = if adds { metadata.id(&format!("tokenizer.ggml.{name}_token_id"))? } else { None };
        Ok(id.filter(|id| (*id as usize) < tokens.len()))
    };
    Ok(Ok(Vocabulary {
        tokens: tokens.to_vec(),
        kinds,
        merges: metadata.texts("tokenizer.ggml.merges")?.unwrap_or_default().to_vec(),
        pre: metadata.text("tokenizer.ggml.pre")?.unwrap_or("default").to_owned(),
        around: [added("bos")?, added("eos")?],
    }))
}

/// Whether a file's name or its first bytes are those of a GGUF file.
pub(super) fn is_gguf(path: &Path) -> bool {
    let mut first = [0; 4];
    let read = |first: &mut [u8]| std::fs::File::open(path)?.read_exact(first);
    path.is_file() && (is_called_gguf(path) || (read(&mut first).is_ok() && &first == b"GGUF"))
}

pub(in crate::runtime) fn is_called_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// The only GGUF model of a folder without .safetensors files; `None` where there is no GGUF file.
pub(super) fn only_one_in(dir: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::unreadable(dir, e))?;
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    if names.iter().any(|path| path.extension().is_some_and(|end| end == "safetensors")) {
        return Ok(None);
    }
    // Of a model in several parts, only the first counts.
    names.retain(|path| is_called_gguf(path) && path.is_file() && !is_later_part(path));
    names.sort();
    if names.len() > 1 {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(Error::Unsupported {
            file: dir.display().to_string(),
            what: format!("a folder of {} GGUF models", names.len()),
            hint: format!("name one of them: {}", names.iter().map(name).collect::<Vec<_>>().join(", ")),
        });
    }
    Ok(names.pop())
}

/// Whether a file is named like `NAME-00002-of-00003.gguf`.
fn is_later_part(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut words = stem.rsplit('-');
    let number = |word: Option<&str>| word.filter(|word| word.len() == 5).and_then(|word| word.parse::<u32>().ok());
    let (count, of, part) = (number(words.next()), words.next(), number(words.next()));
    count.is_some() && of == Some("of") && part.is_some_and(|part| part > 1)
}
