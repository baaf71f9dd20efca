//! How a program ends.
//!
//! An interpreter's end takes down what the zygote has built up, page by page, and a process' end runs what libraries have
//! registered. Where nobody would notice, both are left to the kernel.

use core::{
    ffi::{c_int, c_void},
    ptr::{self, addr_of_mut, null_mut},
};

use crate::{foreign::*, held::Held};

/// `Py_tp_finalize` (typeslots.h): what `__del__` becomes.
const FINALIZE: c_int = 80;
/// `Py_TPFLAGS_TYPE_SUBCLASS`.
const IS_TYPE: u64 = 1 << 31;

/// How things stand before a program.
pub struct Ground {
    /// Whether slots of all types can be looked at (CPython 3.10).
    can_look: bool,
    /// How many objects have been loaded: libraries, and extension modules with theirs.
    loaded: u64,
    /// Whether none of them is somebody's wish, which may have registered an end of its own.
    only_common: bool,
}

impl Ground {
    /// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
    pub unsafe fn look(only_common: bool) -> Self {
        unsafe {
            let can_look = !PyType_GetSlot(addr_of_mut!(PyGen_Type), FINALIZE).is_null();
            PyErr_Clear();
            Ground { can_look, loaded: loaded(), only_common }
        }
    }
}

/// Ends what the program has begun: whether that was all, and nothing would come of it that the interpreter ended as well.
/// `memory_bytes` is what the program may use.
/// SAFETY: as [`Ground::look`].
pub unsafe fn was_all(held: &Held, memory_bytes: u64) -> bool {
    unsafe {
        // What a library has registered for the process' end may look for an interpreter that has come to its own.
        threads(held) == 0
            && has_its_streams(held)
            && held.end.loaded == loaded()
            && has_room(memory_bytes)
            && !PyObject_CallFunctionObjArgs(held.run_exit_functions, null_mut::<c_void>()).is_null()
            && threads(held) == 0
            && !matters(held)
            // The exit functions were the program's.
            && has_its_streams(held)
            && held.streams.into_iter().all(|stream| flushed(held, stream))
    }
}

/// Whether standard output and error are what they were before the program. Nobody here keeps them alive: they write what they have
/// when they die.
/// SAFETY: as [`Ground::look`].
unsafe fn has_its_streams(held: &Held) -> bool {
    unsafe { PySys_GetObject(c"stdout".as_ptr()) == held.streams[0] && PySys_GetObject(c"stderr".as_ptr()) == held.streams[1] }
}

/// Whether a list of all objects, which is a tenth of what they are, has room beside them.
fn has_room(memory_bytes: u64) -> bool {
    /// Its fields, the largest resident set among them, KiB (getrusage(2)).
    const FIELDS: usize = 18;
    const LARGEST: usize = 4;
    let mut usage = [0i64; FIELDS];
    // SAFETY: writes one `struct rusage` into a place for one.
    let known = unsafe { getrusage(0, usage.as_mut_ptr()) } == 0;
    known && (usage[LARGEST] as u64).saturating_mul(1024) < memory_bytes / 2
}

/// SAFETY: as [`Ground::look`]; the stream is alive.
unsafe fn flushed(held: &Held, stream: Object) -> bool {
    unsafe { !PyObject_CallMethodObjArgs(stream, held.flush, null_mut::<c_void>()).is_null() }
}

/// Threads beside the main one; -1 where that cannot be said.
/// SAFETY: as [`Ground::look`].
unsafe fn threads(held: &Held) -> i64 {
    unsafe {
        let count = PyObject_CallFunctionObjArgs(held.count_threads, null_mut::<c_void>());
        if count.is_null() { -1 } else { PyLong_AsLong(count) }
    }
}

/// Whether something happens when one of the objects dies that were made after the fork, and that the collector knows.
/// SAFETY: as [`Ground::look`].
unsafe fn matters(held: &Held) -> bool {
    unsafe {
        let objects = PyObject_CallFunctionObjArgs(held.get_objects, null_mut::<c_void>());
        if objects.is_null() {
            return true;
        }
        let may_matter = |at| {
            let object = PyList_GetItem(objects, at);
            let kind = (*object.cast::<ObjectHead>()).kind;
            if PyType_GetFlags(kind) & IS_TYPE != 0 {
                // A class.
                return kind != addr_of_mut!(PyType_Type) || !PyType_GetSlot(object, FINALIZE).is_null();
            }
            !PyType_GetSlot(kind, FINALIZE).is_null()
                || PyType_IsSubtype(kind, addr_of_mut!(_PyWeakref_RefType)) != 0
                || kind == addr_of_mut!(_PyWeakref_ProxyType)
                || kind == addr_of_mut!(_PyWeakref_CallableProxyType)
        };
        // The names of the program are as young as all that it has made, until it has the collector forget about them.
        let (mut is_whole, mut may) = (false, !held.end.can_look);
        for at in 0..PyList_Size(objects) {
            is_whole |= PyList_GetItem(objects, at) == held.main_names;
            may = may || may_matter(at);
        }
        let matters = !is_whole
            || may && {
                // Only now is it worth a closer look.
                let matters = PyObject_CallFunctionObjArgs(held.matters, objects, null_mut::<c_void>());
                matters.is_null() || PyObject_IsTrue(matters) != 0
            };
        // They are to die when they would.
        Py_DecRef(objects);
        matters
    }
}

/// Ends the process after a program that was all, unless libraries may have registered something that is to happen now. Nobody but
/// the interpreter, whose streams are its own, has written.
/// SAFETY: the interpreter is not used any more.
pub unsafe fn end_now(held: &Held, code: c_int) {
    if held.end.only_common {
        unsafe { _exit(code) }
    }
}

/// How many objects have been loaded into this process.
fn loaded() -> u64 {
    /// SAFETY: `data` is the number below.
    unsafe extern "C" fn look(info: *const LoadedObject, _size: usize, data: *mut c_void) -> c_int {
        // SAFETY: as `dl_iterate_phdr` calls it.
        unsafe { data.cast::<u64>().write((*info).loaded) };
        1
    }
    let mut loaded = 0u64;
    // SAFETY: the number outlives the call.
    unsafe { dl_iterate_phdr(look, ptr::from_mut(&mut loaded).cast()) };
    loaded
}
