//! Text to token ids and back, with a checkpoint's tokenizer.json: byte-level BPE, which all Mamba models use.

use super::expansion::ExpansionBound;
use super::settings::TokenizerSettings;
use crate::error::{Error, Result};
use crate::input;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use tokenizers::{Encoding, Token};

/// How text that spells a special token, such as `<|im_end|>`, is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// As that token. For templates.
    Parse,
    /// As ordinary text. For user input.
    Literal,
}

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    file: String,
    expansion: ExpansionBound,
    /// Behind a lock because the handling of special tokens is a setting of the tokenizer, not an argument.
    inner: Mutex<tokenizers::Tokenizer>,
    bytes: HashMap<u32, Vec<u8>>,
    special: HashSet<u32>,
    special_texts: Vec<String>,
    /// Ids that the post-processor adds before and after a text.
    around: [Vec<u32>; 2],
    /// Whether special tokens are matched in normalized text, where other spellings can become them too.
    normalizes_specials: bool,
}

impl Tokenizer {
    /// Reads a tokenizer.json; `file` is its name for messages.
    pub fn from_json(file: &str, json: &[u8]) -> Result<Self> {
        Self::from_json_with(file, json, &TokenizerSettings::default())
    }

    /// Reads a tokenizer.json, completed by `settings`.
    pub fn from_json_with(file: &str, json: &[u8], settings: &TokenizerSettings) -> Result<Self> {
        let bad = |problem: String| Error::Tokenizer { file: file.to_owned(), problem };
        let json = input::text(file, json)?.as_bytes();
        // The tokenizers crate panics on some malformed files: check the syntax and the relevant fields first, and turn any
        // other panic into an error.
        let mut value: Value = serde_json::from_slice(json).map_err(|e| bad(format!("not a tokenizer: {e}")))?;
        if value["model"]["type"].as_str().is_some_and(|kind| kind != "BPE") || value["decoder"]["type"] != "ByteLevel"
        {
            return Err(Error::Unsupported {
                file: file.to_owned(),
                what: format!("a {} tokenizer with a {} decoder", value["model"]["type"], value["decoder"]["type"]),
                hint: "the Mamba family uses byte-level BPE".to_owned(),
            });
        }
        let completed = settings.complete(&mut value).then(|| value.to_string());
        let json = completed.as_ref().map_or(json, String::as_bytes);
        // Loading normalizes the added tokens.
        let expansion = ExpansionBound::of(&value);
        let added = value["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let bytes = added.iter().filter_map(|token| token["content"].as_str()).map(str::len).sum();
        check_expansion(file, expansion, (added.len(), bytes))?;
        let mut inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|_| bad("not a tokenizer: its fields are inconsistent".to_owned()))?
            .map_err(|e| bad(format!("not a tokenizer: {e}")))?;
        // The file may ask for truncation or padding to any length.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        let around = std::panic::catch_unwind(AssertUnwindSafe(|| around(&inner)))
            .ok()
            .flatten()
            .ok_or_else(|| bad("its post_processor does more than add tokens before and after a text".to_owned()))?;
        let byte_of = byte_alphabet();
        let added = inner.get_added_tokens_decoder();
        let mut bytes = HashMap::new();
        for (token, id) in inner.get_vocab(false) {
            let spelled: Option<Vec<u8>> = token.chars().map(|c| byte_of.get(&c).copied()).collect();
            // A token outside the byte alphabet means its own text.
            bytes.insert(id, spelled.unwrap_or_else(|| token.into_bytes()));
        }
        for (id, token) in &added {
            bytes.insert(*id, token.content.clone().into_bytes());
        }
        let normalizes_specials =
            inner.get_normalizer().is_some() && added.values().any(|token| token.special && token.normalized);
        let specials = added.iter().filter(|(_, token)| token.special);
        let (special, special_texts) = specials.map(|(id, token)| (*id, token.content.clone())).unzip();
        let (file, inner) = (file.to_owned(), Mutex::new(inner));
        Ok(Tokenizer { file, expansion, inner, bytes, special, special_texts, around, normalizes_specials })
    }

