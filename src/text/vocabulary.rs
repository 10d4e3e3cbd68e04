//! Conversion of a byte-level BPE between GGUF metadata and tokenizer.json. A GGUF file only names its pre-tokenizer; the rules
//! of each name are in this file.

use super::settings::post_processor;
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// Tokens, their types, merges, and the pre-tokenizer's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Spellings in the byte alphabet; added tokens are spelled as their text. The index is the id.
    pub tokens: Vec<String>,
    /// The type of each token.
    pub kinds: Vec<TokenKind>,
    /// Merge pairs, separated by a space.
    pub merges: Vec<String>,
    /// llama.cpp's name of the pre-tokenizer.
    pub pre: String,
    /// The tokens that are added before and after a text.
    pub around: [Option<u32>; 2],
}

/// The type of a token, as in GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal,
    /// A special token.
    Control,
    /// Text that is never split.
    UserDefined,
    /// An embedding row without a token.
    Unused,
}

impl TokenKind {
    /// GGUF's number of this type.
    pub fn number(self) -> i32 {
        match self {
            TokenKind::Normal => 1,
            TokenKind::Control => 3,
            TokenKind::UserDefined => 4,
            TokenKind::Unused => 5,
        }
    }

    /// The type with this GGUF number. The unknown token (2) counts as control, single bytes (6) as normal.
    pub fn of_number(number: u64) -> Option<Self> {
        match number {
            1 | 6 => Some(TokenKind::Normal),
            2 | 3 => Some(TokenKind::Control),
            4 => Some(TokenKind::UserDefined),
            5 => Some(TokenKind::Unused),
            _ => None,
        }
    }
}

/// llama.cpp's other names of GPT-2's pre-tokenizer.
const GPT_2: &[&str] = &[
    "gpt2",
    "phi-2",
    "jina-es",
    "jina-de",
    "jina-v1-en",
    "jina-v2-es",
    "jina-v2-de",
    "jina-v2-code",
    "roberta-bpe",
    "modern-bert",
    "gigachat",
    "a.x-4.0",
    "mellum",
    "jais",
    "trillion",
    "granite-docling",
];

/// The name in [`pre_tokenizers`] with the rules of llama.cpp's name `pre`.
fn canonical_name(pre: &str) -> &str {
    match pre {
        // llama.cpp's converter writes this for GPT-NeoX's tokenizer.
        "mpt" => "olmo",
        pre if GPT_2.contains(&pre) => "gpt-2",
        pre => pre,
    }
}

/// The supported pre-tokenizers by llama.cpp's names, each with its normalizer and pre-tokenizer rules. The first match names
/// the one of a tokenizer.json.
fn pre_tokenizers() -> [(&'static str, Value, Value); 4] {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let digits = json!({"type": "Digits", "individual_digits": false});
    let split =
        |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let threes = split("[0-9][0-9][0-9]");
    let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "pretokenizers": parts});
    let punctuation = json!({"type": "Punctuation", "behavior": "Contiguous"});
    // llama.cpp's default equals Falcon's, except for the backtick.
    let marks = split(r"[\p{P}\$\+<=>\^~\|]+");
    [
        ("falcon", Value::Null, sequence(vec![punctuation, byte_level.clone(), digits.clone(), threes.clone()])),
        ("gpt-2", Value::Null, byte_level.clone()),
        // GPT-NeoX's, which Mamba uses.
        ("olmo", json!({"type": "NFC"}), byte_level.clone()),
        ("default", Value::Null, sequence(vec![marks, byte_level, digits, threes])),
    ]
}

