//! Python's number parsing and rounding.

use super::budget::refused;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

fn as_float(value: &Value) -> f64 {
    if value.kind() == ValueKind::Bool {
        f64::from(u8::from(value.is_true()))
    } else {
        f64::try_from(value.clone()).unwrap_or(f64::NAN)
    }
}

/// Python's float(); `None` if it fails.
pub fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.trim().replace('_', "").parse().ok(),
        None => is_number(value).then(|| as_float(value)),
    }
}

/// Python's int(), or else the integer part of float(); `None` if both fail.
pub fn int(value: &Value, base: i64) -> Option<Value> {
    if value.is_integer() {
        return Some(value.clone());
    }
    let whole = value.as_str().and_then(|text| whole(text.trim(), base));
    whole
        .or_else(|| float(value).filter(|number| number.is_finite()).map(|number| number.trunc() as i128))
        .map(|number| i64::try_from(number).map_or_else(|_| Value::from(number), Value::from))
}

fn whole(text: &str, base: i64) -> Option<i128> {
    let base = u32::try_from(base).ok().filter(|base| *base == 0 || (2..=36).contains(base))?;
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, of)| {
        lower.strip_prefix(prefix).filter(|_| base == 0 || base == of).map(|digits| (digits, of))
    });
    let (digits, base) = prefixed.unwrap_or((&lower, if base == 0 { 10 } else { base }));
    let first = digits.starts_with(|c: char| c.is_ascii_alphanumeric());
    let digits = if first { digits.replace('_', "") } else { return None };
    i128::from_str_radix(&digits, base).ok()?.checked_mul(sign)
}

pub fn abs(value: &Value) -> Result<Value, Error> {
    if value.is_integer() || value.kind() == ValueKind::Bool {
        let number = i128::try_from(value.clone()).ok().and_then(i128::checked_abs);
        let number = number.ok_or_else(|| refused("abs: the number is too large"))?;
        return Ok(i64::try_from(number).map_or_else(|_| Value::from(number), Value::from));
    }
    if value.kind() == ValueKind::Number {
        Ok(Value::from(as_float(value).abs()))
    } else {
        Err(refused("abs: not a number"))
    }
}

/// Jinja's round filter: "common" rounds halves to even as Python does; "ceil" and "floor" round up and down.
pub fn round(value: &Value, precision: i64, method: Option<&str>) -> Result<Value, Error> {
    if !is_number(value) {
        return Err(refused("round: not a number"));
    }
    let precision = i32::try_from(precision.clamp(-400, 400)).unwrap_or(0);
    let (number, power) = (as_float(value), 10f64.powi(precision));
    let rounded = match method.unwrap_or("common") {
        "common" if value.is_integer() && precision >= 0 => return Ok(value.clone()),
        "common" if precision >= 0 && number.is_finite() => {
            format!("{number:.*}", usize::try_from(precision).unwrap_or(0)).parse().unwrap_or(number)
        }
        "common" => {
            let whole = 10f64.powi(-precision);
            let rounded = (number / whole).round_ties_even() * whole;
            if value.is_integer() && rounded.is_finite() {
                return Ok(Value::from(rounded as i64));
            }
            rounded
        }
        "ceil" => (number * power).ceil() / power,
        "floor" => (number * power).floor() / power,
        other => return Err(refused(format!("round: unknown method {other:?}; available: common, ceil, floor"))),
    };
    Ok(Value::from(rounded))
}
