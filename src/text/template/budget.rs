//! Limits on the cost of rendering a template. Model folders are untrusted: thirty instructions of a template can ask for
//! gigabytes of memory or for an endless loop.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Maximum instructions of the engine. Real templates need some thousands for a long conversation.
pub const FUEL: u64 = 3_000_000;
/// Bytes that operations may read or create for any conversation.
const BYTES: i64 = 256 << 20;
/// Additional bytes per byte of the messages, since a template may copy its growing text for each message...
const BYTES_A_BYTE: i64 = 1024;
/// ... up to this total.
const MOST_BYTES: i64 = 1 << 30;
/// The minimum per byte of very long messages.
const LEAST_BYTES_A_BYTE: i64 = 64;
/// Maximum number of lists and maps created. It also bounds nesting, so that dropping a value cannot overflow the stack.
const CONTAINERS: i64 = 50_000;
/// Maximum nesting of a value that an operation walks.
const DEPTH: usize = 500;
/// Bytes that a value costs in addition to its text.
pub const ITEM: usize = 32;

/// The remaining budget of one rendering.
pub struct Budget {
    bytes: AtomicI64,
    containers: AtomicI64,
    cancelled: Arc<AtomicBool>,
}

/// How deep an operation looks into a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The items of a list, but not their text.
    Items,
    /// All of its text.
    Text,
    /// All of its text, where each character may become a value.
    Characters,
}

/// The error of an operation that is invalid or too expensive.
pub fn refused(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

impl Budget {
    /// The budget for `messages` bytes of input. Once `cancelled` is set, all spending fails.
    pub fn new(messages: usize, cancelled: &Arc<AtomicBool>) -> Self {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        let copies = BYTES.saturating_add(messages.saturating_mul(BYTES_A_BYTE)).min(MOST_BYTES);
        Budget {
            bytes: AtomicI64::new(copies.max(messages.saturating_mul(LEAST_BYTES_A_BYTE))),
            containers: AtomicI64::new(CONTAINERS),
            cancelled: cancelled.clone(),
        }
    }

    /// Spends bytes.
    pub fn spend(&self, bytes: usize) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(refused("cancelled"));
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let left =
            self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        match left {
            Ok(left) if left >= bytes => Ok(()),
            _ => Err(refused("rendering these messages takes more text operations than a chat template needs")),
        }
    }

    /// Counts a new list or map with this many values.
    pub fn container(&self, values: usize) -> Result<(), Error> {
        self.spend(values.saturating_mul(ITEM))?;
        match self.containers.fetch_sub(1, Ordering::Relaxed) {
            1.. => Ok(()),
            _ => Err(refused(format!("it creates more than {CONTAINERS} lists and maps"))),
        }
    }

    /// Spends the cost of an operation on a value. Also fails if the value is nested too deep to walk, as one that contains
    /// itself is.
    pub fn look(&self, value: &Value, reach: Reach) -> Result<(), Error> {
        self.walk(value, reach, 0)
    }

    fn walk(&self, value: &Value, reach: Reach, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(refused(format!("a value is nested more than {DEPTH} levels deep or contains itself")));
        }
        self.spend(ITEM)?;
        match value.kind() {
            ValueKind::String => match reach {
                Reach::Text => self.spend(value.as_str().map_or(0, str::len)),
                // A string's items are its characters.
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
