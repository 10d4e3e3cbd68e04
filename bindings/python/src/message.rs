//! Messages as Python's dicts: role, content, and other fields that a chat template reads.

use peregrine::Message;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A message of a dict.
pub fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<Message> {
    let text = |name: &str| -> PyResult<String> {
        let missing = || PyTypeError::new_err(format!("a message has no {name:?}: it is a dict of role and content"));
        dict.get_item(name)?.ok_or_else(missing)?.extract()
    };
    let mut message = Message::new(&text("role")?, text("content")?);
    for (name, value) in dict.iter() {
        let name: String = name.extract()?;
        if name != "role" && name != "content" {
            let json =
                json_of(&value)?.parse().map_err(|_| PyValueError::new_err(format!("{name}: it is not JSON")))?;
            message = message.with_field(&name, json);
        }
    }
    Ok(message)
}

/// A dict of a message.
pub fn to_dict<'py>(py: Python<'py>, message: &Message) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("role", &message.role)?;
    dict.set_item("content", &message.content)?;
    for (name, value) in &message.fields {
        dict.set_item(name, py.import("json")?.call_method1("loads", (value.to_string(),))?)?;
    }
    Ok(dict)
}

/// A value as JSON.
pub fn json_of(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let keywords = PyDict::new(value.py());
    keywords.set_item("allow_nan", false)?;
    value.py().import("json")?.call_method("dumps", (value,), Some(&keywords))?.extract()
}
