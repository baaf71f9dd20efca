//! Executions as resources: their ids and addresses.

use super::{api_version::ApiVersion, percent};

/// Whether a client's `operation-id` can be an execution's id: it stands in addresses and headers.
pub fn is_operation_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The value of `Operation-Location`. `base` is the pool's address as the client reached it, scheme and host included.
pub fn operation_location(base: &str, id: &str, version: &ApiVersion, identifier: &str) -> String {
    let identifier = percent::encode(identifier);
    format!("{}/executions/{id}?api-version={}&identifier={identifier}", base.trim_end_matches('/'), version.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operations_address_holds_the_identifier_escaped() {
        let base = "http://127.0.0.1:2000/subscriptions/s/resourceGroups/g/sessionPools/p/";
        assert_eq!(
            operation_location(base, "ab-1", &ApiVersion::latest(), "a&b=c"),
            "http://127.0.0.1:2000/subscriptions/s/resourceGroups/g/sessionPools/p/executions/ab-1?api-version=2025-10-02-preview&identifier=a%26b%3Dc"
        );
    }

    #[test]
    fn an_operations_id_is_a_short_word() {
        assert!(is_operation_id("8148371f-0000-4000-8000-000000000000") && is_operation_id("a"));
        assert!(
            !is_operation_id("") && !is_operation_id("a/b") && !is_operation_id("a\r\nb") && !is_operation_id(&"a".repeat(129))
        );
    }
}
