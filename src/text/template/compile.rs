//! Compiles templates and instruments the bytecode: each operation whose work or result grows with its operands first spends
//! its cost from a [`Budget`]. The engine itself only counts instructions, and one instruction can double a string.

use super::budget::refused;
use super::methods::RenderContext;
use super::operators::{
    self, COMPARED, CONCAT, EQUAL, ITEM_OF, LOOPED, MADE, MAP, OPERANDS, ORDERED, PRODUCT, REMAINDER, SLICED, UNEQUAL,
    WITHIN,
};
use super::source_limits;
use minijinja::machinery::{self, CompiledTemplate, Instruction, Instructions, TemplateConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The filter index that turns the engine's lookup cache off.
const NOT_CACHED: u8 = !0;

/// Compiles, instruments and renders a template.
pub fn render(
    mut environment: Environment<'_>,
    source: &str,
    syntax: SyntaxConfig,
    (variables, context): (Value, &Arc<RenderContext>),
) -> Result<String, Error> {
    let compiled = compile(source, syntax)?;
    let all = || compiled.blocks.values().chain([&compiled.instructions]);
    let filters = names(all(), |i| if let Instruction::ApplyFilter(name, ..) = i { Some(name) } else { None });
    let tests = names(all(), |i| match i {
        Instruction::PerformTest(name, ..) if !operators::SHALLOW_TESTS.contains(name) => Some(name),
        _ => None,
    });
    operators::add(&mut environment, context, (&filters, &tests));
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

/// Checks the source limits and compiles.
pub fn compile(source: &str, syntax: SyntaxConfig) -> Result<CompiledTemplate<'_>, Error> {
    source_limits::check(source, syntax.clone())?;
    let config = TemplateConfig { syntax_config: syntax, default_auto_escape: Arc::new(|_| AutoEscape::None) };
    CompiledTemplate::new("chat", source, &config)
}

/// Filter or test names with the names of their checked versions.
pub type Names<'s> = BTreeMap<&'s str, String>;

fn names<'a, 's: 'a>(
    all: impl Iterator<Item = &'a Instructions<'s>>,
    name: impl Fn(&'a Instruction<'s>) -> Option<&'a &'s str>,
) -> Names<'s> {
    let names: BTreeSet<&'s str> = all.flat_map(listed).filter_map(name).copied().collect();
    // A prefix other than that of the operators, one of which has a filter's name.
    names.into_iter().map(|name| (name, format!("\u{fdd1}{name}"))).collect()
}

fn listed<'a, 's>(instructions: &'a Instructions<'s>) -> impl Iterator<Item = &'a Instruction<'s>> {
    (0..).map_while(|i| instructions.get(i))
}

/// The instructions with a check inserted before each one that needs it.
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
            I::Add => check(OPERANDS, 2).into_iter().chain([I::Add]).for_each(add),
            I::StringConcat => add(I::ApplyFilter(CONCAT, Some(2), NOT_CACHED)),
            I::Eq => add(I::ApplyFilter(EQUAL, Some(2), NOT_CACHED)),
            I::Ne => add(I::ApplyFilter(UNEQUAL, Some(2), NOT_CACHED)),
            I::Lt | I::Lte | I::Gt | I::Gte => {
                check(ORDERED, 2).into_iter().chain([instruction.clone()]).for_each(add);
            }
            I::In => check(WITHIN, 2).into_iter().chain([I::In]).for_each(add),
            I::CompareAndPreserve(operator) => {
                // The operator's type is private in the engine.
                let how = match format!("{operator:?}").as_str() {
                    "Eq" | "Ne" => COMPARED,
                    "In" | "NotIn" => WITHIN,
                    _ => ORDERED,
                };
                check(how, 2).into_iter().chain([instruction.clone()]).for_each(add);
            }
            I::Mul => check(PRODUCT, 2).into_iter().chain([I::Mul]).for_each(add),
            I::Rem => add(I::ApplyFilter(REMAINDER, Some(2), NOT_CACHED)),
            I::PushLoop(_) => {
                [I::ApplyFilter(LOOPED, Some(1), NOT_CACHED), instruction.clone()].into_iter().for_each(add)
            }
            I::GetItem => check(ITEM_OF, 2).into_iter().chain([I::GetItem]).for_each(add),
            I::Slice => check(SLICED, 4).into_iter().chain([I::Slice]).for_each(add),
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
            // The receiver is below the arguments on the stack.
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
