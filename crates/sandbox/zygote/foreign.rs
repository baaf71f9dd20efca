//! What is called: the C library, the kernel, the interpreter.

use core::ffi::{c_char, c_int, c_long, c_short, c_uint, c_ulong, c_void};

#[repr(C)]
pub struct IoVec {
    pub base: *mut c_void,
    pub len: usize,
}

#[repr(C)]
pub struct MsgHdr {
    pub name: *mut c_void,
    pub name_len: c_uint,
    pub iov: *mut IoVec,
    pub iov_len: usize,
    pub control: *mut c_void,
    pub control_len: usize,
    pub flags: c_int,
}

#[repr(C)]
pub struct CmsgHdr {
    pub len: usize,
    pub level: c_int,
    pub kind: c_int,
}

#[repr(C)]
pub struct PollFd {
    pub fd: c_int,
    pub events: c_short,
    pub happened: c_short,
}

#[repr(C)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

#[repr(C)]
pub struct Rlimit {
    pub current: u64,
    pub maximum: u64,
}

#[repr(C)]
pub struct SockFprog {
    pub len: u16,
    pub filter: *const c_void,
}

/// `struct dl_phdr_info` (dl_iterate_phdr(3)).
#[repr(C)]
pub struct LoadedObject {
    pub base: usize,
    pub name: *const c_char,
    pub segments: *const Segment,
    pub count: u16,
    /// How many objects have been loaded so far.
    pub loaded: u64,
    pub unloaded: u64,
}

/// `Elf64_Phdr` (elf(5)).
#[repr(C)]
pub struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: usize,
    pub address: usize,
    pub physical_address: usize,
    pub file_len: usize,
    pub memory_len: usize,
    pub alignment: usize,
}

/// What every object begins with (`PyObject`; the layout is part of CPython's stable ABI).
#[repr(C)]
pub struct ObjectHead {
    pub references: isize,
    pub kind: Object,
}

/// `PyStatus` (CPython's initconfig documentation): its layout is the same since 3.8.
#[repr(C)]
pub struct PyStatus {
    pub kind: c_int,
    pub function: *const c_char,
    pub message: *const c_char,
    pub exit_code: c_int,
}

pub type Object = *mut c_void;
pub type Main = extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;

