//! An issuer's keys, kept: fetched when they are first needed, again when they are old or a token names one that is not
//! there, by one request at a time, and not more often than once in a while. While the issuer is down the old ones serve,
//! but not for ever.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    fetch::Fetcher,
    jwk::{Keys, VerifyingKey},
};

/// How long keys count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// Keys older than this are fetched again before they are used: a key that its issuer has withdrawn counts no longer than that.
    pub fresh: Duration,
    /// Where they cannot be fetched, they are used up to this age.
    pub stale: Duration,
    /// The least time between two attempts, whatever tokens name.
    pub between: Duration,
}

impl Default for KeyTimes {
    fn default() -> Self {
        Self { fresh: Duration::from_secs(3600), stale: Duration::from_secs(24 * 3600), between: Duration::from_secs(30) }
    }
}

/// What to do about a `kid`.
#[derive(Clone, Debug)]
enum Look {
    Use(Arc<VerifyingKey>),
    Fetch,
    /// There is no such key, and it is too soon to ask again.
    Unknown,
    /// There are no keys that count, and it is too soon to ask again.
    NoKeys,
}

/// The decisions: no clock, no I/O.
#[derive(Debug, Default)]
struct Cache {
    keys: Keys,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl Cache {
    fn look(&self, kid: &str, now: Instant, times: KeyTimes) -> Look {
        let age = self.fetched.map(|fetched| now.saturating_duration_since(fetched));
        let may_try = self.tried.is_none_or(|tried| now.saturating_duration_since(tried) >= times.between);
        let counts = age.is_some_and(|age| age < if may_try { times.fresh } else { times.stale });
        match self.keys.get(kid) {
            Some(key) if counts => Look::Use(Arc::clone(key)),
            _ if may_try => Look::Fetch,
            _ if counts => Look::Unknown,
            _ => Look::NoKeys,
        }
    }
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoKey {
    /// The issuer has none of this name.
    #[error("the issuer has no such key")]
    Unknown,
    /// The issuer's keys cannot be had.
    #[error("the keys of {url} cannot be had, and the last ones are too old")]
    Unavailable { url: String },
}

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct RemoteKeys {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fetcher: Fetcher,
    times: KeyTimes,
    cache: Mutex<Cache>,
    /// Held by the one that fetches.
    fetching: tokio::sync::Mutex<()>,
}

impl RemoteKeys {
    pub(crate) fn new(fetcher: Fetcher, times: KeyTimes) -> Self {
        let shared = Shared { fetcher, times, cache: Mutex::default(), fetching: tokio::sync::Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The key of this name.
    pub(crate) async fn key(&self, kid: &str) -> Result<Arc<VerifyingKey>, NoKey> {
        if let Some(answer) = self.shared.answer(kid) {
            return answer;
        }
        // A task of its own: a caller that goes away must not leave an attempt that nobody counts.
        let (shared, wanted) = (Arc::clone(&self.shared), kid.to_owned());
        match tokio::spawn(async move { shared.fetch_for(&wanted).await }).await {
            Ok(answer) => answer,
            Err(_) => Err(NoKey::Unavailable { url: self.shared.fetcher.url().to_owned() }),
        }
    }
}

impl Shared {
    async fn fetch_for(&self, kid: &str) -> Result<Arc<VerifyingKey>, NoKey> {
        let _alone = self.fetching.lock().await;
        // Who waited for the lock finds what the one before fetched.
        if let Some(answer) = self.answer(kid) {
            return answer;
        }
        let fetched = self.fetcher.keys().await;
        let now = Instant::now();
        // Only now: those who come meanwhile wait for this attempt, and are not told that there are no keys.
        self.with(|cache| cache.tried = Some(now));
        match fetched {
            Ok(keys) => {
                tracing::info!(url = self.fetcher.url(), keys = keys.len(), "an issuer's keys were fetched");
                self.with(|cache| (cache.keys, cache.fetched) = (keys, Some(now)));
            }
            Err(error) => tracing::error!(url = self.fetcher.url(), %error, "an issuer's keys cannot be fetched"),
        }
        self.answer(kid).unwrap_or(Err(NoKey::Unknown))
    }

    /// What is known without asking the issuer; nothing if it has to be asked.
    fn answer(&self, kid: &str) -> Option<Result<Arc<VerifyingKey>, NoKey>> {
        match self.with(|cache| cache.look(kid, Instant::now(), self.times)) {
            Look::Use(key) => Some(Ok(key)),
            Look::Fetch => None,
            Look::Unknown => Some(Err(NoKey::Unknown)),
            Look::NoKeys => Some(Err(NoKey::Unavailable { url: self.fetcher.url().to_owned() })),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Cache) -> T) -> T {
        act(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
