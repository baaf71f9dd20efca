use std::time::Duration;

use tokio::time::Instant;

use crate::store::unix_ms;

/// A pool's clock: milliseconds since the pool began, and what they are in UTC. A step of the system's clock moves nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    began_unix_ms: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), began_unix_ms: unix_ms() }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970 UTC.
    pub(super) fn unix_ms(&self, at_ms: u64) -> u64 {
        self.began_unix_ms.saturating_add(at_ms)
    }

    /// Returns at this time; never where there is none.
    pub(super) async fn reach(&self, at_ms: Option<u64>) {
        match at_ms {
            Some(at_ms) => tokio::time::sleep_until(self.began + Duration::from_millis(at_ms)).await,
            None => std::future::pending().await,
        }
    }
}
