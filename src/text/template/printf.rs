//! Python's printf-style formatting, for the operator `%` on strings and the filter `format`.

use super::arguments::type_of;
use super::budget::refused;
use super::methods::RenderContext;
use super::number;
use super::python_str::{repr, str};
use minijinja::value::ValueKind;
use minijinja::{Error, Value};
use std::iter::Peekable;
use std::str::Chars;

/// Maximum digits after the decimal point: no f64 has more, and Rust's formatter accepts at most 65,535.
const MOST_DIGITS: usize = 2000;

/// Flags, width and precision of a conversion.
#[derive(Default)]
struct Spec {
    left: bool,
    sign: Option<char>,
    zeros: bool,
    other_form: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats a text: replaces its conversions by values.
pub fn printf(
    context: &RenderContext,
    format: &str,
    values: &[Value],
    by_name: Option<&Value>,
) -> Result<String, Error> {
    let mut out = String::new();
    let mut values_left = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let named = match chars.next_if_eq(&'(') {
            Some(_) => {
                let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
                let map = by_name.ok_or_else(|| refused("format: a named conversion needs a mapping"))?;
                Some(map.get_item(&Value::from(name))?)
            }
            None => None,
        };
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '0' => spec.zeros = true,
                '#' => spec.other_form = true,
                sign => spec.sign = Some(if spec.sign == Some('+') { '+' } else { sign }),
            }
        }
        spec.width = size(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(size(&mut chars));
        }
        let conversion =
            chars.find(|c| !"hlL".contains(*c)).ok_or_else(|| refused("format: incomplete conversion at the end"))?;
        if conversion == '*' {
            return Err(refused("format: a width of * is not supported"));
        }
        let value = match named {
            Some(value) => value,
            None => values_left.next().cloned().ok_or_else(|| refused("format: too few values"))?,
        };
        context.budget.spend(spec.width.saturating_add(spec.precision.unwrap_or(0)))?;
        spec.write(context, conversion, &value, &mut out)?;
    }
    if values_left.next().is_some() && by_name.is_none() {
        return Err(refused("format: too many values"));
    }
    Ok(out)
}

/// Parses a number; 0 if there is none.
fn size(chars: &mut Peekable<Chars<'_>>) -> usize {
    let mut size = 0usize;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        size = size.saturating_mul(10).saturating_add(digit.to_digit(10).unwrap_or(0) as usize);
    }
    size
}

impl Spec {
    fn write(&self, context: &RenderContext, conversion: char, value: &Value, out: &mut String) -> Result<(), Error> {
        let is_number = matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
        let refuse = || refused(format!("format: %{conversion} of {}", type_of(value)));
        let text = match conversion {
            's' => str(value, &context.stand_ins),
            'r' | 'a' => repr(value, &context.stand_ins),
            'c' => match value.as_str() {
                Some(text) if text.chars().count() == 1 => text.to_owned(),
                Some(_) => return Err(refuse()),
                // A character given by its code may come from a message.
                None => {
                    let code = value.as_i64().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
                    context.stand_ins.mask(code.ok_or_else(refuse)?).to_string()
                }
            },
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' if is_number => return self.whole(conversion, value, out),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' if is_number => return self.float(conversion, value, out),
            _ => return Err(refuse()),
        };
        let text = match self.precision {
            Some(most) if conversion != 'c' => text.chars().take(most).collect(),
            _ => text,
        };
        self.pad("", &text, false, out);
        Ok(())
    }

    fn whole(&self, conversion: char, value: &Value, out: &mut String) -> Result<(), Error> {
        let number = if value.is_integer() {
            i128::try_from(value.clone()).map_err(|_| refused("format: the number is too large"))?
        } else if matches!(conversion, 'd' | 'i' | 'u') {
            number::float(value).filter(|number| number.is_finite()).ok_or_else(|| refused("format: not a number"))?
                as i128
        } else {
            return Err(refused(format!("format: %{conversion} needs an integer")));
        };
        let size = number.unsigned_abs();
        let (prefix, digits) = match conversion {
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'o' => ("0o", format!("{size:o}")),
            _ => ("", size.to_string()),
        };
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let sign = self.sign_of(number < 0) + if self.other_form { prefix } else { "" };
        self.pad(&sign, &("0".repeat(zeros) + &digits), true, out);
        Ok(())
    }

    fn float(&self, conversion: char, value: &Value, out: &mut String) -> Result<(), Error> {
        let number = number::float(value).ok_or_else(|| refused("format: not a number"))?;
        let precision = self.precision.unwrap_or(6).min(MOST_DIGITS);
        let size = number.abs();
        let scientific = |precision: usize| {
            let text = format!("{size:.precision$e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            (digits.to_owned(), exponent)
        };
        let with_exponent = |digits: &str, exponent: i32| {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        };
        let text = match conversion.to_ascii_lowercase() {
            _ if number.is_nan() => "nan".to_owned(),
            _ if number.is_infinite() => "inf".to_owned(),
            'f' => format!("{size:.precision$}"),
            'e' => {
                let (digits, exponent) = scientific(precision);
                with_exponent(&digits, exponent)
            }
            _ => {
                let precision = precision.max(1);
                let (digits, exponent) = scientific(precision - 1);
                let short = |text: &str| match text.contains('.') && !self.other_form {
                    true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                    false => text.to_owned(),
                };
                match usize::try_from(precision as i32 - 1 - exponent) {
                    Ok(places) if exponent >= -4 => short(&format!("{size:.places$}")),
                    _ => with_exponent(&short(&digits), exponent),
                }
            }
        };
        let text = if conversion.is_ascii_uppercase() { text.to_uppercase() } else { text };
        self.pad(&self.sign_of(number.is_sign_negative()), &text, number.is_finite(), out);
        Ok(())
    }

    fn sign_of(&self, negative: bool) -> String {
        if negative { "-".to_owned() } else { self.sign.map(String::from).unwrap_or_default() }
    }

    fn pad(&self, sign: &str, text: &str, is_number: bool, out: &mut String) {
        let missing = self.width.saturating_sub(sign.len() + text.chars().count());
        let fill = |c: char| std::iter::repeat_n(c, missing).collect::<String>();
        *out += &match (self.left, self.zeros && is_number) {
            (true, _) => format!("{sign}{text}{}", fill(' ')),
            (false, true) => format!("{sign}{}{text}", fill('0')),
            (false, false) => format!("{}{sign}{text}", fill(' ')),
        };
    }
}
