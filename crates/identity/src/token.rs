//! A bearer token: what it says, and whether that holds. Reading is one step, believing another: between the two, the
//! issuer that the token names is looked for among those that are trusted, and the key among that issuer's.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How far clocks may be apart.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Longest `kid`; those of Entra have 27 characters.
const MAX_KID_BYTES: usize = 256;

/// Which check of a token failed. What is displayed is for the log and for the caller: it has the token, and what is in it is no secret
/// to it. What the server would have wanted instead is said by the configuration, not here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not three parts of base64url (without padding) with JSON objects in the first two.
    #[error("the token is not a signed JWT")]
    Malformed,
    /// Not one of the algorithms with two keys. `none` and the HS family are among those refused.
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    /// It asks for an extension that is not understood (RFC 7515, section 4.1.11).
    #[error("the token's header has critical extensions")]
    Critical,
    /// It does not say which key signed it.
    #[error("the token's header has no usable kid")]
    KidMissing,
    /// Of an issuer that is not trusted here.
    #[error("the token's issuer is not trusted")]
    Issuer,
    /// The issuer has no such key.
    #[error("the token's kid is not among its issuer's keys")]
    KidUnknown,
    /// The key is for another algorithm.
    #[error("the token's algorithm is not the one of its key")]
    AlgorithmOfKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim that has to be there is not.
    #[error("the token has no {0}")]
    ClaimMissing(&'static str),
    /// A claim of another type than its specification says. One that cannot be read is not one that is absent.
    #[error("the token's {0} is of the wrong type")]
    ClaimType(&'static str),
    /// `exp`.
    #[error("the token has expired")]
    Expired,
    /// `nbf`.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iat`.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// `aud`.
    #[error("the token's audience is another service")]
    Audience,
    /// `tid`.
    #[error("the token's tenant is another")]
    Tenant,
}

#[derive(Deserialize)]
struct Header {
    alg: Value,
    kid: Option<Value>,
    crit: Option<Value>,
}

/// A token that has been read, and not been believed.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: String,
    claims: Claims,
    /// The first two parts and the dot: what was signed.
    pub(crate) signed: &'a str,
    /// The third part.
    pub(crate) signature: &'a str,
}

impl<'a> Unverified<'a> {
    /// Reads a token.
    pub(crate) fn read(token: &'a str) -> Result<Self, TokenRefusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Malformed)?;
        let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or(TokenRefusal::Malformed)?;
        let header: Header = part(header)?;
        let algorithm = algorithm(&header.alg)?;
        if header.crit.is_some() {
            return Err(TokenRefusal::Critical);
        }
        let kid = match header.kid {
            Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= MAX_KID_BYTES => kid,
            _ => return Err(TokenRefusal::KidMissing),
        };
        Ok(Self { algorithm, kid, claims: Claims(part(claims)?), signed, signature })
    }

    /// The issuer that it names: which keys to look among.
    pub(crate) fn issuer(&self) -> Result<&str, TokenRefusal> {
        self.claims.text("iss")?.ok_or(TokenRefusal::ClaimMissing("iss"))
    }

    /// Its claims, once its key says that the issuer made them.
    pub(crate) fn verified(self, key: &crate::jwk::VerifyingKey) -> Result<Claims, TokenRefusal> {
        key.verify(&self)?;
        Ok(self.claims)
    }
}

fn part<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenRefusal> {
    // The strict engine: no padding, no bits left over, one way to write a thing.
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenRefusal::Malformed)
}

/// The algorithms with a public and a private key, by their exact names.
pub(crate) fn algorithm(name: &Value) -> Result<Algorithm, TokenRefusal> {
    Ok(match name.as_str() {
        Some("RS256") => Algorithm::RS256,
        Some("RS384") => Algorithm::RS384,
        Some("RS512") => Algorithm::RS512,
        Some("PS256") => Algorithm::PS256,
        Some("PS384") => Algorithm::PS384,
        Some("PS512") => Algorithm::PS512,
        Some("ES256") => Algorithm::ES256,
        Some("ES384") => Algorithm::ES384,
        _ => return Err(TokenRefusal::Algorithm),
    })
}

/// What a token says of its subject. The accessors tell what is absent from what has the wrong type.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(pub(crate) Map<String, Value>);

impl Claims {
    /// A claim that is text.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, TokenRefusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(TokenRefusal::ClaimType(name)),
        }
    }

    /// A claim that is one text or several.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<&str>, TokenRefusal> {
        match self.0.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(several)) => several.iter().map(|one| one.as_str().ok_or(TokenRefusal::ClaimType(name))).collect(),
            Some(_) => Err(TokenRefusal::ClaimType(name)),
        }
    }

    /// A time, seconds since 1970; fractions are allowed (RFC 7519, section 2: NumericDate).
    fn time(&self, name: &'static str) -> Result<Option<f64>, TokenRefusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => {
                number.as_f64().filter(|time| time.is_finite() && *time >= 0.0).map(Some).ok_or(TokenRefusal::ClaimType(name))
            }
            Some(_) => Err(TokenRefusal::ClaimType(name)),
        }
    }

    /// Whether they are for now.
    pub(crate) fn check_times(&self, now: Duration) -> Result<(), TokenRefusal> {
        let (now, skew) = (now.as_secs_f64(), CLOCK_SKEW.as_secs_f64());
        let expires = self.time("exp")?.ok_or(TokenRefusal::ClaimMissing("exp"))?;
        if now >= expires + skew {
            return Err(TokenRefusal::Expired);
        }
        if self.time("nbf")?.is_some_and(|not_before| now + skew < not_before) {
            return Err(TokenRefusal::NotYet);
        }
        if self.time("iat")?.is_some_and(|issued| now + skew < issued) {
            return Err(TokenRefusal::IssuedInFuture);
        }
        Ok(())
    }

    /// Whether they are for one of these services. A slash at the end of either makes no difference.
    pub(crate) fn check_audience(&self, ours: &[String]) -> Result<(), TokenRefusal> {
        let theirs = self.texts("aud")?;
        if theirs.is_empty() {
            return Err(TokenRefusal::ClaimMissing("aud"));
        }
        let bare = |audience: &str| audience.strip_suffix('/').unwrap_or(audience).to_owned();
        if theirs.iter().any(|theirs| ours.iter().any(|ours| bare(ours) == bare(theirs))) {
            Ok(())
        } else {
            Err(TokenRefusal::Audience)
        }
    }

    /// Whether they are of this tenant.
    pub(crate) fn check_tenant(&self, ours: &str) -> Result<(), TokenRefusal> {
        match self.text("tid")? {
            None => Err(TokenRefusal::ClaimMissing("tid")),
            Some(theirs) if theirs.eq_ignore_ascii_case(ours) => Ok(()),
            Some(_) => Err(TokenRefusal::Tenant),
        }
    }
}

#[cfg(test)]
mod tests;
