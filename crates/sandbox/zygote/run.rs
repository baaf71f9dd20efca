//! The program's life in a child that is sealed and has its limits.

use core::{
    ffi::{CStr, c_char, c_int},
    ptr::{self, addr_of, null, null_mut},
};

use crate::{TITLE, foreign::*};

/// Runs the program, and ends as an interpreter that ran it would. Where nothing would come of the interpreter's end, there is none:
/// what is left is the kernel's to take down, at a third of the cost.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
pub unsafe fn run(shim: Object) -> c_int {
    unsafe {
        let title = PyObject_CallFunction(PyDict_GetItemString(shim, c"title".as_ptr()), null());
        let title = if title.is_null() { null() } else { PyUnicode_AsUTF8(title) };
        if title.is_null() {
            PyErr_Clear();
        } else {
            show_title(CStr::from_ptr(title));
        }
        let begin = PyObject_CallFunction(PyDict_GetItemString(shim, c"begin".as_ptr()), null());
        let path = if begin.is_null() { null() } else { PyUnicode_AsUTF8(begin) };
        let result = if begin.is_null() {
            null_mut()
        } else if path.is_null() {
            PyErr_Clear();
            // A session's kernel, loaded already.
            PyObject_CallFunction(begin, null())
        } else {
            let file = fopen(path, c"rb".as_ptr());
            let names = PyModule_GetDict(PyImport_AddModule(c"__main__".as_ptr()));
            if file.is_null() { null_mut() } else { PyRun_FileExFlags(file, path, PY_FILE_INPUT, names, names, 1, null_mut()) }
        };
        let mut code = 0;
        let mut interrupted = false;
        if result.is_null() && !PyErr_Occurred().is_null() {
            if PyErr_ExceptionMatches(PyExc_SystemExit) != 0 {
                let (mut kind, mut value, mut trace) = (null_mut(), null_mut(), null_mut());
                PyErr_Fetch(&mut kind, &mut value, &mut trace);
                PyErr_NormalizeException(&mut kind, &mut value, &mut trace);
                let known = PyObject_CallFunction(PyDict_GetItemString(shim, c"exit_code".as_ptr()), c"O".as_ptr(), value);
                code = if known.is_null() { -1 } else { PyLong_AsLong(known) as c_int };
                let spoken = !PyErr_Occurred().is_null();
                PyErr_Restore(kind, value, trace);
                if spoken {
                    // There are words to be printed: this does, and ends the process.
                    PyErr_Print();
                }
                PyErr_Clear();
            } else {
                interrupted = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) != 0;
                PyErr_Print();
                code = 1;
            }
        }
        let all = PyObject_CallFunction(PyDict_GetItemString(shim, c"finish".as_ptr()), null());
        if all.is_null() || PyObject_IsTrue(all) != 1 {
            PyErr_Clear();
            if Py_FinalizeEx() < 0 {
                code = 120;
            }
        }
        if interrupted {
            const SIGINT: c_int = 2;
            signal(SIGINT, 0);
            kill(getpid(), SIGINT);
            return 130;
        }
        code
    }
}

/// Has the process list show the command, as far as there is room. The last byte is none of a string's end: then the kernel shows
/// what stands before the first such end (`get_mm_cmdline`).
/// SAFETY: the room is the kernel's copy of our arguments, and nobody else writes it.
pub unsafe fn show_title(title: &CStr) {
    unsafe {
        let room = addr_of!(TITLE).read();
        if room.len() < 2 {
            return;
        }
        let len = title.count_bytes().min(room.len() - 2);
        let to = room.cast::<c_char>();
        ptr::write_bytes(to, 0, room.len() - 1);
        ptr::copy_nonoverlapping(title.as_ptr(), to, len);
        to.add(room.len() - 1).write(b' ' as c_char);
    }
}
