//! Streaming tokenization: a long text is read and encoded in chunks whose ids together equal those of the whole text.

use super::{Specials, Tokenizer};
use crate::error::{Error, Result};
use std::io::Read;

/// Bytes on each side of a cut that are encoded together and apart: if the ids are equal the text can be cut there. A
/// tokenizer's decisions depend only on the words next to the cut.
const OVERLAP: usize = 512;
/// Positions tried before a chunk may become longer.
const TRIES: usize = 16;
/// Maximum bytes buffered in search of a position to cut.
const LONGEST: usize = 1 << 20;
/// Bytes read at a time.
const READ: usize = 1 << 16;

/// A text that is read and encoded chunk by chunk.
///
/// It is cut only where the tokenizer splits it anyway, such as before white space or between a word and punctuation, so that
/// the ids equal those of the whole text. A megabyte without such a position, which no real text has, is cut between two
/// characters.
pub struct ChunkedText<'a> {
    tokenizer: &'a Tokenizer,
    specials: Specials,
    what: String,
    from: Box<dyn Read + 'a>,
    /// Text read but not returned yet.
    text: String,
    /// Bytes of an incomplete character.
    open: Vec<u8>,
    /// Bytes returned so far.
    given: u64,
    /// Whether the reader is at its end.
    at_end: bool,
    /// Estimated bytes per token.
    bytes_a_token: f64,
    around: Around,
}

/// Ids before and after the text as a whole, such as BOS and EOS, that were not returned yet.
#[derive(Default)]
struct Around {
    before: Vec<u32>,
    after: Vec<u32>,
}

/// An encoded chunk of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextChunk {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Byte offset of its end in the text.
    pub end: u64,
}

impl<'a> ChunkedText<'a> {
    /// A whole text, encoded as by [`Tokenizer::encode_text`]: with the BOS and EOS tokens that the tokenizer adds. `what` is its
    /// name for messages.
    pub fn of_text(tokenizer: &'a Tokenizer, specials: Specials, what: &str, from: impl Read + 'a) -> Self {
        let [before, after] = tokenizer.around().clone();
        ChunkedText { around: Around { before, after }, ..Self::new(tokenizer, specials, what, from) }
    }

    /// A text that continues another one: nothing is added before or after it. `what` is its name for messages.
    pub fn new(tokenizer: &'a Tokenizer, specials: Specials, what: &str, from: impl Read + 'a) -> Self {
        ChunkedText {
            tokenizer,
            specials,
            what: what.to_owned(),
            from: Box::new(from),
            text: String::new(),
            open: vec![],
            given: 0,
            at_end: false,
            bytes_a_token: 4.0,
            around: Around::default(),
        }
    }

    /// The next chunk of at most `tokens` ids if the text can be cut so, else slightly more; `None` at the end.
    ///
    /// BOS and EOS tokens do not count towards `tokens`.
    pub fn next(&mut self, tokens: usize) -> Result<Option<TextChunk>> {
        let chunk = self.next_of_text(tokens)?;
        let is_last = self.at_end && self.text.is_empty();
        let before = std::mem::take(&mut self.around.before);
        let after = if is_last { std::mem::take(&mut self.around.after) } else { vec![] };
        match chunk {
            Some(TextChunk { ids, end }) => Ok(Some(TextChunk { ids: [before, ids, after].concat(), end })),
            None if before.is_empty() && after.is_empty() => Ok(None),
            None => Ok(Some(TextChunk { ids: [before, after].concat(), end: self.given })),
        }
    }

    fn next_of_text(&mut self, tokens: usize) -> Result<Option<TextChunk>> {
        let tokens = tokens.max(1);
        let mut aim = ((tokens as f64 * self.bytes_a_token) as usize).clamp(1, LONGEST);
        self.fill(aim + OVERLAP)?;
        // The longest chunk that is short enough; if there is none, the shortest.
        let mut too_long = None;
        loop {
            let end = if self.at_end && self.text.len() <= aim { Some(self.text.len()) } else { self.cut_before(aim)? };
            let Some(end) = end else { break };
            let ids = self.encode(..end)?;
            if ids.len() <= tokens {
                return Ok(self.give(end, ids));
            }
            aim = (end * tokens / ids.len()).min(end - 1);
            too_long = Some((end, ids));
        }
        if let Some((end, ids)) = too_long {
            return Ok(self.give(end, ids));
        }
        let end = self.cut_after(aim)?;
        let ids = self.encode(..end)?;
        Ok(self.give(end, ids))
    }

