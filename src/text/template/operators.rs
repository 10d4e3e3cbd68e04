//! Checked versions of the engine's operators, filters and tests: each spends its cost from the budget, and follows Python where
//! the engine differs.

use super::budget::{FUEL, ITEM, Reach, refused};
use super::compile::Names;
use super::filters::check_items;
use super::methods::RenderContext;
use super::printf::printf;
use super::python_str::str;
use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::sync::Arc;

/// Names of the checks, with a noncharacter that no template name can contain.
pub const OPERANDS: &str = "\u{fdd0}operands";
pub const COMPARED: &str = "\u{fdd0}compared";
pub const ORDERED: &str = "\u{fdd0}ordered";
pub const WITHIN: &str = "\u{fdd0}within";
pub const SLICED: &str = "\u{fdd0}sliced";
pub const ITEM_OF: &str = "\u{fdd0}item";
pub const MADE: &str = "\u{fdd0}made";
pub const MAP: &str = "\u{fdd0}map";
pub const LOOPED: &str = "\u{fdd0}looped";
/// Names of the operators.
pub const CONCAT: &str = "\u{fdd0}concat";
pub const EQUAL: &str = "\u{fdd0}equal";
pub const UNEQUAL: &str = "\u{fdd0}unequal";
pub const PRODUCT: &str = "\u{fdd0}product";
pub const REMAINDER: &str = "\u{fdd0}remainder";

/// Tests that do not inspect a value's contents.
pub const SHALLOW_TESTS: &[&str] = &[
    "defined",
    "undefined",
    "none",
    "boolean",
    "true",
    "false",
    "number",
    "integer",
    "int",
    "float",
    "string",
    "mapping",
    "sequence",
    "iterable",
    "odd",
    "even",
    "divisibleby",
    "safe",
    "escaped",
    "filter",
    "test",
    "callable",
];
/// Filters that look at items but not at their text.
const STRUCTURAL_FILTERS: &[&str] = &[
    "length",
    "count",
    "first",
    "last",
    "default",
    "d",
    "list",
    "reverse",
    "items",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "batch",
    "slice",
    "split",
    "lines",
];
/// Filters whose result is about as long as their input's text. Other filters may give a list of its characters.
const TEXT_FILTERS: &[&str] = &[
    "abs",
    "bool",
    "capitalize",
    "center",
    "e",
    "escape",
    "filesizeformat",
    "float",
    "forceescape",
    "format",
    "indent",
    "int",
    "join",
    "lower",
    "pprint",
    "replace",
    "round",
    "safe",
    "string",
    "striptags",
    "title",
    "tojson",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// Adds the filters and tests that instrumented code calls.
pub fn add(
    environment: &mut Environment<'_>,
    context: &Arc<RenderContext>,
    (filters, tests): (&Names<'_>, &Names<'_>),
) {
    environment.set_fuel(Some(FUEL));
    environment.remove_global("debug");
    let cx = context.clone();
    environment.set_formatter(move |out, _, value| {
        cx.budget.look(value, Reach::Text)?;
        out.write_str(&str(value, &cx.stand_ins)).map_err(Error::from)
    });
    add_checks(environment, context);
    add_operators(environment, context);
    for (name, checked) in filters {
        let (cx, name) = (context.clone(), (*name).to_owned());
        let reach = match &*name {
            name if STRUCTURAL_FILTERS.contains(&name) => Reach::Items,
            name if TEXT_FILTERS.contains(&name) => Reach::Text,
            _ => Reach::Characters,
        };
        environment.add_filter(checked.clone(), move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            arguments.iter().try_for_each(|value| cx.budget.look(value, reach))?;
            check_items(&name, arguments.first())?;
            state.apply_filter(&name, &arguments).map_err(|e| named(e, ErrorKind::UnknownFilter, &name))
        });
    }
    for (name, checked) in tests {
        let (cx, name) = (context.clone(), (*name).to_owned());
        environment.add_test(checked.clone(), move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            arguments.iter().try_for_each(|value| cx.budget.look(value, Reach::Text))?;
            let plain: Vec<Value> = arguments.iter().map(|value| cx.stand_ins.plain_value(value)).collect();
            state.perform_test(&name, &plain).map_err(|e| named(e, ErrorKind::UnknownTest, &name))
        });
    }
    // Filters such as `select` look tests up by their original names.
    let engine = Arc::new(Environment::new());
    for name in [
        "eq",
        "equalto",
        "==",
        "ne",
        "!=",
        "lt",
        "lessthan",
        "<",
        "le",
        "<=",
        "gt",
        "greaterthan",
        ">",
        "ge",
        ">=",
        "in",
    ] {
        let (cx, engine) = (context.clone(), engine.clone());
        environment.add_test(name, move |arguments: Rest<Value>| {
            let plain: Vec<Value> = arguments.iter().map(|value| cx.stand_ins.plain_value(value)).collect();
            engine.empty_state().perform_test(name, &plain)
        });
    }
}

