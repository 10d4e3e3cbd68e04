//! Python's `str()` and `repr()` of values.

use super::stand_ins::StandIns;
use minijinja::Value;
use minijinja::value::ValueKind;
use std::fmt::Write;

/// Python's str().
pub fn str(value: &Value, stand_ins: &StandIns) -> String {
    match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::Undefined => String::new(),
        _ => repr(value, stand_ins),
    }
}

/// Python's repr(). The caller has checked the value's depth.
pub fn repr(value: &Value, stand_ins: &StandIns) -> String {
    let mut out = String::new();
    write(value, stand_ins, &mut out);
    out
}

fn write(value: &Value, stand_ins: &StandIns, out: &mut String) {
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default(), stand_ins, out),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number if !value.is_integer() => *out += &float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
        ValueKind::Bytes => bytes(value.as_bytes().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write(&key, stand_ins, out);
                out.push_str(": ");
                write(&value.get_item(&key).unwrap_or_default(), stand_ins, out);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut items = 0;
            for item in value.try_iter().into_iter().flatten() {
                out.push_str(if items > 0 { ", " } else { "" });
                write(&item, stand_ins, out);
                items += 1;
            }
            out.push_str(if tuple && items == 1 { "," } else { "" });
            out.push(if tuple { ')' } else { ']' });
        }
        _ => *out += &value.to_string(),
    }
}

/// The shortest digits that parse to the same number, with an exponent from 1e16 on and below 1e-4.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn quote(text: &str, stand_ins: &StandIns, out: &mut String) {
    let has = |c: char| text.chars().any(|other| stand_ins.plain(other) == c);
    let mark = if has('\'') && !has('"') { '"' } else { '\'' };
    out.push(mark);
    for shown in text.chars() {
        match stand_ins.plain(shown) {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == '\\' || c == mark => {
                out.push('\\');
                out.push(shown);
            }
            c if is_printable(c) => out.push(shown),
            c => {
                let code = u32::from(c);
                let _ = match code {
                    ..0x100 => write!(out, "\\x{code:02x}"),
                    0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(mark);
}

/// Python's str.isprintable() for a character.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // Rust's Debug escapes unprintable characters; combining accents only at the start of a string.
    c.escape_debug().count() == 1 || format!("{:?}", format!("a{c}")).chars().count() == 4
}

fn bytes(bytes: &[u8], out: &mut String) {
    let mark = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.push('b');
    out.push(mark);
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            b if char::from(*b) == mark => {
                out.push('\\');
                out.push(mark);
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push(mark);
}
