//! Who may run now: so many at once, so many waiting in the order of their coming, the rest refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The smallest and largest advice in `Retry-After`.
const RETRY_AFTER_S: std::ops::RangeInclusive<u64> = 1..=60;

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    max: usize,
    queue: usize,
    waiting: Arc<AtomicUsize>,
    /// A moving average of how long an execution holds its place, microseconds.
    mean_us: Arc<AtomicU64>,
    closed: CancellationToken,
}

/// Why an execution may not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// All places are taken and as many wait as may.
    #[error("the server is busy: {waiting} executions wait already; try again in {retry_after_s} s")]
    Full {
        /// How many wait.
        waiting: usize,
        /// Advice, seconds.
        retry_after_s: u64,
    },
    /// The server is shutting down.
    #[error("the server is shutting down; try again in {retry_after_s} s")]
    Draining {
        /// Advice, seconds.
        retry_after_s: u64,
    },
}

/// A place; dropped, it is free for the next.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    since: std::time::Instant,
    mean_us: Arc<AtomicU64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let held = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        // An eighth of the new one: steady enough for advice, and a lost update between two of these is harmless.
        let mean = self.mean_us.load(Ordering::Relaxed);
        self.mean_us.store(mean - mean / 8 + held / 8, Ordering::Relaxed);
    }
}

/// Counts one who waits, also one who gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Admission {
    /// A door with so many places and so long a queue.
    pub fn new(max: usize, queue: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            max,
            queue,
            waiting: Arc::default(),
            mean_us: Arc::default(),
            closed: CancellationToken::new(),
        }
    }

    /// Waits for a place, in turn. Dropping the future gives up the place in the queue.
    pub async fn admit(&self) -> Result<Place, Denied> {
        if self.closed.is_cancelled() {
            return Err(self.draining());
        }
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.queue().await?,
        };
        Ok(Place { _permit: permit, since: std::time::Instant::now(), mean_us: Arc::clone(&self.mean_us) })
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, Denied> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue {
            return Err(Denied::Full { waiting: before, retry_after_s: self.retry_after(before) });
        }
        tokio::select! {
            permit = Arc::clone(&self.places).acquire_owned() => permit.map_err(|_| self.draining()),
            () = self.closed.cancelled() => Err(self.draining()),
        }
    }

    /// Seconds until those who wait now will have had their turn.
    fn retry_after(&self, waiting: usize) -> u64 {
        let mean = Duration::from_micros(self.mean_us.load(Ordering::Relaxed));
        let turns = u32::try_from(waiting / self.max.max(1) + 1).unwrap_or(u32::MAX);
        (mean.saturating_mul(turns).as_secs() + 1).clamp(*RETRY_AFTER_S.start(), *RETRY_AFTER_S.end())
    }

    fn draining(&self) -> Denied {
        Denied::Draining { retry_after_s: *RETRY_AFTER_S.start() }
    }

    /// Lets nobody in any more: those who wait are refused, those inside go on.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// How many are inside.
    pub fn running(&self) -> usize {
        self.max - self.places.available_permits().min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_who_gives_up_leaves_it() {
        let admission = Admission::new(1, 1);
        let inside = admission.admit().await.unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit().await }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(admission.admit().await, Err(Denied::Full { waiting: 1, retry_after_s: 1.. })));
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!((admission.waiting(), admission.running()), (0, 1));
        drop(inside);
        assert_eq!(admission.running(), 0);
        assert!(admission.admit().await.is_ok());
    }

    #[tokio::test]
    async fn places_are_given_in_the_order_of_coming() {
        let admission = Admission::new(1, 10);
        let inside = admission.admit().await.unwrap();
        let counted = admission.clone();
        let admission_waits = Admission::waiting;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for turn in 0..5 {
            let (admission, tell) = (admission.clone(), tell.clone());
            tokio::spawn(async move {
                let _place = admission.admit().await;
                tell.send(turn).unwrap();
            });
            // The next comes only when this one stands in the queue.
            while admission_waits(&counted) != turn + 1 {
                tokio::task::yield_now().await;
            }
        }
        drop(inside);
        for turn in 0..5 {
            assert_eq!(told.recv().await, Some(turn));
        }
    }

    #[tokio::test]
    async fn a_closed_door_refuses_also_those_who_wait() {
        let admission = Admission::new(1, 10);
        let _inside = admission.admit().await.unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit().await.map(|_| ()) }
        });
        while admission.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        admission.close();
        assert!(matches!(waiting.await.unwrap(), Err(Denied::Draining { .. })));
        assert!(matches!(admission.admit().await, Err(Denied::Draining { .. })));
    }
}
