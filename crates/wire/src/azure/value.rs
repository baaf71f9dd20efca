use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

/// What a cell's last expression is worth: `result` and `executionResult`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellValue {
    /// There is no last expression: `""`.
    Absent,
    /// It is None, or undefined: `null`.
    None,
    /// As an interactive interpreter shows it. What is valid JSON is sent as that, everything else as a string.
    Text(String),
    /// A picture.
    Image {
        /// `png`, for example.
        format: String,
        /// Its bytes.
        base64: String,
    },
}

impl Serialize for CellValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Image<'a> {
            r#type: &'static str,
            format: &'a str,
            base64_data: &'a str,
        }
        match self {
            CellValue::Absent => serializer.serialize_str(""),
            CellValue::None => serializer.serialize_unit(),
            CellValue::Text(text) => match json(text) {
                // As it stands: a number of thirty digits keeps them all.
                Some(json) => json.serialize(serializer),
                None => serializer.serialize_str(text),
            },
            CellValue::Image { format, base64 } => Image { r#type: "image", format, base64_data: base64 }.serialize(serializer),
        }
    }
}

/// The text, if it is JSON that a client can be expected to read.
fn json(text: &str) -> Option<Box<RawValue>> {
    let text = text.trim();
    // As a value, because only that reading has limits: what is nested deeper than clients take stays a string.
    serde_json::from_str::<Value>(text).ok()?;
    RawValue::from_string(text.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract's table, section 1.8: what the last expression shows, and what is sent.
    #[test]
    fn values_are_decoded_as_the_contract_says() {
        let text = |text: &str| CellValue::Text(text.to_owned());
        for (value, sent) in [
            (text("2"), "2"),
            (text("'abc'"), r#""'abc'""#),
            (text("[1, 2]"), "[1, 2]"),
            (text("nan"), r#""nan""#),
            (CellValue::None, "null"),
            (CellValue::Absent, r#""""#),
            (text("['a',\n 'b']"), r#""['a',\n 'b']""#),
            (text("True"), r#""True""#),
            (text("1.50"), "1.50"),
            (text("100000000000000000000000000000000000001"), "100000000000000000000000000000000000001"),
            (text("\"a\""), r#""a""#),
            (text("-inf"), r#""-inf""#),
            (text("{'a': 1}"), r#""{'a': 1}""#),
            (text("{}"), "{}"),
            (text("01"), r#""01""#),
            (text(""), r#""""#),
            (
                CellValue::Image { format: "png".into(), base64: "iVBORw0".into() },
                r#"{"type":"image","format":"png","base64_data":"iVBORw0"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&value).unwrap(), sent, "{value:?}");
        }
    }

    #[test]
    fn what_is_nested_too_deeply_stays_a_string() {
        let deep = "[".repeat(500) + &"]".repeat(500);
        assert_eq!(serde_json::to_string(&CellValue::Text(deep.clone())).unwrap(), format!("\"{deep}\""));
    }
}
