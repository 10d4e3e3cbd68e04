//! llama.cpp's backslash escapes in command line texts.

use super::exit::usage_error;
use clap::Args;

#[derive(Args)]
pub struct EscapeArgs {
    /// Process \n, \t, \r, \", \', \\ and \xHH in -p, -r and --system-prompt (default); text from files and stdin is never
    /// changed
    #[arg(short, long, overrides_with = "no_escape")]
    escape: bool,
    /// Do not process escapes
    #[arg(long, overrides_with = "escape")]
    no_escape: bool,
}

impl EscapeArgs {
    /// Unescapes `typed`, the value of `flag`.
    pub fn apply(&self, flag: &str, typed: &str) -> anyhow::Result<String> {
        if self.no_escape {
            return Ok(typed.to_owned());
        }
        String::from_utf8(unescaped(typed))
            .map_err(|_| usage_error(format!("{flag}: the bytes of its \\x escapes are not UTF-8; see --no-escape")))
    }
}

/// Replaces escapes. A backslash before any other character is kept.
fn unescaped(typed: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(typed.len());
    let mut rest = typed.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = if *first == b'\\' { escape(after) } else { None };
        let (byte, taken) = escape.map_or((*first, 0), |(byte, taken)| (byte, taken));
        bytes.push(byte);
        rest = &after[taken..];
    }
    bytes
}

/// The byte that an escape means and the escape's length, where `after` is the text after its backslash.
fn escape(after: &[u8]) -> Option<(u8, usize)> {
    let simple = |byte| Some((byte, 1));
    match after.first()? {
        b'n' => simple(b'\n'),
        b't' => simple(b'\t'),
        b'r' => simple(b'\r'),
        quote @ (b'"' | b'\'' | b'\\') => simple(*quote),
        b'x' => {
            let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
            let byte = 16 * digit(1)? + digit(2)?;
            Some((u8::try_from(byte).ok()?, 3))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_processed_unless_turned_off() {
        let on = EscapeArgs { escape: false, no_escape: false };
        for (typed, text) in [
            (r"a\nb\tc\r", "a\nb\tc\r"),
            (r#"\"\'\\"#, "\"'\\"),
            (r"\\n", r"\n"),
            (r"\x41\xc3\xa9", "Aé"),
            (r"C:\dir \d \x4 \x", r"C:\dir \d \x4 \x"),
            ("é\\", "é\\"),
            ("", ""),
        ] {
            assert_eq!(on.apply("-p", typed).unwrap(), text, "{typed}");
        }
        let off = EscapeArgs { escape: false, no_escape: true };
        assert_eq!(off.apply("-p", r"a\nb").unwrap(), r"a\nb");
        assert!(on.apply("-p", r"\xff").unwrap_err().to_string().starts_with("-p: "));
    }
}
