//! The prompt of `run`: where it comes from, and how it is read without ever being in memory as a whole.

use super::interrupt::Interrupt;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::runtime::Session;
use peregrine::text::{ChunkedText, Specials, utf8};
use std::fs::File;
use std::io::{Cursor, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// A text that is to be read.
pub struct Prompt {
    /// Its name for messages.
    what: String,
    from: Box<dyn Read>,
    /// Bytes, where they are known.
    bytes: Option<u64>,
}

/// How far a prompt was read.
pub struct ReadPrompt {
    pub tokens: u64,
    pub bytes: u64,
    /// Whether it was stopped there.
    pub interrupted: bool,
}

impl Prompt {
    pub fn of_text(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        Prompt { what: "the prompt".to_owned(), bytes: Some(bytes.len() as u64), from: Box::new(Cursor::new(bytes)) }
    }

    pub fn of_file(path: &Path, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let open = || -> std::io::Result<(File, Option<u64>)> {
            let file = File::open(path)?;
            let about = file.metadata()?;
            let bytes = about.is_file().then_some(about.len());
            Ok((file, bytes))
        };
        let (file, bytes) = open().with_context(|| format!("cannot read {}", path.display()))?;
        let from: Box<dyn Read> = match bytes {
            Some(_) => Box::new(TrimNewline::of(file)),
            // A pipe, which may keep us waiting.
            None => Box::new(TrimNewline::of(Interruptible::of(file, interrupt.clone()))),
        };
        Ok(Prompt { what: path.display().to_string(), from, bytes })
    }

    pub fn of_stdin(interrupt: &Interrupt) -> Self {
        let from = Box::new(TrimNewline::of(Interruptible::of(std::io::stdin(), interrupt.clone())));
        Prompt { what: "the prompt".to_owned(), from, bytes: None }
    }

    /// All of it, for a message of a conversation.
    pub fn text(mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        self.from.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", self.what))?;
        Ok(utf8(&self.what, bytes)?)
    }

    /// Feeds it to a session by pieces of at most `chunk` tokens. Each was read whole when this comes back, also where it
    /// was interrupted: the text can go on behind it.
    pub fn feed(
        self,
        session: &mut Session,
        specials: Specials,
        chunk: usize,
        interrupt: &Interrupt,
    ) -> anyhow::Result<ReadPrompt> {
        let engine = session.engine().clone();
        let tokenizer = engine.checkpoint().tokenizer()?;
        // What a text begins with does not belong into its middle.
        let mut pieces = match session.position() {
            0 => ChunkedText::of_text(tokenizer, specials, &self.what, self.from),
            _ => ChunkedText::new(tokenizer, specials, &self.what, self.from),
        };
        let mut bar = PromptBar { bar: None, total: self.bytes };
        let mut read = ReadPrompt { tokens: 0, bytes: 0, interrupted: false };
        loop {
            if interrupt.hit() {
                read.interrupted = true;
                break;
            }
            match pieces.next(chunk) {
                Ok(Some(piece)) => {
                    session.feed(&piece.ids)?;
                    read.tokens += piece.ids.len() as u64;
                    read.bytes = piece.end;
                    bar.show(&read);
                }
                Ok(None) => break,
                // Whoever interrupts ends the waiting as well.
                Err(_) if interrupt.hit() => {}
                Err(error) => return Err(error.into()),
            }
        }
        bar.finish();
        Ok(read)
    }
}

/// A text without the line end at its end, if it has one: an editor or `echo` put it there.
struct TrimNewline<R> {
    from: R,
    /// The last byte that was read: whether it is the end shows when another follows.
    last: Option<u8>,
}

impl<R> TrimNewline<R> {
    fn of(from: R) -> Self {
        TrimNewline { from, last: None }
    }
}

impl<R: Read> Read for TrimNewline<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.from.read(to)?;
            let (Some(end), false) = (count.checked_sub(1), to.is_empty()) else {
                return match (self.last.take(), to.first_mut()) {
                    (Some(last), Some(first)) if last != b'\n' => {
                        *first = last;
                        Ok(1)
                    }
                    _ => Ok(0),
                };
            };
            // One byte comes out late: the one before these goes before them, and the last of these stays.
            match self.last.replace(to[end]) {
                Some(before) => {
                    to[..count].rotate_right(1);
                    to[0] = before;
                    return Ok(count);
                }
                None if end > 0 => return Ok(end),
                None => {}
            }
        }
    }
}

/// Stdin or another pipe, read by a thread: it may keep us waiting, and an interrupt must end that.
struct Interruptible {
    pieces: Receiver<std::io::Result<Vec<u8>>>,
    now: Cursor<Vec<u8>>,
    interrupt: Interrupt,
}

impl Interruptible {
    fn of(mut from: impl Read + Send + 'static, interrupt: Interrupt) -> Self {
        let (sender, pieces) = sync_channel(4);
        std::thread::spawn(move || {
            loop {
                let mut bytes = vec![0; 1 << 16];
                let piece = from.read(&mut bytes).map(|count| {
                    bytes.truncate(count);
                    bytes
                });
                let last = !piece.as_ref().is_ok_and(|bytes| !bytes.is_empty());
                if sender.send(piece).is_err() || last {
                    return;
                }
            }
        });
        Interruptible { pieces, now: Cursor::default(), interrupt }
    }
}

impl Read for Interruptible {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.now.read(to)?;
            if count > 0 || to.is_empty() {
                return Ok(count);
            }
            match self.pieces.recv_timeout(Duration::from_millis(50)) {
                Ok(piece) => {
                    let piece = piece?;
                    if piece.is_empty() {
                        return Ok(0);
                    }
                    self.now = Cursor::new(piece);
                }
                Err(RecvTimeoutError::Timeout) if self.interrupt.hit() => {
                    return Err(std::io::Error::other("interrupted"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
    }
}

/// How far a long prompt was read, on a terminal.
struct PromptBar {
    bar: Option<ProgressBar>,
    total: Option<u64>,
}

impl PromptBar {
    fn show(&mut self, read: &ReadPrompt) {
        // A line end that was dropped is no part of what was read.
        if self.total.is_some_and(|total| total <= read.bytes + 1) || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = match self.total {
                Some(_) => "reading the prompt {bar:30} {bytes}/{total_bytes}, {msg} tokens, {eta} left",
                None => "reading the prompt, {bytes}, {msg} tokens",
            };
            let style = ProgressStyle::with_template(style).expect("the template is sound");
            self.total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style)
        });
        bar.set_position(read.bytes);
        bar.set_message(read.tokens.to_string());
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as much at a time as it is told to.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let most = self.1.min(to.len());
            (&mut self.0).take(most as u64).read(to)
        }
    }

    #[test]
    fn one_line_end_at_the_end_is_dropped_however_the_text_is_read() {
        for (text, expected) in [
            ("", ""),
            ("\n", ""),
            ("\n\n", "\n"),
            ("a", "a"),
            ("a\n", "a"),
            ("a\n\n", "a\n"),
            ("a\nb", "a\nb"),
            ("\na\r\n", "\na\r"),
        ] {
            for (from, to) in [(1, 1), (1, 8), (2, 3), (8, 1), (8, 2), (64, 64)] {
                let mut trimmed = TrimNewline::of(Slow(text.as_bytes(), from));
                let (mut read, mut buffer) = (vec![], vec![0; to]);
                loop {
                    match trimmed.read(&mut buffer).unwrap() {
                        0 => break,
                        count => read.extend(&buffer[..count]),
                    }
                }
                assert_eq!(String::from_utf8(read).unwrap(), expected, "{text:?} by {from} and {to}");
            }
        }
    }
}
