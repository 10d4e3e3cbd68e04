//! The metadata of a GGUF file: keys with typed values.

use crate::error::{Error, Result};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Type 0.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    String(String),
    /// Type 9.
    Array(Array),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 12.
    F64(f64),
}

/// The items of an array, all of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Texts.
    Strings(Vec<String>),
    /// Numbers or booleans, as stored in the file.
    Numbers {
        /// The number of their type.
        kind: u32,
        /// Little endian.
        bytes: Vec<u8>,
    },
    /// Arrays.
    Arrays(Vec<Array>),
}

pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;

/// Bytes of a number or boolean of this type; `None` for other types.
pub(super) fn number_bytes(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl Value {
    /// The number of its type.
    pub(super) fn kind(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::String(_) => STRING,
            Value::Array(_) => ARRAY,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    /// A number or boolean from [`number_bytes`] bytes.
    pub(super) fn number(kind: u32, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != number_bytes(kind)? {
            return None;
        }
        // Zero-extended to one length.
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        Some(match kind {
            0 => Value::U8(bits as u8),
            1 => Value::I8(bits as i8),
            2 => Value::U16(bits as u16),
            3 => Value::I16(bits as i16),
            4 => Value::U32(bits as u32),
            5 => Value::I32(bits as i32),
            6 => Value::F32(f32::from_bits(bits as u32)),
            7 => Value::Bool(bits != 0),
            10 => Value::U64(bits),
            11 => Value::I64(bits as i64),
            12 => Value::F64(f64::from_bits(bits)),
            _ => return None,
        })
    }

    /// A whole number from 0 on, of any integer type.
    pub fn whole(&self) -> Option<u64> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// Whether it is 0, false, an empty text, or an array of nothing but zeros.
    pub fn is_zero(&self) -> bool {
        match self {
            Value::F32(v) => *v == 0.0,
            Value::F64(v) => *v == 0.0,
            Value::Bool(b) => !b,
            Value::String(text) => text.is_empty(),
            Value::Array(Array::Strings(items)) => items.is_empty(),
            Value::Array(Array::Numbers { bytes, .. }) => bytes.iter().all(|byte| *byte == 0),
            Value::Array(Array::Arrays(items)) => items.iter().all(Array::is_empty),
            number => number.whole() == Some(0),
        }
    }

    /// A short description for messages.
    pub fn described(&self) -> String {
        match self {
            Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::Array(array) => format!("an array of {}", array.len()),
            Value::Bool(b) => b.to_string(),
            Value::F32(v) => v.to_string(),
            Value::F64(v) => v.to_string(),
            Value::U64(n) => n.to_string(),
            other => other.whole().map_or_else(|| "a negative number".to_owned(), |n| n.to_string()),
        }
    }
}

impl Array {
    /// Number of items.
    pub fn len(&self) -> usize {
        match self {
            Array::Strings(items) => items.len(),
            Array::Numbers { kind, bytes } => bytes.len() / number_bytes(*kind).unwrap_or(1),
            Array::Arrays(items) => items.len(),
        }
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An array of I32.
    pub fn of_i32(items: &[i32]) -> Self {
        Array::Numbers { kind: 5, bytes: items.iter().flat_map(|n| n.to_le_bytes()).collect() }
    }

    /// Whole numbers from 0 on, of any integer type; `None` where an item is something else.
    pub fn wholes(&self) -> Option<Vec<u64>> {
        let Array::Numbers { kind, bytes } = self else { return self.is_empty().then(Vec::new) };
        let items = bytes.chunks_exact(number_bytes(*kind)?);
        items.map(|item| Value::number(*kind, item)?.whole()).collect()
    }
}

/// All keys of a file with their values, in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    file: String,
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// Metadata without keys; `file` is the name for messages.
    pub fn new(file: &str) -> Self {
        Metadata { file: file.to_owned(), entries: vec![] }
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Keys and values, in order.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.entries
    }

    /// Appends a key that is known to be new.
    pub(super) fn push(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
    }

    /// Sets a key's value: in place where it exists, else at the end.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.push(key.to_owned(), value),
        }
    }

    /// Removes the keys with this prefix.
    pub fn remove_prefix(&mut self, prefix: &str) {
        self.entries.retain(|(key, _)| !key.starts_with(prefix));
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    fn typed<'a, T>(&'a self, key: &str, what: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Error::BadGguf {
            file: self.file.clone(),
            problem: format!("{key} is {}, it must be {what}", value.described()),
        })
    }

    /// A whole number.
    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number from 0 on", Value::whole)
    }

    /// A token id.
    pub fn id(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a token id", |value| value.whole().and_then(|n| u32::try_from(n).ok()))
    }

    /// A number.
    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| match value {
            Value::F32(v) => Some(*v),
            Value::F64(v) => Some(*v as f32),
            _ => None,
        })
    }

    /// A boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Array(Array::Strings(items)) => Some(items.as_slice()),
            Value::Array(array) if array.is_empty() => Some(&[][..]),
            _ => None,
        })
    }

    /// A list of whole numbers.
    pub fn wholes(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.typed(key, "a list of whole numbers from 0 on", |value| match value {
            Value::Array(array) => array.wholes(),
            _ => None,
        })
    }
}
