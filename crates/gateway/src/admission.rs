//! Who may run now: so many at once, so many waiting, the rest refused. Those who wait have their turn by who they are: one
//! subject's first, the next one's first, and so on, each in the order of their coming. Who sends much waits behind oneself.
//!
//! The queue has no clock and waits for nothing; whoever gives up takes his place out of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use greenroom_identity::Subject;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The smallest and largest advice in `Retry-After`.
const RETRY_AFTER_S: std::ops::RangeInclusive<u64> = 1..=60;

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    queue: Arc<Mutex<Queue>>,
    max: usize,
    /// How many may wait.
    depth: usize,
    /// A moving average of how long an execution holds its place, microseconds.
    mean_us: Arc<AtomicU64>,
    closed: CancellationToken,
}

/// Who is inside, and who waits.
#[derive(Debug)]
struct Queue {
    free: usize,
    /// By subject, whose turn is next in front. None has nobody waiting.
    lines: VecDeque<Line>,
    waiting: usize,
    /// The next one's number.
    number: u64,
}

#[derive(Debug)]
struct Line {
    subject: Subject,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    turn: oneshot::Sender<Turn>,
}

/// What one who waits is told.
#[derive(Debug)]
enum Turn {
    /// A place is free, and is this one's.
    Yours(Permit),
    /// Somebody with less in the queue came when it was full.
    Displaced,
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
    _permit: Permit,
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

/// The right to be inside. Dropped, it is the next one's.
#[derive(Debug)]
struct Permit(Option<Arc<Mutex<Queue>>>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            give(&queue);
        }
    }
}

/// A place in the queue. Dropped, it is given up.
struct Waiting<'a> {
    queue: &'a Arc<Mutex<Queue>>,
    subject: &'a Subject,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.queue).leave(self.subject, self.number);
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that is free goes to whose turn it is.
fn give(queue: &Arc<Mutex<Queue>>) {
    let mut inside = lock(queue);
    while let Some(waiter) = inside.next() {
        match waiter.turn.send(Turn::Yours(Permit(Some(Arc::clone(queue))))) {
            Ok(()) => return,
            // Gone in this moment. The permit must not be dropped here: it would come back to this very lock.
            Err(Turn::Yours(mut permit)) => drop(permit.0.take()),
            Err(Turn::Displaced) => {}
        }
    }
    inside.free += 1;
}

impl Queue {
    /// The one whose turn it is; their subject's next comes after all others'.
    fn next(&mut self) -> Option<Waiter> {
        let mut line = self.lines.pop_front()?;
        let waiter = line.waiting.pop_front();
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        self.waiting -= usize::from(waiter.is_some());
        waiter
    }

    fn of(&mut self, subject: &Subject) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.subject == *subject)
    }

    fn join(&mut self, subject: &Subject) -> (u64, oneshot::Receiver<Turn>) {
        let (turn, told) = oneshot::channel();
        let number = self.number;
        self.number += 1;
        self.waiting += 1;
        let waiter = Waiter { number, turn };
        match self.of(subject) {
            Some(line) => line.waiting.push_back(waiter),
            None => self.lines.push_back(Line { subject: subject.clone(), waiting: VecDeque::from([waiter]) }),
        }
        (number, told)
    }

    fn leave(&mut self, subject: &Subject, number: u64) {
        let Some(line) = self.of(subject) else { return };
        let before = line.waiting.len();
        line.waiting.retain(|waiter| waiter.number != number);
        let left = before - line.waiting.len();
        self.waiting -= left;
        self.lines.retain(|line| !line.waiting.is_empty());
    }

    /// Makes room in a full queue for one whose subject would still have less in it than another: the other's last has to go.
    fn displace_for(&mut self, subject: &Subject) -> bool {
        let own = self.of(subject).map_or(0, |line| line.waiting.len());
        let Some(longest) = self.lines.iter_mut().max_by_key(|line| line.waiting.len()) else { return false };
        if longest.waiting.len() <= own + 1 {
            return false;
        }
        let Some(last) = longest.waiting.pop_back() else { return false };
        self.waiting -= 1;
        // Who is gone already needs no telling.
        drop(last.turn.send(Turn::Displaced));
        true
    }
}

impl Admission {
    /// A door with so many places and so long a queue.
    pub fn new(max: usize, depth: usize) -> Self {
        Self {
            queue: Arc::new(Mutex::new(Queue { free: max, lines: VecDeque::new(), waiting: 0, number: 0 })),
            max,
            depth,
            mean_us: Arc::default(),
            closed: CancellationToken::new(),
        }
    }

    /// Waits for a place, in turn. Dropping the future gives up the place in the queue.
    pub async fn admit(&self, subject: &Subject) -> Result<Place, Denied> {
        if self.closed.is_cancelled() {
            return Err(self.draining());
        }
        let (number, told) = {
            let mut queue = lock(&self.queue);
            // Nobody waits while one is free.
            if queue.free > 0 {
                queue.free -= 1;
                return Ok(self.place(Permit(Some(Arc::clone(&self.queue)))));
            }
            if queue.waiting >= self.depth && !queue.displace_for(subject) {
                return Err(self.full(queue.waiting));
            }
            queue.join(subject)
        };
        let waiting = Waiting { queue: &self.queue, subject, number };
        let turn = tokio::select! {
            turn = told => turn,
            () = self.closed.cancelled() => return Err(self.draining()),
        };
        drop(waiting);
        match turn {
            Ok(Turn::Yours(permit)) => Ok(self.place(permit)),
            Ok(Turn::Displaced) => Err(self.full(self.depth)),
            Err(_) => Err(self.draining()),
        }
    }

    fn place(&self, permit: Permit) -> Place {
        Place { _permit: permit, since: std::time::Instant::now(), mean_us: Arc::clone(&self.mean_us) }
    }

    fn full(&self, waiting: usize) -> Denied {
        Denied::Full { waiting, retry_after_s: self.retry_after(waiting) }
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
        lock(&self.queue).waiting
    }

    /// How many are inside.
    pub fn running(&self) -> usize {
        self.max - lock(&self.queue).free.min(self.max)
    }
}

#[cfg(test)]
mod tests;
