//! Writing the header, which lists the tensors and their offsets. Version 3, little endian.

use super::types::TensorType;
use super::value::{ARRAY, Array, Metadata, STRING, Value};
use super::{ALIGNMENT, ALIGNMENT_KEY, MAGIC};

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Its name.
    pub name: String,
    /// Its type.
    pub tensor_type: TensorType,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Everything before the bytes of the tensors.
pub struct Header {
    /// The start of the file.
    pub bytes: Vec<u8>,
    /// Number of zero bytes after each tensor, in order.
    pub padding: Vec<usize>,
}

impl Header {
    /// The header of a file with these keys and tensors, in this order.
    pub fn new(metadata: &Metadata, tensors: &[Outline]) -> Self {
        let mut bytes = MAGIC.to_vec();
        let keys = metadata.entries().iter().filter(|(key, _)| key != ALIGNMENT_KEY);
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((keys.clone().count() as u64).to_le_bytes());
        for (key, value) in keys {
            string(&mut bytes, key);
            bytes.extend(value.kind().to_le_bytes());
            put(&mut bytes, value);
        }
        let mut at = 0u64;
        let mut padding = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            string(&mut bytes, &tensor.name);
            bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            for n in tensor.shape.iter().rev() {
                bytes.extend((*n as u64).to_le_bytes());
            }
            bytes.extend(tensor.tensor_type.0.to_le_bytes());
            bytes.extend(at.to_le_bytes());
            let end = (at + tensor.bytes).next_multiple_of(ALIGNMENT as u64);
            padding.push((end - at - tensor.bytes) as usize);
            at = end;
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Header { bytes, padding }
    }
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => bytes.push(*v),
        Value::I8(v) => bytes.extend(v.to_le_bytes()),
        Value::U16(v) => bytes.extend(v.to_le_bytes()),
        Value::I16(v) => bytes.extend(v.to_le_bytes()),
        Value::U32(v) => bytes.extend(v.to_le_bytes()),
        Value::I32(v) => bytes.extend(v.to_le_bytes()),
        Value::F32(v) => bytes.extend(v.to_le_bytes()),
        Value::Bool(v) => bytes.push((*v).into()),
        Value::String(text) => string(bytes, text),
        Value::Array(array) => put_array(bytes, array),
        Value::U64(v) => bytes.extend(v.to_le_bytes()),
        Value::I64(v) => bytes.extend(v.to_le_bytes()),
        Value::F64(v) => bytes.extend(v.to_le_bytes()),
    }
}

fn put_array(bytes: &mut Vec<u8>, array: &Array) {
    let kind = match array {
        Array::Strings(_) => STRING,
        Array::Numbers { kind, .. } => *kind,
        Array::Arrays(_) => ARRAY,
    };
    bytes.extend(kind.to_le_bytes());
    bytes.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::Strings(items) => items.iter().for_each(|text| string(bytes, text)),
        Array::Numbers { bytes: items, .. } => bytes.extend(items),
        Array::Arrays(items) => items.iter().for_each(|item| put_array(bytes, item)),
    }
}
