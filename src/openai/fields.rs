//! Field access of JSON objects in a request: fields are read by name, and unread ones are rejected.

use super::request_error::{FieldPath, RequestError};
use super::unsupported::{IGNORED, has_effect, is_listed, message_for};
use serde_json::{Map, Value};

/// A JSON object of a request.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: FieldPath,
    /// Names of the fields read so far.
    read: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, path: FieldPath) -> Self {
        Fields { map, path, read: vec![] }
    }

    pub(super) fn path(&self, name: &str) -> FieldPath {
        self.path.field(name)
    }

    /// A field's value; `None` if it is missing or null.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.read.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A field parsed by `read`; if that fails the error says that it must be `what`.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.path(name).must_be(value, what))
    }

    /// A setting with several names. If more than one is given, the values must be equal.
    pub(super) fn read_any<T: PartialEq>(
        &mut self,
        names: &[&'static str],
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, RequestError> {
        let mut found: Option<(&str, T)> = None;
        for name in names {
            let Some(value) = self.read(name, what, &read)? else { continue };
            match &found {
                Some((other, first)) if *first != value => {
                    return Err(self.path(name).error(format_args!("and {other} are the same setting but differ")));
                }
                Some(_) => {}
                None => found = Some((name, value)),
            }
        }
        Ok(found.map(|(_, value)| value))
    }

    /// An error for an unknown field, or for an unsupported one that would have an effect.
    pub(super) fn finish(self) -> Result<(), RequestError> {
        for (name, value) in self.map {
            if value.is_null() || self.read.contains(&name.as_str()) || IGNORED.contains(&name.as_str()) {
                continue;
            }
            if is_listed(name) {
                if has_effect(name, value) {
                    return Err(self.path(name).error(message_for(name)));
                }
                continue;
            }
            return Err(self.unknown(name));
        }
        Ok(())
    }

    /// The unread fields that are not null.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let others = self.map.iter().filter(|(name, value)| !value.is_null() && !self.read.contains(&name.as_str()));
        others.map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn unknown(&self, name: &str) -> RequestError {
        self.path(name).error("is not a known field")
    }
}

pub(super) fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|v| v as f32)
}

/// An integer, also written with a zero fraction such as `8.0`, as R, Lua and Go do.
pub(super) fn whole(value: &Value) -> Option<i64> {
    /// 2^53: up to here every integer is an f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let written = |v: f64| (v.fract() == 0.0 && v.abs() <= EXACT).then_some(v as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(written))
}

/// A non-negative integer.
pub(super) fn count(value: &Value) -> Option<usize> {
    whole(value).and_then(|n| usize::try_from(n).ok())
}

/// A non-negative integer, or -1 as `Some(None)` for no limit.
pub(super) fn count_or_all(value: &Value) -> Option<Option<usize>> {
    match whole(value)? {
        -1 => Some(None),
        n => usize::try_from(n).ok().map(Some),
    }
}

/// A token id.
pub(super) fn id(value: &Value) -> Option<u32> {
    whole(value).and_then(|id| u32::try_from(id).ok())
}

/// Parses the items of a list; an error names the item.
pub(super) fn items<T>(
    list: &[Value],
    path: &FieldPath,
    what: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, RequestError> {
    let item = |(i, value): (usize, &Value)| read(value).ok_or_else(|| path.item(i).must_be(value, what));
    list.iter().enumerate().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn integers_may_be_written_with_a_zero_fraction() {
        for (value, expected) in [
            (json!(8), Some(8)),
            (json!(8.0), Some(8)),
            (json!(-1.0), Some(-1)),
            (json!(8.5), None),
            (json!(1e30), None),
            (json!("8"), None),
            (json!(true), None),
        ] {
            assert_eq!(whole(&value), expected, "{value}");
        }
        assert_eq!((count(&json!(-1)), count(&json!(0.0))), (None, Some(0)));
        assert_eq!((count_or_all(&json!(-1)), count_or_all(&json!(-2))), (Some(None), None));
        assert_eq!((id(&json!(7.0)), id(&json!(4_294_967_296u64))), (Some(7), None));
    }

    #[test]
    fn two_names_of_one_setting_must_agree() {
        let read = |body: Value| {
            let map = body.as_object().unwrap().clone();
            Fields::new(&map, FieldPath::root()).read_any(&["a", "b"], "a number", count)
        };
        assert_eq!(read(json!({"a": 1, "b": 1.0})), Ok(Some(1)));
        assert_eq!(read(json!({"b": 2, "a": null})), Ok(Some(2)));
        assert_eq!(read(json!({"a": 1, "b": 2})).unwrap_err().message, "b and a are the same setting but differ");
    }
}
