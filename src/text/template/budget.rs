//! What rendering a template may cost. A model's folder is not to be trusted: some thirty instructions of a template can ask
//! for gigabytes, or for a walk without end.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Instructions of the engine. Templates take some thousands for a long conversation.
pub const FUEL: u64 = 3_000_000;
/// Bytes that operations may read or make, whatever the messages are.
const BYTES: i64 = 256 << 20;
/// The same for each byte of the messages: a text may be copied for each message that it grows by...
const BYTES_A_BYTE: i64 = 1024;
/// ... up to this many.
const MOST_BYTES: i64 = 1 << 30;
/// The same for each byte of very long messages.
const LEAST_BYTES_A_BYTE: i64 = 64;
/// Lists and maps that may be made. No value nests deeper, so that freeing it has stack enough.
const CONTAINERS: i64 = 50_000;
/// How deep the value may nest that an operation looks into.
const DEPTH: usize = 500;
/// Bytes that a value counts for, beside its text.
pub const ITEM: usize = 32;

/// What is left to spend in one rendering.
pub struct Budget {
    bytes: AtomicI64,
    containers: AtomicI64,
    cancelled: Arc<AtomicBool>,
}

/// How much of a value an operation looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The items of a list, but not their text.
    Items,
    /// All of its text.
    Text,
    /// The same, each character of which may become a value of its own.
    Characters,
}

pub fn refused(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

impl Budget {
    /// For messages of so many bytes; nothing is left once it is cancelled.
    pub fn new(messages: usize, cancelled: &Arc<AtomicBool>) -> Self {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        let copies = BYTES.saturating_add(messages.saturating_mul(BYTES_A_BYTE)).min(MOST_BYTES);
        Budget {
            bytes: AtomicI64::new(copies.max(messages.saturating_mul(LEAST_BYTES_A_BYTE))),
            containers: AtomicI64::new(CONTAINERS),
            cancelled: cancelled.clone(),
        }
    }

    /// Takes bytes from what is left.
    pub fn spend(&self, bytes: usize) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(refused("cancelled"));
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let left =
            self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        match left {
            Ok(left) if left >= bytes => Ok(()),
            _ => Err(refused("it makes more text of these messages than a chat template needs to")),
        }
    }

    /// Counts a list or a map that is made of so many values.
    pub fn container(&self, values: usize) -> Result<(), Error> {
        self.spend(values.saturating_mul(ITEM))?;
        match self.containers.fetch_sub(1, Ordering::Relaxed) {
            1.. => Ok(()),
            _ => Err(refused(format!("it makes more than {CONTAINERS} lists and maps"))),
        }
    }

    /// Takes what an operation on a value costs. Fails as well where the value nests too deep to be walked, as one does that
    /// holds itself.
    pub fn look(&self, value: &Value, reach: Reach) -> Result<(), Error> {
        self.walk(value, reach, 0)
    }

    fn walk(&self, value: &Value, reach: Reach, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(refused(format!("a value nests more than {DEPTH} levels deep, or holds itself")));
        }
        self.spend(ITEM)?;
        match value.kind() {
            ValueKind::String => match reach {
                Reach::Text => self.spend(value.as_str().map_or(0, str::len)),
                // Its characters are the items.
                Reach::Items if depth > 0 => Ok(()),
                Reach::Items | Reach::Characters => self.spend(value.as_str().map_or(0, str::len).saturating_mul(ITEM)),
            },
            ValueKind::Bytes => self.spend(value.as_bytes().map_or(0, <[u8]>::len)),
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.walk(&key, reach, depth + 1)?;
                    self.walk(&value.get_item(&key)?, reach, depth + 1)?;
                }
                Ok(())
            }
            ValueKind::Seq | ValueKind::Iterable => {
                value.try_iter()?.try_for_each(|item| self.walk(&item, reach, depth + 1))
            }
            _ => Ok(()),
        }
    }
}
