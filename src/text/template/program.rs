//! A template in its compiled form, in which each operation whose work or result grows with its operands first takes what it
//! costs from a [`Budget`]. The engine itself only counts instructions, and a string doubles with each of them.

use super::budget::{Budget, FUEL, ITEM, Reach, refused};
use super::size;
use minijinja::machinery::{self, CompiledTemplate, Instruction, Instructions, TemplateConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Not looked up once for all, but each time.
const NOT_CACHED: u8 = !0;
/// Names of the checks; no template can spell them.
const OPERANDS: &str = "\u{fdd0}operands";
const PRODUCT: &str = "\u{fdd0}product";
const ITEM_OF: &str = "\u{fdd0}item";
const MADE: &str = "\u{fdd0}made";
const MAP: &str = "\u{fdd0}map";

/// Tests that do not look into a value.
const SHALLOW_TESTS: &[&str] = &[
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
];
/// Filters that look at items, but not into them.
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
/// Filters whose result is as long as the text of what goes in. That of others may be a list of its characters.
const TEXT_FILTERS: &[&str] = &[
    "abs",
    "bool",
    "capitalize",
    "e",
    "escape",
    "float",
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
    "title",
    "tojson",
    "trim",
    "upper",
    "urlencode",
];
/// Filters whose result is larger than what goes in.
const GROWING: &[&str] = &["replace", "join", "indent", "format", "batch", "slice"];

/// Compiles and renders.
pub fn render(
    mut environment: Environment<'_>,
    source: &str,
    syntax: SyntaxConfig,
    (variables, budget): (Value, &Arc<Budget>),
) -> Result<String, Error> {
    let compiled = compile(source, syntax)?;
    let all = || compiled.blocks.values().chain([&compiled.instructions]);
    let filters = names(all(), |i| if let Instruction::ApplyFilter(name, ..) = i { Some(name) } else { None });
    let tests = names(all(), |i| match i {
        Instruction::PerformTest(name, ..) if !SHALLOW_TESTS.contains(name) => Some(name),
        _ => None,
    });
    add_checks(&mut environment, budget, (&filters, &tests));
    let checked = |from| checked(from, (&filters, &tests));
    let instructions = checked(&compiled.instructions)?;
    let blocks = compiled.blocks.iter().map(|(name, block)| Ok((*name, checked(block)?)));
    let blocks = blocks.collect::<Result<BTreeMap<_, _>, Error>>()?;
    let mut rendered = String::new();
    let mut output = machinery::make_string_output(&mut rendered);
    machinery::eval(&environment, &instructions, variables, &blocks, &mut output, AutoEscape::None)?;
    drop(output);
    Ok(rendered)
}

/// Compiles, with a look at the size of expressions before.
pub fn compile(source: &str, syntax: SyntaxConfig) -> Result<CompiledTemplate<'_>, Error> {
    size::check(source, syntax.clone())?;
    let config = TemplateConfig { syntax_config: syntax, default_auto_escape: Arc::new(|_| AutoEscape::None) };
    CompiledTemplate::new("chat", source, &config)
}

/// Names with those of their checked forms.
type Names<'s> = BTreeMap<&'s str, String>;

fn names<'a, 's: 'a>(
    all: impl Iterator<Item = &'a Instructions<'s>>,
    name: impl Fn(&'a Instruction<'s>) -> Option<&'a &'s str>,
) -> Names<'s> {
    let names: BTreeSet<&'s str> = all.flat_map(listed).filter_map(name).copied().collect();
    names.into_iter().map(|name| (name, format!("\u{fdd0}{name}"))).collect()
}

fn listed<'a, 's>(instructions: &'a Instructions<'s>) -> impl Iterator<Item = &'a Instruction<'s>> {
    (0..).map_while(|i| instructions.get(i))
}

