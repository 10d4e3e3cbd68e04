//! Methods of Python's str, list and dict that templates call.

use super::arguments::{Arguments, type_of};
use super::budget::{Budget, ITEM, refused};
use super::case::{self, Case};
use super::search::{char_range, find, lines, split_at, split_whitespace, strip};
use super::stand_ins::{StandIns, Text};
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Shared state of one rendering.
pub struct RenderContext {
    pub budget: std::sync::Arc<Budget>,
    pub stand_ins: std::sync::Arc<StandIns>,
}

/// Calls a method that the engine's value lacks. The arguments' cost has been spent.
pub fn call(
    state: &mut State,
    context: &RenderContext,
    (value, name): (&Value, &str),
    args: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => text(context, value.as_str().unwrap_or_default(), name, args),
        ValueKind::Map if name == "copy" => {
            context.budget.container(2 * value.len().unwrap_or(0))?;
            let pairs = value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?)));
            Ok(Value::from_pairs(pairs.collect::<Result<Vec<_>, Error>>()?))
        }
        ValueKind::Map if name == "get" => {
            let args = Arguments::new("get", args, &["", ""])?;
            let found = item_of(context, value, &args.needed(0, "")?)?;
            Ok(if found.is_undefined() { args.get(1, "").unwrap_or(Value::from(())) } else { found })
        }
        ValueKind::Seq | ValueKind::Iterable => list(context, value, name, args),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// The item of a map or a list under a key, or under the unmasked key.
pub fn item_of(context: &RenderContext, value: &Value, key: &Value) -> Result<Value, Error> {
    let found = value.get_item(key)?;
    if found.is_undefined() && key.kind() == ValueKind::String {
        return value.get_item(&context.stand_ins.plain_value(key));
    }
    Ok(found)
}

