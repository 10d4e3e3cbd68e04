//! Bounds on constraints, which may come from anywhere: on size and depth before the compiler sees them, then on its work.

use super::constraint::Constraint;
use llguidance::api::ParserLimits;
use serde_json::Value;

/// Most bytes of a JSON schema, written without spaces.
const SCHEMA_BYTES: usize = 64 << 10;
/// Most bytes of a regular expression, of a grammar, or of all choices together.
const TEXT_BYTES: usize = 64 << 10;
/// Most keys of one object in a JSON schema: the compiler's time grows with the square of an object's properties.
const SCHEMA_KEYS: usize = 1000;
/// Most levels of a JSON schema.
const SCHEMA_DEPTH: usize = 64;
/// Most brackets of a regular expression or grammar that are open at one place.
const OPEN_BRACKETS: usize = 128;

/// Stack of the thread that compiles: the compiler recurses along chains of references, and a text of the sizes above can make long
/// ones.
pub(super) const STACK: usize = 256 << 20;

/// The bounds on the compiler and on each mask.
pub(super) fn of_parser() -> ParserLimits {
    ParserLimits {
        // A state takes 1 to 2 kB.
        max_lexer_states: 50_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Why a constraint is too large to be compiled.
pub(super) fn check(constraint: &Constraint) -> Result<(), String> {
    let too_long = |bytes: usize, most: usize| format!("it has {bytes} bytes; at most {most} are accepted");
    match constraint {
        Constraint::JsonObject => Ok(()),
        Constraint::JsonSchema(schema) => {
            if is_deeper(schema, SCHEMA_DEPTH) {
                return Err(format!("it nests more than {SCHEMA_DEPTH} levels deep"));
            }
            let keys = most_keys(schema);
            if keys > SCHEMA_KEYS {
                return Err(format!("an object in it has {keys} keys; at most {SCHEMA_KEYS} are accepted"));
            }
            let bytes = schema.to_string().len();
            if bytes > SCHEMA_BYTES { Err(too_long(bytes, SCHEMA_BYTES)) } else { Ok(()) }
        }
        Constraint::Choice(choices) => {
            let bytes = choices.iter().map(String::len).sum();
            if choices.is_empty() {
                return Err("it is empty: give at least one text".to_owned());
            }
            if bytes > TEXT_BYTES { Err(too_long(bytes, TEXT_BYTES)) } else { Ok(()) }
        }
        Constraint::Regex(text) | Constraint::Lark(text) => {
            if text.len() > TEXT_BYTES {
                return Err(too_long(text.len(), TEXT_BYTES));
            }
            if open_brackets(text) > OPEN_BRACKETS {
                return Err(format!("it nests more than {OPEN_BRACKETS} brackets"));
            }
            Ok(())
        }
    }
}

/// Whether a value nests more than `levels` lists and objects. Recurses at most that deep.
fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels == 0 || list.iter().any(|value| is_deeper(value, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|value| is_deeper(value, levels - 1)),
        _ => false,
    }
}

/// The keys of the largest object. The value has passed [`is_deeper`].
fn most_keys(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(most_keys).max().unwrap_or(0),
        Value::Object(map) => map.values().map(most_keys).max().unwrap_or(0).max(map.len()),
        _ => 0,
    }
}

/// Most opening brackets before any place of a text, less the closing ones; brackets in strings count.
fn open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_to_the_limit_and_no_further() {
        let nested = |levels: usize| (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(!is_deeper(&nested(7), 7) && is_deeper(&nested(8), 7));
        assert_eq!((open_brackets("(a)[b](c{2})"), open_brackets("((("), open_brackets(")(")), (2, 3, 1));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_compiled() {
        let deep = (0..SCHEMA_DEPTH + 1).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        for (constraint, said) in [
            (Constraint::JsonSchema(deep), "levels"),
            (Constraint::JsonSchema((0..SCHEMA_KEYS + 1).map(|i| (i.to_string(), Value::Null)).collect()), "keys"),
            (Constraint::JsonSchema(Value::String("x".repeat(SCHEMA_BYTES))), "bytes"),
            (Constraint::Regex("x".repeat(TEXT_BYTES + 1)), "bytes"),
            (Constraint::Lark("(".repeat(OPEN_BRACKETS + 1)), "brackets"),
            (Constraint::Choice(vec![]), "empty"),
            (Constraint::Choice(vec!["x".repeat(TEXT_BYTES); 2]), "bytes"),
        ] {
            let refused = check(&constraint).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(check(&Constraint::Regex("x".repeat(TEXT_BYTES))), Ok(()));
    }
}
