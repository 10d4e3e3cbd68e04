//! Compiling constraints for a tokenizer.

use super::constraint::{Constraint, any_of};
use super::{Compiled, Grammar, limits};
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

/// Most bytes of a token that answers under a grammar can have: toktrie's limit is 1024.
const LONGEST_TOKEN: usize = 1000;

/// What may stand between two tokens of JSON: a model that likes white space could otherwise write it forever.
const JSON_SPACE: &str = r"\x20{1,2}|\r?\n[\x20\t]{0,64}";

/// Compiles constraints for the tokens of a checkpoint.
#[derive(Default)]
pub(crate) struct GrammarCompiler {
    /// Made on first use, which takes a few hundredths of a second for 65,000 tokens.
    factory: OnceLock<ParserFactory>,
}

/// The tokens of a checkpoint.
pub(crate) struct Tokens<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// Those that end an answer.
    pub(crate) eos: &'a [u32],
    /// Number of the model's logits.
    pub(crate) vocab: usize,
}

impl GrammarCompiler {
    /// Compiles a constraint for `tokens`, which must be the same in all calls. Time and memory are bounded for any constraint.
    pub(crate) fn compile(&self, constraint: &Constraint, tokens: &Tokens<'_>) -> Result<Grammar> {
        let source = constraint.source();
        let bad = |problem: String| Error::BadConstraint { constraint: source, problem };
        limits::check(constraint).map_err(bad)?;
        let grammar = top_level(constraint).map_err(bad)?;
        let factory = match self.factory.get() {
            Some(factory) => factory,
            None => {
                let factory = tokens.factory()?;
                self.factory.get_or_init(|| factory)
            }
        };
        let start = on_a_large_stack(|| {
            let mut start = Matcher::new(factory.create_parser(grammar));
            // A grammar of nothing but the empty text is over here.
            let begun = start.consume_tokens(&[]);
            // What cannot begin, or takes too long to, is found here and not in the first answer.
            let mask = begun.and_then(|()| start.deep_clone().compute_mask_or_eos());
            mask.map(|_| start).map_err(|error| problem_of(&error.to_string()))
        });
        Ok(Grammar(Arc::new(Compiled { source, start: start.map_err(bad)? })))
    }
}

impl Tokens<'_> {
    fn factory(&self) -> Result<ParserFactory> {
        let bad = |problem: String| Error::Tokenizer {
            file: self.tokenizer.file().to_owned(),
            problem: format!("its tokens cannot be used with a grammar: {problem}"),
        };
        let rows = u32::try_from(self.vocab).map_err(|_| bad(format!("there are {}", self.vocab)))?;
        let words: Vec<Vec<u8>> = (0..rows).map(|id| self.word(id)).collect();
        let eos: Vec<u32> = self.eos.iter().copied().filter(|id| *id < rows).collect();
        // The crates check some of their limits by panicking.
        let factory = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let trie = TokTrie::from(&TokRxInfo::new(rows, eos.first().copied().unwrap_or(INVALID_TOKEN)), &words);
            let trie = if eos.is_empty() { trie } else { trie.with_eos_tokens(&eos) };
            // The model chooses how to split a text into tokens, also where the grammar leaves one text only: the tokenizer might
            // normalize that text.
            let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new(&tokens, InferenceCapabilities::default(), &SlicedBiasComputer::general_slices())
        }));
        let mut factory = match factory {
            Ok(factory) => factory.map_err(|error| bad(problem_of(&error.to_string())))?,
            Err(_) => return Err(bad("they are too many or too long".to_owned())),
        };
        *factory.limits_mut() = limits::of_parser();
        factory.quiet();
        Ok(factory)
    }

    /// A token's bytes as the trie has them: those of special tokens are marked, so that no text contains them. Empty if no answer
    /// under a grammar has it.
    fn word(&self, id: u32) -> Vec<u8> {
        let bytes = self.tokenizer.bytes(id).unwrap_or_default();
        if bytes.len() > LONGEST_TOKEN {
            return vec![];
        }
        // EOS ends the answer, whatever its spelling.
        if self.tokenizer.is_special(id) || self.eos.contains(&id) {
            return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat();
        }
        // The marker is no byte of UTF-8.
        if bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) { vec![] } else { bytes.to_vec() }
    }
}

fn top_level(constraint: &Constraint) -> Result<TopLevelGrammar, String> {
    Ok(match constraint {
        Constraint::JsonObject => json_schema(json!({"type": "object"}))?,
        Constraint::JsonSchema(schema) => json_schema(schema.clone())?,
        Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
        Constraint::Choice(choices) => TopLevelGrammar::from_regex(&any_of(choices)),
        Constraint::Lark(grammar) if grammar.contains("::=") => {
            return Err("GBNF, the form with ::=, is not supported: write it in Lark, beginning with start:".to_owned());
        }
        Constraint::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
    })
}

fn json_schema(schema: Value) -> Result<TopLevelGrammar, String> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        schema => schema,
    };
    let Some(keywords) = schema.as_object_mut() else { return Err("it is not an object".to_owned()) };
    // llguidance's own keyword, which changes what it writes.
    keywords.remove("x-guidance");
    bound_spaces(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// Bounds the white space in the JSON of a schema, of which some models never stop writing more.
pub(crate) fn bound_spaces(schema: &mut Value) {
    JsonCompileOptions { whitespace_pattern: Some(JSON_SPACE.to_owned()), ..Default::default() }.apply_to(schema);
}

/// Runs `compile` on a thread with a large stack, where there are threads.
#[cfg(not(target_arch = "wasm32"))]
fn on_a_large_stack<T: Send>(compile: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(limits::STACK);
        let thread =
            thread.spawn_scoped(scope, compile).map_err(|error| format!("no thread to compile it: {error}"))?;
        thread.join().unwrap_or_else(|_| Err("its compiler failed".to_owned()))
    })
}

#[cfg(target_arch = "wasm32")]
fn on_a_large_stack<T>(compile: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    compile()
}

/// What a message of llguidance says, in one line that is not too long. It may contain grammars, drawings and backtraces.
pub(super) fn problem_of(message: &str) -> String {
    const SHOWN: usize = 200;
    if message.contains("NoExtensionBias") {
        return "no text fits it".to_owned();
    }
    // A regular expression's error is below a drawing of it.
    let line = message.lines().find_map(|line| line.strip_prefix("error: ")).or(message.lines().next());
    let line = line.unwrap_or("no reason was given");
    let shown: String = line.chars().take(SHOWN).collect();
    if shown.len() < line.len() { format!("{shown}…") } else { shown }
}