// SAFETY: as the man pages and the C API of CPython declare them.
unsafe extern "C" {
    pub fn _exit(code: c_int) -> !;
    pub fn close(fd: c_int) -> c_int;
    pub fn read(fd: c_int, buffer: *mut c_void, len: usize) -> isize;
    pub fn send(fd: c_int, buffer: *const c_void, len: usize, flags: c_int) -> isize;
    pub fn write(fd: c_int, buffer: *const c_void, len: usize) -> isize;
    pub fn pread(fd: c_int, buffer: *mut c_void, len: usize, offset: i64) -> isize;
    pub fn recv(fd: c_int, to: *mut c_void, len: usize, flags: c_int) -> isize;
    pub fn poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
    pub fn recvmsg(fd: c_int, message: *mut MsgHdr, flags: c_int) -> isize;
    pub fn sendmsg(fd: c_int, message: *const MsgHdr, flags: c_int) -> isize;
    pub fn setns(fd: c_int, kind: c_int) -> c_int;
    pub fn fork() -> c_int;
    pub fn vfork() -> c_int;
    pub fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    pub fn getpid() -> c_int;
    pub fn getppid() -> c_int;
    pub fn malloc(len: usize) -> *mut c_void;
    pub fn free(at: *mut c_void);
    pub fn malloc_trim(keep: usize) -> c_int;
    pub fn sched_yield() -> c_int;
    pub fn dup2(from: c_int, to: c_int) -> c_int;
    pub fn setsid() -> c_int;
    pub fn umask(mask: c_uint) -> c_uint;
    pub fn chdir(path: *const c_char) -> c_int;
    pub fn setgroups(count: usize, groups: *const c_uint) -> c_int;
    pub fn setresgid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    pub fn setresuid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    pub fn syscall(number: c_long, ...) -> c_long;
    pub fn prctl(option: c_int, ...) -> c_int;
    pub fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn fopen(path: *const c_char, mode: *const c_char) -> *mut c_void;
    pub fn fdopen(fd: c_int, mode: *const c_char) -> *mut c_void;
    pub fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
    pub fn mkdir(path: *const c_char, mode: c_uint) -> c_int;
    pub fn readlink(path: *const c_char, buffer: *mut c_char, len: usize) -> isize;
    pub fn getcwd(buffer: *mut c_char, len: usize) -> *mut c_char;
    pub fn strlen(text: *const c_char) -> usize;
    pub fn strerror(number: c_int) -> *const c_char;
    pub fn memmem(room: *const c_void, len: usize, what: *const c_void, what_len: usize) -> *mut c_void;
    pub fn mmap(at: *mut c_void, len: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    pub fn munmap(at: *mut c_void, len: usize) -> c_int;
    pub fn mremap(at: *mut c_void, old_len: usize, len: usize, flags: c_int, to: *mut c_void) -> *mut c_void;
    pub fn mprotect(at: *mut c_void, len: usize, protection: c_int) -> c_int;
    pub fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
    // SAFETY: `look` is called before this returns, with objects that live until then (dl_iterate_phdr(3)).
    pub fn dl_iterate_phdr(
        look: unsafe extern "C" fn(*const LoadedObject, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    pub fn signal(number: c_int, action: usize) -> usize;
    pub fn kill(pid: c_int, number: c_int) -> c_int;
    pub fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    pub fn getrusage(who: c_int, usage: *mut i64) -> c_int;
    pub fn getrlimit(resource: c_int, limit: *mut Rlimit) -> c_int;
    pub fn setrlimit(resource: c_int, limit: *const Rlimit) -> c_int;
    pub fn unsetenv(name: *const c_char) -> c_int;
    pub fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    pub fn __errno_location() -> *mut c_int;

    pub fn PyConfig_InitPythonConfig(config: *mut c_void);
    pub fn PyConfig_SetBytesArgv(config: *mut c_void, count: isize, arguments: *const *mut c_char) -> PyStatus;
    pub fn PyConfig_Clear(config: *mut c_void);
    pub fn Py_InitializeFromConfig(config: *const c_void) -> PyStatus;
    pub fn PyOS_BeforeFork();
    pub fn PyOS_AfterFork_Parent();
    pub fn PyOS_AfterFork_Child();
    pub fn PyRun_FileExFlags(
        file: *mut c_void,
        name: *const c_char,
        start: c_int,
        globals: Object,
        locals: Object,
        close: c_int,
        flags: *mut c_void,
    ) -> Object;
    pub fn PyImport_GetMagicNumber() -> c_long;
    pub fn PyImport_AddModule(name: *const c_char) -> Object;
    pub fn PyModule_GetDict(module: Object) -> Object;
    pub fn PyDict_New() -> Object;
    pub fn PyDict_GetItemString(dict: Object, key: *const c_char) -> Object;
    pub fn PyDict_SetItemString(dict: Object, key: *const c_char, value: Object) -> c_int;
    pub fn PyDict_DelItem(dict: Object, key: Object) -> c_int;
    pub fn PyDict_SetItem(dict: Object, key: Object, value: Object) -> c_int;
    pub fn PyList_New(count: isize) -> Object;
    pub fn PyList_Size(list: Object) -> isize;
    pub fn PyList_GetItem(list: Object, index: isize) -> Object;
    pub fn PyList_Append(list: Object, item: Object) -> c_int;
    pub fn PyList_SetItem(list: Object, index: isize, item: Object) -> c_int;
    pub fn PyList_SetSlice(list: Object, from: isize, to: isize, items: Object) -> c_int;
    pub fn PyBytes_AsString(bytes: Object) -> *mut c_char;
    pub fn PyBytes_Size(bytes: Object) -> isize;
    pub fn PyUnicode_InternFromString(text: *const c_char) -> Object;
    pub fn PyUnicode_DecodeUTF8(text: *const c_char, len: isize, errors: *const c_char) -> Object;
    pub fn PyUnicode_DecodeFSDefaultAndSize(text: *const c_char, len: isize) -> Object;
    pub fn PySys_GetObject(name: *const c_char) -> Object;
    pub fn PyType_GetFlags(kind: Object) -> c_ulong;
    pub fn PyType_GetSlot(kind: Object, slot: c_int) -> *mut c_void;
    pub fn PyType_IsSubtype(kind: Object, of: Object) -> c_int;
    pub fn PyEval_GetBuiltins() -> Object;
    pub fn PyObject_CallFunction(callable: Object, format: *const c_char, ...) -> Object;
    pub fn PyObject_CallFunctionObjArgs(callable: Object, ...) -> Object;
    pub fn PyObject_CallMethodObjArgs(object: Object, name: Object, ...) -> Object;
    pub fn PyErr_Clear();
    pub fn PyErr_Fetch(kind: *mut Object, value: *mut Object, trace: *mut Object);
    pub fn PyErr_NormalizeException(kind: *mut Object, value: *mut Object, trace: *mut Object);
    pub fn PyLong_AsLong(number: Object) -> c_long;
    pub fn PyErr_ExceptionMatches(exception: Object) -> c_int;
    pub fn PyErr_Occurred() -> Object;
    pub fn PyErr_Print();
    pub fn PyErr_SetFromErrno(exception: Object) -> Object;
    pub fn PyErr_Restore(kind: Object, value: Object, trace: Object);
    pub fn PyObject_SetAttr(object: Object, name: Object, value: Object) -> c_int;
    pub fn PyObject_Malloc(len: usize) -> *mut c_void;
    pub fn PyObject_IsTrue(object: Object) -> c_int;
    pub fn PyDict_Copy(dict: Object) -> Object;
    pub fn Py_FinalizeEx() -> c_int;
    pub fn Py_DecRef(object: Object);
    pub fn Py_IncRef(object: Object);
    pub static mut environ: *mut *mut c_char;
    pub static mut PyType_Type: c_void;
    pub static mut PyGen_Type: c_void;
    pub static mut _PyWeakref_RefType: c_void;
    pub static mut _PyWeakref_ProxyType: c_void;
    pub static mut _PyWeakref_CallableProxyType: c_void;
    pub static PyExc_KeyboardInterrupt: Object;
    pub static PyExc_SystemExit: Object;
    pub static PyExc_OSError: Object;
}

pub const PY_FILE_INPUT: c_int = 257;
pub const SOL_SOCKET: c_int = 1;
pub const SCM_RIGHTS: c_int = 1;
pub const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
pub const MSG_NOSIGNAL: c_int = 0x4000;
pub const MSG_DONTWAIT: c_int = 0x40;
pub const POLLIN: c_short = 1;
pub const CLONE_NEWPID: c_int = 0x2000_0000;
/// Mount, cgroup, UTS, IPC and network.
pub const OTHER_NAMESPACES: c_int = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000;
pub const EINTR: c_int = 4;
pub const EAGAIN: c_int = 11;
pub const EEXIST: c_int = 17;
pub const O_CLOEXEC: c_int = 0o2_000_000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: c_int = 0o400_000;
#[cfg(not(target_arch = "x86_64"))]
pub const O_NOFOLLOW: c_int = 0o100_000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: c_int = 0o200_000;
#[cfg(not(target_arch = "x86_64"))]
pub const O_DIRECTORY: c_int = 0o40_000;
pub const SEEK_END: c_int = 2;
pub const SYS_PIDFD_OPEN: c_long = 434;
pub const SYS_CLOSE_RANGE: c_long = 436;
pub const SYS_LANDLOCK_RESTRICT_SELF: c_long = 446;
#[cfg(target_arch = "x86_64")]
pub const SYS_CAPSET: c_long = 126;
#[cfg(not(target_arch = "x86_64"))]
pub const SYS_CAPSET: c_long = 91;
#[cfg(target_arch = "x86_64")]
pub const SYS_SECCOMP: c_long = 317;
#[cfg(not(target_arch = "x86_64"))]
pub const SYS_SECCOMP: c_long = 277;
#[cfg(target_arch = "x86_64")]
pub const SYS_GETDENTS64: c_long = 217;
#[cfg(not(target_arch = "x86_64"))]
pub const SYS_GETDENTS64: c_long = 61;