impl Vocabulary {
    /// Converts to a tokenizer.json. `file` is the name for messages.
    pub fn to_json(&self, file: &str) -> Result<Value> {
        let cut = pre_tokenizers().into_iter().find(|(name, ..)| *name == canonical_name(&self.pre));
        let Some((_, normalizer, pre_tokenizer)) = cut else {
            let known = pre_tokenizers().map(|(name, ..)| name).into_iter().chain(["mpt"]).chain(GPT_2.iter().copied());
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(Error::Tokenizer {
                file: file.to_owned(),
                problem: format!(
                    "unknown pre-tokenizer {:?}, supported are {known}; give the model's tokenizer.json with --tokenizer",
                    self.pre
                ),
            });
        };
        let entries = || self.tokens.iter().zip(&self.kinds).enumerate();
        let vocab = entries().filter(|(_, (_, kind))| **kind != TokenKind::Unused);
        let vocab: serde_json::Map<String, Value> = vocab.map(|(id, (token, _))| (token.clone(), id.into())).collect();
        let added = entries().filter(|(_, (_, kind))| matches!(kind, TokenKind::Control | TokenKind::UserDefined));
        let added: Vec<Value> = added
            .map(|(id, (token, kind))| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *kind == TokenKind::Control,
                })
            })
            .collect();
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": post_processor(self.around.map(|id| {
                let id = id?;
                Some((self.tokens.get(id as usize)?.clone(), u64::from(id)))
            })),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": self.merges,
            },
        }))
    }

    /// Converts a tokenizer.json for a model with `rows` embedding rows; `around` is left empty. `file` is the name for
    /// messages.
    pub fn from_json(file: &str, json: &Value, rows: usize) -> Result<Self> {
        let bad = |problem: String| Error::Tokenizer { file: file.to_owned(), problem };
        let fits = |(_, normalizer, pre): &(&str, Value, Value)| {
            json["normalizer"] == *normalizer && same(&json["pre_tokenizer"], pre)
        };
        let pre = pre_tokenizers().into_iter().find(fits).map(|(name, ..)| name.to_owned()).ok_or_else(|| {
            Error::Unsupported {
                file: file.to_owned(),
                what: "a tokenizer with this normalizer and pre_tokenizer in a GGUF file".to_owned(),
                hint: "those of Falcon Mamba, GPT-2 and GPT-NeoX are; write a folder instead".to_owned(),
            }
        })?;
        let mut tokens = vec![None; rows];
        let mut put = |id: Option<u64>, token: &str, kind: TokenKind| {
            // Skip tokens without an embedding row.
            if let Some(place) = id.and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get_mut(id)) {
                *place = Some((token.to_owned(), kind));
            }
        };
        let vocab = json["model"]["vocab"].as_object().ok_or_else(|| bad("it has no model.vocab".to_owned()))?;
        for (token, id) in vocab {
            put(id.as_u64(), token, TokenKind::Normal);
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let kind = if token["special"] == true { TokenKind::Control } else { TokenKind::UserDefined };
            put(token["id"].as_u64(), token["content"].as_str().unwrap_or_default(), kind);
        }
        let filled = tokens.into_iter().enumerate();
        let filled = filled.map(|(id, token)| token.unwrap_or_else(|| (format!("[PAD{id}]"), TokenKind::Unused)));
        let (tokens, kinds) = filled.unzip();
        let merges = json["model"]["merges"].as_array().into_iter().flatten();
        let merges = merges.map(|merge| match merge {
            Value::String(pair) => Some(pair.clone()),
            Value::Array(pair) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
            _ => None,
        });
        let merges =
            merges.collect::<Option<Vec<_>>>().ok_or_else(|| bad("a merge is not a pair of strings".to_owned()))?;
        Ok(Vocabulary { tokens, kinds, merges, pre, around: [None; 2] })
    }
}

/// Whether two pre-tokenizers are equal, ignoring settings that affect offsets only.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys()).filter(|key| *key != "trim_offsets");
            keys.into_iter().all(|key| same(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(pre: &str) -> Result<Value> {
        let tokens = ["a", "b"].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary {
            tokens,
            kinds: vec![TokenKind::Normal; 2],
            merges: vec![],
            pre: pre.to_owned(),
            around: [None, Some(1)],
        };
        vocabulary.to_json("here.gguf")
    }

    #[test]
    fn aliases_of_a_pre_tokenizer_are_accepted_and_unknown_names_rejected() {
        for (pre, known) in [("phi-2", "gpt-2"), ("roberta-bpe", "gpt-2"), ("gigachat", "gpt-2"), ("mpt", "olmo")] {
            assert_eq!(converted(pre).unwrap(), converted(known).unwrap(), "{pre}");
        }
        assert!(GPT_2.iter().all(|pre| converted(pre).is_ok()));
        for pre in ["llama-bpe", "qwen2", "dbrx", "smollm", "starcoder", ""] {
            let error = converted(pre).unwrap_err().to_string();
            assert!(error.contains(&format!("{pre:?}")) && error.contains("falcon, gpt-2, olmo"), "{error}");
        }
    }
}
