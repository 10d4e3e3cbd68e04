//! Constraints on answers: JSON schemas, regular expressions and grammars, by the crate llguidance.

mod compile;
mod constraint;
mod limits;
mod matching;

pub(crate) use compile::{GrammarCompiler, Tokens, bound_spaces};
pub use constraint::Constraint;
pub(crate) use matching::Matching;

use llguidance::Matcher;
use std::fmt;
use std::sync::Arc;

/// A [`Constraint`] compiled for a checkpoint's tokenizer. Clones share it; any number of answers can follow it at once.
///
/// ```no_run
/// # fn f(checkpoint: &peregrine::Checkpoint) -> peregrine::Result<()> {
/// use peregrine::{AnswerOptions, Constraint};
/// let yes_or_no = checkpoint.grammar(&Constraint::Choice(vec!["yes".to_owned(), "no".to_owned()]))?;
/// let options = AnswerOptions::default().grammar(yes_or_no);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Grammar(Arc<Compiled>);

struct Compiled {
    /// What it was compiled from, for messages.
    source: &'static str,
    /// At the beginning of a text.
    start: Matcher,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grammar of {}", self.0.source)
    }
}

impl PartialEq for Grammar {
    /// Whether both are clones of one grammar.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
