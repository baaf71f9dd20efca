use serde::Serialize;
use serde_json::Value;

use super::javascript;

/// An element of `GET /runtimes`. The order of the fields is the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeEntry {
    /// The canonical name.
    pub language: String,
    /// The whole version.
    pub version: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// The package it comes with, where a package provides several languages (`gcc`, `node`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

/// An element of `GET /packages`. The order of the fields is the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageEntry {
    /// The package's name.
    pub language: String,
    /// Its version.
    pub language_version: String,
    /// Whether it can be used now.
    pub installed: bool,
}

/// The answer to `POST` and `DELETE /packages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageReference {
    /// The package's name.
    pub language: String,
    /// Its version.
    pub version: String,
}

/// The body of `POST` and `DELETE /packages`.
#[derive(Clone, Debug, PartialEq)]
pub struct PackageRequest {
    language: Option<Value>,
    version: Option<Value>,
}

impl PackageRequest {
    /// Piston checks nothing here: what is no package is not found.
    pub fn parse(mut body: Value) -> Self {
        let mut take = |key: &str| body.get_mut(key).map(Value::take);
        Self { language: take("language"), version: take("version") }
    }

    /// The package asked for, by its own name: aliases do not count.
    pub fn language(&self) -> Option<&str> {
        self.language.as_ref().and_then(Value::as_str)
    }

    /// The range asked for, in node-semver's syntax.
    pub fn version(&self) -> Option<&str> {
        self.version.as_ref().and_then(Value::as_str)
    }

    /// The `message` of the 404.
    pub fn does_not_exist(&self) -> String {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "undefined".to_owned(), javascript::to_string);
        format!("Requested package {}-{} does not exist", text(&self.language), text(&self.version))
    }
}

impl PackageReference {
    /// The `message` of the 500 for `DELETE` of a package that is known but not there.
    pub fn is_not_installed(&self) -> String {
        format!("{}-{} is not installed", self.language, self.version)
    }
}

/// The `message` of the 500 for `POST` of a package that is there already.
pub const ALREADY_INSTALLED: &str = "Already installed";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runtimes_have_their_keys_in_order_and_no_package_of_their_own_name() {
        let bash = RuntimeEntry { language: "bash".into(), version: "5.2.0".into(), aliases: vec!["sh".into()], runtime: None };
        let cpp = RuntimeEntry {
            language: "c++".into(),
            version: "12.2.0".into(),
            aliases: vec!["cpp".into(), "g++".into()],
            runtime: Some("gcc".into()),
        };
        assert_eq!(
            serde_json::to_string(&[bash, cpp]).unwrap(),
            r#"[{"language":"bash","version":"5.2.0","aliases":["sh"]},{"language":"c++","version":"12.2.0","aliases":["cpp","g++"],"runtime":"gcc"}]"#
        );
    }

    #[test]
    fn packages_have_their_keys_in_order() {
        let entry = PackageEntry { language: "gcc".into(), language_version: "10.2.0".into(), installed: true };
        assert_eq!(serde_json::to_string(&entry).unwrap(), r#"{"language":"gcc","language_version":"10.2.0","installed":true}"#);
        let reference = PackageReference { language: "demo".into(), version: "1.2.3".into() };
        assert_eq!(serde_json::to_string(&reference).unwrap(), r#"{"language":"demo","version":"1.2.3"}"#);
        assert_eq!(reference.is_not_installed(), "demo-1.2.3 is not installed");
    }

    #[test]
    fn a_package_that_does_not_exist_is_named_as_javascript_prints_it() {
        for (body, message) in [
            (json!({"language": "nope", "version": "1.x"}), "Requested package nope-1.x does not exist"),
            (json!({}), "Requested package undefined-undefined does not exist"),
            (json!([]), "Requested package undefined-undefined does not exist"),
            (json!({"language": null, "version": 3.11}), "Requested package null-3.11 does not exist"),
        ] {
            assert_eq!(PackageRequest::parse(body).does_not_exist(), message);
        }
    }
}
