//! What the compiler calls to copy and compare: a C library would have it. Byte by byte, through what it does not take for a copy again.

use core::ptr::{read_volatile, write_volatile};

/// SAFETY of all: as C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for at in 0..len {
        unsafe { write_volatile(to.add(at), from.add(at).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize) <= from as usize {
        return unsafe { memcpy(to, from, len) };
    }
    for at in (0..len).rev() {
        unsafe { write_volatile(to.add(at), from.add(at).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    for at in 0..len {
        unsafe { write_volatile(to.add(at), value as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    for at in 0..len {
        let (one, other) = unsafe { (read_volatile(one.add(at)), other.add(at).read()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}
