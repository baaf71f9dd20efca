//! The program's life in a child that is sealed and has its limits.

use core::{
    ffi::c_int,
    ptr::{null, null_mut},
};

use crate::{PY_FILE_INPUT, foreign::*};

/// Runs the program, and ends as an interpreter that ran it would. What only this process has ends by the way; what it has of the
/// zygote is the kernel's to take down, at a third of the cost.
pub unsafe fn run(shim: Object) -> c_int {
    unsafe {
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
                code = as_int(PyObject_CallFunction(PyDict_GetItemString(shim, c"exit_code".as_ptr()), c"O".as_ptr(), value));
            } else {
                interrupted = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) != 0;
                PyErr_Print();
                code = 1;
            }
        }
        let flushed = as_int(PyObject_CallFunction(PyDict_GetItemString(shim, c"finish".as_ptr()), null()));
        if flushed != 0 {
            code = 120;
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

unsafe fn as_int(number: Object) -> c_int {
    if number.is_null() {
        unsafe { PyErr_Print() };
        return 1;
    }
    unsafe { PyLong_AsLong(number) as c_int }
}
