//! Text on its way to ids and back.

mod pieces;
mod stop;
mod stream;
mod template;
mod tokenizer;
mod vocabulary;

pub use pieces::{Piece, Pieces};
pub use stop::StopStrings;
pub use stream::TextStream;
pub use template::{CHATML, Message, Span, Template};
pub use tokenizer::{Specials, Tokenizer};
pub use vocabulary::{Kind as TokenKind, Vocabulary};
