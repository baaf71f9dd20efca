//! An issuer's keys, as it publishes them (RFC 7517). Each is pinned to one algorithm; what is not for signatures, not of
//! two halves, too weak, or named like another is left out.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::token::{self, TokenRefusal, Unverified};

/// NIST SP 800-131A: less is not acceptable; more than the upper one only costs time.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// An issuer publishes a handful.
const MAX_KEYS: usize = 100;

/// A public key and the one algorithm that it is for.
#[derive(Clone)]
pub(crate) struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
    material: String,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({:?})", self.algorithm)
    }
}

impl VerifyingKey {
    /// Whether this key signed the token.
    pub(crate) fn verify(&self, token: &Unverified<'_>) -> Result<(), TokenRefusal> {
        // The key decides: a token cannot choose how it is verified.
        if token.algorithm != self.algorithm {
            return Err(TokenRefusal::AlgorithmOfKey);
        }
        match jsonwebtoken::crypto::verify(token.signature, token.signed.as_bytes(), &self.key, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(TokenRefusal::Signature),
        }
    }
}

/// The keys of an issuer, by `kid`.
pub(crate) type Keys = BTreeMap<String, Arc<VerifyingKey>>;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<Value>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a set; of what is left out, the reason goes to the log.
///
/// # Errors
/// Where it is no set, or nothing in it can be used.
pub(crate) fn read(bytes: &[u8]) -> Result<Keys, BadKeys> {
    let set: Set = serde_json::from_slice(bytes).map_err(|_| BadKeys::Malformed)?;
    if set.keys.len() > MAX_KEYS {
        return Err(BadKeys::TooMany { keys: set.keys.len() });
    }
    let mut keys = Keys::new();
    let mut twice = Vec::new();
    for value in set.keys {
        match key(value) {
            // Sets are put together of several; the same key twice is one key. Two of one name are a trap.
            Ok((kid, key)) => match keys.get(&kid) {
                Some(known) if known.material != key.material => twice.push(kid),
                Some(_) => {}
                None => {
                    keys.insert(kid, Arc::new(key));
                }
            },
            Err(why) => tracing::debug!(why, "a published key is left out"),
        }
    }
    for kid in twice {
        tracing::warn!(kid = ?kid, "an issuer publishes two keys of one name: neither counts");
        keys.remove(&kid);
    }
    if keys.is_empty() { Err(BadKeys::None) } else { Ok(keys) }
}

/// Why a published set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKeys {
    #[error("it is no set of keys")]
    Malformed,
    #[error("it has {keys} keys, more than {MAX_KEYS}")]
    TooMany { keys: usize },
    #[error("none of its keys is for signatures, public, strong enough and named")]
    None,
}

fn key(value: Value) -> Result<(String, VerifyingKey), &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it is no key")?;
    let kid = jwk.kid.filter(|kid| !kid.is_empty()).ok_or("it has no kid")?;
    if jwk.r#use.is_some_and(|purpose| purpose != "sig") {
        return Err("it is not for signatures (use)");
    }
    if jwk.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
        return Err("it is not for signatures (key_ops)");
    }
    let said = jwk.alg.as_ref().map(token::algorithm).transpose().map_err(|_| "its algorithm is not allowed")?;
    let (algorithm, key, material) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (jwk.n.ok_or("it has no n")?, jwk.e.ok_or("it has no e")?);
            let modulus = URL_SAFE_NO_PAD.decode(&n).map_err(|_| "its n is not base64url")?;
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            if !RSA_MODULUS_BYTES.contains(&bytes) {
                return Err("its modulus has not 2048 to 8192 bits");
            }
            let algorithm = said.unwrap_or(Algorithm::RS256);
            (algorithm, DecodingKey::from_rsa_components(&n, &e), format!("{n}.{e}"))
        }
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let (x, y) = (jwk.x.ok_or("it has no x")?, jwk.y.ok_or("it has no y")?);
            let algorithm = if curve == "P-256" { Algorithm::ES256 } else { Algorithm::ES384 };
            (algorithm, DecodingKey::from_ec_components(&x, &y), format!("{x}.{y}"))
        }
        // A symmetric key that is published is known to everybody.
        ("oct", _) => return Err("it is symmetric"),
        _ => return Err("its type or curve is not known"),
    };
    let fits = match jwk.kty.as_str() {
        "RSA" => matches!(
            algorithm,
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512
        ),
        _ => said.is_none_or(|said| said == algorithm),
    };
    if !fits {
        return Err("its algorithm is not one of its type");
    }
    Ok((kid, VerifyingKey { algorithm, key: key.map_err(|_| "its numbers cannot be read")?, material }))
}

#[cfg(test)]
mod tests;