fn list(context: &RenderContext, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let plain = |value: &Value| context.stand_ins.plain_value(value);
    match name {
        "count" | "index" => {
            let wanted = plain(&Arguments::new(name, args, &[""])?.needed(0, "")?);
            let mut items = value.try_iter()?;
            if name == "count" {
                return Ok(Value::from(items.filter(|item| plain(item) == wanted).count()));
            }
            let at = items.position(|item| plain(&item) == wanted);
            at.map(Value::from).ok_or_else(|| refused("index: the item is not in the list"))
        }
        "copy" => {
            context.budget.container(value.len().unwrap_or(0))?;
            Ok(Value::from(value.try_iter()?.collect::<Vec<_>>()))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Calls a string method.
fn text(context: &RenderContext, shown: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let stand_ins = &context.stand_ins;
    let arguments = |names: &[&str]| Arguments::new(name, args, names);
    let of = Text::new(shown, stand_ins);
    let plain = &*of.plain;
    let is = |yes: bool| {
        arguments(&[])?;
        Ok(Value::from(yes))
    };
    let all = |test: fn(char) -> bool| is(!plain.is_empty() && plain.chars().all(test));
    let cased = |to: Case| {
        arguments(&[])?;
        Ok(Value::from(case::convert(shown, to, stand_ins)))
    };
    match name {
        "upper" => cased(Case::Upper),
        "lower" | "casefold" => cased(if name == "lower" { Case::Lower } else { Case::Folded }),
        "capitalize" => cased(Case::Capital),
        "title" => cased(Case::Title),
        "swapcase" => cased(Case::Swapped),
        "islower" => is(case::is_all(plain, char::is_lowercase, char::is_uppercase)),
        "isupper" => is(case::is_all(plain, char::is_uppercase, char::is_lowercase)),
        "istitle" => is(case::is_title(plain)),
        "isspace" => all(char::is_whitespace),
        "isdecimal" => all(|c| c.is_numeric() && case::is_decimal(c)),
        "isdigit" => all(|c| case::is_decimal(c) || case::is_raised_digit(c)),
        "isnumeric" => all(char::is_numeric),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => is(plain.is_ascii()),
        "isprintable" => is(plain.chars().all(super::python_str::is_printable)),
        "isidentifier" => {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            is(plain.starts_with(|c: char| c.is_alphabetic() || c == '_') && plain.chars().all(word))
        }
        "strip" | "lstrip" | "rstrip" => {
            let chars = arguments(&[""])?.text(0, "")?.map(|chars| stand_ins.plain_value(&chars));
            let chars = chars.as_ref().and_then(Value::as_str);
            Ok(Value::from(of.cut(strip(plain, chars, [name != "rstrip", name != "lstrip"]))))
        }
        "split" | "rsplit" => {
            let args = arguments(&["sep", "maxsplit"])?;
            let most = args.whole(1, "maxsplit")?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            let parts = match args.text(0, "sep")?.map(|by| stand_ins.plain_value(&by)) {
                None => split_whitespace(plain, most, name == "rsplit"),
                Some(by) => match by.as_str().unwrap_or_default() {
                    "" => return Err(refused(format!("{name}: the separator is empty"))),
                    by => split_at(plain, by, most, name == "rsplit"),
                },
            };
            texts(context, parts.into_iter().map(|part| of.cut(part)))
        }
        "splitlines" => {
            let keep = arguments(&["keepends"])?.flag(0, "keepends", false);
            texts(context, lines(plain, keep).into_iter().map(|part| of.cut(part)))
        }
        "partition" | "rpartition" => {
            let by = arguments(&[""])?.needed(0, "")?;
            let by = stand_ins.plain_value(&by);
            let by =
                by.as_str().filter(|by| !by.is_empty()).ok_or_else(|| refused("partition: the separator is empty"))?;
            let at = if name == "partition" { plain.find(by) } else { plain.rfind(by) };
            let parts = match at {
                Some(at) => [of.cut(0..at), of.cut(at..at + by.len()), of.cut(at + by.len()..plain.len())],
                None if name == "partition" => [shown, "", ""],
                None => ["", "", shown],
            };
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "startswith" | "endswith" => {
            let args = arguments(&["", "", ""])?;
            let range = char_range(plain, args.whole(1, "")?, args.whole(2, "")?);
            let fits = |part: &Value| {
                let part = stand_ins.plain_value(part);
                let part =
                    part.as_str().ok_or_else(|| refused(format!("{name}: {}, expected a string", type_of(&part))))?;
                let here = range.as_ref().map(|range| &plain[range.clone()]);
                Ok(here.is_some_and(
                    |here| if name == "startswith" { here.starts_with(part) } else { here.ends_with(part) },
                ))
            };
            let parts = args.needed(0, "")?;
            if !parts.is_tuple() {
                return fits(&parts).map(Value::from);
            }
            for part in parts.try_iter()? {
                if fits(&part)? {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let args = arguments(&["", "", ""])?;
            let part = stand_ins.plain_value(&args.needed(0, "")?);
            let part =
                part.as_str().ok_or_else(|| refused(format!("{name}: {}, expected a string", type_of(&part))))?;
            let Some(range) = char_range(plain, args.whole(1, "")?, args.whole(2, "")?) else {
                return if name.ends_with("index") {
                    Err(refused("index: the start is after the end"))
                } else {
                    Ok(Value::from(if name == "count" { 0 } else { -1 }))
                };
            };
            if name == "count" {
                return Ok(Value::from(plain[range].matches(part).count()));
            }
            match find(plain, part, range, name.starts_with('r')) {
                Some(at) => Ok(Value::from(plain[..at].chars().count())),
                None if name.ends_with("index") => Err(refused(format!("{name}: {part:?} is not in the string"))),
                None => Ok(Value::from(-1)),
            }
        }
        "replace" => {
            let args = arguments(&["", "", "count"])?;
            let (old, new) = (args.needed(0, "")?, args.needed(1, "")?);
            let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else {
                return Err(refused("replace: both arguments must be strings"));
            };
            replaced(context, shown, (old, new), args.whole(2, "count")?).map(Value::from)
        }
        "removeprefix" | "removesuffix" => {
            let part = stand_ins.plain_value(&arguments(&[""])?.needed(0, "")?);
            let part =
                part.as_str().ok_or_else(|| refused(format!("{name}: {}, expected a string", type_of(&part))))?;
            let rest = if name == "removeprefix" {
                plain.strip_prefix(part).map(|rest| plain.len() - rest.len()..plain.len())
            } else {
                plain.strip_suffix(part).map(|rest| 0..rest.len())
            };
            Ok(Value::from(rest.map_or(shown, |rest| of.cut(rest))))
        }
        "ljust" | "rjust" | "center" => {
            let args = arguments(&["", ""])?;
            let width = args.whole(0, "")?.ok_or_else(|| refused(format!("{name} needs a width")))?;
            let fill = args.text(1, "")?;
            let mut fill = fill.as_ref().and_then(Value::as_str).unwrap_or(" ").chars();
            let (Some(fill), None) = (fill.next(), fill.next()) else {
                return Err(refused(format!("{name}: the fill must be one character")));
            };
            filled(context, shown, (width, fill), name).map(Value::from)
        }
        "zfill" => {
            let width = arguments(&[""])?.whole(0, "")?.ok_or_else(|| refused("zfill needs a width"))?;
            let sign = plain.len() - plain.strip_prefix(['+', '-']).unwrap_or(plain).len();
            let (sign, digits) = (of.cut(0..sign), of.cut(sign..plain.len()));
            Ok(Value::from(
                sign.to_owned() + &filled(context, digits, (width.saturating_sub(sign.len() as i64), '0'), "rjust")?,
            ))
        }
        "join" => {
            let items = arguments(&[""])?.needed(0, "")?;
            let items = items.try_iter()?.collect::<Vec<_>>();
            match items.iter().find(|item| item.kind() != ValueKind::String) {
                Some(other) => Err(refused(format!("join: {}, expected strings", type_of(other)))),
                None => Ok(Value::from(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(shown))),
            }
        }
        "format" => format(FormatStyle::StrFormat, shown, args).map(Value::from),
        "encode" => {
            arguments(&["encoding", "errors"])?;
            Ok(Value::from_bytes(shown.as_bytes().to_vec()))
        }
        "expandtabs" => {
            let width = arguments(&["tabsize"])?.whole(0, "tabsize")?.unwrap_or(8);
            expanded(context, shown, usize::try_from(width).unwrap_or(0)).map(Value::from)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// A list of strings.
fn texts<'a>(context: &RenderContext, parts: impl ExactSizeIterator<Item = &'a str>) -> Result<Value, Error> {
    context.budget.container(parts.len())?;
    Ok(Value::from(parts.map(Value::from).collect::<Vec<_>>()))
}

/// Replaces `old` by `new`, at most `times` times.
pub fn replaced(
    context: &RenderContext,
    shown: &str,
    (old, new): (&str, &str),
    times: Option<i64>,
) -> Result<String, Error> {
    let (of, old) = (Text::new(shown, &context.stand_ins), context.stand_ins.plain_text(old));
    let times = times.and_then(|times| usize::try_from(times).ok()).unwrap_or(usize::MAX);
    let places: Vec<usize> = of.plain.match_indices(&*old).map(|(at, _)| at).take(times).collect();
    context.budget.spend(shown.len().saturating_add(places.len().saturating_mul(new.len())))?;
    let (mut text, mut done) = (String::new(), 0);
    for at in places {
        text += of.cut(done..at);
        text += new;
        done = at + old.len();
    }
    Ok(text + of.cut(done..of.plain.len()))
}

/// Pads a text to `width` characters.
pub fn filled(context: &RenderContext, text: &str, (width, fill): (i64, char), side: &str) -> Result<String, Error> {
    let (length, width) = (text.chars().count(), usize::try_from(width).unwrap_or(0));
    let missing = width.saturating_sub(length);
    let left = match side {
        "ljust" => 0,
        "rjust" => missing,
        // Python's rounding when centering.
        _ => missing / 2 + (missing & width & 1),
    };
    context.budget.spend(missing.saturating_mul(fill.len_utf8()).saturating_add(text.len()))?;
    let fill = |count| std::iter::repeat_n(fill, count);
    Ok(fill(left).chain(text.chars()).chain(fill(missing - left)).collect())
}

fn expanded(context: &RenderContext, text: &str, width: usize) -> Result<String, Error> {
    context.budget.spend(text.matches('\t').count().saturating_mul(width.max(ITEM)))?;
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' if width > 0 => {
                let spaces = width - column % width;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\t' => {}
            _ => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                out.push(c);
            }
        }
    }
    Ok(out)
}
