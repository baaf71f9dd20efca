//! The zygote's heap, made ready to be shared.
//!
//! What a child allocates comes from wherever there is room: holes among what the zygote uses, each in a page that is copied for
//! it. So the holes are filled before the first fork, and children take fresh memory, one page after the other.

use core::ffi::c_void;

use crate::foreign::*;

/// Pools of the interpreter's allocator, since CPython 3.10, and what each begins with (obmalloc.c).
const POOL_BYTES: usize = 16 << 10;
const POOL_HEAD_BYTES: usize = 48;
/// Its largest blocks, and the step from one size to the next.
const SMALL_BYTES: usize = 512;
const STEP: usize = 16;
/// The largest that the C library keeps for the next who asks (malloc(3)), and more than any hole is likely to have.
const CACHED_BYTES: usize = 1032;
const LARGE_BYTES: usize = 120 << 10;
/// Nothing is looked for longer than this.
const MOST_BLOCKS: usize = 1 << 14;

/// SAFETY: single-threaded, with the interpreter initialised and its lock held.
pub unsafe fn make_compact() {
    unsafe {
        // Whatever is not used any more would be copied with every fork.
        malloc_trim(0);
        for size in (STEP..=SMALL_BYTES).step_by(STEP) {
            // The first block of a new pool is the sign that there is none left in the old ones.
            fill(|| PyObject_Malloc(size), |block| block as usize % POOL_BYTES == POOL_HEAD_BYTES);
        }
        // Whatever stands behind this is new.
        let top = malloc(LARGE_BYTES);
        free(top);
        let large = [64 << 10, 32 << 10, 16 << 10, 8 << 10, 4 << 10, 2 << 10];
        for size in large.into_iter().chain((STEP..=CACHED_BYTES).rev().step_by(STEP)) {
            fill(|| malloc(size), |block| block >= top);
        }
    }
}

/// Takes blocks until one is new.
fn fill(allocate: impl Fn() -> *mut c_void, is_new: impl Fn(*mut c_void) -> bool) {
    for _ in 0..MOST_BLOCKS {
        let block = allocate();
        if block.is_null() || is_new(block) {
            return;
        }
    }
}
