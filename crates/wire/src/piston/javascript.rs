//! The few rules of JavaScript that Piston's clients can see, because its server leans on them:
//! truthiness, `String(x)`, `parseInt`.

use serde_json::{Number, Value};

/// Whether `if (x)` holds. Absent is [`Value::Null`] here: no check of Piston's tells them apart.
pub(super) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => number(n) != 0.0,
        Value::String(s) => !s.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// The number as JavaScript holds it: a double, whatever was written.
pub(super) fn number(number: &Number) -> f64 {
    // serde_json gives no double only with its feature `arbitrary_precision`, which is off.
    number.as_f64().unwrap_or(f64::NAN)
}

/// `String(x)`.
pub(super) fn to_string(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => ryu_js::Buffer::new().format(number(n)).to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(items) => {
            let items = items.iter().map(|item| if item.is_null() { String::new() } else { to_string(item) });
            items.collect::<Vec<_>>().join(",")
        }
        Value::Object(_) => "[object Object]".to_owned(),
    }
}

/// `parseInt(text)` for what fits into an `i64`; larger numbers stop at its ends.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, text) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (16, rest),
        None => (10, text),
    };
    let digits = text.chars().map_while(|c| c.to_digit(radix));
    digits
        .fold(None, |sum, digit| Some(sum.unwrap_or(0_i64).saturating_mul(i64::from(radix)).saturating_add(digit.into())))
        .map(|n| sign * n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_are_made_as_node_makes_them() {
        for (value, text) in [
            (json!(1), "1"),
            (json!(1.0), "1"),
            (json!(1.5), "1.5"),
            (json!(-0.0), "0"),
            (json!(1e21), "1e+21"),
            (json!(1e-7), "1e-7"),
            (json!(0.1), "0.1"),
            (json!(12_345_678_901_234_567_890_u64), "12345678901234567000"),
            (json!(null), "null"),
            (json!(true), "true"),
            (json!({}), "[object Object]"),
            (json!([]), ""),
            (json!([1, [2, null]]), "1,2,"),
        ] {
            assert_eq!(to_string(&value), text, "{value}");
        }
    }

    #[test]
    fn parse_int_reads_the_number_in_front_and_no_more() {
        for (text, number) in [
            ("3", Some(3)),
            ("3s", Some(3)),
            (" 42 ", Some(42)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0x10", Some(16)),
            ("1e3", Some(1)),
            ("abc", None),
            ("", None),
            ("-", None),
            ("99999999999999999999", Some(i64::MAX)),
        ] {
            assert_eq!(parse_int(text), number, "{text:?}");
        }
    }
}
