//! The prompt of `run`: its sources, and reading it in chunks without holding it in memory as a whole.

use super::interrupt::Interrupt;
use super::losses::Losses;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::runtime::Session;
use peregrine::text::{ChunkedText, Specials, utf8};
use std::fs::File;
use std::io::{Cursor, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// A prompt that has not been read yet.
pub struct Prompt {
    /// Its name for messages.
    what: String,
    from: Box<dyn Read>,
    /// Length in bytes, if known.
    bytes: Option<u64>,
}

/// How much of a prompt was read.
pub struct ReadPrompt {
    pub tokens: u64,
    pub bytes: u64,
    /// Whether an interrupt stopped it there.
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
            // A pipe may block.
            None => Box::new(TrimNewline::of(Interruptible::of(file, interrupt.clone()))),
        };
        Ok(Prompt { what: path.display().to_string(), from, bytes })
    }

    pub fn of_stdin(interrupt: &Interrupt) -> Self {
        let from = Box::new(TrimNewline::of(Interruptible::of(std::io::stdin(), interrupt.clone())));
        Prompt { what: "the prompt".to_owned(), from, bytes: None }
    }

    /// Reads the whole prompt, for a chat message.
    pub fn text(mut self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        self.from.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", self.what))?;
        Ok(utf8(&self.what, bytes)?)
    }

    /// Feeds the prompt to a session chunk by chunk. An interrupt stops between two chunks, so that the text can continue there. A
    /// lost device is reopened.
    pub fn feed(
        self,
        session: &mut Session,
        specials: Specials,
        interrupt: &Interrupt,
        losses: &mut Losses,
    ) -> anyhow::Result<ReadPrompt> {
        let engine = session.engine().clone();
        let tokenizer = engine.checkpoint().tokenizer()?;
        // BOS tokens belong at the start of a text only.
        let mut chunks = match session.position() {
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
            match chunks.next(engine.chunk()) {
                Ok(Some(chunk)) => {
                    let before = session.position();
                    losses.insist(|| {
                        // After a loss some of them may be fed already.
                        let fed = usize::try_from(session.position() - before).unwrap_or(usize::MAX);
                        chunk.ids.get(fed..).map_or(Ok(()), |rest| session.feed(rest))
                    })?;
                    read.tokens += chunk.ids.len() as u64;
                    read.bytes = chunk.end;
                    bar.show(&read);
                }
                Ok(None) => break,
                // An interrupt ends a blocked read with an error.
                Err(_) if interrupt.hit() => {}
                Err(error) => return Err(error.into()),
            }
        }
        bar.finish();
        Ok(read)
    }
}

/// A reader that drops one newline at the end of the text, which an editor or `echo` adds.
struct TrimNewline<R> {
    from: R,
    /// The last byte read, held back until another follows.
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
            // Delay by one byte: emit the held byte first and hold the last one.
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

/// A reader for stdin and pipes that an interrupt can end: a thread does the blocking reads.
struct Interruptible {
    blocks: Receiver<std::io::Result<Vec<u8>>>,
    current: Cursor<Vec<u8>>,
    interrupt: Interrupt,
}

impl Interruptible {
    fn of(mut from: impl Read + Send + 'static, interrupt: Interrupt) -> Self {
        let (sender, blocks) = sync_channel(4);
        std::thread::spawn(move || {
            loop {
                let mut bytes = vec![0; 1 << 16];
                let block = from.read(&mut bytes).map(|count| {
                    bytes.truncate(count);
                    bytes
                });
                let last = !block.as_ref().is_ok_and(|bytes| !bytes.is_empty());
                if sender.send(block).is_err() || last {
                    return;
                }
            }
        });
        Interruptible { blocks, current: Cursor::default(), interrupt }
    }
}

impl Read for Interruptible {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.current.read(to)?;
            if count > 0 || to.is_empty() {
                return Ok(count);
            }
            match self.blocks.recv_timeout(Duration::from_millis(50)) {
                Ok(block) => {
                    let block = block?;
                    if block.is_empty() {
                        return Ok(0);
                    }
                    self.current = Cursor::new(block);
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

/// A progress bar for long prompts, on a terminal.
struct PromptBar {
    bar: Option<ProgressBar>,
    total: Option<u64>,
}

impl PromptBar {
    fn show(&mut self, read: &ReadPrompt) {
        // The total may include the dropped newline.
        if self.total.is_some_and(|total| total <= read.bytes + 1) || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = match self.total {
                Some(_) => "reading the prompt {bar:30} {bytes}/{total_bytes}, {msg} tokens, {eta} left",
                None => "reading the prompt, {bytes}, {msg} tokens",
            };
            let style = ProgressStyle::with_template(style).expect("the template is valid");
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

    /// A reader that returns at most `self.1` bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let most = self.1.min(to.len());
            (&mut self.0).take(most as u64).read(to)
        }
    }

    #[test]
    fn one_newline_at_the_end_is_dropped_for_any_read_size() {
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
