//! JSON as Python's json module writes and reads it: with the literals `NaN`, `Infinity` and `-Infinity`.

use crate::error::{Error, Result};
use serde_json::Value;

/// The key of an object that represents NaN or an infinity, as transformers writes it: `{"__float__": "Infinity"}`.
pub const FLOAT: &str = "__float__";

/// Parses a file. `NaN`, `Infinity` and `-Infinity` become objects with the key [`FLOAT`].
pub fn json(file: &str, bytes: &[u8]) -> Result<Value> {
    let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let error = match serde_json::from_slice(plain) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let text = super::text(file, bytes)?;
    let error = match tagged(text).map(|text| serde_json::from_str(&text)) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => error,
        None => error,
    };
    let problem = match super::file_kind::beginning(bytes) {
        None if text.trim().is_empty() => "it is empty; download it again".to_owned(),
        Some(first) if !first.starts_with(['{', '[']) => format!("it is not JSON: it begins with {first:?}"),
        _ if error.is_eof() => format!("{error}; was it cut off? Download it again"),
        _ => error.to_string(),
    };
    Err(Error::BadJson { file: file.to_owned(), problem })
}

/// A value shortened to one line, for messages.
pub fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value.get(FLOAT) {
        Some(Value::String(word)) => word.clone(),
        _ => value.to_string(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

/// The text with each non-finite literal replaced by an object with the key [`FLOAT`]; `None` if it has none.
fn tagged(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 64);
    let (mut copied, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at = end_of_string(bytes, at);
            continue;
        }
        let word = ["Infinity", "-Infinity", "NaN"].into_iter().find(|word| is_word(bytes, at, word));
        match word {
            Some(word) => {
                out.push_str(&text[copied..at]);
                out.push_str(&format!("{{\"{FLOAT}\":\"{word}\"}}"));
                at += word.len();
                copied = at;
            }
            None => at += 1,
        }
    }
    out.push_str(&text[copied..]);
    (copied > 0).then_some(out)
}

/// The index after the string that begins at `first`; the length of the text if the string does not end.
fn end_of_string(bytes: &[u8], first: usize) -> usize {
    let mut at = first + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Whether `word` is at index `at` and is not part of a longer word.
fn is_word(bytes: &[u8], at: usize, word: &str) -> bool {
    let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    bytes[at..].starts_with(word.as_bytes())
        && !at.checked_sub(1).is_some_and(|before| of_word(&bytes[before]))
        && !bytes.get(at + word.len()).is_some_and(of_word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    fn read(text: &str) -> Result<Value> {
        json("x.json", text.as_bytes())
    }

    #[test]
    fn pythons_non_finite_literals_are_read_as_values() {
        let float = |word: &str| value!({ FLOAT: word });
        assert_eq!(read("[0.0, Infinity]").unwrap(), value!([0.0, float("Infinity")]));
        let both = read("{\"a\": -Infinity,\"b\":NaN}").unwrap();
        assert_eq!(both, value!({"a": float("-Infinity"), "b": float("NaN")}));
        assert_eq!(read("Infinity").unwrap(), float("Infinity"));
        // In strings and keys they are plain text.
        let text = r#"{"Infinity": "NaN", "q": "a \" Infinity \\", "n": [NaN]}"#;
        let read_so = value!({"Infinity": "NaN", "q": "a \" Infinity \\", "n": [float("NaN")]});
        assert_eq!(read(text).unwrap(), read_so);
        // Literals that Python does not read are errors here too.
        for bad in [
            "[-NaN]",
            "[+Infinity]",
            "[Infinity1]",
            "[infinity]",
            "[nan]",
            "[xNaN]",
            "[1Infinity]",
            "{NaN: 1}",
            "[\"Infinity]",
        ] {
            assert!(matches!(read(bad), Err(Error::BadJson { .. })), "{bad}: {:?}", read(bad));
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(json("x.json", b"\xef\xbb\xbf{\"a\": 1}").unwrap(), value!({"a": 1}));
        assert_eq!(json("x.json", b"\xef\xbb\xbf[NaN]").unwrap(), value!([{ FLOAT: "NaN" }]));
        assert_eq!(super::super::text("x.jinja", b"\xef\xbb\xbf{{ a }}").unwrap(), "{{ a }}");
    }

    #[test]
    fn a_file_that_is_not_json_is_identified() {
        let lfs = b"version https://git-lfs.github.com/spec/v1\n";
        for (bytes, said) in [
            (&lfs[..], "git lfs pull"),
            (b"<html>", "web page"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"{\"a\": \"\xfc\"}", "not UTF-8 text: invalid byte at offset 7"),
            (b"", "it is empty"),
            (b" \n", "it is empty"),
            (b"Entry not found", "begins with \"Entry not found\""),
            (b"{\"a\": ", "was it cut off?"),
            (b"{\"a\" 1}", "expected `:` at line 1 column 6"),
            (b"{\n\"a\": [NaN 1]}", "line 2"),
        ] {
            let error = json("dir/x.json", bytes).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("dir/x.json"), "{said:?} is missing in: {error}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_text_panics_and_plain_json_is_unchanged(text in r#"([\[\]{},:\\"aé0. -]|NaN|-?Infinity){0,24}"#) {
            match (json("x.json", text.as_bytes()), serde_json::from_str::<Value>(&text)) {
                (read, Ok(plain)) => assert_eq!(read.unwrap(), plain),
                (Ok(_), Err(_)) => assert!(text.contains("NaN") || text.contains("Infinity"), "{text}"),
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn long_values_are_shortened() {
        assert_eq!(shown(&value!({ FLOAT: "Infinity" })), "Infinity");
        assert_eq!(shown(&value!([1, 2])), "[1,2]");
        assert_eq!(shown(&value!("x".repeat(1000))).chars().count(), 61);
    }
}
