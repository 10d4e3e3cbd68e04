//! Functions and tests of Jinja that the engine lacks or implements differently.

use super::arguments::Arguments;
use super::budget::{Reach, refused};
use super::methods::RenderContext;
use minijinja::value::{Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Adds functions. Both renderings of a conversation get the same `now`.
pub fn add(environment: &mut Environment<'_>, context: &Arc<RenderContext>, now: &jiff::Zoned) {
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
    });
    let (cx, now) = (context.clone(), now.clone());
    environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        // Two characters can expand to thirty.
        cx.budget.spend(format.len().saturating_mul(16))?;
        jiff::fmt::strtime::format(&format, &now).map_err(|e| refused(format!("strftime_now: {e}")))
    });
    let cx = context.clone();
    environment.add_function("dict", move |values: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let mut pairs = Vec::new();
        for value in values.into_values() {
            cx.budget.look(&value, Reach::Text)?;
            for item in value.try_iter()? {
                pairs.push(match value.kind() {
                    ValueKind::Map => (item.clone(), value.get_item(&item)?),
                    _ => (item.get_item(&Value::from(0))?, item.get_item(&Value::from(1))?),
                });
            }
        }
        cx.budget.container(2 * pairs.len())?;
        if pairs.iter().any(|(key, _)| matches!(key.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)) {
            return Err(refused("a list or a map cannot be a key of a map"));
        }
        Ok(Value::from_pairs(pairs))
    });
    let cx = context.clone();
    environment.add_function("cycler", move |items: Rest<Value>| -> Result<Value, Error> {
        cx.budget.container(items.len())?;
        if items.is_empty() {
            return Err(refused("cycler needs at least one item"));
        }
        Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) }))
    });
    let cx = context.clone();
    environment.add_function("joiner", move |values: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        cx.budget.container(1)?;
        let values = values.into_values();
        let between = Arguments::new("joiner", &values, &["sep"])?.get(0, "sep").unwrap_or(Value::from(", "));
        Ok(Value::from_object(Joiner { between, calls: AtomicUsize::new(0) }))
    });
}

/// Adds tests that the engine implements differently.
pub fn add_tests(environment: &mut Environment<'_>) {
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        let items = matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Iterable);
        value.is_undefined() || (items && value.len().is_some())
    });
    environment.add_test("mapping", |value: &Value| {
        // A namespace is not a mapping.
        value.kind() == ValueKind::Map
            && value.as_object().is_none_or(|object| !object.type_name().contains("Namespace"))
    });
    environment.add_test("callable", |value: &Value| {
        let object = value.kind() == ValueKind::Plain && value.downcast_object_ref::<Cycler>().is_none();
        object || value.is_undefined() || value.as_object().is_some_and(|object| object.type_name().ends_with("Macro"))
    });
}

/// Jinja's cycler: returns its items in turn.
pub struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl std::fmt::Debug for Cycler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its items may contain itself.
        f.write_str("<Cycler>")
    }
}

impl Cycler {
    fn current(&self) -> Value {
        self.items[self.at.load(Ordering::Relaxed) % self.items.len()].clone()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.current())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        Arguments::new(name, args, &[])?;
        match name {
            "next" => {
                let now = self.current();
                self.at.fetch_add(1, Ordering::Relaxed);
                Ok(now)
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// Jinja's joiner: gives an empty string on the first call, then the separator.
struct Joiner {
    between: Value,
    calls: AtomicUsize,
}

impl std::fmt::Debug for Joiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<Joiner>")
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        Arguments::new("joiner", args, &[])?;
        Ok(if self.calls.fetch_add(1, Ordering::Relaxed) == 0 { Value::from("") } else { self.between.clone() })
    }
}