/// Adds the checks, which return their operands as a list. Unpacking puts the first item on top of the stack, so the list is
/// reversed.
fn add_checks(environment: &mut Environment<'_>, context: &Arc<RenderContext>) {
    type Check = fn(&RenderContext, &mut [Value]) -> Result<(), Error>;
    let mut add = |name: &'static str, check: Check| {
        let cx = context.clone();
        environment.add_filter(name, move |operands: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let mut operands = operands.into_values();
            check(&cx, &mut operands)?;
            operands.reverse();
            Ok(Value::from(operands))
        });
    };
    fn look(context: &RenderContext, operands: &[Value]) -> Result<(), Error> {
        operands.iter().try_for_each(|value| context.budget.look(value, Reach::Text))
    }
    /// Unmasks the operands: the result of a comparison has no characters of a message.
    fn plain(context: &RenderContext, operands: &mut [Value]) -> Result<(), Error> {
        look(context, operands)?;
        operands.iter_mut().for_each(|value| *value = context.stand_ins.plain_value(value));
        Ok(())
    }
    add(OPERANDS, |context, operands| look(context, operands));
    add(COMPARED, plain);
    add(ORDERED, |context, operands| {
        plain(context, operands)?;
        let kind = |value: &Value| match value.kind() {
            ValueKind::Bool => ValueKind::Number,
            ValueKind::Iterable => ValueKind::Seq,
            kind => kind,
        };
        let [one, other] = [kind(&operands[0]), kind(&operands[1])];
        if one != other || !matches!(one, ValueKind::Number | ValueKind::String | ValueKind::Seq) {
            return Err(refused(format!("{one} and {other} cannot be ordered")));
        }
        Ok(())
    });
    add(WITHIN, |context, operands| {
        plain(context, operands)?;
        match (operands[0].kind(), operands[1].kind()) {
            (ValueKind::String, ValueKind::String) => Ok(()),
            (other, ValueKind::String) => Err(refused(format!("{other} cannot be in a string"))),
            _ => Ok(()),
        }
    });
    add(ITEM_OF, |context, operands| {
        context.budget.look(&operands[1], Reach::Text)?;
        if operands[0].kind() == ValueKind::String {
            return context.budget.look(&operands[0], Reach::Text);
        }
        if operands[1].kind() == ValueKind::String
            && operands[0].get_item(&operands[1]).is_ok_and(|item| item.is_undefined())
        {
            operands[1] = context.stand_ins.plain_value(&operands[1]);
        }
        Ok(())
    });
    add(SLICED, |context, operands| {
        look(context, operands)?;
        // The engine's negative steps differ from Python's: compute the slice here and let the engine copy it.
        if operands[3].as_i64().is_some_and(|step| step < 0) {
            operands[0] = backwards(context, operands)?;
            operands[1..].fill(Value::from(()));
        }
        Ok(())
    });
    add(PRODUCT, |context, operands| {
        let length = |value: &Value| value.as_str().map(str::len).or_else(|| value.len().map(|items| items * ITEM));
        for [list, times] in [[0, 1], [1, 0]] {
            let Some(length) = length(&operands[list]) else { continue };
            context.budget.spend(length.saturating_mul(operands[times].as_usize().unwrap_or(0)))?;
            if operands[times].as_i64().is_some_and(|times| times < 0) {
                operands[times] = Value::from(0);
            }
        }
        Ok(())
    });
    let cx = context.clone();
    environment.add_filter(MADE, move |values: usize| cx.budget.container(values).map(|()| 0));
    let cx = context.clone();
    environment.add_filter(MAP, move |arguments: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let pairs = arguments.into_values();
        for pair in pairs.chunks_exact(2) {
            if matches!(pair[0].kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
                return Err(refused("a list or a map cannot be a key of a map"));
            }
            cx.budget.look(&pair[0], Reach::Text)?;
        }
        Ok(Value::from_pairs(pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()))))
    });
    environment.add_filter(
        LOOPED,
        |value: Value| {
            if value.is_none() { Err(refused("none is not iterable")) } else { Ok(value) }
        },
    );
}

