//! Jinja filters that the engine lacks or implements differently. Each spends the cost of its result; the cost of the
//! arguments has been spent before the call.

use super::arguments::{Arguments, type_of};
use super::budget::{ITEM, refused};
use super::case::{Case, convert};
use super::methods::{RenderContext, filled, item_of, replaced};
use super::printf::printf;
use super::python_str::{repr, str};
use super::search::strip;
use super::stand_ins::Text;
use super::{json, markup, number};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::sync::Arc;

type Filter = fn(&mut State, &RenderContext, &Value, &Arguments) -> Result<Value, Error>;

/// Filters with their parameter names.
const FILTERS: &[(&str, &[&str], Filter)] = &[
    ("abs", &[], |_, _, value, _| number::abs(value)),
    ("attr", &["name"], |_, _, value, args| match value.kind() {
        // A map has items, not attributes.
        ValueKind::Map => Ok(Value::UNDEFINED),
        _ => value.get_item(&args.needed(0, "name")?),
    }),
    ("capitalize", &[], |_, context, value, _| cased(context, value, Case::Capital)),
    ("center", &["width"], |_, context, value, args| {
        let width = args.whole(0, "width")?.unwrap_or(80);
        filled(context, &str(value, &context.stand_ins), (width, ' '), "center").map(Value::from)
    }),
    ("default", &["default_value", "boolean"], |_, _, value, args| Ok(default(value, args))),
    ("d", &["default_value", "boolean"], |_, _, value, args| Ok(default(value, args))),
    ("escape", &[], |_, context, value, _| markup::escaped(context, value)),
    ("e", &[], |_, context, value, _| markup::escaped(context, value)),
    ("forceescape", &[], |_, context, value, _| markup::escaped(context, value)),
    ("filesizeformat", &["binary"], |_, _, value, args| {
        let size = f64::try_from(value.clone()).map_err(|_| refused(format!("filesizeformat: {}", type_of(value))))?;
        Ok(Value::from(minijinja_contrib::filters::filesizeformat(size, Some(args.flag(0, "binary", false)))))
    }),
    ("float", &["default"], |_, context, value, args| {
        Ok(number::float(&context.stand_ins.plain_value(value))
            .map_or_else(|| args.get(0, "default").unwrap_or(Value::from(0.0)), Value::from))
    }),
    ("indent", &["width", "first", "blank"], |_, context, value, args| indented(context, value, args)),
    ("int", &["default", "base"], |_, context, value, args| {
        let base = args.whole(1, "base")?.unwrap_or(10);
        let default = args.get(0, "default").unwrap_or(Value::from(0));
        Ok(number::int(&context.stand_ins.plain_value(value), base).unwrap_or(default))
    }),
    ("join", &["d", "attribute"], |_, context, value, args| {
        let between = args.get(0, "d").map(|d| str(&d, &context.stand_ins)).unwrap_or_default();
        let attribute = args.some(1, "attribute");
        let mut parts = Vec::new();
        for item in items(value)? {
            let item = match &attribute {
                Some(name) => at_path(context, &item, name)?,
                None => item,
            };
            parts.push(str(&item, &context.stand_ins));
        }
        context.budget.spend(parts.len().saturating_mul(between.len() + ITEM))?;
        Ok(Value::from(parts.join(&between)))
    }),
    ("length", &[], |_, _, value, _| length(value)),
    ("count", &[], |_, _, value, _| length(value)),
    ("lower", &[], |_, context, value, _| cased(context, value, Case::Lower)),
    ("upper", &[], |_, context, value, _| cased(context, value, Case::Upper)),
    ("title", &[], |_, context, value, _| cased(context, value, Case::Words)),
    ("pprint", &["verbose"], |_, context, value, _| Ok(Value::from(repr(value, &context.stand_ins)))),
    ("replace", &["old", "new", "count"], |_, context, value, args| {
        let [text, old, new] = [value.clone(), args.needed(0, "old")?, args.needed(1, "new")?]
            .map(|value| str(&value, &context.stand_ins));
        replaced(context, &text, (&old, &new), args.whole(2, "count")?).map(Value::from)
    }),
    ("round", &["precision", "method"], |_, _, value, args| {
        let method = args.text(1, "method")?;
        number::round(value, args.whole(0, "precision")?.unwrap_or(0), method.as_ref().and_then(Value::as_str))
    }),
    ("string", &[], |_, context, value, _| {
        Ok(if value.kind() == ValueKind::String { value.clone() } else { Value::from(str(value, &context.stand_ins)) })
    }),
    ("striptags", &[], |_, context, value, _| {
        markup::without_tags(context, &str(value, &context.stand_ins)).map(Value::from)
    }),
    ("tojson", &["ensure_ascii", "indent", "separators", "sort_keys"], |_, context, value, args| {
        json::to_json(value, args, context).map(Value::from)
    }),
    ("trim", &["chars"], |_, context, value, args| {
        let text = str(value, &context.stand_ins);
        let chars = args.text(0, "chars")?.map(|chars| context.stand_ins.plain_value(&chars));
        let of = Text::new(&text, &context.stand_ins);
        Ok(Value::from(of.cut(strip(&of.plain, chars.as_ref().and_then(Value::as_str), [true, true]))))
    }),
    ("truncate", &["length", "killwords", "end", "leeway"], |_, context, value, args| truncated(context, value, args)),
    ("urlencode", &[], |_, context, value, _| markup::url_encoded(context, value)),
    ("wordcount", &[], |_, context, value, _| {
        let text = str(value, &context.stand_ins);
        let text = context.stand_ins.plain_text(&text);
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        Ok(Value::from(words.filter(|word| !word.is_empty()).count()))
    }),
    ("wordwrap", &["width", "break_long_words", "wrapstring", "break_on_hyphens"], |_, context, value, args| {
        wrapped(context, value, args)
    }),
    ("xmlattr", &["autospace"], |_, context, value, args| {
        markup::attributes(context, value, args.flag(0, "autospace", true))
    }),
];

