use super::{api_version::ApiVersion, error::AzureError, query::Query};

/// The identifier of a request, as its caller meant it: percent-decoded, of the characters that any version allows and as long
/// as this version allows.
///
/// # Errors
/// [`AzureError::IdentifierLength`], and [`AzureError::Validation`] where there is none or it holds other characters.
pub fn identifier(query: &Query, version: &ApiVersion) -> Result<String, AzureError> {
    let Some(identifier) = query.value("identifier")? else {
        return Err(AzureError::Validation("the query parameter 'identifier' is required".to_owned()));
    };
    let allowed = version.identifier_chars();
    if !allowed.contains(&identifier.chars().count()) {
        return Err(AzureError::IdentifierLength { min: *allowed.start(), max: *allowed.end() });
    }
    if !identifier.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        let message = "the session identifier may hold letters, digits and punctuation of ASCII, but no blank and no backslash";
        return Err(AzureError::Validation(message.to_owned()));
    }
    Ok(identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(identifier: &str, version: &str) -> Result<String, AzureError> {
        super::identifier(&Query::parse(Some(&format!("identifier={identifier}"))), &ApiVersion::parse(version).unwrap())
    }

    const OLD: &str = "2024-02-02-preview";
    const FIRST_NEW: &str = "2024-10-02-preview";
    const LATEST: &str = "2025-10-02-preview";

    #[test]
    fn escapes_are_taken_out() {
        assert_eq!(read("a%2Fb%23c", LATEST), Ok("a/b#c".to_owned()));
        assert!(read("a%2", LATEST).is_err());
    }

    #[test]
    fn how_long_it_may_be_depends_on_the_version() {
        let refused = |min, max| Err(AzureError::IdentifierLength { min, max });
        for (chars, version, is_allowed) in [
            (3, OLD, false),
            (4, OLD, true),
            (128, LATEST, true),
            (129, LATEST, false),
            (1, FIRST_NEW, true),
            (256, FIRST_NEW, true),
        ] {
            let identifier = "a".repeat(chars);
            assert_eq!(read(&identifier, version), if is_allowed { Ok(identifier) } else { refused(4, 128) }, "{chars} {version}");
        }
        assert_eq!(read("", FIRST_NEW), refused(1, 256));
        assert_eq!(read(&"a".repeat(257), FIRST_NEW), refused(1, 256));
    }

    /// The documentation's characters, and those of the three published patterns.
    #[test]
    fn the_characters_of_every_version_are_allowed() {
        let all = r#"|-&^%$#(){}[];<>abzAZ09_}{:"'?/.,@*+=!~`"#;
        assert_eq!(read(&crate::azure::percent::encode(all), LATEST).as_deref(), Ok(all));
        for wrong in ["a b c", "a\\bcd", "äöüß", "ab\u{0}cd", "ab\ncd"] {
            assert!(matches!(read(&crate::azure::percent::encode(wrong), LATEST), Err(AzureError::Validation(_))), "{wrong:?}");
        }
    }

    #[test]
    fn it_has_to_be_there() {
        let none = super::identifier(&Query::parse(None), &ApiVersion::latest());
        assert!(matches!(none, Err(AzureError::Validation(_))));
    }
}