    /// The ids of a whole text, with the BOS and EOS tokens that the tokenizer adds. Not for a part of a text, nor for a
    /// conversation, whose template writes these tokens itself.
    pub fn encode_text(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let [before, after] = &self.around;
        Ok([before.as_slice(), &self.encode(text, specials)?, after].concat())
    }

    /// The ids that the tokenizer adds before and after a text, such as BOS and EOS.
    pub fn around(&self) -> &[Vec<u32>; 2] {
        &self.around
    }

    /// The ids of a text, without BOS and EOS.
    ///
    /// Fails if the tokenizer's normalizer could expand a text of this length many times.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        check_expansion(&self.file, self.expansion, (1, text.len()))?;
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.set_encode_special_tokens(specials == Specials::Literal);
        let encoding = inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::Tokenizer { file: self.file.clone(), problem: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of text that a template wrote, or that spells no special token: as with [`Specials::Parse`], except that
    /// spellings that become special tokens by normalization stay text.
    pub fn encode_written(&self, text: &str) -> Result<Vec<u32>> {
        if !self.normalizes_specials {
            return self.encode(text, Specials::Parse);
        }
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let longest = |at: usize| {
                let here = self.special_texts.iter().filter(|s| !s.is_empty() && rest[at..].starts_with(s.as_str()));
                here.map(|special| at..at + special.len()).max_by_key(|mark| mark.end)
            };
            let mark = rest.char_indices().find_map(|(at, _)| longest(at)).unwrap_or(rest.len()..rest.len());
            ids.extend(self.encode(&rest[..mark.start], Specials::Literal)?);
            ids.extend(self.encode(&rest[mark.clone()], Specials::Parse)?);
            rest = &rest[mark.end..];
        }
        Ok(ids)
    }

    /// Its file's name, for messages.
    #[cfg(feature = "grammar")]
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The bytes of a token, possibly part of a character; `None` if no token has this id.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(&id).map(Vec::as_slice)
    }

    /// Whether a token is special: structure rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The spellings of the special tokens.
    pub fn special_texts(&self) -> &[String] {
        &self.special_texts
    }

    /// The id of the token with this spelling.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).token_to_id(token)
    }

    /// The text of ids, with special tokens; incomplete characters become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id).unwrap_or_default()).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The ids that the post-processor adds before and after a text; `None` if it does anything else.
fn around(inner: &tokenizers::Tokenizer) -> Option<[Vec<u32>; 2]> {
    // A placeholder for the text.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, "a".to_owned(), (0, 1))], 0);
    let ids = inner.post_process(text, None, true).ok()?.get_ids().to_vec();
    let at = ids.iter().position(|id| *id == TEXT)?;
    let (before, after) = (&ids[..at], &ids[at + 1..]);
    (!after.contains(&TEXT)).then(|| [before.to_vec(), after.to_vec()])
}

/// An error if the normalizer could expand `texts` texts of `bytes` bytes in total beyond the limit.
fn check_expansion(file: &str, expansion: ExpansionBound, (texts, bytes): (usize, usize)) -> Result<()> {
    let Some(most) = expansion.beyond_limit(texts, bytes) else { return Ok(()) };
    let problem = format!("its normalizer can expand {bytes} bytes of text to {most}; do not trust this file");
    Err(Error::Tokenizer { file: file.to_owned(), problem })
}

/// GPT-2's byte alphabet: the byte of each character. Printable bytes map to themselves, the others to U+0100 and up.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|b| !printable(*b));
    let shifted = others.zip(0x100u32..).map(|(b, c)| (char::from_u32(c).expect("below the surrogates"), b));
    (0..=255u8).filter(|b| printable(*b)).map(|b| (char::from(b), b)).chain(shifted).collect()
}
