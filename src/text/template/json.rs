//! The filter `tojson` as in transformers: Python's json.dumps.

use super::arguments::Arguments;
use super::budget::refused;
use super::methods::RenderContext;
use super::python_str::float;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

/// Maximum nesting of lists and maps.
const DEPTH: usize = 500;

/// json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
pub fn to_json(value: &Value, args: &Arguments, context: &RenderContext) -> Result<String, Error> {
    let indent = match args.some(1, "indent") {
        None => None,
        Some(text) if text.kind() == ValueKind::String => Some(text.as_str().unwrap_or_default().to_owned()),
        Some(_) => {
            let width = usize::try_from(args.whole(1, "indent")?.unwrap_or(0)).unwrap_or(0);
            context.budget.spend(width)?;
            Some(" ".repeat(width))
        }
    };
    let separators = match args.some(2, "separators") {
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
        Some(two) if two.len() == Some(2) && two.kind() != ValueKind::Map => {
            let part = |at: usize| -> Result<String, Error> {
                let part = two.get_item(&Value::from(at))?;
                part.as_str().map(str::to_owned).ok_or_else(|| refused("tojson: a separator is not a string"))
            };
            [part(0)?, part(1)?]
        }
        Some(_) => return Err(refused("tojson: separators must be two strings")),
    };
    let (ascii, sorted) = (args.flag(0, "ensure_ascii", false), args.flag(3, "sort_keys", false));
    let mut writer = Writer { indent, separators, ascii, sorted, context, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    indent: Option<String>,
    /// The separators between items and after a key.
    separators: [String; 2],
    ascii: bool,
    sorted: bool,
    context: &'a RenderContext,
    out: String,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.context.budget.spend(text.len())?;
        self.out += text;
        Ok(())
    }

    /// Starts a new line if indentation is on.
    fn line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else { return Ok(()) };
        self.context.budget.spend(indent.len().saturating_mul(depth).saturating_add(1))?;
        self.out.push('\n');
        (0..depth).for_each(|_| self.out += indent);
        Ok(())
    }

    fn quoted(&mut self, text: &str) -> Result<(), Error> {
        self.context.budget.spend(text.len().saturating_mul(if self.ascii { 6 } else { 2 }))?;
        self.out.push('"');
        for shown in text.chars() {
            match self.context.stand_ins.plain(shown) {
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(shown);
                }
                c if c < ' ' || (self.ascii && !matches!(c, ' '..='~')) => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| self.out += &format!("\\u{unit:04x}"));
                }
                _ => self.out.push(shown),
            }
        }
        self.out.push('"');
        Ok(())
    }

    fn number(&self, value: &Value) -> String {
        if value.is_integer() {
            return value.to_string();
        }
        match f64::try_from(value.clone()).unwrap_or(f64::NAN) {
            number if number.is_nan() => "NaN".to_owned(),
            number if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
            number => float(number),
        }
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(refused(format!("tojson: a value is nested more than {DEPTH} levels deep or contains itself")));
        }
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&self.number(value)),
            ValueKind::String => self.quoted(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort_by_cached_key(|key| self.context.stand_ins.plain_value(key));
                }
                self.items(keys.into_iter(), depth, ['{', '}'], |writer, key| {
                    match (key.kind(), key.as_str()) {
                        (_, Some(text)) => writer.quoted(text)?,
                        (ValueKind::None, _) => writer.push("\"null\"")?,
                        (ValueKind::Bool, _) => writer.push(if key.is_true() { "\"true\"" } else { "\"false\"" })?,
                        (ValueKind::Number, _) => writer.push(&format!("\"{}\"", writer.number(&key)))?,
                        _ => return Err(refused("tojson: a key must be a string, number, boolean or none")),
                    }
                    let between = writer.separators[1].clone();
                    writer.push(&between)?;
                    writer.value(&value.get_item(&key)?, depth + 1)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                self.items(value.try_iter()?, depth, ['[', ']'], |writer, item| writer.value(&item, depth + 1))
            }
            other => Err(refused(format!("tojson: a value of type {other} cannot be serialized"))),
        }
    }

    fn items(
        &mut self,
        items: impl Iterator<Item = Value>,
        depth: usize,
        [open, close]: [char; 2],
        write: impl Fn(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !std::mem::take(&mut empty) {
                let between = self.separators[0].clone();
                self.push(&between)?;
            }
            self.line(depth + 1)?;
            write(self, item)?;
        }
        if !empty {
            self.line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }
}
