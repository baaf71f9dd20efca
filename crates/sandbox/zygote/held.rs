//! What children use of the interpreter, looked up once: a name that is looked up is a handful of pages that are written to.

use core::{
    ffi::{CStr, c_char},
    ptr::null_mut,
};

use crate::{end, foreign::*};

/// Objects of the interpreter, the shim's (runtimes/python/support/warm.py) among them.
pub struct Held {
    pub set_environment: Object,
    pub start_anew: Object,
    pub serve_session: Object,
    pub exit_code: Object,
    pub matters: Object,
    pub count_threads: Object,
    pub run_exit_functions: Object,
    pub get_objects: Object,
    /// What seeds the random numbers of a child, where nothing else wants to know of a fork: then the interpreter's own hooks, which
    /// mend what several threads may have left behind, have nothing to do.
    pub reseed: Option<Object>,
    /// Whether there is a session's kernel.
    pub has_session: bool,
    /// Names of modules that are imported, each between two ends of lines.
    pub early: *const c_char,
    pub early_len: usize,
    /// `sys.argv`, `sys.orig_argv`, `sys.path`, each with a place for what most programs put there.
    pub arguments: Object,
    pub original_arguments: Object,
    pub path: Object,
    /// `sys.stdout` and `sys.stderr`, as they are before a program; borrowed.
    pub streams: [Object; 2],
    /// The names of `__main__`, a script's own among them, and its loader; and which it had before.
    pub main_names: Object,
    pub loader: Object,
    pub loader_before: Object,
    /// Names.
    pub file_name: Object,
    pub cached_name: Object,
    pub loader_name: Object,
    pub path_name: Object,
    pub flush: Object,
    /// How bytecode begins.
    pub magic: [u8; 2],
    pub end: end::Ground,
}

impl Held {
    /// Nothing where something of it is missing; an exception may say why.
    /// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
    pub unsafe fn find(shim: Object) -> Option<Held> {
        unsafe {
            // What the shim has, its names keep alive.
            let of_shim = |name: &CStr| some(PyDict_GetItemString(shim, name.as_ptr()));
            let of_sys = |name: &CStr| some(PySys_GetObject(name.as_ptr()));
            let name = |name: &CStr| some(PyUnicode_InternFromString(name.as_ptr()));
            let early = of_shim(c"_early")?;
            let streams = [of_sys(c"stdout")?, of_sys(c"stderr")?];
            let (arguments, original_arguments, path) = (of_sys(c"argv")?, of_sys(c"orig_argv")?, of_sys(c"path")?);
            [arguments, original_arguments, path].into_iter().for_each(|object| Py_IncRef(object));
            let main_names = some(PyModule_GetDict(some(PyImport_AddModule(c"__main__".as_ptr()))?))?;
            let (file_name, cached_name, loader_name) = (name(c"__file__")?, name(c"__cached__")?, name(c"__loader__")?);
            let (nothing, loader) = (name(c"")?, of_shim(c"_loader")?);
            let loader_before = some(PyDict_GetItemString(main_names, c"__loader__".as_ptr()))?;
            Py_IncRef(loader_before);
            let reseed = of_shim(c"_reseed")?;
            let none = of_shim(c"_none")?;
            let prepared = replace(arguments, 0, isize::MAX, &[nothing])
                && replace(original_arguments, 0, isize::MAX, &[nothing, nothing])
                && replace(path, 0, 0, &[nothing])
                && PyDict_SetItem(main_names, file_name, nothing) == 0
                && PyDict_SetItem(main_names, cached_name, none) == 0
                && PyDict_SetItem(main_names, loader_name, loader) == 0;
            if !prepared {
                return None;
            }
            Some(Held {
                set_environment: of_shim(c"set_environment")?,
                start_anew: of_shim(c"start_anew")?,
                serve_session: of_shim(c"serve_session")?,
                exit_code: of_shim(c"exit_code")?,
                matters: of_shim(c"matters")?,
                count_threads: of_shim(c"_count_threads")?,
                run_exit_functions: of_shim(c"_run_exitfuncs")?,
                get_objects: of_shim(c"_get_objects")?,
                reseed: (reseed != none).then_some(reseed),
                has_session: PyObject_IsTrue(of_shim(c"_session")?) == 1,
                early: some(PyBytes_AsString(early).cast())?.cast_const().cast(),
                early_len: usize::try_from(PyBytes_Size(early)).ok()?,
                arguments,
                original_arguments,
                path,
                streams,
                main_names,
                loader,
                loader_before,
                file_name,
                cached_name,
                loader_name,
                path_name: name(c"path")?,
                flush: name(c"flush")?,
                magic: [PyImport_GetMagicNumber() as u8, (PyImport_GetMagicNumber() >> 8) as u8],
                end: end::Ground::look(PyObject_IsTrue(of_shim(c"_only_common")?) == 1),
            })
        }
    }
}

fn some(object: Object) -> Option<Object> {
    (object != null_mut()).then_some(object)
}

/// Puts these in the place of some of a list's items.
/// SAFETY: as [`Held::find`].
unsafe fn replace(list: Object, from: isize, to: isize, items: &[Object]) -> bool {
    unsafe {
        let new = PyList_New(0);
        let replaced =
            !new.is_null() && items.iter().all(|item| PyList_Append(new, *item) == 0) && PyList_SetSlice(list, from, to, new) == 0;
        Py_DecRef(new);
        replaced
    }
}
