//! Taint tracking for message text: private-use characters stand in for the characters that special tokens are spelled with.
//!
//! A template is rendered twice, with the messages as they are and with stand-ins. Operations that inspect a text, rather than
//! copy it, see the plain characters both times, so the two renderings differ only in the stand-ins. A stand-in in the second
//! output marks a character that came from a message.

use minijinja::Value;
use minijinja::value::{Tuple, ValueKind};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// Stand-ins come from a private-use plane of Unicode, divided into blocks.
const PRIVATE: u32 = 0xf_0000;
const BLOCK: u32 = 0x1000;
const BLOCKS: u32 = 15;

/// A mapping of characters to their stand-ins.
#[derive(Debug, Default)]
pub struct StandIns {
    stand_ins: HashMap<char, char>,
    /// The original of each stand-in, from `first` on.
    originals: Vec<char>,
    first: u32,
}

impl StandIns {
    /// Stand-ins for the characters of these tokens, from a block that `texts` do not use; `None` if all blocks are used.
    pub fn of<'a>(tokens: &[String], texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let originals: BTreeSet<char> =
            tokens.iter().flat_map(|token| token.chars()).filter(|c| !c.is_whitespace()).collect();
        let originals: Vec<char> = originals.into_iter().collect();
        let mut taken = [false; BLOCKS as usize];
        for c in texts.flat_map(str::chars).map(u32::from).filter(|c| *c >= PRIVATE) {
            if let Some(taken) = taken.get_mut(((c - PRIVATE) / BLOCK) as usize) {
                *taken = true;
            }
        }
        let block = taken.iter().position(|taken| !taken).filter(|_| originals.len() <= BLOCK as usize)?;
        let first = PRIVATE + u32::try_from(block).ok()? * BLOCK;
        let stand_ins = originals.iter().copied().zip((first..).filter_map(char::from_u32)).collect();
        Some(StandIns { stand_ins, originals, first })
    }

    /// Whether any character has a stand-in.
    pub fn any(&self) -> bool {
        !self.originals.is_empty()
    }

    /// The stand-in of a character, or the character if it has none.
    pub fn mask(&self, c: char) -> char {
        self.stand_ins.get(&c).copied().unwrap_or(c)
    }

    /// The original of a stand-in; `None` for other characters.
    pub fn original(&self, c: char) -> Option<char> {
        let at = u32::from(c).checked_sub(self.first)?;
        self.originals.get(at as usize).copied()
    }

    /// A character, with a stand-in replaced by its original.
    pub fn plain(&self, c: char) -> char {
        self.original(c).unwrap_or(c)
    }

    /// A text with its characters replaced by stand-ins.
    pub fn mask_text(&self, text: &str) -> String {
        text.chars().map(|c| self.mask(c)).collect()
    }

    /// A text with all stand-ins replaced by their originals.
    pub fn plain_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.chars().any(|c| self.original(c).is_some()) {
            text.chars().map(|c| self.plain(c)).collect::<String>().into()
        } else {
            text.into()
        }
    }

    /// A value with all stand-ins replaced, also in nested values. The caller has checked its depth.
    pub fn plain_value(&self, value: &Value) -> Value {
        if self.originals.is_empty() || !self.has(value) {
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

/// A masked text with its plain form.
pub struct Text<'a> {
    shown: &'a str,
    pub plain: Cow<'a, str>,
    /// For each byte of `plain` that begins a character, its offset in `shown`; empty if both texts are equal.
    places: Vec<u32>,
}

impl<'a> Text<'a> {
    pub fn new(shown: &'a str, stand_ins: &StandIns) -> Self {
        let plain = stand_ins.plain_text(shown);
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

    /// The part of the masked text at these bytes of the plain text.
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
    fn stand_ins_map_back_to_their_originals() {
        let stand_ins = StandIns::of(&["<|é end|>".to_owned()], ["\u{f0001}"].into_iter()).unwrap();
        let hidden = stand_ins.mask_text("a <|end é|> z");
        assert!(!hidden.contains('<') && hidden.contains("a ") && !hidden.contains('\u{f0001}'));
        assert_eq!(stand_ins.plain_text(&hidden), "a <|end é|> z");
        let text = Text::new(&hidden, &stand_ins);
        let at = text.plain.find("end").unwrap();
        assert_eq!(stand_ins.plain_text(text.cut(at..at + 6)), "end é");
        let value = Value::from(vec![Value::from(hidden.as_str()), Value::from(1)]);
        assert_eq!(stand_ins.plain_value(&value), Value::from(vec![Value::from("a <|end é|> z"), Value::from(1)]));
    }
}
