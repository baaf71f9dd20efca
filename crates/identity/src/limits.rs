//! How much one subject may do: requests a second, and at once. Others are not slowed by who is.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock, DefaultClock},
};

use crate::{refusal::Refusal, subject::Subject};

/// So many calls lie between two looks for subjects that have not been seen for a while.
const SWEEP_EVERY: u32 = 1024;

/// The limits of each subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectLimits {
    /// Requests a second, in the long run.
    pub requests_per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
    /// Requests in hand at the same time.
    pub concurrent: NonZeroU32,
    /// Whether they are for those, too, who were not asked who they are (all together).
    pub anonymous: bool,
}

/// Counts them.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: SubjectLimits,
    rate: DefaultKeyedRateLimiter<String>,
    calls: AtomicU32,
    in_hand: Arc<Mutex<HashMap<String, u32>>>,
}

/// One request in hand; dropped, it is none any more.
#[derive(Debug)]
pub(crate) struct InHand {
    subject: String,
    all: Arc<Mutex<HashMap<String, u32>>>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.subject) {
            Some(count) if *count > 1 => *count -= 1,
            // Nobody stays in the map who has nothing in hand.
            _ => drop(all.remove(&self.subject)),
        }
    }
}

impl Limiter {
    pub(crate) fn new(limits: SubjectLimits) -> Self {
        let quota = Quota::per_second(limits.requests_per_second).allow_burst(limits.burst);
        Self { limits, rate: DefaultKeyedRateLimiter::keyed(quota), calls: AtomicU32::new(0), in_hand: Arc::default() }
    }

    /// Takes one more request of a subject in hand.
    pub(crate) fn take(&self, subject: &Subject) -> Result<Option<InHand>, Refusal> {
        if *subject == Subject::Anonymous && !self.limits.anonymous {
            return Ok(None);
        }
        let name = subject.to_string();
        self.sweep();
        if let Err(until) = self.rate.check_key(&name) {
            let wait: Duration = until.wait_time_from(DefaultClock::default().now());
            return Err(Refusal::TooFast { subject: name, retry_after_s: wait.as_secs() + 1 });
        }
        let mut all = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(name.clone()).or_insert(0);
        if *count >= self.limits.concurrent.get() {
            return Err(Refusal::TooManyAtOnce { subject: name, concurrent: *count });
        }
        *count += 1;
        Ok(Some(InHand { subject: name, all: Arc::clone(&self.in_hand) }))
    }

    /// Forgets subjects that have their whole burst again: they count as new ones do.
    fn sweep(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            self.rate.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn limiter(burst: u32, concurrent: u32, anonymous: bool) -> Limiter {
        Limiter::new(SubjectLimits {
            requests_per_second: number(1),
            burst: number(burst),
            concurrent: number(concurrent),
            anonymous,
        })
    }

    fn key(id: &str) -> Subject {
        Subject::Key { id: id.to_owned(), name: "n".to_owned() }
    }

    #[test]
    fn who_is_too_fast_is_told_when_to_come_again_and_others_are_not_slowed() {
        let limiter = limiter(3, 100, false);
        for _ in 0..3 {
            assert!(limiter.take(&key("a")).is_ok());
        }
        let refusal = limiter.take(&key("a")).unwrap_err();
        assert!(matches!(refusal, Refusal::TooFast { retry_after_s: 1..=2, .. }), "{refusal}");
        assert_eq!((refusal.status(), refusal.retry_after_s().is_some()), (429, true));
        assert!(limiter.take(&key("b")).is_ok());
    }

    #[test]
    fn only_so_many_are_in_hand_at_once_and_one_that_ends_makes_room() {
        let limiter = limiter(100, 2, false);
        let first = limiter.take(&key("a")).unwrap();
        let _second = limiter.take(&key("a")).unwrap();
        assert!(matches!(limiter.take(&key("a")), Err(Refusal::TooManyAtOnce { concurrent: 2, .. })));
        assert!(limiter.take(&key("b")).is_ok(), "another subject has its own");
        drop(first);
        assert!(limiter.take(&key("a")).is_ok());
    }

    #[test]
    fn who_has_nothing_in_hand_is_not_remembered() {
        let limiter = limiter(100, 2, false);
        drop((limiter.take(&key("a")), limiter.take(&key("b"))));
        assert!(limiter.in_hand.lock().unwrap().is_empty());
    }

    #[test]
    fn the_anonymous_are_limited_only_where_it_is_said() {
        let free = limiter(1, 1, false);
        let held: Vec<_> = (0..10).map(|_| free.take(&Subject::Anonymous).unwrap()).collect();
        assert!(held.iter().all(Option::is_none));
        let limited = limiter(1, 1, true);
        assert!(limited.take(&Subject::Anonymous).is_ok());
        assert!(limited.take(&Subject::Anonymous).is_err());
    }
}
