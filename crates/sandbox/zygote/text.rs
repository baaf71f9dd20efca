//! The interpreter's code on huge pages.
//!
//! A fork does not copy the mappings of files: every child would fault its way through the interpreter's code again, and unmap it
//! when it ends, a hundred faults of a run that has four hundred. On two huge pages the code is there from the start, at the
//! price of the copy, which the zygote has once.

use core::{
    ffi::{c_int, c_void},
    ptr::{self, null_mut},
};

use crate::foreign::*;

const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;

/// Read-only memory of the program: from the first of its segments to the first that is written to.
#[derive(Default)]
struct Span {
    start: usize,
    end: usize,
}

/// Moves what of the program's code fills a huge page onto one. Where that cannot be had, the code stays where it is.
/// SAFETY: single-threaded; what is moved is the same before and after.
pub unsafe fn make_huge() {
    unsafe {
        let mut span = Span::default();
        dl_iterate_phdr(find, ptr::from_mut(&mut span).cast());
        let mut block = span.start.next_multiple_of(HUGE);
        while block + HUGE <= span.end {
            if !move_to_huge_page(block as *mut c_void) {
                return;
            }
            block += HUGE;
        }
    }
}

/// SAFETY: as `dl_iterate_phdr` calls it.
unsafe extern "C" fn find(info: *const LoadedObject, _size: usize, data: *mut c_void) -> c_int {
    const LOAD: u32 = 1;
    const WRITE: u32 = 2;
    unsafe {
        let span = data.cast::<Span>();
        for at in 0..(*info).count as usize {
            let segment = &*(*info).segments.add(at);
            if segment.kind != LOAD {
                continue;
            }
            let start = (*info).base + segment.address;
            if segment.flags & WRITE != 0 {
                (*span).end = (*span).end.min(start / PAGE * PAGE);
                break;
            }
            if (*span).end == 0 {
                (*span).start = start;
            }
            (*span).end = start + segment.memory_len;
        }
    }
    // The first is the program itself; others do not matter.
    1
}

/// SAFETY: `block` is a huge page's worth of the program's read-only memory.
unsafe fn move_to_huge_page(block: *mut c_void) -> bool {
    const READ: c_int = 1;
    const EXECUTE: c_int = 4;
    const MAYMOVE_FIXED: c_int = 1 | 2;
    unsafe {
        let Some(copy) = huge_room() else { return false };
        ptr::copy_nonoverlapping(block.cast::<u8>(), copy.cast::<u8>(), HUGE);
        let moved = mprotect(copy, HUGE, READ | EXECUTE) == 0 && mremap(copy, HUGE, HUGE, MAYMOVE_FIXED, block) == block;
        if !moved {
            munmap(copy, HUGE);
        }
        moved
    }
}

/// Memory on a huge page.
/// SAFETY: none of what is there is used.
unsafe fn huge_room() -> Option<*mut c_void> {
    const READ_WRITE: c_int = 1 | 2;
    const PRIVATE_ANONYMOUS: c_int = 0x02 | 0x20;
    // madvise(2); collapsing is there since Linux 6.1, and says whether there is a huge page now.
    const HUGEPAGE: c_int = 14;
    const COLLAPSE: c_int = 25;
    // SAFETY: all of it is this new mapping's own memory.
    unsafe {
        let room = mmap(null_mut(), 2 * HUGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
        if room as isize == -1 {
            return None;
        }
        let skipped = room.align_offset(HUGE);
        let huge = room.byte_add(skipped);
        munmap(room, skipped);
        munmap(huge.byte_add(HUGE), HUGE - skipped);
        let _advice = madvise(huge, HUGE, HUGEPAGE);
        huge.cast::<u8>().write_volatile(0);
        let there = madvise(huge, HUGE, COLLAPSE) == 0;
        if !there {
            munmap(huge, HUGE);
        }
        there.then_some(huge)
    }
}
