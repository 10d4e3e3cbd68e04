//! How far an answer has come in its grammar.

use super::Grammar;
use super::compile::problem_of;
use crate::error::{Error, Result};
use llguidance::Matcher;
use std::fmt;

/// How far an answer has come in its grammar.
#[derive(Clone)]
pub(crate) struct Matching {
    grammar: Grammar,
    matcher: Matcher,
    /// Tokens taken.
    tokens: usize,
}

impl Matching {
    /// At the beginning of a text.
    pub(crate) fn of(grammar: &Grammar) -> Self {
        // With caches of its own: answers do not wait for each other.
        Matching { grammar: grammar.clone(), matcher: grammar.0.start.deep_clone(), tokens: 0 }
    }

    /// The grammar.
    pub(crate) fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// Whether the text is complete and cannot go on.
    pub(crate) fn is_over(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// Goes on by a token that the mask allowed.
    pub(crate) fn take(&mut self, id: u32) -> Result<()> {
        self.tokens += 1;
        self.matcher.consume_token(id).map_err(|error| self.failed(&error.to_string()))
    }

    /// Bans each token that cannot come next: its bias becomes -inf. EOS can where the text may end.
    pub(crate) fn mask(&mut self, bias: &mut [f32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| self.failed(&error.to_string()))?;
        for (id, bias) in bias.iter_mut().enumerate() {
            if id >= allowed.len() || !allowed.get(id) {
                *bias = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn failed(&self, message: &str) -> Error {
        let problem = format!("an answer cannot go on after {} tokens: {}", self.tokens, problem_of(message));
        Error::BadConstraint { constraint: self.grammar.0.source, problem }
    }
}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {} tokens", self.grammar, self.tokens)
    }
}

impl PartialEq for Matching {
    /// Whether both are as far in the same grammar.
    fn eq(&self, other: &Self) -> bool {
        (&self.grammar, self.tokens) == (&other.grammar, other.tokens)
    }
}
