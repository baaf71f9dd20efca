//! What the compiler calls to copy and compare: a C library would have it. Byte by byte, through what it does not take for a copy again.

use core::ptr::{read_volatile, write_volatile};

/// SAFETY: as C has it: both are valid for so many bytes, and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: within what the caller vouches for.
        unsafe { write_volatile(to.add(at), from.add(at).read()) };
    }
    to
}

/// SAFETY: as C has it: both are valid for so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize) <= from as usize {
        // SAFETY: as this function's; forwards, nothing is overwritten before it is read.
        return unsafe { memcpy(to, from, len) };
    }
    for at in (0..len).rev() {
        // SAFETY: within what the caller vouches for.
        unsafe { write_volatile(to.add(at), from.add(at).read()) };
    }
    to
}

/// SAFETY: as C has it: valid for so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: within what the caller vouches for.
        unsafe { write_volatile(to.add(at), value as u8) };
    }
    to
}

/// SAFETY: as C has it: both are valid for so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: within what the caller vouches for.
        let (one, other) = unsafe { (read_volatile(one.add(at)), other.add(at).read()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}
