//! The tensors of a checkpoint's pickle: which dict holds them, and the arguments that describe each.

use super::machine::{Element, Global, Id, Pickle, Value};
use safetensors::Dtype;
use std::collections::BTreeMap;

/// Keys under which a training program stores the model, the most usual first.
const MODEL: [&str; 3] = ["model", "state_dict", "model_ema"];
/// `DataParallel` puts this before every name.
const WRAPPER: &str = "module.";

const MOST_TENSORS: usize = 1 << 17;
/// Most bytes of a tensor's name.
const MOST_NAME: usize = 1 << 10;
/// Most dimensions of a tensor.
const MOST_DIMS: usize = 16;

/// A tensor as its pickle describes it.
#[derive(Debug)]
pub(super) struct Described<'a> {
    pub(super) element: Element<'a>,
    /// The storage's file.
    pub(super) key: &'a str,
    /// The first value, in values.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// The storage's length.
    pub(super) length: StorageLength,
}

/// The length of a storage, in values of its type; of an untyped one in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum StorageLength {
    Values(usize),
    Bytes(usize),
}

/// The tensors by name; other values, such as the training's state, are skipped.
pub(super) fn tensors<'a>(pickle: &Pickle<'a>) -> Result<BTreeMap<String, Described<'a>>, String> {
    let Value::Dict(top) = pickle.top() else {
        return Err("it holds a Python object, not a dict of tensors: save model.state_dict() instead".to_owned());
    };
    let chosen = MODEL.iter().find_map(|key| {
        let under = dict_of(pickle, top, key)?;
        // Averaged weights may lie one dict deeper, beside their decay.
        [Some(under), dict_of(pickle, under, "state_dict")].into_iter().flatten().find(|dict| has_tensor(pickle, dict))
    });
    let chosen = chosen.or_else(|| has_tensor(pickle, top).then_some(top));
    let chosen = chosen.ok_or("it holds no dict of tensors")?;
    // Of equal keys the last counts.
    let mut ids: BTreeMap<&str, Id> = BTreeMap::new();
    for (key, value) in chosen {
        if let Value::Text(name) = *pickle.get(*key) {
            ids.insert(name, *value);
        }
    }
    let mut found = BTreeMap::new();
    for (name, id) in ids {
        let Value::Tensor { arguments } = *pickle.get(id) else { continue };
        if name.len() > MOST_NAME {
            return Err(format!("the name of a tensor has {} bytes", name.len()));
        }
        if found.len() == MOST_TENSORS {
            return Err(format!("it has more than {MOST_TENSORS} tensors"));
        }
        let described = describe(pickle, arguments).map_err(|problem| format!("tensor {name}: {problem}"))?;
        found.insert(name.to_owned(), described);
    }
    if found.keys().all(|name| name.len() > WRAPPER.len() && name.starts_with(WRAPPER)) {
        found = found.into_iter().map(|(name, described)| (name[WRAPPER.len()..].to_owned(), described)).collect();
    }
    Ok(found)
}

/// The dict under a key.
fn dict_of<'p>(pickle: &'p Pickle<'_>, dict: &[(Id, Id)], key: &str) -> Option<&'p Vec<(Id, Id)>> {
    let found = dict.iter().rev().find(|(own, _)| matches!(pickle.get(*own), Value::Text(text) if *text == key))?;
    match pickle.get(found.1) {
        Value::Dict(dict) => Some(dict),
        _ => None,
    }
}

fn has_tensor(pickle: &Pickle<'_>, dict: &[(Id, Id)]) -> bool {
    dict.iter()
        .any(|(key, value)| matches!((pickle.get(*key), pickle.get(*value)), (Value::Text(_), Value::Tensor { .. })))
}

/// Reads the arguments (storage, offset, shape, strides, requires_grad, hooks), then the dtype where the storage has none.
fn describe<'a>(pickle: &Pickle<'a>, arguments: Id) -> Result<Described<'a>, String> {
    let Value::Tuple(arguments) = pickle.get(arguments) else { return Err("it has no arguments".to_owned()) };
    let [storage, offset, shape, strides, ..] = arguments[..] else {
        return Err("it has too few arguments".to_owned());
    };
    let Value::Storage(id) = *pickle.get(storage) else { return Err("it has no storage".to_owned()) };
    let Value::Tuple(storage) = pickle.get(id) else { return Err("it has no storage".to_owned()) };
    let [_, class, key, _, length] = storage[..] else { return Err("it has no storage".to_owned()) };
    let Value::Text(key) = *pickle.get(key) else { return Err("its storage has no name".to_owned()) };
    let length = whole(pickle, length)?;
    let dtype = arguments.get(6).and_then(|dtype| match pickle.get(*dtype) {
        Value::Global(Global::Element(element)) => Some(*element),
        _ => None,
    });
    let (element, length) = match pickle.get(class) {
        Value::Global(Global::Element(element)) => (dtype.unwrap_or(*element), StorageLength::Values(length)),
        Value::Global(Global::Bytes) => (dtype.unwrap_or(Element::Known(Dtype::U8)), StorageLength::Bytes(length)),
        _ => (Element::Other("values of an unknown class"), StorageLength::Values(length)),
    };
    let (offset, shape, strides) = (whole(pickle, offset)?, wholes(pickle, shape)?, wholes(pickle, strides)?);
    if shape.len() != strides.len() {
        return Err(format!("it has {} dimensions and {} strides", shape.len(), strides.len()));
    }
    Ok(Described { element, key, offset, shape, strides, length })
}

fn whole(pickle: &Pickle<'_>, id: Id) -> Result<usize, String> {
    match pickle.get(id) {
        Value::Int(value) => usize::try_from(*value).map_err(|_| format!("{value} is no size")),
        _ => Err("one of its sizes is no integer".to_owned()),
    }
}

fn wholes(pickle: &Pickle<'_>, id: Id) -> Result<Vec<usize>, String> {
    match pickle.get(id) {
        Value::Tuple(items) | Value::List(items) if items.len() <= MOST_DIMS => {
            items.iter().map(|item| whole(pickle, *item)).collect()
        }
        Value::Tuple(items) | Value::List(items) => Err(format!("it has {} dimensions", items.len())),
        _ => Err("its shape is no tuple".to_owned()),
    }
}
