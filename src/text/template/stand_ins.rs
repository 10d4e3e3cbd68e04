//! Stand-ins for the letters of messages: where such a letter comes out of a template, it came out of a message.
//!
//! A letter of a message that special tokens are spelled with is put in by a private character of its own. A template is
//! rendered twice, with the messages as they are and with stand-ins, and whatever looks at a text, rather than to pass it on,
//! looks at the plain letters both times. So both renderings are the same, but for the stand-ins.

use minijinja::Value;
use minijinja::value::{Tuple, ValueKind};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// Where stand-ins are taken from: a plane that Unicode leaves to private use, in blocks.
const PRIVATE: u32 = 0xf_0000;
const BLOCK: u32 = 0x1000;
const BLOCKS: u32 = 15;

/// Which character stands for which letter.
#[derive(Debug, Default)]
pub struct StandIns {
    stand_ins: HashMap<char, char>,
    letters: Vec<char>,
    first: u32,
}

impl StandIns {
    /// Stand-ins for the letters of these tokens, by characters that `texts` do not have; none where all are taken.
    pub fn of<'a>(tokens: &[String], texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let letters: BTreeSet<char> =
            tokens.iter().flat_map(|token| token.chars()).filter(|c| !c.is_whitespace()).collect();
        let letters: Vec<char> = letters.into_iter().collect();
        let mut taken = [false; BLOCKS as usize];
        for c in texts.flat_map(str::chars).map(u32::from).filter(|c| *c >= PRIVATE) {
            if let Some(taken) = taken.get_mut(((c - PRIVATE) / BLOCK) as usize) {
                *taken = true;
            }
        }
        let block = taken.iter().position(|taken| !taken).filter(|_| letters.len() <= BLOCK as usize)?;
        let first = PRIVATE + u32::try_from(block).ok()? * BLOCK;
        let stand_ins = letters.iter().copied().zip((first..).filter_map(char::from_u32)).collect();
        Some(StandIns { stand_ins, letters, first })
    }

    /// Whether anything stands for a letter.
    pub fn any(&self) -> bool {
        !self.letters.is_empty()
    }

    /// A letter's stand-in, where it has one.
    pub fn mask(&self, c: char) -> char {
        self.stand_ins.get(&c).copied().unwrap_or(c)
    }

    /// The letter that a character stands for, if it stands for one.
    pub fn original(&self, c: char) -> Option<char> {
        let at = u32::from(c).checked_sub(self.first)?;
        self.letters.get(at as usize).copied()
    }

    /// A character as it is meant.
    pub fn plain(&self, c: char) -> char {
        self.original(c).unwrap_or(c)
    }

    /// A text of a message with stand-ins.
    pub fn mask_text(&self, text: &str) -> String {
        text.chars().map(|c| self.mask(c)).collect()
    }

    /// A text as it is meant.
    pub fn plain_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.chars().any(|c| self.original(c).is_some()) {
            text.chars().map(|c| self.plain(c)).collect::<String>().into()
        } else {
            text.into()
        }
    }

    /// A value as it is meant, its items as well. Whoever calls has looked how deep it is.
    pub fn plain_value(&self, value: &Value) -> Value {
        if self.letters.is_empty() || !self.has(value) {
            return value.clone();
        }
        let items = || value.try_iter().into_iter().flatten().map(|item| self.plain_value(&item)).collect::<Vec<_>>();
        match value.kind() {
            ValueKind::String => Value::from(self.plain_text(value.as_str().unwrap_or_default()).into_owned()),
            ValueKind::Map => {
                let keys = value.try_iter().into_iter().flatten();
                Value::from_pairs(keys.map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    (self.plain_value(&key), self.plain_value(&item))
                }))
            }
            _ if value.is_tuple() => Value::from(Tuple::from(items())),
            _ => Value::from(items()),
        }
    }

    fn has(&self, value: &Value) -> bool {
        match value.kind() {
            ValueKind::String => value.as_str().is_some_and(|text| text.chars().any(|c| self.original(c).is_some())),
            ValueKind::Map => value
                .try_iter()
                .into_iter()
                .flatten()
                .any(|key| self.has(&key) || value.get_item(&key).is_ok_and(|item| self.has(&item))),
            ValueKind::Seq | ValueKind::Iterable => value.try_iter().into_iter().flatten().any(|item| self.has(&item)),
            _ => false,
        }
    }
}

/// A text with what its letters mean.
pub struct Text<'a> {
    shown: &'a str,
    pub plain: Cow<'a, str>,
    /// For each byte of `plain` that begins a letter, where it begins in `shown`; empty where that is the same.
    places: Vec<u32>,
}

impl<'a> Text<'a> {
    pub fn new(shown: &'a str, letters: &StandIns) -> Self {
        let plain = letters.plain_text(shown);
        let mut places = Vec::new();
        if let Cow::Owned(plain) = &plain {
            places = vec![0; plain.len() + 1];
            for ((at, _), (place, _)) in plain.char_indices().zip(shown.char_indices()) {
                places[at] = u32::try_from(place).unwrap_or(u32::MAX);
            }
            places[plain.len()] = u32::try_from(shown.len()).unwrap_or(u32::MAX);
        }
        Text { shown, plain, places }
    }

    /// The part whose plain letters are these bytes.
    pub fn cut(&self, range: std::ops::Range<usize>) -> &'a str {
        if self.places.is_empty() {
            return &self.shown[range];
        }
        &self.shown[self.places[range.start] as usize..self.places[range.end] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_is_found_again() {
        let letters = StandIns::of(&["<|é end|>".to_owned()], ["\u{f0001}"].into_iter()).unwrap();
        let hidden = letters.mask_text("a <|end é|> z");
        assert!(!hidden.contains('<') && hidden.contains("a ") && !hidden.contains('\u{f0001}'));
        assert_eq!(letters.plain_text(&hidden), "a <|end é|> z");
        let text = Text::new(&hidden, &letters);
        let at = text.plain.find("end").unwrap();
        assert_eq!(letters.plain_text(text.cut(at..at + 6)), "end é");
        let value = Value::from(vec![Value::from(hidden.as_str()), Value::from(1)]);
        assert_eq!(letters.plain_value(&value), Value::from(vec![Value::from("a <|end é|> z"), Value::from(1)]));
    }
}
