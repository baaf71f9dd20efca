//! The server's address as a client sees it: what it is answered with must be an address that it can reach.

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// How a request came in. `serve` says so of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Without TLS.
    Http,
    /// With it.
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The base of all addresses, as `https://127.0.0.1:8443`, without a slash at the end: the scheme of the connection and the host
/// of the request. A proxy that ends TLS in front of the server says so with `X-Forwarded-Proto`; who sends it without a proxy
/// only gets addresses that do not work for himself.
pub(crate) fn base(scheme: Scheme, uri: &Uri, headers: &HeaderMap) -> String {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = match text(header::HeaderName::from_static("x-forwarded-proto")) {
        Some("https") => Some(Scheme::Https),
        Some("http") => Some(Scheme::Http),
        _ => None,
    };
    let host = text(header::HOST).and_then(|host| host.parse::<Authority>().ok()).or_else(|| uri.authority().cloned());
    // A client that names no host (HTTP/1.0) is on this machine, if it is anywhere.
    let host = host.as_ref().map_or("localhost", Authority::as_str);
    // Who names a user there is not answered with it.
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{}://{host}", forwarded.unwrap_or(scheme).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scheme: Scheme, uri: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        base(scheme, &uri.parse().unwrap(), &map)
    }

    #[test]
    fn addresses_are_those_that_the_client_used() {
        assert_eq!(of(Scheme::Http, "/x", &[("host", "127.0.0.1:2000")]), "http://127.0.0.1:2000");
        assert_eq!(of(Scheme::Https, "/x", &[("host", "greenroom.example")]), "https://greenroom.example");
        assert_eq!(of(Scheme::Http, "/x", &[("host", "[::1]:2000")]), "http://[::1]:2000");
        assert_eq!(of(Scheme::Http, "http://a:1/x", &[]), "http://a:1");
        assert_eq!(of(Scheme::Http, "/x", &[("host", "a"), ("x-forwarded-proto", "https")]), "https://a");
        assert_eq!(of(Scheme::Https, "/x", &[("host", "a"), ("x-forwarded-proto", "gopher")]), "https://a");
    }

    #[test]
    fn a_host_that_is_none_is_not_repeated() {
        assert_eq!(of(Scheme::Http, "/x", &[("host", "a/b?c")]), "http://localhost");
        assert_eq!(of(Scheme::Http, "/x", &[("host", "a b")]), "http://localhost");
        assert_eq!(of(Scheme::Http, "/x", &[("host", "user:secret@a:1")]), "http://a:1");
        assert_eq!(of(Scheme::Http, "/x", &[]), "http://localhost");
    }
}
