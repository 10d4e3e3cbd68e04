//! Texts read and encoded in chunks: their ids equal those of the whole text, for any chunk size and any size of
//! reads.

mod common;

use common::{fixture, shipped};
use peregrine::Error;
use peregrine::kernels::case::Random;
use peregrine::text::{ChunkedText, Specials, TextChunk, Tokenizer};
use std::cell::Cell;
use std::io::Read;
use std::path::PathBuf;

fn tokenizers() -> Vec<(PathBuf, Tokenizer)> {
    let folders = [shipped("tiny-chat"), shipped("induction-heads"), fixture("falcon-tiny"), fixture("mamba-tiny")];
    folders.map(|dir| (dir.clone(), tokenizer(&dir))).into()
}

fn tokenizer(dir: &std::path::Path) -> Tokenizer {
    let path = dir.join("tokenizer.json");
    Tokenizer::from_json("tokenizer.json", &std::fs::read(path).unwrap()).unwrap()
}

/// A reader that gives at most `self.1` bytes at a time.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(to.len());
        to[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn chunks(tokenizer: &Tokenizer, text: &str, specials: Specials, tokens: usize, by: usize) -> Vec<TextChunk> {
    let mut chunks = ChunkedText::new(tokenizer, specials, "text", Slowly(text.as_bytes(), by));
    let mut all = vec![];
    while let Some(chunk) = chunks.next(tokens).unwrap() {
        all.push(chunk);
    }
    all
}

/// Words, punctuation, digits, white space, many scripts, and special cases of tokenizers.
const PARTS: [&str; 40] = [
    " the",
    " fox",
    "Once upon a time",
    ".",
    ", ",
    "\n",
    "\n\n",
    "  ",
    "    ",
    "\t",
    "\r\n",
    " \n \n",
    "123",
    "4567",
    " 89",
    "it's",
    "we'll",
    "'s",
    "\"",
    "...",
    "!?",
    "(x+y)*z",
    "é",
    "e\u{301}",
    "ü",
    "我是一只狐狸",
    "，",
    "日本語のテキスト",
    "🦀",
    "👩‍👩‍👧",
    "\u{a0}",
    "\u{200b}",
    "한국어",
    "العربية",
    "<|endoftext|>",
    "<|im_start|>user\n",
    "<|im_end|>",
    "<|im_",
    ">>TITLE<<",
    "!abcdo",
];

fn made_up(random: &mut Random, parts: usize) -> String {
    let mut text = String::new();
    for _ in 0..parts {
        let at = random.uniform(0.0, PARTS.len() as f32) as usize;
        let times = if random.uniform(0.0, 1.0) < 0.03 { random.uniform(1.0, 300.0) as usize } else { 1 };
        text += &PARTS[at.min(PARTS.len() - 1)].repeat(times);
    }
    text
}

#[test]
fn the_chunks_of_any_text_have_the_ids_of_the_whole() {
    let mut random = Random::new(23);
    let mut cuts = 0;
    for (path, tokenizer) in tokenizers() {
        for round in 0..9 {
            let parts = [3, 60, 600][round % 3];
            let text = made_up(&mut random, parts);
            let specials = if round % 2 == 0 { Specials::Parse } else { Specials::Literal };
            let whole = tokenizer.encode(&text, specials).unwrap();
            let tokens = if parts < 100 { [1, 7][round % 2] } else { [60, 200, 512][round / 3] };
            let by = [13, 70_000, 1][(round + round / 3) % 3];
            let chunks = chunks(&tokenizer, &text, specials, tokens, by);
            let what = format!("{} round {round}, {tokens} tokens, by {by}", path.display());
            let ids: Vec<u32> = chunks.iter().flat_map(|chunk| chunk.ids.clone()).collect();
            assert!(
                ids == whole,
                "{what}: the ids differ from {:?} on",
                ids.iter().zip(&whole).position(|(a, b)| a != b)
            );
            assert_eq!(chunks.last().map_or(0, |chunk| chunk.end), text.len() as u64, "{what}");
            let mut start = 0;
            for chunk in &chunks {
                // The rest of the text can continue after any chunk.
                let end = chunk.end as usize;
                assert_eq!(tokenizer.encode(&text[start..end], specials).unwrap(), chunk.ids, "{what}");
                start = end;
            }
            cuts += chunks.len();
        }
    }
    assert!(cuts > 500, "only {cuts} chunks were cut");
}

#[test]
fn plain_prose_is_cut_into_chunks_of_nearly_full_length() {
    let prose = std::fs::read_to_string(shipped("tiny-chat").join("README.md")).unwrap().repeat(20);
    let tokenizer = tokenizer(&shipped("tiny-chat"));
    let whole = tokenizer.encode(&prose, Specials::Literal).unwrap();
    let chunks = chunks(&tokenizer, &prose, Specials::Literal, 128, 4096);
    assert_eq!(chunks.iter().flat_map(|chunk| chunk.ids.clone()).collect::<Vec<_>>(), whole);
    assert!(chunks.iter().all(|chunk| chunk.ids.len() <= 128));
    assert!(chunks.len() * 128 < whole.len() * 5 / 4, "{} chunks for {} tokens", chunks.len(), whole.len());
}

/// An endless text that counts the bytes read.
struct Endless<'a>(&'a Cell<usize>);