/// The same instructions with a check before each that needs one.
fn checked<'s>(
    from: &Instructions<'s>,
    (filters, tests): (&'s Names<'s>, &'s Names<'s>),
) -> Result<Instructions<'s>, Error> {
    use Instruction as I;
    let check =
        |name, operands: u16| [I::ApplyFilter(name, Some(operands), NOT_CACHED), I::UnpackList(operands.into())];
    let mut places = vec![0];
    let mut all = Vec::new();
    for (i, instruction) in (0..).zip(listed(from)) {
        let line = from.get_line(i).and_then(|line| u16::try_from(line).ok());
        let made = |values: usize| {
            [I::LoadConst(Value::from(values)), I::ApplyFilter(MADE, Some(1), NOT_CACHED), I::DiscardTop]
        };
        let mut add = |instruction| all.push((instruction, line));
        match instruction {
            I::EmitRaw(text) => {
                add(I::LoadConst(Value::from(*text)));
                add(I::Emit);
            }
            I::Add
            | I::StringConcat
            | I::Eq
            | I::Ne
            | I::Lt
            | I::Lte
            | I::Gt
            | I::Gte
            | I::In
            | I::CompareAndPreserve(_) => {
                check(OPERANDS, 2).into_iter().chain([instruction.clone()]).for_each(add);
            }
            I::Mul => check(PRODUCT, 2).into_iter().chain([I::Mul]).for_each(add),
            I::GetItem => check(ITEM_OF, 2).into_iter().chain([I::GetItem]).for_each(add),
            I::Slice => check(OPERANDS, 4).into_iter().chain([I::Slice]).for_each(add),
            I::BuildMap(pairs) => {
                let operands = u16::try_from(2 * pairs).map_err(|_| refused("a map has too many entries"))?;
                made(2 * pairs).into_iter().chain([I::ApplyFilter(MAP, Some(operands), NOT_CACHED)]).for_each(add);
            }
            I::BuildKwargs(values) => made(2 * values).into_iter().chain([instruction.clone()]).for_each(add),
            I::BuildList(values) | I::BuildTuple(values) => {
                made(values.unwrap_or(0)).into_iter().chain([instruction.clone()]).for_each(add);
            }
            I::ApplyFilter(name, count, _) => add(I::ApplyFilter(&filters[name], *count, NOT_CACHED)),
            I::PerformTest(name, count, _) if tests.contains_key(name) => {
                add(I::PerformTest(&tests[name], *count, NOT_CACHED));
            }
            I::CallMethod("changed", _) => return Err(refused("loop.changed is not supported")),
            I::CallFunction(_, None) | I::CallMethod(_, None) | I::CallObject(None) => {
                return Err(refused("calls with *arguments or **arguments are not supported"));
            }
            I::CallFunction(_, Some(count @ 1..)) => {
                check(OPERANDS, *count).into_iter().chain([instruction.clone()]).for_each(add);
            }
            // Below the arguments lies what is called.
            I::CallMethod(_, Some(count @ 2..)) | I::CallObject(Some(count @ 2..)) => {
                check(OPERANDS, count - 1).into_iter().chain([instruction.clone()]).for_each(add);
            }
            other => add(other.clone()),
        }
        places.push(u32::try_from(all.len()).map_err(|_| refused("it is too long"))?);
    }
    let place = |at: u32| places[at as usize];
    let mut to = Instructions::new(from.name(), from.source());
    for (instruction, line) in all {
        let moved = match instruction {
            I::Jump(at) => I::Jump(place(at)),
            I::JumpIfFalse(at) => I::JumpIfFalse(place(at)),
            I::JumpIfFalseOrPop(at) => I::JumpIfFalseOrPop(place(at)),
            I::JumpIfTrueOrPop(at) => I::JumpIfTrueOrPop(place(at)),
            I::Iterate(at) => I::Iterate(place(at)),
            I::BuildMacro(name, at, flags) => I::BuildMacro(name, place(at), flags),
            other => other,
        };
        match line {
            Some(line) => to.add_with_line(moved, line),
            None => to.add(moved),
        };
    }
    Ok(to)
}

