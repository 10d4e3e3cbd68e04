//! Limits on a template's source, checked before it is parsed.

use super::budget::refused;
use minijinja::machinery::{self, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// Maximum bytes of a template. The longest real ones have some ten thousand.
const SOURCE: usize = 256 << 10;
/// Maximum tokens in one tag: the engine compiles expressions recursively.
const TOKENS: usize = 4096;
/// Maximum signs, powers and branches in one expression, and `elif`s in a template: the parser recurses for each.
const NESTED: usize = 200;
/// Maximum bytes of products of literals, which the engine evaluates at compile time.
const LITERALS: u128 = 1 << 20;

/// An error for sources that would make the engine's parser or compiler use unbounded stack or memory.
pub fn check(source: &str, syntax: SyntaxConfig) -> Result<(), Error> {
    let at = |line: usize, problem: &str| Err(Error::new(ErrorKind::SyntaxError, format!("line {line}: {problem}")));
    if source.len() > SOURCE {
        return Err(refused(format!("it has {} bytes; the maximum is {SOURCE}", source.len())));
    }
    let (mut elifs, mut literals) = (0, 0u128);
    let mut tag = Tag::default();
    for token in machinery::tokenize(source, false, syntax) {
        // The parser reports the error.
        let Ok((token, span)) = token else { return Ok(()) };
        let line = usize::from(span.start_line);
        tag.tokens += 1;
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => {
                tag = Tag { start: span.start_offset as usize, ..Tag::default() };
            }
            Token::VariableEnd | Token::BlockEnd => {
                let bytes = (span.end_offset as usize).saturating_sub(tag.start) as u128;
                if tag.products > 0 && tag.literals {
                    literals = literals.saturating_add(bytes.saturating_mul(tag.product.max(1)));
                }
            }
            Token::Minus | Token::Ident("not" | "else") => tag.nested += 1,
            Token::Ident("elif") => elifs += 1,
            Token::Ident("true" | "True") => tag.number(2),
            Token::Pow => {
                tag.nested += 1;
                tag.number(u128::MAX);
            }
            Token::Mul => tag.products += 1,
            Token::Str(_) | Token::String(_) | Token::BracketOpen => tag.literals = true,
            Token::Int(n) => tag.number(n.into()),
            Token::Int128(n) => tag.number(*n),
            Token::Float(n) => tag.number(n.ceil() as u128),
            _ => {}
        }
        if tag.tokens > TOKENS {
            return at(line, &format!("an expression has more than {TOKENS} tokens"));
        }
        if tag.nested > NESTED || elifs > NESTED {
            return at(line, &format!("more than {NESTED} signs, branches or powers in a row"));
        }
        if literals > LITERALS {
            return at(line, "a product of literals is too large");
        }
    }
    Ok(())
}

/// The contents of one tag.
#[derive(Default)]
struct Tag {
    start: usize,
    tokens: usize,
    nested: usize,
    products: usize,
    /// The product of its number literals.
    product: u128,
    /// Whether it has string or list literals.
    literals: bool,
}

impl Tag {
    fn number(&mut self, n: u128) {
        self.product = self.product.max(1).saturating_mul(n.max(2));
    }
}
