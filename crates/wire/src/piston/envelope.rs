//! What surrounds the API: paths, methods, the content-type rule, entity tags, error bodies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha1::{Digest, Sha1};

use super::body::ContentType;

/// The Content-Type of every answer but that of OPTIONS.
pub const JSON_CONTENT_TYPE: &str = "application/json; charset=utf-8";
/// The `message` of 404.
pub const NOT_FOUND: &str = "Not Found";
/// The `message` of 415.
pub const REQUIRES_JSON: &str = "requests must be of type application/json";
/// The `message` of `GET /`: some clients look for the version.
pub const ROOT_MESSAGE: &str = "Piston v3.1.1";

/// The body of an error: `{"message":…}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// For a person.
    pub message: String,
}

impl ErrorBody {
    /// The body with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// A path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/`
    Root,
    /// `/api/v2/execute`
    Execute,
    /// `/api/v2/runtimes`
    Runtimes,
    /// `/api/v2/packages`
    Packages,
    /// `/api/v2/connect`: the WebSocket; for anything that is no upgrade, it does not exist.
    Connect,
}

impl Route {
    /// The value of Allow, and the body, with which OPTIONS is answered. `None`: as an unknown path.
    pub fn allow(self) -> Option<&'static str> {
        match self {
            Route::Root | Route::Runtimes => Some("GET,HEAD"),
            Route::Execute => Some("POST"),
            Route::Packages => Some("GET,HEAD,POST,DELETE"),
            Route::Connect => None,
        }
    }
}

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The route, if the path is one.
    pub route: Option<Route>,
    /// Whether it lies below `/api/v2`, where the content-type rule holds for unknown paths, too.
    pub is_api: bool,
}

/// Finds the route of a path (without its query). Case does not matter, nor does one slash at the end; the API stands below
/// `/api/v2` and, as on Piston's public instance, below `/api/v2/piston`.
pub fn route(path: &str) -> Routed {
    let path = path.to_ascii_lowercase();
    let path = path.strip_suffix('/').unwrap_or(&path);
    if path.is_empty() {
        return Routed { route: Some(Route::Root), is_api: false };
    }
    let Some(below) = path.strip_prefix("/api/v2").filter(|below| below.is_empty() || below.starts_with('/')) else {
        return Routed { route: None, is_api: false };
    };
    let route = match below.strip_prefix("/piston").filter(|rest| rest.starts_with('/')).unwrap_or(below) {
        "/execute" => Some(Route::Execute),
        "/runtimes" => Some(Route::Runtimes),
        "/packages" => Some(Route::Packages),
        "/connect" => Some(Route::Connect),
        _ => None,
    };
    Routed { route, is_api: true }
}

/// Whether the request is to be refused with 415 and [`REQUIRES_JSON`]. Stands after the body's reading and before the route's look-up.
pub fn must_be_json(method: &str, routed: Routed, content_type: &ContentType) -> bool {
    routed.is_api && !matches!(method, "GET" | "HEAD" | "OPTIONS") && !content_type.is_accepted()
}

/// The weak entity tag that Express makes of a body (package etag): length in hexadecimal, and the first 27 characters of
/// its SHA-1 in base64.
pub fn etag(body: &[u8]) -> String {
    if body.is_empty() {
        return "W/\"0-2jmj7l5rSw0yVb/vlWAYkK/YBwk\"".to_owned();
    }
    let hash = STANDARD.encode(Sha1::digest(body));
    format!("W/\"{:x}-{}\"", body.len(), &hash[..27])
}

