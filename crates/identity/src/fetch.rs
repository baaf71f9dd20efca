//! Fetching what an issuer publishes: no redirects, little time, few bytes, and https unless it is on this machine.

use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde::Deserialize;

use crate::jwk::{self, BadKeys, Keys};

/// For one document, from the first packet to the last byte.
const TIME: Duration = Duration::from_secs(2);
/// Of one document. Entra's keys take 12 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAt {
    /// Where its discovery document says (OpenID Connect Discovery 1.0), if that is of this issuer.
    Discovery {
        /// The document.
        url: String,
        /// The issuer that it has to name.
        issuer: String,
    },
    /// Here.
    Url(String),
}

/// Why a document was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not where it may be.
    #[error("{url:?} is not https, and not on this machine")]
    NotAllowed {
        /// Where.
        url: String,
    },
    /// No connection, no answer in time, or no valid one.
    #[error("{url} does not answer: {source}")]
    Http {
        /// Where.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// Another status than 200. Redirects are not followed.
    #[error("{url} answers with status {status}")]
    Status {
        /// Where.
        url: String,
        /// Which.
        status: u16,
    },
    /// Longer than anything sensible.
    #[error("{url} answers with more than {MAX_BYTES} bytes")]
    TooLong {
        /// Where.
        url: String,
    },
    /// Not a discovery document.
    #[error("{url} is no discovery document")]
    NoDiscovery {
        /// Where.
        url: String,
    },
    /// A discovery document of somebody else.
    #[error("{url} is the discovery document of {said:?}, not of {expected:?}")]
    OtherIssuer {
        /// Where.
        url: String,
        /// Whose it is.
        said: String,
        /// Whose it should be.
        expected: String,
    },
    /// Not a set of keys that can be used.
    #[error("the keys of {url} cannot be used: {reason}")]
    Keys {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// No client could be made.
    #[error("no HTTP client can be made: {0}")]
    Client(reqwest::Error),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys of one issuer.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Client,
    at: KeysAt,
}

impl Fetcher {
    /// One for what is published there.
    ///
    /// # Errors
    /// Where it may not be there.
    pub(crate) fn new(at: KeysAt) -> Result<Self, FetchError> {
        let url = match &at {
            KeysAt::Discovery { url, .. } | KeysAt::Url(url) => url,
        };
        let local = is_local(&allowed(url)?);
        crate::install_crypto();
        let mut client = Client::builder().redirect(redirect::Policy::none()).timeout(TIME).connect_timeout(TIME);
        if local {
            // A proxy is for what is elsewhere.
            client = client.no_proxy();
        }
        Ok(Self { client: client.build().map_err(FetchError::Client)?, at })
    }

    /// What it fetches, for the log.
    pub(crate) fn url(&self) -> &str {
        match &self.at {
            KeysAt::Discovery { url, .. } | KeysAt::Url(url) => url,
        }
    }

    pub(crate) async fn keys(&self) -> Result<Keys, FetchError> {
        let url = match &self.at {
            KeysAt::Url(url) => url.clone(),
            KeysAt::Discovery { url, issuer } => self.keys_of(url, issuer).await?,
        };
        let bytes = self.get(&url).await?;
        jwk::read(&bytes).map_err(|reason: BadKeys| FetchError::Keys { url, reason: reason.to_string() })
    }

    async fn keys_of(&self, url: &str, issuer: &str) -> Result<String, FetchError> {
        let bytes = self.get(url).await?;
        let found: Discovery = serde_json::from_slice(&bytes).map_err(|_| FetchError::NoDiscovery { url: url.to_owned() })?;
        if found.issuer != issuer {
            return Err(FetchError::OtherIssuer { url: url.to_owned(), said: found.issuer, expected: issuer.to_owned() });
        }
        Ok(found.jwks_uri)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let of = |source| FetchError::Http { url: url.to_owned(), source };
        let mut response = self.client.get(allowed(url)?).send().await.map_err(of)?;
        if response.status().as_u16() != 200 {
            return Err(FetchError::Status { url: url.to_owned(), status: response.status().as_u16() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(of)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BYTES {
                return Err(FetchError::TooLong { url: url.to_owned() });
            }
        }
        Ok(bytes)
    }
}

/// The URL, if keys may be fetched from it: who can change what comes over plain http chooses who is let in.
fn allowed(url: &str) -> Result<Url, FetchError> {
    let refused = || FetchError::NotAllowed { url: url.to_owned() };
    let parsed = Url::parse(url).map_err(|_| refused())?;
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if is_local(&parsed) => Ok(parsed),
        _ => Err(refused()),
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in
            ["https://login.example/keys", "http://127.0.0.1:1/keys", "http://[::1]:1/", "http://localhost/", "https://10.0.0.1/"]
        {
            assert!(allowed(good).is_ok(), "{good}");
        }
        let bad = [
            "http://login.example/keys", "http://127.0.0.1.example/", "http://localhost.example/", "http://10.0.0.1/",
            "file:///etc/passwd", "ftp://127.0.0.1/", "http://user@10.0.0.1/", "http://127.0.0.1@login.example/", "keys", "",
        ];
        for bad in bad {
            assert!(matches!(allowed(bad), Err(FetchError::NotAllowed { .. })), "{bad}");
        }
    }
}
