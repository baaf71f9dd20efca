use std::cmp::Ordering;

/// In which of the API's shapes a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `/python/…` of 2023-08-01-preview: flat.
    Legacy,
    /// `/code/execute`, `/files/upload` … of 2024-02-02-preview and 2024-08-02-preview: everything below `properties`.
    Old,
    /// `/executions` … of 2024-10-02-preview and later.
    New,
}

/// The `api-version` of a request. It settles the shape where two of them share a path, and details within the new one; no
/// known path is refused for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion(String);

/// The version that gave the new shape its place.
const FIRST_NEW: &str = "2024-10-02";
/// The version that brought session operations and Shell pools.
const SESSIONS: &str = "2025-02-02";
/// The version that brought output limits, `directory` and `recursive`, and longer identifiers' rules.
const LATEST: &str = "2025-10-02";

impl ApiVersion {
    /// The version of this text: a date and perhaps a word, as `2025-10-02-preview`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let is_date =
            date.bytes().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
        let is_word = |word: &str| (1..=32).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_date && (rest.is_empty() || rest.strip_prefix('-').is_some_and(is_word))).then(|| Self(text.to_owned()))
    }

    /// The newest one.
    pub fn latest() -> Self {
        Self(format!("{LATEST}-preview"))
    }

    /// As sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn date(&self) -> &str {
        &self.0[..10]
    }

    /// The shape of a path that both the old and the new one have.
    pub fn shape(&self) -> Shape {
        if self.date() < FIRST_NEW { Shape::Old } else { Shape::New }
    }

    /// The status of a finished execution: 202 in the first version of the new shape.
    pub fn execution_status(&self) -> u16 {
        if self.date() == FIRST_NEW { 202 } else { 200 }
    }

    /// Whether executions have json.net's `$id` keys also in the new shape. Recorded of the first version only.
    pub(super) fn has_reference_ids(&self) -> bool {
        self.date() == FIRST_NEW
    }

    /// How long an identifier may be, characters.
    pub(super) fn identifier_chars(&self) -> std::ops::RangeInclusive<usize> {
        match self.date() {
            FIRST_NEW | SESSIONS => 1..=256,
            _ => 4..=128,
        }
    }

    /// Whether Shell pools can be used with it.
    pub(super) fn has_shell(&self) -> bool {
        self.date().cmp(SESSIONS) != Ordering::Less
    }

    /// How much of each output stream is sent where a request does not say, characters. `None`: all that was kept.
    pub(super) fn output_chars(&self) -> Option<usize> {
        (self.date() >= LATEST).then_some(4096)
    }

    /// Whether files have a `directory`.
    pub(super) fn has_directories(&self) -> bool {
        self.date() >= LATEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_date_and_perhaps_a_word() {
        for text in ["2025-10-02-preview", "2026-01-01"] {
            assert_eq!(ApiVersion::parse(text).map(|version| version.0).as_deref(), Some(text));
        }
        for text in
            ["", "2025", "2025-10-02-", "2025-10-02preview", "2025-10-02-a-b", "latest-one!", "2025-1o-02", "2025-10-02-\r\n"]
        {
            assert_eq!(ApiVersion::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_differ_in_what_the_contract_says() {
        let of = |text: &str| ApiVersion::parse(text).unwrap();
        for (text, shape, status, chars) in [
            ("2023-08-01-preview", Shape::Old, 200, 4..=128),
            ("2024-02-02-preview", Shape::Old, 200, 4..=128),
            ("2024-08-02-preview", Shape::Old, 200, 4..=128),
            ("2024-10-02-preview", Shape::New, 202, 1..=256),
            ("2025-02-02-preview", Shape::New, 200, 1..=256),
            ("2025-10-02-preview", Shape::New, 200, 4..=128),
            ("2031-01-01", Shape::New, 200, 4..=128),
        ] {
            let version = of(text);
            assert_eq!((version.shape(), version.execution_status(), version.identifier_chars()), (shape, status, chars), "{text}");
        }
        assert!(!of("2024-10-02-preview").has_shell() && of("2025-02-02-preview").has_shell());
    }
}
