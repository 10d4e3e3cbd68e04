//! The header of a safetensors file that is written. Format: <https://github.com/huggingface/safetensors#format>.

use super::safetensors::safetensors_head;
use serde_json::{Map, Value, json};

/// A tensor of a safetensors file that is written.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its dtype, by the container's name.
    pub dtype: &'static str,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: u64,
}

impl Entry {
    /// A tensor of this dtype and shape.
    pub fn new(name: String, dtype: &'static str, shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() as u64 * alignment(dtype);
        Entry { name, dtype, shape: shape.to_vec(), bytes }
    }
}

/// Bytes of a value.
fn alignment(dtype: &str) -> u64 {
    match dtype {
        "F32" => 4,
        "F16" | "BF16" => 2,
        _ => 1,
    }
}

/// The header of a safetensors file with these tensors and `said` in its metadata, and the offset of each tensor in the file.
pub fn safetensors_header(entries: &[&Entry], said: Map<String, Value>) -> (Vec<u8>, Vec<u64>) {
    let mut fields = Map::new();
    let mut metadata = Map::from_iter([("format".to_owned(), Value::from("pt"))]);
    metadata.extend(said);
    fields.insert("__metadata__".to_owned(), metadata.into());
    // Wider dtypes first: this aligns all tensors, which torch requires.
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(alignment(entries[*i].dtype)));
    let (mut at, mut places) = (0, vec![0; entries.len()]);
    for i in order {
        let Entry { name, dtype, shape, bytes } = entries[i];
        places[i] = at;
        let offsets = [at, at + bytes];
        fields.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        at += bytes;
    }
    let head = safetensors_head(fields);
    places.iter_mut().for_each(|place| *place += head.len() as u64);
    (head, places)
}
