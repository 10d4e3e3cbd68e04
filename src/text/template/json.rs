//! The filter `tojson`.

use super::budget::{Budget, refused};
use minijinja::Value;
use minijinja::value::{Kwargs, ValueKind};

/// Levels of lists and maps.
const DEPTH: usize = 500;

/// As Python's json.dumps(value, ensure_ascii=False, indent=indent) writes it.
pub fn to_json(value: &Value, options: &Kwargs, budget: &Budget) -> Result<String, minijinja::Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    // Of Python's dumps: what follows changes nothing here, or is the default.
    for known in ["ensure_ascii", "separators", "sort_keys"] {
        options.get::<Option<Value>>(known)?;
    }
    options.assert_all_used()?;
    let mut writer = Writer { indent, budget, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    indent: Option<usize>,
    budget: &'a Budget,
    out: String,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), minijinja::Error> {
        self.budget.spend(text.len())?;
        self.out += text;
        Ok(())
    }

    /// Begins a line, where there are lines.
    fn line(&mut self, depth: usize) -> Result<(), minijinja::Error> {
        let Some(indent) = self.indent else { return Ok(()) };
        let spaces = indent.saturating_mul(depth);
        self.budget.spend(spaces.saturating_add(1))?;
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', spaces));
        Ok(())
    }

    fn quoted(&mut self, text: &str) -> Result<(), minijinja::Error> {
        self.budget.spend(text.len())?;
        self.push(&serde_json::Value::from(text).to_string())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        if depth > DEPTH {
            return Err(refused(format!("tojson: a value nests more than {DEPTH} levels deep, or holds itself")));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&value.to_string()),
            ValueKind::String => self.quoted(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.items(value, depth, ['{', '}'], |writer, key| {
                match key.as_str() {
                    Some(text) => writer.quoted(text)?,
                    None => writer.quoted(&key.to_string())?,
                }
                writer.push(": ")?;
                writer.value(&value.get_item(key)?, depth + 1)
            }),
            _ => self.items(value, depth, ['[', ']'], |writer, item| writer.value(item, depth + 1)),
        }
    }

    fn items(
        &mut self,
        value: &Value,
        depth: usize,
        [open, close]: [char; 2],
        write: impl Fn(&mut Self, &Value) -> Result<(), minijinja::Error>,
    ) -> Result<(), minijinja::Error> {
        self.out.push(open);
        let mut empty = true;
        for item in value.try_iter()? {
            if !std::mem::take(&mut empty) {
                self.push(if self.indent.is_some() { "," } else { ", " })?;
            }
            self.line(depth + 1)?;
            write(self, &item)?;
        }
        if !empty {
            self.line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }
}
