//! Tokenizers, chat templates, streaming of text, stop strings, and grammars of answers.

mod chunked;
mod expansion;
#[cfg(feature = "grammar")]
mod grammar;
#[cfg(not(feature = "grammar"))]
#[path = "grammar/absent.rs"]
mod grammar;
mod settings;
mod stop;
mod stream;
mod template;
mod tokenizer;
mod vocabulary;

pub use chunked::{ChunkedText, TextChunk};
#[cfg(feature = "grammar")]
pub use grammar::Constraint;
pub use grammar::Grammar;
pub(crate) use grammar::{GrammarCompiler, Matching};
#[cfg(feature = "grammar")]
pub(crate) use grammar::{Tokens, bound_spaces};
pub use settings::TokenizerSettings;
pub(crate) use settings::spelled;
pub use stop::StopStrings;
pub use stream::TextStream;
pub use template::{CHATML, Message, Span, Template, named_template, template_names};
pub use tokenizer::{Specials, Tokenizer};
pub use vocabulary::{TokenKind, Vocabulary};

use crate::error::{Error, Result};

/// Checks that bytes are UTF-8 text; `what` is its name for messages.
pub fn utf8(what: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to() as u64;
        Error::NotText { what: what.to_owned(), at }
    })
}