/// What the checks call.
fn add_checks(environment: &mut Environment<'_>, budget: &Arc<Budget>, (filters, tests): (&Names<'_>, &Names<'_>)) {
    environment.set_fuel(Some(FUEL));
    environment.remove_global("debug");
    let spent = budget.clone();
    environment.set_formatter(move |out, state, value| {
        spent.look(value, Reach::Text)?;
        minijinja::escape_formatter(out, state, value)
    });
    // A list is unpacked with its first item on top of the stack, where the last operand was.
    let mut add = |name: &'static str, check: fn(&Budget, &[Value]) -> Result<(), Error>| {
        let spent = budget.clone();
        environment.add_filter(name, move |operands: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let mut operands = operands.into_values();
            check(&spent, &operands)?;
            operands.reverse();
            Ok(Value::from(operands))
        });
    };
    add(OPERANDS, |budget, operands| operands.iter().try_for_each(|value| budget.look(value, Reach::Text)));
    add(ITEM_OF, |budget, operands| {
        budget.look(&operands[1], Reach::Text)?;
        if operands[0].kind() == ValueKind::String { budget.look(&operands[0], Reach::Text) } else { Ok(()) }
    });
    add(PRODUCT, |budget, operands| {
        let length = |value: &Value| value.as_str().map(str::len).or_else(|| value.len().map(|items| items * ITEM));
        let times = |value: &Value| value.as_usize().unwrap_or(0);
        let size = |a: &Value, b: &Value| length(a).unwrap_or(0).saturating_mul(times(b));
        budget.spend(size(&operands[0], &operands[1]).saturating_add(size(&operands[1], &operands[0])))
    });
    let spent = budget.clone();
    environment.add_filter(MADE, move |values: usize| spent.container(values).map(|()| 0));
    let spent = budget.clone();
    environment.add_filter(MAP, move |parts: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let pairs = parts.into_values();
        for pair in pairs.chunks_exact(2) {
            if matches!(pair[0].kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
                return Err(refused("a list or a map cannot be a key of a map"));
            }
            spent.look(&pair[0], Reach::Text)?;
        }
        Ok(Value::from_pairs(pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()))))
    });
    let plain = Arc::new(Environment::new());
    for name in GROWING {
        let (spent, plain) = (budget.clone(), plain.clone());
        environment.add_filter(*name, move |arguments: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let arguments = arguments.into_values();
            spend_growth(&spent, name, &arguments)?;
            plain.empty_state().apply_filter(name, &arguments)
        });
    }
    for (name, checked) in filters {
        let (spent, name) = (budget.clone(), (*name).to_owned());
        let reach = match &*name {
            name if STRUCTURAL_FILTERS.contains(&name) => Reach::Items,
            name if TEXT_FILTERS.contains(&name) => Reach::Text,
            _ => Reach::Characters,
        };
        environment.add_filter(checked.clone(), move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            arguments.iter().try_for_each(|value| spent.look(value, reach))?;
            state.apply_filter(&name, &arguments).map_err(|e| named(e, ErrorKind::UnknownFilter, &name))
        });
    }
    for (name, checked) in tests {
        let (spent, name) = (budget.clone(), (*name).to_owned());
        environment.add_test(checked.clone(), move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            arguments.iter().try_for_each(|value| spent.look(value, Reach::Text))?;
            state.perform_test(&name, &arguments).map_err(|e| named(e, ErrorKind::UnknownTest, &name))
        });
    }
}

fn named(error: Error, unknown: ErrorKind, name: &str) -> Error {
    if error.kind() == unknown && error.detail().is_none() {
        return Error::new(unknown, format!("{name} is unknown"));
    }
    error
}

/// Takes what a call makes beyond what goes in.
pub fn spend_growth(budget: &Budget, name: &str, arguments: &[Value]) -> Result<(), Error> {
    let text = |at: usize| arguments.get(at).and_then(Value::as_str).unwrap_or_default();
    let number = |at: usize, name: &str| {
        let by_name = arguments.last().filter(|last| last.is_kwargs()).and_then(|last| last.get_attr(name).ok());
        arguments.get(at).and_then(Value::as_usize).or(by_name.and_then(|value| value.as_usize()))
    };
    let bytes = match name {
        "replace" => text(0).matches(text(1)).count().saturating_mul(text(2).len()),
        "join" => {
            let items = arguments.first().and_then(|list| list.try_iter().ok()).map_or(0, Iterator::count);
            let by_name = arguments.last().filter(|last| last.is_kwargs()).and_then(|last| last.get_attr("d").ok());
            let between = by_name.and_then(|value| value.as_str().map(str::len)).unwrap_or(text(1).len());
            items.saturating_mul(between)
        }
        "indent" => (text(0).matches('\n').count() + 1).saturating_mul(number(1, "width").unwrap_or(4)),
        "format" if text(0).contains('*') => return Err(refused("format: a width of * is not supported")),
        "format" => {
            let numbers = text(0).split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
            numbers.map(|digits| digits.parse().unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
        }
        "batch" | "slice" => number(1, "count").unwrap_or(0).saturating_mul(ITEM),
        _ => 0,
    };
    budget.spend(bytes)
}