fn add_operators(environment: &mut Environment<'_>, context: &Arc<RenderContext>) {
    let cx = context.clone();
    let equal = move |one: &Value, other: &Value| -> Result<bool, Error> {
        cx.budget.look(one, Reach::Text)?;
        cx.budget.look(other, Reach::Text)?;
        let [one, other] = [one, other].map(|value| cx.stand_ins.plain_value(value));
        let lists = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
        let alike = one.is_undefined() == other.is_undefined()
            && (one.is_tuple() == other.is_tuple() || !(lists(&one) && lists(&other)));
        Ok(alike && one == other)
    };
    let unequal = equal.clone();
    environment.add_filter(EQUAL, move |one: &Value, other: &Value| equal(one, other));
    environment.add_filter(UNEQUAL, move |one: &Value, other: &Value| unequal(one, other).map(|equal| !equal));
    let cx = context.clone();
    environment.add_filter(CONCAT, move |one: &Value, other: &Value| -> Result<String, Error> {
        cx.budget.look(one, Reach::Text)?;
        cx.budget.look(other, Reach::Text)?;
        let text = str(one, &cx.stand_ins) + &str(other, &cx.stand_ins);
        cx.budget.spend(text.len())?;
        Ok(text)
    });
    let cx = context.clone();
    environment.add_filter(REMAINDER, move |one: &Value, other: &Value| -> Result<Value, Error> {
        let Some(text) = one.as_str() else { return remainder(one, other) };
        cx.budget.look(other, Reach::Text)?;
        let values: Vec<Value> = if other.is_tuple() { other.try_iter()?.collect() } else { vec![other.clone()] };
        let map = Some(other).filter(|other| other.kind() == ValueKind::Map);
        printf(&cx, text, &values, map).map(Value::from)
    });
}

/// A slice with a negative step of a list or a string.
fn backwards(context: &RenderContext, operands: &[Value]) -> Result<Value, Error> {
    let items: Vec<Value> = operands[0].try_iter()?.collect();
    let count = items.len() as i64;
    let place = |at: &Value, usual: i64| -> Result<i64, Error> {
        if at.is_none() {
            return Ok(usual);
        }
        let at = at.as_i64().ok_or_else(|| refused(format!("{} is not a slice index", at.kind())))?;
        Ok(if at < 0 { (at.saturating_add(count)).max(-1) } else { at.min(count - 1) })
    };
    let (first, end) = (place(&operands[1], count - 1)?, place(&operands[2], -1)?);
    let step = usize::try_from(operands[3].as_i64().unwrap_or(-1).unsigned_abs()).unwrap_or(usize::MAX);
    let taken = (end + 1..=first).rev().step_by(step).filter_map(|at| items.get(usize::try_from(at).ok()?).cloned());
    let taken: Vec<Value> = taken.collect();
    context.budget.container(taken.len())?;
    Ok(match operands[0].kind() {
        ValueKind::String => Value::from(taken.iter().filter_map(Value::as_str).collect::<String>()),
        _ if operands[0].is_tuple() => Value::from(Tuple::from(taken)),
        _ => Value::from(taken),
    })
}

/// Python's remainder of floor division.
fn remainder(one: &Value, other: &Value) -> Result<Value, Error> {
    let refuse = || refused(format!("{} % {} is undefined", one.kind(), other.kind()));
    let whole = |value: &Value| i128::try_from(value.clone()).ok().filter(|_| !is_float(value));
    if let (Some(one), Some(other)) = (whole(one), whole(other)) {
        let rest = one.checked_rem(other).ok_or_else(refuse)?;
        let rest = if rest != 0 && (rest < 0) != (other < 0) { rest + other } else { rest };
        return Ok(i64::try_from(rest).map_or_else(|_| Value::from(rest), Value::from));
    }
    let number = |value: &Value| f64::try_from(value.clone()).ok().or(whole(value).map(|number| number as f64));
    match (number(one), number(other)) {
        (Some(one), Some(other)) if other != 0.0 => {
            let rest = one % other;
            Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (other < 0.0) { rest + other } else { rest }))
        }
        _ => Err(refuse()),
    }
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

fn named(error: Error, unknown: ErrorKind, name: &str) -> Error {
    if error.kind() == unknown && error.detail().is_none() {
        return Error::new(unknown, format!("{name} is unknown"));
    }
    error
}
