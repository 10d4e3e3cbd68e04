//! Filters for HTML and URLs.

use super::budget::{ITEM, refused};
use super::methods::RenderContext;
use super::python_str::str;
use super::stand_ins::StandIns;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

/// Escapes HTML's special characters.
pub fn escaped(context: &RenderContext, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = str(value, &context.stand_ins);
    context.budget.spend(text.len().saturating_mul(5))?;
    Ok(Value::from_safe_string(escape(&text, &context.stand_ins)))
}

fn escape(text: &str, stand_ins: &StandIns) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match stand_ins.plain(c) {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(c),
        }
    }
    out
}

/// Removes tags and comments, collapses white space, and decodes entities.
pub fn without_tags(context: &RenderContext, text: &str) -> Result<String, Error> {
    context.budget.spend(text.len().saturating_mul(ITEM))?;
    let shown: Vec<char> = text.chars().collect();
    let plain: Vec<char> = shown.iter().map(|c| context.stand_ins.plain(*c)).collect();
    let begins = |at: usize, part: &str| part.chars().enumerate().all(|(i, c)| plain.get(at + i) == Some(&c));
    // The last position of each end mark, so that unclosed starts do not make the search quadratic.
    let comment_ends = (0..plain.len()).rev().find(|at| begins(*at, "-->"));
    let tag_ends = (0..plain.len()).rev().find(|at| plain[*at] == '>');
    let mut kept = String::new();
    let mut at = 0;
    while at < plain.len() {
        let comment = begins(at, "<!--") && comment_ends.is_some_and(|last| last >= at + 4);
        if comment || (plain[at] == '<' && tag_ends.is_some_and(|last| last > at)) {
            let end = if comment { "-->" } else { ">" };
            at = (at..plain.len()).find(|at| begins(*at, end)).map_or(plain.len(), |at| at + end.len());
        } else {
            kept.push(shown[at]);
            at += 1;
        }
    }
    Ok(decode_entities(&kept.split_whitespace().collect::<Vec<_>>().join(" "), &context.stand_ins))
}

/// Decodes HTML entities. The resulting characters count as message text.
fn decode_entities(text: &str, stand_ins: &StandIns) -> String {
    const LONGEST: usize = 10;
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length =
            rest.chars().take(LONGEST).position(|c| stand_ins.plain(c) == ';').filter(|_| stand_ins.plain(c) == '&');
        let name: String = rest.chars().take(length.unwrap_or(0)).skip(1).map(|c| stand_ins.plain(c)).collect();
        let code = |digits: &str, base| u32::from_str_radix(digits, base).ok().and_then(char::from_u32);
        let named = match name.as_str() {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            name => match name.strip_prefix("#x").or(name.strip_prefix("#X")) {
                Some(digits) => code(digits, 16),
                None => name.strip_prefix('#').and_then(|digits| code(digits, 10)),
            },
        };
        let taken = match (named, length) {
            (Some(named), Some(length)) => {
                out.push(stand_ins.mask(named));
                length + 1
            }
            _ => {
                out.push(c);
                1
            }
        };
        rest = rest.char_indices().nth(taken).map_or("", |(at, _)| &rest[at..]);
    }
    out
}

/// Percent-encodes a value; pairs or a map become a query string.
pub fn url_encoded(context: &RenderContext, value: &Value) -> Result<Value, Error> {
    let encoded = |value: &Value, query: bool| -> Result<String, Error> {
        let text = str(value, &context.stand_ins);
        context.budget.spend(text.len().saturating_mul(3))?;
        let mut out = String::new();
        for shown in text.chars() {
            match context.stand_ins.plain(shown) {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '-' | '~' => out.push(shown),
                '/' if !query => out.push(shown),
                ' ' if query => out.push('+'),
                c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out += &format!("%{byte:02X}")),
            }
        }
        Ok(out)
    };
    let pair = |key: &Value, item: &Value| Ok::<_, Error>(format!("{}={}", encoded(key, true)?, encoded(item, true)?));
    let pairs = match value.kind() {
        ValueKind::Map => {
            value.try_iter()?.map(|key| pair(&key, &value.get_item(&key)?)).collect::<Result<Vec<_>, _>>()?
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let of = |item: Value| pair(&item.get_item(&Value::from(0))?, &item.get_item(&Value::from(1))?);
            value.try_iter()?.map(of).collect::<Result<Vec<_>, _>>()?
        }
        _ => return encoded(value, false).map(Value::from),
    };
    Ok(Value::from(pairs.join("&")))
}

/// A map as the attributes of a tag.
pub fn attributes(context: &RenderContext, value: &Value, space: bool) -> Result<Value, Error> {
    let mut out = String::new();
    for key in super::filters::items(value)? {
        let item = value.get_item(&key)?;
        if item.is_none() || item.is_undefined() {
            continue;
        }
        let [name, item] = [str(&key, &context.stand_ins), str(&item, &context.stand_ins)];
        if context.stand_ins.plain_text(&name).contains(|c: char| c.is_whitespace() || matches!(c, '/' | '>' | '=')) {
            return Err(refused(format!("xmlattr: {name:?} is not an attribute name")));
        }
        let attribute = format!("{}=\"{}\"", escape(&name, &context.stand_ins), escape(&item, &context.stand_ins));
        context.budget.spend(attribute.len())?;
        out += if out.is_empty() && !space { "" } else { " " };
        out += &attribute;
    }
    Ok(Value::from_safe_string(out))
}
