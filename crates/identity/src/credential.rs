use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{key::KEY_PREFIX, refusal::Refusal};

/// Longest credential. A token with its groups takes some kilobytes; nothing real takes this.
const MAX_BYTES: usize = 16 * 1024;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request brings to show who sends it. Never taken from the URL: URLs end up in logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// An API key: `Authorization: Bearer <key>`, `x-api-key: <key>`, or, as Piston's clients send it, `Authorization: <key>`.
    Key(&'a str),
    /// A bearer token.
    Bearer(&'a str),
}

impl std::fmt::Debug for Credential<'_> {
    /// Its kind only: a credential is never logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::None => "none",
            Credential::Key(_) => "an API key",
            Credential::Bearer(_) => "a bearer token",
        })
    }
}

impl<'a> Credential<'a> {
    /// Finds it among a request's headers.
    ///
    /// # Errors
    /// More than one, or one that cannot be read. Which of two counts would be anybody's guess, a proxy's and ours.
    pub fn of(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let authorization = only(headers, &AUTHORIZATION)?;
        let key = only(headers, &X_API_KEY)?;
        match (authorization, key) {
            (None, None) => Ok(Credential::None),
            (Some(_), Some(_)) => Err(Refusal::SeveralCredentials),
            (None, Some(key)) => Ok(Credential::Key(key)),
            (Some(value), None) => Self::of_authorization(value),
        }
    }

    fn of_authorization(value: &'a str) -> Result<Self, Refusal> {
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            // Keys are told from tokens by how they begin: no token of three parts does.
            return Ok(if rest.starts_with(KEY_PREFIX) { Credential::Key(rest) } else { Credential::Bearer(rest) });
        }
        if rest.is_empty() && scheme.starts_with(KEY_PREFIX) {
            return Ok(Credential::Key(scheme));
        }
        Err(Refusal::UnknownScheme)
    }
}

/// The one value of a header.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::SeveralCredentials);
    }
    readable(value).map(Some)
}

fn readable(value: &HeaderValue) -> Result<&str, Refusal> {
    if value.len() > MAX_BYTES {
        return Err(Refusal::CredentialTooLong { bytes: value.len() });
    }
    Ok(value.to_str().map_err(|_| Refusal::UnknownScheme)?.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Result<String, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Credential::of(&map).map(|credential| match credential {
            Credential::None => "none".to_owned(),
            Credential::Key(key) => format!("key {key}"),
            Credential::Bearer(token) => format!("bearer {token}"),
        })
    }

    #[test]
    fn a_key_is_taken_as_each_kind_of_client_sends_it() {
        for header in [("authorization", "Bearer gr_1_2"), ("authorization", "gr_1_2"), ("x-api-key", "gr_1_2")] {
            assert_eq!(of(&[header]), Ok("key gr_1_2".to_owned()), "{header:?}");
        }
    }

    #[test]
    fn what_does_not_begin_as_a_key_is_a_token() {
        assert_eq!(of(&[("authorization", "bearer a.b.c")]), Ok("bearer a.b.c".to_owned()));
        assert_eq!(of(&[("authorization", "a.b.c")]), Err(Refusal::UnknownScheme));
    }

    #[test]
    fn nothing_is_nothing_and_not_an_error() {
        assert_eq!(of(&[("accept", "*/*")]), Ok("none".to_owned()));
    }

    #[test]
    fn two_credentials_are_one_too_many_wherever_they_are() {
        assert_eq!(of(&[("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")]), Err(Refusal::SeveralCredentials));
        assert_eq!(of(&[("authorization", "Bearer a.b.c"), ("x-api-key", "gr_1_2")]), Err(Refusal::SeveralCredentials));
        assert_eq!(of(&[("x-api-key", "gr_1_2"), ("x-api-key", "gr_1_2")]), Err(Refusal::SeveralCredentials));
    }

    #[test]
    fn other_schemes_and_endless_values_are_refused() {
        assert_eq!(of(&[("authorization", "Basic YTpi")]), Err(Refusal::UnknownScheme));
        assert_eq!(of(&[("authorization", "Bearer")]), Err(Refusal::UnknownScheme));
        let long = format!("Bearer {}", "x".repeat(MAX_BYTES));
        assert_eq!(of(&[("authorization", &long)]), Err(Refusal::CredentialTooLong { bytes: long.len() }));
    }

    #[test]
    fn a_credential_does_not_show_itself() {
        assert_eq!(format!("{:?} {:?}", Credential::Key("gr_secret"), Credential::Bearer("secret")), "an API key a bearer token");
    }
}