    fn give(&mut self, end: usize, ids: Vec<u32>) -> Option<TextChunk> {
        if end == 0 {
            return None;
        }
        // Slightly below the measured value, so that most chunks need no second try.
        self.bytes_a_token = (end as f64 / ids.len().max(1) as f64 * 0.95).max(0.25);
        self.text.drain(..end);
        self.given += end as u64;
        Some(TextChunk { ids, end: self.given })
    }

    fn encode(&self, range: impl std::slice::SliceIndex<str, Output = str>) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.text[range], self.specials)
    }

    /// Reads until `bytes` of text are buffered, or the end.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        let mut read = vec![0; READ];
        while self.text.len() < bytes && !self.at_end {
            let count = match self.from.read(&mut read) {
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io("read", &self.what, e)),
            };
            self.at_end = count == 0;
            self.open.extend_from_slice(&read[..count]);
            let (whole, bad) = match std::str::from_utf8(&self.open) {
                Ok(text) => (text.len(), false),
                Err(e) => (e.valid_up_to(), e.error_len().is_some() || self.at_end),
            };
            self.text += std::str::from_utf8(&self.open[..whole]).expect("it was valid so far");
            self.open.drain(..whole);
            if bad {
                let at = self.given + self.text.len() as u64;
                return Err(Error::NotText { what: self.what.clone(), at });
            }
        }
        Ok(())
    }

    /// The last position up to `aim` where the text can be cut.
    fn cut_before(&self, aim: usize) -> Result<Option<usize>> {
        let aim = self.text.floor_char_boundary(aim);
        for place in [Place::BeforeSpace, Place::Between] {
            let ends = self.text[..aim].char_indices().map(|(at, _)| at).rev();
            for at in ends.chain([aim]).filter(|at| *at > 0 && self.is(place, *at)).take(TRIES) {
                if self.can_cut(at)? {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    /// The first position from `aim` on where the text can be cut.
    fn cut_after(&mut self, aim: usize) -> Result<usize> {
        let mut from = self.text.floor_char_boundary(aim).max(1);
        loop {
            // The text after a position must be buffered too.
            let known = if self.at_end { self.text.len() } else { self.text.len().saturating_sub(OVERLAP) };
            while from < known {
                if self.text.is_char_boundary(from)
                    && (self.is(Place::BeforeSpace, from) || self.is(Place::Between, from))
                    && self.can_cut(from)?
                {
                    return Ok(from);
                }
                from += 1;
            }
            if self.at_end {
                return Ok(self.text.len());
            }
            if self.text.len() >= LONGEST + OVERLAP {
                return Ok(self.text.floor_char_boundary(LONGEST));
            }
            self.fill((2 * self.text.len()).clamp(READ, LONGEST + OVERLAP))?;
        }
    }

    fn is(&self, place: Place, at: usize) -> bool {
        let (before, after) = self.text.split_at(at);
        let (Some(before), Some(after)) = (before.chars().next_back(), after.chars().next()) else { return false };
        match place {
            Place::BeforeSpace => after.is_whitespace() && !before.is_whitespace(),
            Place::Between => !after.is_whitespace() && !before.is_whitespace() && class(before) != class(after),
        }
    }

    /// Whether the text around `at` has the same ids when split there.
    fn can_cut(&self, at: usize) -> Result<bool> {
        let first = self.text.floor_char_boundary(at.saturating_sub(OVERLAP));
        let last = self.text.ceil_char_boundary(at + OVERLAP);
        let mut apart = self.encode(first..at)?;
        apart.extend(self.encode(at..last)?);
        Ok(apart == self.encode(first..last)?)
    }
}

/// Positions where tokenizers split words.
#[derive(Clone, Copy)]
enum Place {
    /// Before white space.
    BeforeSpace,
    /// Between a letter, a digit and punctuation.
    Between,
}

/// The character's class: letter, digit or other.
fn class(c: char) -> u8 {
    if c.is_alphabetic() {
        0
    } else if c.is_numeric() {
        1
    } else {
        2
    }
}
