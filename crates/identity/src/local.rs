//! An issuer of our own, for development and tests: what a managed identity's endpoint is to a program in Azure, this is to
//! one on this machine. `DefaultAzureCredential` takes its tokens unmodified.
//!
//! It is for loopback addresses. Its two secrets, the signing key and the header that App Service's form asks for, are files
//! of the data directory that nobody else can read.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    issuer::Issuer,
    jwk,
    secret::{SecretError, make_directory, read_secret, write_secret},
};

/// Its tenant.
pub const LOCAL_TENANT: &str = "67726565-6e72-4f6f-ad00-000000000001";
/// The object that its tokens are of, unless another identity is asked for.
pub const LOCAL_OBJECT: &str = "67726565-6e72-4f6f-ad00-000000000002";
/// The application that its tokens are of, unless another identity is asked for.
pub const LOCAL_APPLICATION: &str = "67726565-6e72-4f6f-ad00-000000000003";

/// How long its tokens count. Clients renew theirs in good time.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The directory, in the data directory.
const DIRECTORY: &str = "identity";
const KEY_FILE: &str = "issuer.pem";
const HEADER_FILE: &str = "header";
const NAME_FILE: &str = "issuer";

/// The issuer.
pub struct LocalIssuer {
    name: String,
    key: EncodingKey,
    jwk: Value,
    kid: String,
    header: String,
}

impl std::fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalIssuer({})", self.name)
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum LocalIssuerError {
    /// One of its files.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It has not been made yet.
    #[error("there is no local issuer in {path}: set identity.local_issuer = true and start the server once")]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// Not a key of ours.
    #[error("{path} has no key of the issuer's in it; remove it, and a new one is made")]
    Key {
        /// Which.
        path: PathBuf,
    },
    /// No random bits.
    #[error("the system gives no random bits: {0}")]
    Random(getrandom::Error),
    /// A token cannot be signed.
    #[error("a token cannot be signed: {0}")]
    Sign(jsonwebtoken::errors::Error),
}

/// A token, and what its endpoint says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The token.
    pub access_token: String,
    /// When it expires, seconds since 1970.
    pub expires_on_s: u64,
    /// What it is for.
    pub resource: String,
    /// Of which application.
    pub client_id: String,
}

impl Minted {
    /// The answer of a managed identity's endpoint. Its numbers are texts there.
    pub fn to_json(&self, now: Duration) -> Value {
        json!({
            "access_token": self.access_token,
            "client_id": self.client_id,
            "expires_in": self.expires_on_s.saturating_sub(now.as_secs()).to_string(),
            "expires_on": self.expires_on_s.to_string(),
            "ext_expires_in": self.expires_on_s.saturating_sub(now.as_secs()).to_string(),
            "not_before": now.as_secs().to_string(),
            "resource": self.resource,
            "token_type": "Bearer",
        })
    }
}

impl LocalIssuer {
    /// The one of a server: read, or made where there is none. `base`: the server's own address, `http://127.0.0.1:2000`. Blocks.
    ///
    /// # Errors
    /// Where its files cannot be used.
    pub fn open(data_dir: &Path, base: &str) -> Result<Self, LocalIssuerError> {
        let directory = data_dir.join(DIRECTORY);
        make_directory(&directory)?;
        let key = directory.join(KEY_FILE);
        if !key.exists() {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
            let pair = pair.map_err(|_| LocalIssuerError::Key { path: key.clone() })?;
            write_secret(&key, &pair.serialize_pem())?;
        }
        let header = directory.join(HEADER_FILE);
        if !header.exists() {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(LocalIssuerError::Random)?;
            write_secret(&header, &URL_SAFE_NO_PAD.encode(bytes))?;
        }
        let name = format!("{}/identity", base.trim_end_matches('/'));
        write_secret(&directory.join(NAME_FILE), &name)?;
        Self::read(&directory, name)
    }

    /// The one that a server of this data directory has, for a command beside it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn existing(data_dir: &Path) -> Result<Self, LocalIssuerError> {
        let directory = data_dir.join(DIRECTORY);
        let name = directory.join(NAME_FILE);
        if !name.exists() {
            return Err(LocalIssuerError::Missing { path: directory });
        }
        let name = read_secret(&name)?;
        Self::read(&directory, name)
    }

    fn read(directory: &Path, name: String) -> Result<Self, LocalIssuerError> {
        let path = directory.join(KEY_FILE);
        let bad = || LocalIssuerError::Key { path: path.clone() };
        let pem = read_secret(&path)?;
        let pair = rcgen::KeyPair::from_pem(&pem).map_err(|_| bad())?;
        // SEC 1, section 2.3.3: 4, x, y.
        let point = pair.public_key_raw();
        let (x, y) = match point {
            [4, rest @ ..] if rest.len() == 64 => rest.split_at(32),
            _ => return Err(bad()),
        };
        let kid = URL_SAFE_NO_PAD.encode(&Sha256::digest(point)[..16]);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y});
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| bad())?;
        Ok(Self { name, key, jwk, kid, header: read_secret(&directory.join(HEADER_FILE))? })
    }

    /// `iss` of its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is at.
    pub fn base(&self) -> &str {
        self.name.strip_suffix("/identity").unwrap_or(&self.name)
    }

    /// What App Service's form asks for in `X-IDENTITY-HEADER`. A secret.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// As one to trust. Its keys are known, nothing is fetched.
    pub(crate) fn trusted(&self) -> Issuer {
        // Made above: a set of one good key.
        let keys = jwk::read(self.jwks().to_string().as_bytes()).unwrap_or_default();
        Issuer::own(&self.name, LOCAL_TENANT, keys)
    }

    /// The public key, as it is published.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.jwk]})
    }

    /// The discovery document.
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.name,
            "jwks_uri": format!("{}/keys", self.name),
            "token_endpoint": format!("{}/msi/token", self.base()),
            "id_token_signing_alg_values_supported": ["ES256"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
        })
    }

    /// A token for a resource, of an application: a user-assigned identity, or else the one of this machine.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn mint(&self, resource: &str, client_id: Option<&str>, now: Duration) -> Result<Minted, LocalIssuerError> {
        let (application, object) = client_id.map_or((LOCAL_APPLICATION, LOCAL_OBJECT), |id| (id, id));
        let (now_s, expires_on_s) = (now.as_secs(), (now + LIFETIME).as_secs());
        let claims = json!({
            "aud": resource, "iss": self.name, "iat": now_s, "nbf": now_s, "exp": expires_on_s, "appid": application, "appidacr": "2",
            "idp": self.name, "idtyp": "app", "oid": object, "sub": object, "tid": LOCAL_TENANT, "ver": "1.0",
        });
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        let access_token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(LocalIssuerError::Sign)?;
        Ok(Minted { access_token, expires_on_s, resource: resource.to_owned(), client_id: application.to_owned() })
    }
}

#[cfg(test)]
mod tests;