/// Whether a GET or HEAD is to be answered with 304 (package fresh): a tag of `if_none_match` is `etag`, compared weakly, and
/// the client did not ask for a fresh answer with `Cache-Control: no-cache`.
pub fn is_fresh(if_none_match: Option<&str>, cache_control: Option<&str>, etag: &str) -> bool {
    let Some(tags) = if_none_match else { return false };
    if cache_control.is_some_and(|control| control.split(',').any(|part| part.trim().eq_ignore_ascii_case("no-cache"))) {
        return false;
    }
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    tags == "*" || tags.split(',').any(|tag| opaque(tag.trim_matches(' ')) == opaque(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_whatever_their_case_prefix_and_last_slash() {
        let api = |route| Routed { route, is_api: true };
        let other = |route| Routed { route, is_api: false };
        for (path, routed) in [
            ("/", other(Some(Route::Root))),
            ("", other(Some(Route::Root))),
            ("/api/v2/runtimes", api(Some(Route::Runtimes))),
            ("/API/V2/Runtimes", api(Some(Route::Runtimes))),
            ("/api/v2/runtimes/", api(Some(Route::Runtimes))),
            ("/api/v2/runtimes//", api(None)),
            ("/api/v2/execute", api(Some(Route::Execute))),
            ("/api/v2/piston/execute", api(Some(Route::Execute))),
            ("/api/v2/piston/piston/execute", api(None)),
            ("/api/v2/packages", api(Some(Route::Packages))),
            ("/api/v2/piston/connect", api(Some(Route::Connect))),
            ("/api/v2", api(None)),
            ("/api/v2/", api(None)),
            ("/api/v2/piston", api(None)),
            ("/api/v2/pistonexecute", api(None)),
            ("/api/v2/nope", api(None)),
            ("/api/v2x/execute", other(None)),
            ("/api/v1/execute", other(None)),
            ("/nope", other(None)),
        ] {
            assert_eq!(route(path), routed, "{path:?}");
        }
    }

    #[test]
    fn only_writing_methods_below_the_api_must_send_json() {
        let json = ContentType::of(Some("application/json"));
        let text = ContentType::of(Some("text/plain"));
        let none = ContentType::of(None);
        assert!(must_be_json("POST", route("/api/v2/execute"), &text));
        assert!(must_be_json("POST", route("/api/v2/execute"), &none));
        assert!(must_be_json("PUT", route("/api/v2/nope"), &none));
        assert!(must_be_json("DELETE", route("/api/v2/packages"), &none));
        assert!(!must_be_json("POST", route("/api/v2/execute"), &json));
        assert!(!must_be_json("POST", route("/api/v1/execute"), &none));
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(!must_be_json(method, route("/api/v2/execute"), &none));
        }
    }

    /// The tag of Express's own documentation and of package etag's tests.
    #[test]
    fn entity_tags_are_those_of_express() {
        assert_eq!(etag(b""), "W/\"0-2jmj7l5rSw0yVb/vlWAYkK/YBwk\"");
        assert_eq!(etag(b"Hello, World!"), "W/\"d-CgqfKmdylCVXq1NV12r0Qvj2XgE\"");
        assert_eq!(etag(b"beep boop"), "W/\"9-fINXV39R1PCo05OqGqr7KIY9lCE\"");
    }

    #[test]
    fn a_tag_that_matches_weakly_is_fresh() {
        let tag = "W/\"9-abc\"";
        for (tags, control, fresh) in [
            (None, None, false),
            (Some("*"), None, true),
            (Some("W/\"9-abc\""), None, true),
            (Some("\"9-abc\""), None, true),
            (Some("\"x\", W/\"9-abc\""), None, true),
            (Some("W/\"9-abd\""), None, false),
            (Some(""), None, false),
            (Some("W/\"9-abc\""), Some("max-age=0, no-cache"), false),
            (Some("W/\"9-abc\""), Some("max-age=0"), true),
        ] {
            assert_eq!(is_fresh(tags, control, tag), fresh, "{tags:?} {control:?}");
        }
    }

    #[test]
    fn routes_allow_what_piston_allows() {
        assert_eq!(Route::Execute.allow(), Some("POST"));
        assert_eq!(Route::Runtimes.allow(), Some("GET,HEAD"));
        assert_eq!(Route::Packages.allow(), Some("GET,HEAD,POST,DELETE"));
        assert_eq!(Route::Connect.allow(), None);
    }
}
