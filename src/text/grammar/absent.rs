//! Builds without the feature `grammar` have no grammars: these types have no values.

use crate::error::Result;

/// A grammar that answers follow; needs the feature `grammar`.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {}

/// Compiles nothing.
#[derive(Default)]
pub(crate) struct GrammarCompiler {}

/// How far an answer has come in its grammar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Matching {}

impl Matching {
    pub(crate) fn of(grammar: &Grammar) -> Self {
        match *grammar {}
    }

    pub(crate) fn grammar(&self) -> &Grammar {
        match *self {}
    }

    pub(crate) fn is_over(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take(&mut self, _: u32) -> Result<()> {
        match *self {}
    }

    pub(crate) fn mask(&mut self, _: &mut [f32]) -> Result<()> {
        match *self {}
    }
}
