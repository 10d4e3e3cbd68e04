//! A byte-level BPE as GGUF files have it, and as a tokenizer.json has it. A GGUF file only names how text is cut before the
//! merges; what a name stands for is written down here.

use super::settings::post_processor;
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// Tokens, their kinds, merges, and the name of how text is cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Spelled in the byte alphabet, but for added tokens, which stand for their text. The index is the id.
    pub tokens: Vec<String>,
    /// A kind for each token.
    pub kinds: Vec<TokenKind>,
    /// Pairs with a space between.
    pub merges: Vec<String>,
    /// llama.cpp's name of how text is cut.
    pub pre: String,
    /// The tokens that a text begins and ends with.
    pub around: [Option<u32>; 2],
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// A mark of structure.
    Control,
    /// A text that is never cut.
    UserDefined,
    /// None: a row of the model without a token.
    Unused,
}

impl TokenKind {
    /// The number that GGUF files have for it.
    pub fn number(self) -> i32 {
        match self {
            TokenKind::Normal => 1,
            TokenKind::Control => 3,
            TokenKind::UserDefined => 4,
            TokenKind::Unused => 5,
        }
    }

    /// The kind of a number. The unknown token (2) is a mark as well; single bytes (6) are what they stand for.
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

/// Other names of GPT-2's cut in llama.cpp.
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

/// The name, of those in [`cuts`], that a name of llama.cpp's cuts as.
fn known_as(pre: &str) -> &str {
    match pre {
        // What its converter writes for GPT-NeoX's tokenizer.
        "mpt" => "olmo",
        pre if GPT_2.contains(&pre) => "gpt-2",
        pre => pre,
    }
}

/// The ways of cutting text that are known, by llama.cpp's names, each with its normalizer and pre-tokenizer.
/// The first that fits names a tokenizer.json.
fn cuts() -> [(&'static str, Value, Value); 4] {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let digits = json!({"type": "Digits", "individual_digits": false});
    let split =
        |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let threes = split("[0-9][0-9][0-9]");
    let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "pretokenizers": parts});
    let punctuation = json!({"type": "Punctuation", "behavior": "Contiguous"});
    // llama.cpp's own default cuts as Falcon does, but for the backtick.
    let marks = split(r"[\p{P}\$\+<=>\^~\|]+");
    [
        ("falcon", Value::Null, sequence(vec![punctuation, byte_level.clone(), digits.clone(), threes.clone()])),
        ("gpt-2", Value::Null, byte_level.clone()),
        // GPT-NeoX's, which Mamba has.
        ("olmo", json!({"type": "NFC"}), byte_level.clone()),
        ("default", Value::Null, sequence(vec![marks, byte_level, digits, threes])),
    ]
}

impl Vocabulary {
    /// The same as a tokenizer.json. `file` is the name for messages.
    pub fn to_json(&self, file: &str) -> Result<Value> {
        let cut = cuts().into_iter().find(|(name, ..)| *name == known_as(&self.pre));
        let Some((_, normalizer, pre_tokenizer)) = cut else {
            let known = cuts().map(|(name, ..)| name).into_iter().chain(["mpt"]).chain(GPT_2.iter().copied());
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(Error::Tokenizer {
                file: file.to_owned(),
                problem: format!(
                    "it cuts text as {:?}, known are {known}; give the model's tokenizer.json with --tokenizer",
                    self.pre
                ),
            });
        };
        let pieces = || self.tokens.iter().zip(&self.kinds).enumerate();
        let vocab = pieces().filter(|(_, (_, kind))| **kind != TokenKind::Unused);
        let vocab: serde_json::Map<String, Value> = vocab.map(|(id, (token, _))| (token.clone(), id.into())).collect();
        let added = pieces().filter(|(_, (_, kind))| matches!(kind, TokenKind::Control | TokenKind::UserDefined));
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

    /// The same as a GGUF file has it, of a tokenizer.json and a model of so many rows, but for what a text begins and ends with.
    /// `file` is the name for messages.
    pub fn from_json(file: &str, json: &Value, rows: usize) -> Result<Self> {
        let bad = |problem: String| Error::Tokenizer { file: file.to_owned(), problem };
        let fits = |(_, normalizer, pre): &(&str, Value, Value)| {
            json["normalizer"] == *normalizer && same(&json["pre_tokenizer"], pre)
        };
        let pre =
            cuts().into_iter().find(fits).map(|(name, ..)| name.to_owned()).ok_or_else(|| Error::Unsupported {
                file: file.to_owned(),
                what: "a tokenizer with this normalizer and pre_tokenizer in a GGUF file".to_owned(),
                hint: "those of Falcon Mamba, GPT-2 and GPT-NeoX are; write a folder instead".to_owned(),
            })?;
        let mut tokens = vec![None; rows];
        let mut put = |id: Option<u64>, token: &str, kind: TokenKind| {
            // Tokens that the model has no row for cannot be used.
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
        let merges = merges.collect::<Option<Vec<_>>>().ok_or_else(|| bad("a merge is no pair of texts".to_owned()))?;
        Ok(Vocabulary { tokens, kinds, merges, pre, around: [None; 2] })
    }
}

/// Whether two pre-tokenizers cut alike: what concerns offsets alone does not count.
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

    fn cut_as(pre: &str) -> Result<Value> {
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
    fn names_that_cut_alike_are_taken_and_others_refused() {
        for (pre, known) in [("phi-2", "gpt-2"), ("roberta-bpe", "gpt-2"), ("gigachat", "gpt-2"), ("mpt", "olmo")] {
            assert_eq!(cut_as(pre).unwrap(), cut_as(known).unwrap(), "{pre}");
        }
        assert!(GPT_2.iter().all(|pre| cut_as(pre).is_ok()));
        for pre in ["llama-bpe", "qwen2", "dbrx", "smollm", "starcoder", ""] {
            let error = cut_as(pre).unwrap_err().to_string();
            assert!(error.contains(&format!("{pre:?}")) && error.contains("falcon, gpt-2, olmo"), "{error}");
        }
    }
}
