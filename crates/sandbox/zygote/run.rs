//! The program's life in a child that is sealed and has its limits.

use core::{
    ffi::{c_char, c_int},
    ptr::{self, addr_of, null_mut},
    slice,
};

use crate::{
    TITLE,
    end::{self, end_now},
    foreign::*,
    held::Held,
    job::{Job, Text, Texts},
};

/// Longest path of a script, with its end; one that is longer starts in an interpreter of its own. A frame of more than a page would
/// be touched page by page.
const PATH_BYTES: usize = 2048;
/// The script of a session's kernel, loaded already.
const SESSION: &[u8] = b"/opt/greenroom/python/session.py";

/// What is to run.
enum Begun {
    /// The open script; its path is in the buffer.
    Script(c_int),
    /// A session's kernel came to its end, so or so.
    Session(Object),
    /// An exception is set.
    Failed,
}

/// Runs the program, and ends as an interpreter that ran it would. Where nothing would come of the interpreter's end, there is none:
/// what is left is the kernel's to take down, at a third of the cost.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
pub unsafe fn run(job: Job, held: &Held) -> c_int {
    unsafe {
        job.refuse();
        show_title(job.arguments().map(|text| text.bytes()));
        let mut path = [0; PATH_BYTES];
        let begun = begin(&job, held, &mut path);
        let memory_bytes = job.limits.memory_bytes;
        job.forget();
        let result = match begun {
            Begun::Script(fd) => {
                let file = fdopen(fd, c"rb".as_ptr());
                let path = path.as_ptr().cast();
                if file.is_null() {
                    PyErr_SetFromErrno(PyExc_OSError)
                } else {
                    PyRun_FileExFlags(file, path, PY_FILE_INPUT, held.main_names, held.main_names, 1, null_mut())
                }
            }
            Begun::Session(result) => result,
            Begun::Failed => null_mut(),
        };
        let mut code = 0;
        let mut interrupted = false;
        if result.is_null() && !PyErr_Occurred().is_null() {
            if PyErr_ExceptionMatches(PyExc_SystemExit) != 0 {
                let (mut kind, mut value, mut trace) = (null_mut(), null_mut(), null_mut());
                PyErr_Fetch(&mut kind, &mut value, &mut trace);
                PyErr_NormalizeException(&mut kind, &mut value, &mut trace);
                let known = PyObject_CallFunction(held.exit_code, c"O".as_ptr(), value);
                code = if known.is_null() { -1 } else { PyLong_AsLong(known) as c_int };
                let spoken = !PyErr_Occurred().is_null();
                PyErr_Restore(kind, value, trace);
                if spoken {
                    // There are words to be printed: this does, and ends the process.
                    PyErr_Print();
                }
                PyErr_Clear();
            } else {
                interrupted = PyErr_Occurred() == PyExc_KeyboardInterrupt;
                PyErr_Print();
                code = 1;
            }
        }
        if end::was_all(held, memory_bytes) {
            if !interrupted {
                end_now(held, code);
            }
        } else {
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

/// Makes everything as a fresh interpreter finds it.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
unsafe fn begin(job: &Job, held: &Held, path: &mut [u8; PATH_BYTES]) -> Begun {
    unsafe {
        if !job.has_our_environment() {
            let variables = dict(job.variables());
            if variables.is_null() || PyObject_CallFunction(held.set_environment, c"O".as_ptr(), variables).is_null() {
                return Begun::Failed;
            }
        }
        let mut behind = job.arguments();
        let (_program, script) = (behind.next(), behind.next());
        let Some(script) = script else { return fresh(job, held) };
        let mut after_program = job.arguments();
        after_program.next();
        if !assign(held.original_arguments, job.arguments()) || !assign(held.arguments, after_program) {
            return Begun::Failed;
        }
        if held.has_session && script.bytes() == SESSION {
            return session(held, behind);
        }
        let Some(file) = open_script(job, held, script, path) else { return fresh(job, held) };
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(0);
        let name = PyUnicode_DecodeFSDefaultAndSize(path.as_ptr().cast(), end as isize);
        if name.is_null()
            || PyDict_SetItem(held.main_names, held.file_name, name) != 0
            || PyObject_SetAttr(held.loader, held.path_name, name) != 0
        {
            return Begun::Failed;
        }
        Py_DecRef(name);
        Begun::Script(file)
    }
}

/// Serves a session; behind the name of its kernel stand the modules that its pool wants. It is no script, and has none of a script's names.
/// SAFETY: as [`begin`].
unsafe fn session(held: &Held, modules: Texts) -> Begun {
    unsafe {
        let modules = list(modules);
        if modules.is_null()
            || PyDict_DelItem(held.main_names, held.file_name) != 0
            || PyDict_DelItem(held.main_names, held.cached_name) != 0
            || PyDict_SetItem(held.main_names, held.loader_name, held.loader_before) != 0
            || PyList_SetSlice(held.path, 0, 1, null_mut()) != 0
        {
            return Begun::Failed;
        }
        Begun::Session(PyObject_CallFunction(held.serve_session, c"O".as_ptr(), modules))
    }
}

/// Starts the interpreter anew; comes back with an exception.
/// SAFETY: as [`begin`].
unsafe fn fresh(job: &Job, held: &Held) -> Begun {
    unsafe {
        let (arguments, variables) = (list(job.arguments()), dict(job.variables()));
        if !arguments.is_null() && !variables.is_null() {
            PyObject_CallFunction(held.start_anew, c"OO".as_ptr(), arguments, variables);
        }
        Begun::Failed
    }
}

/// Opens the script and puts its directory at the head of `sys.path`. Nothing where only a fresh interpreter does right: where there
/// is no script but an archive, a directory, bytecode or nothing, and where files beside it have the names of modules that are
/// imported here already (the student's `random.py`).
/// SAFETY: as [`begin`].
unsafe fn open_script(job: &Job, held: &Held, script: Text, path: &mut [u8; PATH_BYTES]) -> Option<c_int> {
    unsafe {
        // As `os.path.join` has it.
        let mut at = 0;
        if script.bytes().first() != Some(&b'/') {
            if getcwd(path.as_mut_ptr().cast(), PATH_BYTES).is_null() {
                return None;
            }
            at = strlen(path.as_ptr().cast());
            path[at] = b'/';
            at += 1;
        }
        if at + script.len >= PATH_BYTES || script.bytes().contains(&0) {
            return None;
        }
        path[at..at + script.len].copy_from_slice(script.bytes());
        path[at + script.len] = 0;
        let file = open(path.as_ptr().cast(), O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let place = directory_of(file);
        let for_us =
            is_source(job, held, file, &path[..at + script.len]) && place.as_ref().is_some_and(|place| !hides(job, held, place));
        let place = place.filter(|_| for_us);
        let Some(place) = place else {
            close(file);
            return None;
        };
        let place = PyUnicode_DecodeFSDefaultAndSize(place.bytes.as_ptr().cast(), place.len as isize);
        if place.is_null() || PyList_SetItem(held.path, 0, place) != 0 || lseek(file, 0, 0) != 0 {
            PyErr_Clear();
            close(file);
            return None;
        }
        Some(file)
    }
}

/// An absolute path, without links, that ends with a zero.
struct Place {
    bytes: [u8; PATH_BYTES],
    len: usize,
}

/// Where an open file stands.
/// SAFETY: /proc is there.
unsafe fn directory_of(file: c_int) -> Option<Place> {
    unsafe {
        let mut link = *b"/proc/self/fd/0000000000\0";
        let mut number = file;
        for digit in link[14..24].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        // The kernel takes no zeros in front.
        let digits = link[14..24].iter().position(|digit| *digit != b'0')?;
        link.copy_within(14 + digits.., 14);
        let mut place = Place { bytes: [0; PATH_BYTES], len: 0 };
        let len = readlink(link.as_ptr().cast(), place.bytes.as_mut_ptr().cast(), PATH_BYTES - 1);
        let path = place.bytes.get(..usize::try_from(len).ok()?)?;
        let slash = path.iter().rposition(|byte| *byte == b'/')?;
        place.len = slash.max(1);
        place.bytes[place.len] = 0;
        Some(place)
    }
}

/// Whether this is source text: no bytecode, no archive at its end (as `zipimport` looks for one), no directory.
/// SAFETY: the job's spare room is not used for anything else now.
unsafe fn is_source(job: &Job, held: &Held, file: c_int, path: &[u8]) -> bool {
    /// The record that ends an archive, and its longest comment less a little.
    const END_OF_ARCHIVE: &[u8] = b"PK\x05\x06";
    unsafe {
        let (room, len) = job.spare();
        let size = lseek(file, 0, SEEK_END);
        let mut begin = [0u8; 4];
        // A directory can be opened, but not read.
        let first = pread(file, begin.as_mut_ptr().cast(), begin.len(), 0);
        if first < 0 || size < 0 || path.ends_with(b".pyc") || (first >= 2 && begin[..2] == held.magic) {
            return false;
        }
        let mut at = (size - ((1 << 16) + 22)).max(0);
        // Pieces overlap, so that no record is cut in two.
        loop {
            let read = pread(file, room.cast(), len, at);
            if read < 0 {
                return false;
            }
            let read = read as usize;
            if !memmem(room.cast(), read, END_OF_ARCHIVE.as_ptr().cast(), END_OF_ARCHIVE.len()).is_null() {
                return false;
            }
            if read < len {
                return true;
            }
            at += (len - (END_OF_ARCHIVE.len() - 1)) as i64;
        }
    }
}

/// Whether something beside the script, or a file of the job, has the name of a module that is imported already.
/// SAFETY: the job's spare room is not used for anything else now.
unsafe fn hides(job: &Job, held: &Held, place: &Place) -> bool {
    /// `struct linux_dirent64` (getdents64(2)).
    const LEN_AT: usize = 16;
    const NAME_AT: usize = 19;
    unsafe {
        let (room, len) = job.spare();
        // Anywhere: a program may add to `sys.path`.
        if job.has_path(|part| is_early(held, part)) {
            return true;
        }
        let directory = open(place.bytes.as_ptr().cast(), O_DIRECTORY | O_CLOEXEC);
        if directory < 0 {
            return true;
        }
        let found = loop {
            let read = syscall(SYS_GETDENTS64, directory, room, len);
            if read <= 0 {
                break read < 0;
            }
            let mut at = 0;
            let mut found = false;
            while at < read as usize && !found {
                let entry = room.add(at);
                at += entry.add(LEN_AT).cast::<u16>().read_unaligned() as usize;
                let name = entry.add(NAME_AT);
                found = is_early(held, slice::from_raw_parts(name, strlen(name.cast())));
            }
            if found {
                break true;
            }
        };
        close(directory);
        found
    }
}

/// Whether `import` of one of the modules that are imported here would have found this file first.
/// SAFETY: the names stay where they are.
unsafe fn is_early(held: &Held, name: &[u8]) -> bool {
    let stem = name.iter().position(|byte| *byte == b'.').unwrap_or(name.len());
    let kind = &name[stem..];
    if stem == 0 || !(kind.is_empty() || [&b"py"[..], b"pyc", b"so"].iter().any(|end| kind.ends_with(end))) {
        return false;
    }
    // Each name stands between two ends of lines. SAFETY: the shim's names keep the bytes alive, and nobody writes to them.
    let names = unsafe { slice::from_raw_parts(held.early.cast::<u8>(), held.early_len) };
    names.split(|byte| *byte == b'\n').any(|early| *early == name[..stem])
}

/// Makes a list's items these; where there are as many of them, without moving the list.
/// SAFETY: as [`begin`].
unsafe fn assign(to: Object, texts: Texts) -> bool {
    unsafe {
        if PyList_Size(to) != texts.left as isize {
            let new = list(texts);
            let assigned = !new.is_null() && PyList_SetSlice(to, 0, isize::MAX, new) == 0;
            Py_DecRef(new);
            return assigned;
        }
        texts.enumerate().all(|(at, text)| {
            let text = string(text);
            !text.is_null() && PyList_SetItem(to, at as isize, text) == 0
        })
    }
}

/// SAFETY: as [`begin`].
unsafe fn string(text: Text) -> Object {
    unsafe { PyUnicode_DecodeUTF8(text.bytes().as_ptr().cast(), text.len as isize, c"surrogateescape".as_ptr()) }
}

/// SAFETY: as [`begin`].
unsafe fn list(texts: Texts) -> Object {
    unsafe {
        let list = PyList_New(0);
        for text in texts {
            let text = string(text);
            if list.is_null() || text.is_null() || PyList_Append(list, text) != 0 {
                return null_mut();
            }
            Py_DecRef(text);
        }
        list
    }
}

/// SAFETY: as [`begin`].
unsafe fn dict(mut texts: Texts) -> Object {
    unsafe {
        let dict = PyDict_New();
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            let (name, value) = (string(name), string(value));
            if dict.is_null() || name.is_null() || value.is_null() || PyDict_SetItem(dict, name, value) != 0 {
                return null_mut();
            }
        }
        dict
    }
}

/// Has the process list show the words, as far as there is room. The last byte is none of a string's end: then the kernel shows
/// what stands before the first such end (`get_mm_cmdline`).
/// SAFETY: the room is the kernel's copy of our arguments, and nobody else writes it.
pub unsafe fn show_title<'a>(words: impl Iterator<Item = &'a [u8]>) {
    unsafe {
        let room = addr_of!(TITLE).read();
        if room.len() < 2 {
            return;
        }
        let to = room.cast::<c_char>();
        let mut at = 0;
        for word in words {
            if at > 0 && at < room.len() - 2 {
                to.add(at).write(b' ' as c_char);
                at += 1;
            }
            let part = word.len().min(room.len() - 2 - at);
            ptr::copy_nonoverlapping(word.as_ptr().cast(), to.add(at), part);
            at += part;
        }
        ptr::write_bytes(to.add(at), 0, room.len() - 1 - at);
        to.add(room.len() - 1).write(b' ' as c_char);
    }
}
