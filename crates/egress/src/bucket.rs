use std::time::{Duration, Instant};

/// How often something may happen: so many times a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, at_once: u32, now: Instant) -> Self {
        let most = f64::from(at_once);
        Self { per_second: f64::from(per_second), most, left: most, at: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + since * self.per_second).min(self.most), self.at.max(now));
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }

    /// Until a good part of it is full again.
    pub(crate) fn rest(&self) -> Duration {
        Duration::from_secs_f64(self.most / 4.0 / self.per_second.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_a_rate() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(10, 4, begun);
        let taken = |bucket: &mut Bucket, at: Duration| (0..100).filter(|_| bucket.take(begun + at)).count();
        assert_eq!(taken(&mut bucket, Duration::ZERO), 4);
        assert_eq!(taken(&mut bucket, Duration::from_millis(50)), 0);
        assert_eq!(taken(&mut bucket, Duration::from_millis(250)), 2);
        // Never more at once than a burst, however long the pause.
        assert_eq!(taken(&mut bucket, Duration::from_secs(3600)), 4);
        // A clock that stands still or goes back gives nothing.
        assert_eq!(taken(&mut bucket, Duration::from_secs(3599)), 0);
        assert_eq!(bucket.rest(), Duration::from_millis(100));
    }
}