impl Read for Endless<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let text = b"The quick brown fox, who is 7 years old, jumps over the lazy dog.\n";
        to.iter_mut().zip(self.0.get()..).for_each(|(to, at)| *to = text[at % text.len()]);
        self.0.set(self.0.get() + to.len());
        Ok(to.len())
    }
}

#[test]
fn only_the_needed_text_is_read() {
    let tokenizer = tokenizer(&shipped("tiny-chat"));
    let read = Cell::new(0);
    let mut chunks = ChunkedText::new(&tokenizer, Specials::Literal, "a text without end", Endless(&read));
    let mut end = 0;
    while end < 400_000 {
        end = chunks.next(512).unwrap().unwrap().end as usize;
        assert!(read.get() - end <= 3 << 16, "{} bytes were read for the first {end}", read.get());
    }
}

#[test]
fn cutting_anywhere_gives_other_ids() {
    // Negative control: chunks of a fixed number of characters have other ids.
    let tokenizer = tokenizer(&shipped("tiny-chat"));
    let text = "Once upon a time there was a fox who could count to 123456.";
    let whole = tokenizer.encode(text, Specials::Literal).unwrap();
    let cut: Vec<u32> =
        [&text[..7], &text[7..54], &text[54..]].map(|t| tokenizer.encode(t, Specials::Literal).unwrap()).concat();
    assert_ne!(cut, whole);
}

#[test]
fn a_text_that_cannot_be_cut_is_buffered_up_to_a_limit() {
    let tokenizer = tokenizer(&shipped("induction-heads"));
    let text = "abcdo".repeat(20_000);
    let held = chunks(&tokenizer, &text, Specials::Literal, 64, 4096);
    assert_eq!(held.len(), 1);
    // This tokenizer has no merges, so the ids are right even if a word is cut.
    let text = "abcdo".repeat(250_000);
    let held = chunks(&tokenizer, &text, Specials::Literal, 64, 1 << 16);
    assert_eq!(held.iter().map(|chunk| chunk.end).collect::<Vec<_>>(), [1 << 20, 1_250_000]);
    assert_eq!(held.iter().map(|chunk| chunk.ids.len()).sum::<usize>(), text.len());
}

#[test]
fn invalid_utf8_is_reported_with_its_offset() {
    let tokenizer = tokenizer(&shipped("tiny-chat"));
    for (bytes, at) in [(&b"a\xffb"[..], 1), (b"abc\xf0\x9f", 3), (b"\x80", 0)] {
        for by in [1, 100] {
            let mut chunks = ChunkedText::new(&tokenizer, Specials::Literal, "the prompt", Slowly(bytes, by));
            match chunks.next(8) {
                Err(Error::NotText { what, at: found }) => assert_eq!((what.as_str(), found), ("the prompt", at)),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }
    let long = [b"word ".repeat(1000), vec![0xc3]].concat();
    let mut chunks = ChunkedText::new(&tokenizer, Specials::Literal, "the prompt", &long[..]);
    let refused = loop {
        match chunks.next(8) {
            Ok(chunk) => assert!(chunk.is_some(), "the end was reached"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NotText { at: 5000, .. }), "{refused:?}");
    assert!(ChunkedText::new(&tokenizer, Specials::Literal, "nothing", &b""[..]).next(8).unwrap().is_none());
}
