//! Text to ids and back, by a checkpoint's tokenizer.json. Byte-level BPE, as all models of the Mamba family have it.

use super::growth::Growth;
use crate::error::{Error, Result};
use crate::input;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// What becomes of text that spells a special token, such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// It becomes that token. For templates.
    Parse,
    /// It stays the letters that it is. For whatever a user types.
    Literal,
}

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    file: String,
    growth: Growth,
    /// Behind a lock because how specials are taken is a setting of the tokenizer and not of the call.
    inner: Mutex<tokenizers::Tokenizer>,
    bytes: HashMap<u32, Vec<u8>>,
    special: HashSet<u32>,
    special_texts: Vec<String>,
}

impl Tokenizer {
    /// Reads a tokenizer.json; `file` is its name for messages.
    pub fn from_json(file: &str, json: &[u8]) -> Result<Self> {
        let bad = |problem: String| Error::Tokenizer { file: file.to_owned(), problem };
        let json = input::text(file, json)?.as_bytes();
        // The tokenizers crate panics at some malformed files: their syntax and the parts that matter are looked at first,
        // and a panic that is left becomes an error.
        let value: Value = serde_json::from_slice(json).map_err(|e| bad(format!("not a tokenizer: {e}")))?;
        if value["model"]["type"].as_str().is_some_and(|kind| kind != "BPE") || value["decoder"]["type"] != "ByteLevel"
        {
            return Err(Error::Unsupported {
                file: file.to_owned(),
                what: format!("a {} tokenizer with a {} decoder", value["model"]["type"], value["decoder"]["type"]),
                hint: "the Mamba family uses byte-level BPE".to_owned(),
            });
        }
        // The added tokens are normalized when they are read.
        let growth = Growth::of(&value);
        let added = value["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let bytes = added.iter().filter_map(|token| token["content"].as_str()).map(str::len).sum();
        check_growth(file, growth, (added.len(), bytes))?;
        let mut inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|_| bad("not a tokenizer: its parts do not fit together".to_owned()))?
            .map_err(|e| bad(format!("not a tokenizer: {e}")))?;
        // A file may ask for texts to be cut off or filled up, to any length.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        let byte_of = byte_alphabet();
        let added = inner.get_added_tokens_decoder();
        let mut bytes = HashMap::new();
        for (token, id) in inner.get_vocab(false) {
            let spelled: Option<Vec<u8>> = token.chars().map(|c| byte_of.get(&c).copied()).collect();
            // A token outside of the byte alphabet stands for its own text.
            bytes.insert(id, spelled.unwrap_or_else(|| token.into_bytes()));
        }
        for (id, token) in &added {
            bytes.insert(*id, token.content.clone().into_bytes());
        }
        let specials = added.iter().filter(|(_, token)| token.special);
        let (special, special_texts) = specials.map(|(id, token)| (*id, token.content.clone())).unzip();
        let (file, inner) = (file.to_owned(), Mutex::new(inner));
        Ok(Tokenizer { file, growth, inner, bytes, special, special_texts })
    }

    /// The ids of a text. Nothing is prepended or appended.
    ///
    /// Fails where the rules of the tokenizer can make a text of this length many times as long.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        check_growth(&self.file, self.growth, (1, text.len()))?;
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.set_encode_special_tokens(specials == Specials::Literal);
        let encoding = inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::Tokenizer { file: self.file.clone(), problem: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The bytes that a token stands for; none for an id without a token. They need not be whole characters.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(&id).map(Vec::as_slice)
    }

    /// Whether the token is special: a mark of structure rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// How the special tokens are spelled.
    pub fn special_texts(&self) -> &[String] {
        &self.special_texts
    }

    /// The id of a token by its spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).token_to_id(token)
    }

    /// The text of ids, special tokens included; broken characters become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id).unwrap_or_default()).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Refuses what could become much longer before it is cut: so many texts, of so many bytes together.
fn check_growth(file: &str, growth: Growth, (texts, bytes): (usize, usize)) -> Result<()> {
    let Some(most) = growth.too_much(texts, bytes) else { return Ok(()) };
    let problem = format!("its normalizer can make {most} bytes of a text of {bytes}; this file is not to be trusted");
    Err(Error::Tokenizer { file: file.to_owned(), problem })
}

/// The alphabet of GPT-2's byte-level BPE: which character stands for which byte. Printable bytes stand for themselves, the
/// others follow from U+0100 on.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|b| !printable(*b));
    let shifted = others.zip(0x100u32..).map(|(b, c)| (char::from_u32(c).expect("below the surrogates"), b));
    (0..=255u8).filter(|b| printable(*b)).map(|b| (char::from(b), b)).chain(shifted).collect()
}