/// The engine's filters over a value's items: none is an error for them, not an empty list.
const OVER_ITEMS: &[&str] = &[
    "batch",
    "dictsort",
    "first",
    "groupby",
    "last",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "sum",
    "unique",
];

/// Adds all filters.
pub fn add(environment: &mut Environment<'_>, context: &Arc<RenderContext>) {
    for (name, arguments, filter) in FILTERS {
        let context = context.clone();
        environment.add_filter(*name, move |state: &mut State, values: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let values = values.into_values();
            let (value, rest) = values.split_first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            filter(state, &context, value, &Arguments::new(name, rest, arguments)?)
        });
    }
    let engine = Arc::new(Environment::new());
    for (name, arguments) in ENGINE {
        let (context, engine) = (context.clone(), engine.clone());
        environment.add_filter(*name, move |values: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let values = values.into_values();
            let (value, rest) = values.split_first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            let args = Arguments::new(name, rest, arguments)?;
            let given = arguments.iter().enumerate().filter_map(|(at, name)| Some((*name, args.get(at, name)?)));
            let values = if let [count, fill] = *arguments
                && matches!(*name, "batch" | "slice")
            {
                let count = args.whole(0, count)?.unwrap_or(0);
                context.budget.spend(usize::try_from(count).unwrap_or(0).saturating_mul(ITEM))?;
                vec![value.clone(), Value::from(count), args.get(1, fill).unwrap_or_default()]
            } else {
                vec![value.clone(), given.collect::<Kwargs>().into()]
            };
            engine.empty_state().apply_filter(name, &values)
        });
    }
    let context = context.clone();
    environment.add_filter("format", move |values: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let values = values.into_values();
        let (format, rest) = values.split_first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
        let format = str(format, &context.stand_ins);
        let by_name = rest.last().filter(|last| last.is_kwargs());
        let by_place = if by_name.is_some() { &rest[..rest.len() - 1] } else { rest };
        printf(&context, &format, by_place, by_name).map(Value::from)
    });
}

/// The engine's filters whose arguments Jinja also accepts by position or under other names.
const ENGINE: &[(&str, &[&str])] = &[
    ("batch", &["linecount", "fill_with"]),
    ("slice", &["slices", "fill_with"]),
    ("dictsort", &["case_sensitive", "by", "reverse"]),
    ("max", &["case_sensitive", "attribute"]),
    ("min", &["case_sensitive", "attribute"]),
    ("sort", &["reverse", "case_sensitive", "attribute"]),
    ("unique", &["case_sensitive", "attribute"]),
];

/// An error if a filter over items gets none.
pub fn check_items(name: &str, value: Option<&Value>) -> Result<(), Error> {
    match value {
        Some(value) if value.is_none() && OVER_ITEMS.contains(&name) => {
            Err(refused(format!("{name}: none is not iterable")))
        }
        _ => Ok(()),
    }
}

