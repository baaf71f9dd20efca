//! Who may use the server, and over what: `[identity]` and `[tls]`.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use greenroom_identity::{Audiences, Certificate, KeyTimes, Permission, RoleClaim, RoleRule, SubjectLimits};
use serde::Deserialize;

use super::{SettingsError, bad};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIdentity {
    mode: String,
    local_issuer: bool,
    roles: Vec<RawRole>,
    oidc: RawOidc,
    limits: RawSubjectLimits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOidc {
    tenant: String,
    issuer: String,
    keys_url: String,
    audiences: Several,
    management_audiences: Several,
    keys_fresh_s: u32,
    keys_stale_s: u32,
    keys_between_s: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    claim: RoleClaim,
    value: String,
    allow: Vec<Permission>,
    pools: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubjectLimits {
    requests_per_second: u32,
    burst: u32,
    concurrent: u32,
    anonymous: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    listen: String,
    certificate: String,
    key: String,
    self_signed: bool,
}

/// A list, or (from a flag or the environment) one text with commas.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of texts, or one text with commas")]
pub(super) enum Several {
    List(Vec<String>),
    Text(String),
}

impl From<Several> for Vec<String> {
    fn from(several: Several) -> Self {
        match several {
            Several::List(list) => list,
            Several::Text(text) => text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect(),
        }
    }
}

/// `[identity]`, checked.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Whether API keys are taken.
    pub keys: bool,
    /// Whether bearer tokens are taken.
    pub tokens: bool,
    /// Whether this machine has an issuer of its own.
    pub local_issuer: bool,
    /// A tenant of Entra.
    pub tenant: Option<String>,
    /// Any other issuer.
    pub issuer: Option<String>,
    /// Where its keys are, if not where its discovery document says.
    pub keys_url: Option<String>,
    /// For which services tokens may be.
    pub audiences: Audiences,
    /// How long its keys count.
    pub key_times: KeyTimes,
    /// What the holders of tokens may do.
    pub roles: Vec<RoleRule>,
    /// How much one subject may do.
    pub limits: SubjectLimits,
}

/// `[tls]`, checked.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Where https is served.
    pub listen: SocketAddr,
    /// What is shown there.
    pub certificate: Certificate,
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn positive(key: &str, value: u32) -> Result<NonZeroU32, SettingsError> {
    NonZeroU32::new(value).ok_or_else(|| bad(key, "must be above 0: there is no \"unlimited\""))
}

impl IdentitySettings {
    pub(super) fn check(raw: RawIdentity) -> Result<Self, SettingsError> {
        let (keys, tokens) = match raw.mode.as_str() {
            "none" => (false, false),
            "keys" => (true, false),
            "oidc" => (false, true),
            "keys+oidc" | "oidc+keys" => (true, true),
            other => return Err(bad("identity.mode", format!("is {other:?}: expected none, keys, oidc or keys+oidc"))),
        };
        let RawOidc { tenant, issuer, keys_url, .. } = raw.oidc;
        let (tenant, issuer, keys_url) = (given(tenant), given(issuer), given(keys_url));
        if tokens && tenant.is_none() && issuer.is_none() && !raw.local_issuer {
            let reason = format!(
                "is {:?}, and no issuer is trusted: set identity.oidc.tenant (Entra) or identity.oidc.issuer, or identity.local_issuer = true",
                raw.mode
            );
            return Err(bad("identity.mode", reason));
        }
        if tenant.as_ref().is_some_and(|tenant| !tenant.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')) {
            // Neither `common` nor a domain: any tenant's users would be let in, or whose they are be decided by a name.
            return Err(bad("identity.oidc.tenant", "must be the tenant's id (a GUID)"));
        }
        if tokens && !raw.local_issuer && raw.roles.is_empty() {
            return Err(bad("identity.roles", "is empty: nobody with a token may do anything; add [[identity.roles]]"));
        }
        for role in &raw.roles {
            if role.value.is_empty() || role.allow.is_empty() || role.pools.is_empty() {
                return Err(bad("identity.roles", "has a rule without value, allow or pools (all of them: pools = [\"*\"])"));
            }
        }
        let seconds = |key, value| positive(key, value).map(|value| Duration::from_secs(value.get().into()));
        let limits = raw.limits;
        Ok(Self {
            keys,
            tokens,
            local_issuer: raw.local_issuer,
            tenant,
            issuer,
            keys_url,
            audiences: Audiences { execute: raw.oidc.audiences.into(), manage: raw.oidc.management_audiences.into() },
            key_times: KeyTimes {
                fresh: seconds("identity.oidc.keys_fresh_s", raw.oidc.keys_fresh_s)?,
                stale: seconds("identity.oidc.keys_stale_s", raw.oidc.keys_stale_s)?,
                between: seconds("identity.oidc.keys_between_s", raw.oidc.keys_between_s)?,
            },
            roles: raw
                .roles
                .into_iter()
                .map(|role| RoleRule { claim: role.claim, value: role.value, permissions: role.allow, pools: role.pools.into() })
                .collect(),
            limits: SubjectLimits {
                requests_per_second: positive("identity.limits.requests_per_second", limits.requests_per_second)?,
                burst: positive("identity.limits.burst", limits.burst)?,
                concurrent: positive("identity.limits.concurrent", limits.concurrent)?,
                anonymous: limits.anonymous,
            },
        })
    }
}

impl TlsSettings {
    /// None where no address is given.
    pub(super) fn check(raw: RawTls, data_dir: &std::path::Path) -> Result<Option<Self>, SettingsError> {
        if raw.listen.is_empty() {
            return Ok(None);
        }
        let listen = super::address("tls.listen", &raw.listen)?;
        let certificate = match (given(raw.certificate), given(raw.key), raw.self_signed) {
            (Some(certificate), Some(key), false) => {
                Certificate::Files { certificate: PathBuf::from(certificate), key: PathBuf::from(key) }
            }
            (None, None, true) => Certificate::SelfSigned { data_dir: data_dir.to_owned() },
            _ => return Err(bad("tls.listen", "needs tls.certificate and tls.key, or tls.self_signed = true")),
        };
        Ok(Some(Self { listen, certificate }))
    }
}
