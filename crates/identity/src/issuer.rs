//! Who may say who somebody is.

use std::{sync::Arc, time::Duration};

use crate::{
    fetch::{FetchError, Fetcher, KeysAt},
    jwk::{Keys, VerifyingKey},
    jwks::{KeyTimes, NoKey, RemoteKeys},
    permission::Permission,
    refusal::Refusal,
    token::{Claims, TokenRefusal, Unverified},
};

/// The data plane of Azure's sessions: its resource, an older name of it, and its application id (`aud` of v2 tokens).
pub const SESSION_AUDIENCES: [&str; 3] =
    ["https://dynamicsessions.io", "https://acasessions.io", "2c7dd73f-7a21-485b-b97d-a2508fa152c3"];

/// Azure's Resource Manager, which is asked to make pools.
pub const MANAGEMENT_AUDIENCES: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];

/// For which services a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audiences {
    /// To run code. These are taken to manage, too.
    pub execute: Vec<String>,
    /// To manage only.
    pub manage: Vec<String>,
}

impl Default for Audiences {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { execute: owned(&SESSION_AUDIENCES), manage: owned(&MANAGEMENT_AUDIENCES) }
    }
}

/// An issuer that is trusted.
#[derive(Debug)]
pub struct Issuer {
    /// `iss`, to the letter.
    name: String,
    /// `tid`, where it has tenants.
    tenant: Option<String>,
    keys: Source,
}

#[derive(Debug)]
enum Source {
    Remote(RemoteKeys),
    Own(Keys),
}

impl Issuer {
    /// Any issuer; its keys are where its discovery document says, or at `keys_url`.
    ///
    /// # Errors
    /// Where they may not be fetched from there.
    pub fn new(name: &str, tenant: Option<&str>, keys_url: Option<&str>, times: KeyTimes) -> Result<Self, FetchError> {
        let at = match keys_url {
            Some(url) => KeysAt::Url(url.to_owned()),
            // OpenID Connect Discovery 1.0, section 4.
            None => KeysAt::Discovery {
                url: format!("{}/.well-known/openid-configuration", name.trim_end_matches('/')),
                issuer: name.to_owned(),
            },
        };
        Self::at(name, tenant, at, times)
    }

    /// Both issuers of a tenant of Entra: that of v1 tokens, which managed identities and `az --resource` get, and that of v2.
    ///
    /// # Errors
    /// As [`Issuer::new`].
    pub fn entra(tenant: &str, times: KeyTimes) -> Result<[Self; 2], FetchError> {
        let authority = format!("https://login.microsoftonline.com/{tenant}");
        let v1 = format!("https://sts.windows.net/{tenant}/");
        let v2 = format!("{authority}/v2.0");
        let discovery = |base: &str, issuer: &str| KeysAt::Discovery {
            url: format!("{base}/.well-known/openid-configuration"),
            issuer: issuer.to_owned(),
        };
        Ok([
            Self::at(&v1, Some(tenant), discovery(&authority, &v1), times)?,
            Self::at(&v2, Some(tenant), discovery(&v2, &v2), times)?,
        ])
    }

    /// One whose keys are known.
    pub(crate) fn own(name: &str, tenant: &str, keys: Keys) -> Self {
        Self { name: name.to_owned(), tenant: Some(tenant.to_owned()), keys: Source::Own(keys) }
    }

    fn at(name: &str, tenant: Option<&str>, at: KeysAt, times: KeyTimes) -> Result<Self, FetchError> {
        let keys = Source::Remote(RemoteKeys::new(Fetcher::new(at)?, times));
        Ok(Self { name: name.to_owned(), tenant: tenant.map(str::to_owned), keys })
    }

    /// Within it, ids of subjects are unique: its tenant, where it is bound to one. What a token of an unbound issuer says of
    /// tenants is only what its holder may have written there.
    pub(crate) fn realm(&self) -> &str {
        self.tenant.as_deref().unwrap_or(&self.name)
    }

    /// `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn key(&self, kid: &str) -> Result<Arc<VerifyingKey>, Refusal> {
        match &self.keys {
            Source::Own(keys) => keys.get(kid).cloned().ok_or(TokenRefusal::KidUnknown.into()),
            Source::Remote(remote) => remote.key(kid).await.map_err(|no_key| match no_key {
                NoKey::Unknown => TokenRefusal::KidUnknown.into(),
                NoKey::Unavailable { .. } => Refusal::IssuerUnavailable { reason: no_key.to_string() },
            }),
        }
    }
}

/// Checks a token in all respects but what its subject may do. `now`: since 1970.
///
/// # Errors
/// The first check that failed. Nothing that the token says is used before its signature has been checked, but its `iss`
/// and `kid`, and those only to look for them among what is known.
pub(crate) async fn check_token<'a>(
    token: &str,
    issuers: &'a [Issuer],
    audiences: &Audiences,
    permission: Permission,
    now: Duration,
) -> Result<(Claims, &'a Issuer), Refusal> {
    let unverified = Unverified::read(token)?;
    let named = unverified.issuer()?;
    let issuer = issuers.iter().find(|issuer| issuer.name == named).ok_or(TokenRefusal::Issuer)?;
    let key = issuer.key(&unverified.kid).await?;
    let claims = unverified.verified(&key)?;
    claims.check_times(now)?;
    match permission {
        Permission::Execute => claims.check_audience(&audiences.execute)?,
        Permission::Manage => claims.check_audience(&[&audiences.execute[..], &audiences.manage[..]].concat())?,
    }
    if let Some(tenant) = &issuer.tenant {
        claims.check_tenant(tenant)?;
    }
    Ok((claims, issuer))
}
