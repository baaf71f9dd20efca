use super::path;

/// The versions of the control plane that clients ask for, oldest first (the contract, section 2.1). Any other is answered, too.
pub const API_VERSIONS: [&str; 12] = [
    "2023-08-01-preview", "2023-11-02-preview", "2024-02-02-preview", "2024-08-02-preview", "2024-10-02-preview", "2025-01-01",
    "2025-02-02-preview", "2025-07-01", "2025-10-02-preview", "2026-01-01", "2026-03-02-preview", "2026-07-01",
];

/// How an answer spells `dynamicPoolConfiguration`. A body may hold either, whatever its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LifecycleShape {
    /// Before 2025-01-01: `executionType` and `cooldownPeriodInSeconds` in it.
    Flat,
    /// `lifecycleConfiguration` in it.
    Nested,
}

/// The `api-version` of a request. Nothing is refused for it: it chooses a shape, and goes into the addresses that a client is
/// to poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersion(Option<String>);

impl ApiVersion {
    /// Reads the query, without its question mark. The name's case does not matter; of two, the first counts.
    pub fn of_query(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let mut versions = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("api-version"));
        Self(versions.next().and_then(|(_, value)| path::decode(value).ok()).filter(|version| is_version(version)))
    }

    /// The shape in which it is answered. Without a version, and with one that is none, the newest.
    pub fn lifecycle_shape(&self) -> LifecycleShape {
        match &self.0 {
            Some(version) if version.as_str() < "2025-01-01" => LifecycleShape::Flat,
            _ => LifecycleShape::Nested,
        }
    }

    /// The version, or the newest one.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(API_VERSIONS[API_VERSIONS.len() - 1])
    }
}

/// A date, and perhaps a word: `2025-10-02-preview`. What passes may stand in a URL as it is.
fn is_version(version: &str) -> bool {
    let (date, rest) = version.split_at_checked(10).unwrap_or_default();
    let is_date = date.bytes().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    let is_word = |word: &str| word.len() <= 32 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    !date.is_empty() && is_date && (rest.is_empty() || rest.strip_prefix('-').is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shape_of_the_life_cycle_depends_on_the_date() {
        for version in API_VERSIONS {
            let shape = if version.starts_with("2023") || version.starts_with("2024") {
                LifecycleShape::Flat
            } else {
                LifecycleShape::Nested
            };
            let read = ApiVersion::of_query(Some(&format!("api-version={version}")));
            assert_eq!((read.lifecycle_shape(), read.as_str()), (shape, version));
        }
    }

    #[test]
    fn a_version_is_found_among_other_parameters_and_never_refused() {
        for (query, version) in [
            (Some("$top=3&Api-Version=2025-01-01&x"), "2025-01-01"),
            (Some("api-version=2024%2D02-02-preview"), "2024-02-02-preview"),
            (Some("api-version=2024-02-02-preview&api-version=2025-01-01"), "2024-02-02-preview"),
            (Some("api-version="), "2026-07-01"),
            (Some("api-version=latest"), "2026-07-01"),
            (Some("api-version=2024-02-02%26x=1"), "2026-07-01"),
            (Some("api-version=2024-1é-02"), "2026-07-01"),
            (Some("api-version=%zz"), "2026-07-01"),
            (Some(""), "2026-07-01"),
            (None, "2026-07-01"),
        ] {
            assert_eq!(ApiVersion::of_query(query).as_str(), version, "{query:?}");
        }
    }

    #[test]
    fn versions_are_listed_oldest_first() {
        assert!(API_VERSIONS.is_sorted());
    }

    proptest! {
        #[test]
        fn what_passes_may_stand_in_an_address(query in ".*") {
            let version = ApiVersion::of_query(Some(&format!("api-version={query}")));
            prop_assert!(version.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        }
    }
}
