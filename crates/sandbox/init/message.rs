//! The plan as it comes in, and what goes out. A test of the runner reads and writes the same (src/plan.rs).

use super::layout::{CRASH_AT, FILTER_LEN, FLAGS, INIT_UID, INODES, PLACE, PLAN_BYTES, SIZE, UID};

/// How to make one sandbox.
pub struct Plan([u8; PLAN_BYTES]);

impl Plan {
    /// What was received. `None` where it cannot be a plan.
    pub fn received(bytes: [u8; PLAN_BYTES], len: usize) -> Option<Self> {
        let ends = bytes[INODES - 1] | bytes[PLACE - 1] | bytes[PLAN_BYTES - 1];
        if len == PLAN_BYTES && ends == 0 { Some(Self(bytes)) } else { None }
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    pub fn has(&self, flag: u32) -> bool {
        self.number(FLAGS) & flag != 0
    }

    pub fn uid(&self) -> u32 {
        self.number(UID)
    }

    pub fn init_uid(&self) -> u32 {
        self.number(INIT_UID)
    }

    pub fn filter_len(&self) -> usize {
        self.number(FILTER_LEN) as usize
    }

    pub fn crash_at(&self) -> u8 {
        self.0[CRASH_AT]
    }

    pub fn size(&self) -> &[u8] {
        &self.0[SIZE..INODES]
    }

    pub fn inodes(&self) -> &[u8] {
        &self.0[INODES..PLACE]
    }

    pub fn place(&self) -> &[u8] {
        &self.0[PLACE..]
    }
}

/// A `Status` as postcard writes it (src/message.rs).
pub struct Status {
    bytes: [u8; 16],
    len: usize,
}

impl Status {
    /// `Ready`.
    pub fn ready() -> Self {
        Self::begin(0)
    }

    /// `Sealed`.
    pub fn sealed() -> Self {
        Self::begin(1)
    }

    /// `Exec`, at this monotonic time.
    pub fn exec(at_us: u64) -> Self {
        Self::begin(3).number(at_us)
    }

    /// `Mounted`.
    pub fn mounted() -> Self {
        Self::begin(6)
    }

    /// `Failed(step, errno)`.
    pub fn failed(step: u8, errno: i32) -> Self {
        Self::begin(2).number(u64::from(step)).signed(errno)
    }

    /// `Exited { status, cpu_us }`.
    pub fn exited(status: i32, cpu_us: u64) -> Self {
        Self::begin(4).signed(status).number(cpu_us)
    }

    fn begin(variant: u8) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = variant;
        Self { bytes, len: 1 }
    }

    fn byte(mut self, byte: u8) -> Self {
        self.bytes[self.len] = byte;
        self.len += 1;
        self
    }

    /// Seven bits at a time, the lowest first. A byte, five and ten: there is room for them all.
    fn number(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            self = self.byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.byte((value & 0x7f) as u8)
    }

    /// The sign in the lowest bit.
    fn signed(self, value: i32) -> Self {
        self.number(u64::from(((value << 1) ^ (value >> 31)) as u32))
    }

    /// To be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