/// The items of an iterable value.
pub fn items(value: &Value) -> Result<impl Iterator<Item = Value>, Error> {
    if value.is_none() {
        return Err(refused("none is not iterable"));
    }
    value.try_iter()
}

fn default(value: &Value, args: &Arguments) -> Value {
    if value.is_undefined() || (args.flag(1, "boolean", false) && !value.is_true()) {
        return args.get(0, "default_value").unwrap_or(Value::from(""));
    }
    value.clone()
}

fn length(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(0));
    }
    let length = value.len().filter(|_| !value.is_none());
    length.map(Value::from).ok_or_else(|| refused(format!("{} has no length", type_of(value))))
}

fn cased(context: &RenderContext, value: &Value, case: Case) -> Result<Value, Error> {
    Ok(Value::from(convert(&str(value, &context.stand_ins), case, &context.stand_ins)))
}

fn indented(context: &RenderContext, value: &Value, args: &Arguments) -> Result<Value, Error> {
    let by = match args.some(0, "width") {
        Some(by) if by.kind() == ValueKind::String => by.as_str().unwrap_or_default().to_owned(),
        _ => {
            let width = usize::try_from(args.whole(0, "width")?.unwrap_or(4)).unwrap_or(0);
            context.budget.spend(width)?;
            " ".repeat(width)
        }
    };
    let (first, blank) = (args.flag(1, "first", false), args.flag(2, "blank", false));
    let text = str(value, &context.stand_ins);
    context.budget.spend((text.matches('\n').count() + 1).saturating_mul(by.len() + 1))?;
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 || first) && (blank || i == 0 || !line.is_empty()) {
            out += &by;
        }
        out += line;
    }
    Ok(Value::from(out))
}

fn truncated(context: &RenderContext, value: &Value, args: &Arguments) -> Result<Value, Error> {
    let size = |at, name, usual: i64| {
        let number = args.whole(at, name)?.unwrap_or(usual);
        usize::try_from(number).map_err(|_| refused(format!("truncate: {name} is {number}")))
    };
    let (length, leeway) = (size(0, "length", 255)?, size(3, "leeway", 5)?);
    let end = args.get(2, "end").map_or_else(|| "...".to_owned(), |end| str(&end, &context.stand_ins));
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        return Err(refused(format!("truncate: {end:?} is longer than {length} characters")));
    };
    let text = str(value, &context.stand_ins);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(text));
    }
    let head: String = text.chars().take(kept).collect();
    let head = match args.flag(1, "killwords", false) {
        true => head.as_str(),
        false => head.rsplit_once(' ').map_or(head.as_str(), |(head, _)| head),
    };
    Ok(Value::from(head.to_owned() + &end))
}

/// Python's textwrap, except that words with hyphens stay whole.
fn wrapped(context: &RenderContext, value: &Value, args: &Arguments) -> Result<Value, Error> {
    let width = usize::try_from(args.whole(0, "width")?.unwrap_or(79)).unwrap_or(0).max(1);
    let breaks = args.flag(1, "break_long_words", true);
    let between = args.text(2, "wrapstring")?;
    let between = between.as_ref().and_then(Value::as_str).unwrap_or("\n");
    let text = str(value, &context.stand_ins);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let before = lines.len();
        let (mut now, mut columns) = (String::new(), 0);
        for part in line.split_inclusive(' ') {
            let mut word = part.trim_end();
            let space = part.len() - word.len();
            let mut length = word.chars().count();
            if columns > 0 && columns + length > width {
                lines.push(std::mem::take(&mut now).trim_end().to_owned());
                columns = 0;
            }
            while breaks && length > width {
                let at = word.char_indices().nth(width).map_or(word.len(), |(at, _)| at);
                lines.push(word[..at].to_owned());
                (word, length) = (&word[at..], length - width);
            }
            now += word;
            now.extend(std::iter::repeat_n(' ', space));
            columns += length + space;
        }
        if !now.trim_end().is_empty() || lines.len() == before {
            lines.push(now.trim_end().to_owned());
        }
    }
    context.budget.spend(lines.len().saturating_mul(between.len() + ITEM))?;
    Ok(Value::from(lines.join(between)))
}

/// The value at a path such as `a.b`.
pub fn at_path(context: &RenderContext, value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else { return item_of(context, value, path) };
    text.split('.').try_fold(value.clone(), |value, part| match part.parse::<usize>() {
        Ok(at) => value.get_item(&Value::from(at)),
        Err(_) => value.get_item(&Value::from(part)),
    })
}
