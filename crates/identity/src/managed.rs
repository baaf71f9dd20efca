//! A managed identity's endpoint, in both of Azure's forms: what a request has to be like, and what is answered.

use std::time::Duration;

use http::HeaderMap;
use reqwest::Url;
use subtle::ConstantTimeEq;

use crate::local::{LocalIssuer, LocalIssuerError, Minted};

/// Longest name of a resource.
const MAX_RESOURCE_BYTES: usize = 512;

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedForm {
    /// App Service and Container Apps: `GET $IDENTITY_ENDPOINT?api-version=2019-08-01&resource=`, with a secret in `X-IDENTITY-HEADER`.
    AppService,
    /// A virtual machine's metadata service: `GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=`, with `Metadata: true`.
    Imds,
}

/// Why no token is given.
#[derive(Debug, thiserror::Error)]
pub enum ManagedRefusal {
    /// It came by way of a proxy: somebody else's request, perhaps.
    #[error("a request with {0} is refused: it has been forwarded")]
    Forwarded(&'static str),
    /// It was sent to a name that is not this machine's own: a page whose name was made to mean this machine, perhaps.
    #[error("the Host header does not name this machine's loopback address")]
    Host,
    /// No `Metadata: true`.
    #[error("the header Metadata: true is missing")]
    Metadata,
    /// Not the secret.
    #[error("the header X-IDENTITY-HEADER is missing or wrong")]
    Secret,
    /// Absent, repeated, or nothing of the kind.
    #[error("the query parameter {0} is missing, or is not what it should be")]
    Parameter(&'static str),
    /// Our own fault.
    #[error(transparent)]
    Mint(#[from] LocalIssuerError),
}

impl ManagedRefusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            ManagedRefusal::Secret => 401,
            ManagedRefusal::Mint(_) => 500,
            _ => 400,
        }
    }

    /// The answer's body, as Azure's endpoints write it.
    pub fn to_json(&self) -> serde_json::Value {
        let error = if matches!(self, ManagedRefusal::Secret) { "unauthorized_client" } else { "invalid_request" };
        let said = if matches!(self, ManagedRefusal::Mint(_)) {
            "a token cannot be made; see the server's log".to_owned()
        } else {
            self.to_string()
        };
        serde_json::json!({"error": error, "error_description": said})
    }
}

impl LocalIssuer {
    /// Answers a request to the managed identity's endpoint. `now`: since 1970.
    ///
    /// # Errors
    /// What the request lacks.
    pub fn managed(&self, form: ManagedForm, headers: &HeaderMap, query: &str, now: Duration) -> Result<Minted, ManagedRefusal> {
        // As IMDS itself does: who can make a proxy or a page fetch a URL must not get a token.
        for name in ["x-forwarded-for", "x-forwarded-host", "forwarded", "via"] {
            if headers.contains_key(name) {
                return Err(ManagedRefusal::Forwarded(name));
            }
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if !text("host").is_some_and(names_loopback) {
            return Err(ManagedRefusal::Host);
        }
        match form {
            ManagedForm::Imds if !text("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) => {
                return Err(ManagedRefusal::Metadata);
            }
            ManagedForm::AppService
                if !text("x-identity-header").is_some_and(|value| bool::from(value.as_bytes().ct_eq(self.header().as_bytes()))) =>
            {
                return Err(ManagedRefusal::Secret);
            }
            ManagedForm::Imds | ManagedForm::AppService => {}
        }
        let parameters = parameters(query);
        let one = |name: &'static str| {
            let mut values = parameters.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err(ManagedRefusal::Parameter(name)),
            }
        };
        if one("api-version")?.is_none() {
            return Err(ManagedRefusal::Parameter("api-version"));
        }
        let fits =
            |resource: &&str| !resource.is_empty() && resource.len() <= MAX_RESOURCE_BYTES && !resource.contains(char::is_control);
        let resource = one("resource")?.filter(fits).ok_or(ManagedRefusal::Parameter("resource"))?;
        let client_id = one("client_id")?;
        if client_id.is_some_and(|id| !is_guid(id)) {
            return Err(ManagedRefusal::Parameter("client_id"));
        }
        Ok(self.mint(resource, client_id, now)?)
    }
}

/// The pairs of a query, decoded.
fn parameters(query: &str) -> Vec<(String, String)> {
    // Any base will do: only the query counts.
    let Ok(mut url) = Url::parse("http://localhost/") else { return Vec::new() };
    url.set_query(Some(query));
    url.query_pairs().into_owned().collect()
}

fn names_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_guid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests;
