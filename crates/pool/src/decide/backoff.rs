/// The first pause after a failure, milliseconds; each further one is twice as long.
const FIRST_MS: u64 = 100;
/// The longest pause, milliseconds.
pub const LONGEST_MS: u64 = 30_000;
/// So many failures in a row are more than bad luck: who waits is told.
const PATIENCE: u32 = 2;

/// How long to wait before trying again what failed.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    in_a_row: u32,
    last_ms: u64,
    until_ms: u64,
}

impl Backoff {
    /// One that was begun at `began_ms` failed. Several that were under way together count once: they failed of one cause.
    pub fn failed(&mut self, began_ms: u64, now_ms: u64) {
        if self.in_a_row > 0 && began_ms <= self.last_ms {
            return;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last_ms = now_ms;
        self.until_ms = now_ms + (FIRST_MS << (self.in_a_row - 1).min(16)).min(LONGEST_MS);
    }

    /// It works.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Nothing failed for twice the longest pause: what fails next is a new story.
    pub fn forget_old(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.last_ms) > 2 * LONGEST_MS {
            self.reset();
        }
    }

    /// Until when nothing is tried; the past where nothing failed.
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Whether the last one failed.
    pub fn is_failing(&self) -> bool {
        self.in_a_row > 0
    }

    /// Whether callers are told rather than kept waiting.
    pub fn is_hopeless(&self) -> bool {
        self.in_a_row >= PATIENCE
    }
}
