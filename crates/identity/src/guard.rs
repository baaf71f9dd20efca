use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderMap;

use crate::{
    credential::Credential,
    key::{ApiKey, KeyRefusal, KeyStore},
    permission::{Grants, Permission, Target},
    refusal::Refusal,
    subject::Subject,
};

/// Who was let in. Keep it as long as the request is served: it counts among its subject's requests in hand.
#[derive(Debug)]
pub struct Admitted {
    /// Who.
    pub subject: Subject,
    grants: Grants,
}

impl Admitted {
    /// Whether they may do this, too: for lists, which show what may be seen.
    pub fn may(&self, permission: Permission, target: Target<'_>) -> bool {
        self.grants.allow(permission, target)
    }
}

/// The guard at every route. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: Option<Arc<dyn KeyStore>>,
}

impl Guard {
    /// Lets everybody in, whatever they send: for loopback addresses.
    pub fn open() -> Self {
        Self { inner: Arc::default() }
    }

    /// Takes API keys of this store.
    pub fn keys(store: Arc<dyn KeyStore>) -> Self {
        Self { inner: Arc::new(Inner { keys: Some(store) }) }
    }

    /// Whether it asks who somebody is.
    pub fn asks(&self) -> bool {
        self.inner.keys.is_some()
    }

    /// Whether who sends these headers may do this. A refusal has been logged in full.
    ///
    /// # Errors
    /// The check that failed.
    pub async fn check(&self, headers: &HeaderMap, permission: Permission, target: Target<'_>) -> Result<Admitted, Refusal> {
        self.decide(headers, permission, target).await.inspect_err(|refusal| {
            tracing::warn!(check = refusal.code(), status = refusal.status(), "refused: {refusal}");
        })
    }

    async fn decide(&self, headers: &HeaderMap, permission: Permission, target: Target<'_>) -> Result<Admitted, Refusal> {
        if !self.asks() {
            return Ok(Admitted { subject: Subject::Anonymous, grants: Grants::all() });
        }
        let (subject, grants) = match Credential::of(headers)? {
            Credential::None => return Err(Refusal::NoCredential),
            Credential::Key(key) => self.of_key(key).await?,
            Credential::Bearer(_) => return Err(Refusal::TokensNotTaken),
        };
        if !grants.allow(permission, target) {
            return Err(Refusal::Forbidden { subject: subject.to_string(), permission, target: target.to_string() });
        }
        Ok(Admitted { subject, grants })
    }

    async fn of_key(&self, text: &str) -> Result<(Subject, Grants), Refusal> {
        let Some(store) = &self.inner.keys else { return Err(Refusal::KeysNotTaken) };
        let key = ApiKey::parse(text).map_err(|_| KeyRefusal::Malformed)?;
        let record = store.find(key.id()).await.map_err(|error| Refusal::Store { reason: error.to_string() })?;
        key.verify(record.as_ref())?;
        // Verified, so there is one.
        let Some(record) = record else { return Err(KeyRefusal::Malformed.into()) };
        let now_s = now_s();
        // To the minute: a write for every request would cost more than the request.
        if record.last_used_at_s.is_none_or(|last| now_s.saturating_sub(last) >= 60) {
            store.used(key.id(), now_s);
        }
        Ok((Subject::Key { id: record.id, name: record.name }, record.grants))
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
