use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderMap;

use crate::{
    credential::Credential,
    issuer::{Audiences, Issuer, check_token},
    key::{ApiKey, KeyRefusal, KeyStore},
    limits::{InHand, Limiter, SubjectLimits},
    local::{LOCAL_OBJECT, LocalIssuer},
    permission::{Grants, Permission, Target},
    refusal::Refusal,
    roles::{self, RoleRule},
    subject::Subject,
};

/// A key's last use is noted to the minute: a write for every request would cost more than the request.
const LAST_USE_S: u64 = 60;

/// Who was let in. Keep it as long as the request is served: it counts among its subject's requests in hand.
#[derive(Debug)]
pub struct Admitted {
    /// Who.
    pub subject: Subject,
    grants: Grants,
    _in_hand: Option<InHand>,
}

impl Admitted {
    /// Whether they may do this, too: for lists, which show what may be seen.
    pub fn may(&self, permission: Permission, target: Target<'_>) -> bool {
        self.grants.allow(permission, target)
    }
}

/// What a guard takes, and how much of it. With neither keys nor issuers it lets everybody in, whatever they send.
#[derive(Default)]
pub struct GuardConfig {
    /// Where API keys are kept, if they are taken.
    pub keys: Option<Arc<dyn KeyStore>>,
    /// Whose tokens are taken.
    pub issuers: Vec<Issuer>,
    /// The issuer of this machine, if there is one: it answers who asks for a token. See also [`GuardConfig::trusting`].
    pub local: Option<Arc<LocalIssuer>>,
    /// For which services tokens may be.
    pub audiences: Audiences,
    /// What the holders of tokens may do.
    pub roles: Vec<RoleRule>,
    /// How much one subject may do.
    pub limits: Option<SubjectLimits>,
}

impl GuardConfig {
    /// The same with an issuer of this machine whose tokens are taken; those of its own object may do everything.
    pub fn trusting(mut self, local: Arc<LocalIssuer>) -> Self {
        self.issuers.push(local.trusted());
        self.local = Some(local);
        self
    }
}

/// The guard at every route. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    config: GuardConfig,
    limiter: Option<Limiter>,
}

impl Guard {
    /// One that takes what this says.
    pub fn new(config: GuardConfig) -> Self {
        let limiter = config.limits.map(Limiter::new);
        Self { inner: Arc::new(Inner { config, limiter }) }
    }

    /// One that lets everybody in, whatever they send: for loopback addresses.
    pub fn open() -> Self {
        Self::new(GuardConfig::default())
    }

    /// Whether it asks who somebody is.
    pub fn asks(&self) -> bool {
        self.inner.config.keys.is_some() || !self.inner.config.issuers.is_empty()
    }

    /// The issuer of this machine, if there is one.
    pub fn local(&self) -> Option<&Arc<LocalIssuer>> {
        self.inner.config.local.as_ref()
    }

    /// Whether who sends these headers may do this. A refusal has been logged in full.
    ///
    /// # Errors
    /// The check that failed.
    pub async fn check(&self, headers: &HeaderMap, permission: Permission, target: Target<'_>) -> Result<Admitted, Refusal> {
        self.decide(headers, permission, target).await.inspect_err(|refusal| {
            tracing::info!(check = refusal.code(), status = refusal.status(), "refused: {refusal}");
        })
    }

    async fn decide(&self, headers: &HeaderMap, permission: Permission, target: Target<'_>) -> Result<Admitted, Refusal> {
        let (subject, grants) = if self.asks() {
            match Credential::of(headers)? {
                Credential::None => return Err(Refusal::NoCredential),
                Credential::Key(key) => self.of_key(key).await?,
                Credential::Bearer(token) => self.of_token(token, permission).await?,
            }
        } else {
            (Subject::Anonymous, Grants::all())
        };
        if !grants.allow(permission, target) {
            return Err(Refusal::Forbidden { subject: subject.to_string(), permission, target: target.to_string() });
        }
        let in_hand = self.inner.limiter.as_ref().map(|limiter| limiter.take(&subject)).transpose()?.flatten();
        Ok(Admitted { subject, grants, _in_hand: in_hand })
    }

    async fn of_key(&self, text: &str) -> Result<(Subject, Grants), Refusal> {
        let Some(store) = &self.inner.config.keys else { return Err(Refusal::KeysNotTaken) };
        let key = ApiKey::parse(text).map_err(|_| KeyRefusal::Malformed)?;
        let found = store.of_secret(key.hash()).await.map_err(|error| Refusal::Store { reason: error.to_string() })?;
        let record = key.verify(found)?;
        let now_s = now().as_secs();
        if record.last_used_at_s.is_none_or(|last| now_s.saturating_sub(last) >= LAST_USE_S) {
            store.used(key.id(), now_s);
        }
        Ok((Subject::Key { id: record.id, name: record.name }, record.grants))
    }

    async fn of_token(&self, token: &str, permission: Permission) -> Result<(Subject, Grants), Refusal> {
        let config = &self.inner.config;
        if config.issuers.is_empty() {
            return Err(Refusal::TokensNotTaken);
        }
        let (claims, issuer) = check_token(token, &config.issuers, &config.audiences, permission, now()).await?;
        let subject = roles::subject(&claims, issuer.realm())?;
        // Asked of the issuer's name: an object of this id in another's tenant is somebody else.
        let is_this_machine = config.local.as_ref().is_some_and(|local| local.name() == issuer.name())
            && matches!(&subject, Subject::Principal { id, .. } if id == LOCAL_OBJECT);
        let grants = if is_this_machine { Grants::all() } else { roles::grants(&config.roles, &claims)? };
        Ok((subject, grants))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
