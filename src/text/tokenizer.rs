//! Text to ids and back, by a checkpoint's tokenizer.json. Byte-level BPE, as all models of the Mamba family have it.

use super::expansion::ExpansionBound;
use super::settings::TokenizerSettings;
use crate::error::{Error, Result};
use crate::input;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use tokenizers::{Encoding, Token};

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
    expansion: ExpansionBound,
    /// Behind a lock because how specials are taken is a setting of the tokenizer and not of the call.
    inner: Mutex<tokenizers::Tokenizer>,
    bytes: HashMap<u32, Vec<u8>>,
    special: HashSet<u32>,
    special_texts: Vec<String>,
    /// What a text begins and ends with.
    around: [Vec<u32>; 2],
    /// Whether special tokens are looked for in texts that were normalized, where other spellings become them too.
    normalizes_specials: bool,
}

impl Tokenizer {
    /// Reads a tokenizer.json; `file` is its name for messages.
    pub fn from_json(file: &str, json: &[u8]) -> Result<Self> {
        Self::from_json_with(file, json, &TokenizerSettings::default())
    }

    /// Reads a tokenizer.json that other files say more of.
    pub fn from_json_with(file: &str, json: &[u8], settings: &TokenizerSettings) -> Result<Self> {
        let bad = |problem: String| Error::Tokenizer { file: file.to_owned(), problem };
        let json = input::text(file, json)?.as_bytes();
        // The tokenizers crate panics at some malformed files: their syntax and the parts that matter are looked at first,
        // and a panic that is left becomes an error.
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
        // The added tokens are normalized when they are read.
        let expansion = ExpansionBound::of(&value);
        let added = value["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let bytes = added.iter().filter_map(|token| token["content"].as_str()).map(str::len).sum();
        check_expansion(file, expansion, (added.len(), bytes))?;
        let mut inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|_| bad("not a tokenizer: its parts do not fit together".to_owned()))?
            .map_err(|e| bad(format!("not a tokenizer: {e}")))?;
        // A file may ask for texts to be cut off or filled up, to any length.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        let around = std::panic::catch_unwind(AssertUnwindSafe(|| around(&inner))).ok().flatten().ok_or_else(|| {
            bad("its post_processor does more than to put tokens before and behind a text".to_owned())
        })?;
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
        let normalizes_specials =
            inner.get_normalizer().is_some() && added.values().any(|token| token.special && token.normalized);
        let specials = added.iter().filter(|(_, token)| token.special);
        let (special, special_texts) = specials.map(|(id, token)| (*id, token.content.clone())).unzip();
        let (file, inner) = (file.to_owned(), Mutex::new(inner));
        Ok(Tokenizer { file, expansion, inner, bytes, special, special_texts, around, normalizes_specials })
    }

    /// The ids of a text with those that its tokenizer puts before and behind each text. For texts of their own; not for a part
    /// of one, and not for a conversation, whose template writes such tokens itself.
    pub fn encode_text(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let [before, after] = &self.around;
        Ok([before.as_slice(), &self.encode(text, specials)?, after].concat())
    }

    /// What the tokenizer puts before and behind each text, such as a token that begins it.
    pub fn around(&self) -> &[Vec<u32>; 2] {
        &self.around
    }

    /// The ids of a text. Nothing is prepended or appended.
    ///
    /// Fails where the rules of the tokenizer can make a text of this length many times as long.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        check_expansion(&self.file, self.expansion, (1, text.len()))?;
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.set_encode_special_tokens(specials == Specials::Literal);
        let encoding = inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::Tokenizer { file: self.file.clone(), problem: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a part of a conversation that a template wrote, or that spells no special token: as those of
    /// [`Specials::Parse`], but that other spellings of special tokens stay text.
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

/// What the post-processor puts before and behind a text; none where it does anything else.
fn around(inner: &tokenizers::Tokenizer) -> Option<[Vec<u32>; 2]> {
    // No token: it stands for a text.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, "a".to_owned(), (0, 1))], 0);
    let ids = inner.post_process(text, None, true).ok()?.get_ids().to_vec();
    let at = ids.iter().position(|id| *id == TEXT)?;
    let (before, after) = (&ids[..at], &ids[at + 1..]);
    (!after.contains(&TEXT)).then(|| [before.to_vec(), after.to_vec()])
}

/// Refuses what could become much longer before it is cut: so many texts, of so many bytes together.
fn check_expansion(file: &str, expansion: ExpansionBound, (texts, bytes): (usize, usize)) -> Result<()> {
    let Some(most) = expansion.beyond_limit(texts, bytes) else { return Ok(()) };
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
