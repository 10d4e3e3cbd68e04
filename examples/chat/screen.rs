//! Terminal output: streamed answers on stdout, notes and statistics on stderr.

use super::wrap::Wrap;
use peregrine::runtime::{Answer, Finish};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Prints a note to stderr, dimmed on a terminal. A closed terminal is ignored.
pub fn note(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = if has_colours() { writeln!(stderr, "\x1b[2m{text}\x1b[0m") } else { writeln!(stderr, "{text}") };
}

/// Whether stderr is a terminal with ANSI colours and `NO_COLOR` is not set.
fn has_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stderr().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// The width of the terminal on stdout; `None` if it is not a terminal.
pub fn columns() -> Option<usize> {
    let (columns, _) = rustyline::DefaultEditor::new().ok()?.dimensions()?;
    Some(usize::from(columns))
}

/// A text with control characters escaped, so that an echo does not move the cursor.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// What was printed of an answer so far.
pub struct Printed {
    pub tokens: u64,
    pub finish: Option<Finish>,
    /// Whether the answer has no text.
    pub empty: bool,
    /// Whether its text does not end with a newline.
    pub open: bool,
}

impl Printed {
    /// Before the first piece.
    pub const NOTHING: Printed = Printed { tokens: 0, finish: None, empty: true, open: false };

    /// Ends the last line of an answer that an error cut off.
    pub fn end_line(&mut self) -> std::io::Result<()> {
        if std::mem::take(&mut self.open) { writeln!(std::io::stdout()) } else { Ok(()) }
    }

    /// A note about an unexpectedly empty answer.
    pub fn why_empty(&self) -> Option<&'static str> {
        match self.finish {
            _ if !self.empty => None,
            Some(Finish::Eos) => Some("the answer is empty: the model ended it at once"),
            Some(Finish::Stop) => Some("the answer is empty: it began with a stop string"),
            Some(Finish::Length) if self.tokens == 0 => Some("the answer is empty: its limit is 0 tokens"),
            Some(Finish::Length) => Some("the answer is empty: its tokens have no text"),
            _ => None,
        }
    }
}

/// Streams an answer, or the rest of one, to stdout, wrapped at `columns`, and adds it to what was printed.
pub fn stream(answer: &mut Answer<'_>, columns: Option<usize>, printed: &mut Printed) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let mut wrap = Wrap::new(columns);
    let mut outcome = Ok(());
    for piece in answer.by_ref() {
        match piece {
            Ok(piece) => {
                if let Some(last) = piece.chars().next_back() {
                    (printed.empty, printed.open) = (false, last != '\n');
                }
                stdout.write_all(wrap.push(&piece).as_bytes())?;
                stdout.flush()?;
            }
            Err(error) => outcome = Err(error),
        }
    }
    stdout.write_all(wrap.finish().as_bytes())?;
    stdout.flush()?;
    printed.tokens += answer.generation().tokens() as u64;
    printed.finish = answer.finish();
    Ok(outcome?)
}

/// The speed of an answer, printed as a line of at most 80 columns.
pub struct Stats {
    /// Prompt tokens read, and the time to the first token.
    pub read: u64,
    pub first: Duration,
    /// Generated tokens, and the time after the first one.
    pub tokens: u64,
    pub rest: Duration,
}

impl Stats {
    /// Statistics of an answer whose first token came at `first`; `None` if no token was read or generated.
    pub fn of(read: u64, tokens: u64, (started, first): (Instant, Instant)) -> Option<Self> {
        let (first, rest) = (first.duration_since(started), first.elapsed());
        (read > 0 || tokens > 0).then_some(Stats { read, first, tokens, rest })
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |tokens: u64| format!("{tokens} token{}", if tokens == 1 { "" } else { "s" });
        let speed = |tokens: u64, time: Duration| {
            let speed = tokens as f64 / time.as_secs_f64().max(1e-9);
            format!("{speed:.*} t/s", usize::from(speed < 1000.0))
        };
        let mut parts = vec![];
        if self.read > 0 {
            parts.push(format!("Prompt: {}, {}", count(self.read), speed(self.read, self.first)));
        }
        match self.tokens {
            0 => {}
            // The time to the first token counts as prompt time, so a single token has no speed.
            1 => parts.push(format!("Generation: {}", count(1))),
            tokens => parts.push(format!("Generation: {}, {}", count(tokens), speed(tokens - 1, self.rest))),
        }
        write!(f, "[ {} ]", parts.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Stats, printable};
    use std::time::Duration;

    fn line(read: u64, first: f64, tokens: u64, rest: f64) -> String {
        let (first, rest) = (Duration::from_secs_f64(first), Duration::from_secs_f64(rest));
        Stats { read, first, tokens, rest }.to_string()
    }

    #[test]
    fn statistics_fit_a_line_and_leave_out_what_did_not_happen() {
        assert_eq!(line(12, 0.1, 11, 0.5), "[ Prompt: 12 tokens, 120.0 t/s | Generation: 11 tokens, 20.0 t/s ]");
        assert_eq!(line(0, 0.1, 11, 0.5), "[ Generation: 11 tokens, 20.0 t/s ]");
        assert_eq!(line(1, 0.5, 0, 0.5), "[ Prompt: 1 token, 2.0 t/s ]");
        assert_eq!(line(8, 0.001, 1, 0.0), "[ Prompt: 8 tokens, 8000 t/s | Generation: 1 token ]");
        let longest = line(1_000_000, 8.0, 100_000, 9.0);
        assert!(longest.len() < 80, "{longest}");
    }

    #[test]
    fn echoes_escape_control_characters_only() {
        assert_eq!(printable("👨\u{200d}👩 “é” \\ \"q\""), "👨\u{200d}👩 “é” \\ \"q\"");
        assert_eq!(printable("a\x1b[2Jb\u{9b}\t"), "a\\u{1b}[2Jb\\u{9b}\\t");
    }
}
