use std::{fmt, sync::Arc};

use sha2::{Digest as _, Sha256};

/// Longest identifier, characters (`maxLength` of the published API description).
const MAX_CHARS: usize = 256;

/// A session's identifier, as its caller chose it. Who knows it can open the session, so it is neither logged nor stored:
/// [`Digest`] stands for it.
#[derive(Clone)]
pub struct Identifier {
    text: Arc<str>,
    digest: Digest,
}

/// The first half of an identifier's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

/// Why a text is no identifier. Which characters a wire format allows is that format's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Empty or too long.
    #[error("identifier: {chars} characters, allowed are 1 to 256")]
    Length {
        /// How long it is.
        chars: usize,
    },
    /// Holds a control character.
    #[error("identifier: control characters are not allowed")]
    Control,
}

impl Identifier {
    /// The identifier of this text: 1 to 256 characters, none of them a control character.
    pub fn new(text: &str) -> Result<Self, IdentifierError> {
        let chars = text.chars().count();
        if !(1..=MAX_CHARS).contains(&chars) {
            return Err(IdentifierError::Length { chars });
        }
        if text.chars().any(char::is_control) {
            return Err(IdentifierError::Control);
        }
        Ok(Self { text: text.into(), digest: Digest::of(text.as_bytes()) })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands for it in logs and in the store.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl PartialEq for Identifier {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Identifier {}

impl std::hash::Hash for Identifier {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Shows the digest: identifiers are secrets of their callers.
impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({})", self.digest)
    }
}

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::digest(bytes)[..16]);
        Self(half)
    }

    /// The digest that [`fmt::Display`] wrote; `None` for any other text.
    pub fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(hex, 16).ok().map(|bits| Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_shows_its_digest_and_not_itself() {
        let identifier = Identifier::new("secret-of-its-caller").unwrap();
        let shown = format!("{identifier:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(Digest::parse(&identifier.digest().to_string()), Some(identifier.digest()));
    }

    #[test]
    fn a_digest_is_the_first_half_of_sha_256() {
        // FIPS 180-2, appendix B.1: SHA-256("abc").
        assert_eq!(Identifier::new("abc").unwrap().digest().to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(Digest::parse("+a7816bf8f01cfea414140de5dae2223"), None);
    }

    #[test]
    fn an_identifier_has_1_to_256_characters_and_no_control_character() {
        assert_eq!(Identifier::new(""), Err(IdentifierError::Length { chars: 0 }));
        assert!(Identifier::new(&"ä".repeat(256)).is_ok());
        assert_eq!(Identifier::new(&"ä".repeat(257)), Err(IdentifierError::Length { chars: 257 }));
        assert_eq!(Identifier::new("a\nb"), Err(IdentifierError::Control));
    }
}
