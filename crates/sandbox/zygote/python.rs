//! A Python zygote: preloaded into the unmodified `/usr/bin/python3`, this takes the place of its `main`. It initialises the
//! interpreter, lets it warm up, and then forks a child for every sandbox that asks. No Python frame is on the stack while it
//! waits, so that a program starts in its child as it starts in an interpreter of its own.
//!
//! Compiled by `build.rs` on its own, without the standard library: it lives in a foreign process and brings nothing along.
//!
//! What a child does before it reads a byte of a client: it enters the sandbox's namespaces and cgroups, takes its descriptors and
//! its uid, raises the Landlock rules of the sandbox, and installs the filter. Of the zygote it keeps its memory.
//!
//! The order of descriptors and the bytes of messages are those of `src/zygote.rs` and `src/message.rs`, whose tests check them.
#![no_std]

mod end;
mod foreign;
mod heap;
mod held;
mod job;
mod run;
mod seal;
mod text;

use core::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    ptr::{self, addr_of, addr_of_mut, null, null_mut},
};

use foreign::*;
use held::Held;
use job::{Job, Limits, errno};
use run::{run, show_title};
use seal::seal;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { _exit(134) }
}

/// The precompiled core library names it; nothing unwinds here, so nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The zygote's descriptors, by number: where requests come from, and the filter's instructions.
const REQUESTS: c_int = 3;
const FILTER: c_int = 4;
/// Most descriptors of a request.
const FDS: usize = 16;
/// A request: uid, place, step to blame, how many cgroups, whether there are Landlock rules.
const REQUEST_BYTES: usize = 12;
/// Longest filter, bytes.
const FILTER_BYTES: usize = 4096 * 8;
/// Where programs start, by the request's place.
const PLACES: [&CStr; 2] = [c"/box/submission", c"/mnt/data"];
/// oom_score_adj of programs (src/init.rs).
const OOM_SCORE: &[u8] = b"500";
/// What warms the interpreter up and reads jobs.
const SHIM: &CStr = c"/opt/greenroom/python/warm.py";

static mut FILTER_PROGRAM: [u64; FILTER_BYTES / 8] = [0; FILTER_BYTES / 8];
static mut FILTER_LEN: usize = 0;
/// `PyConfig` grows from version to version; 3.13's takes half a kilobyte.
static mut CONFIG: [u64; 1024] = [0; 1024];
static mut CONTROL: [u64; 16] = [0; 16];
/// The interpreter's own name.
static mut NAME: [c_char; NAME_BYTES] = [0; NAME_BYTES];
const NAME_BYTES: usize = 256;
/// Where the kernel reads what the process is called.
static mut TITLE: *mut [c_char] = ptr::slice_from_raw_parts_mut(null_mut(), 0);

/// Preloaded, this is found before the C library's, and gives the program another `main`.
///
/// # Safety
/// Called by the program's start code, once, with what the C library's expects.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_start_main(
    _main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: *mut c_void,
    fini: *mut c_void,
    loader_fini: *mut c_void,
    stack_end: *mut c_void,
) -> c_int {
    type Start = extern "C" fn(Main, c_int, *mut *mut c_char, *mut c_void, *mut c_void, *mut c_void, *mut c_void) -> c_int;
    /// `RTLD_NEXT`.
    const NEXT: *mut c_void = usize::MAX as *mut c_void;
    // SAFETY: the next definition is the C library's, of this type since 1998.
    let start: Start = unsafe { core::mem::transmute(dlsym(NEXT, c"__libc_start_main".as_ptr())) };
    start(main, argc, argv, init, fini, loader_fini, stack_end)
}

extern "C" fn main(argc: c_int, argv: *mut *mut c_char, variables: *mut *mut c_char) -> c_int {
    // SAFETY: single-threaded, and nothing else uses the statics; the interpreter's functions are called with the interpreter
    // initialised and its lock held, which this thread has from then on.
    unsafe {
        let ours = OURS.map(|name| find_variable(variables, name));
        unsetenv(c"LD_PRELOAD".as_ptr());
        unsetenv(c"LD_BIND_NOW".as_ptr());
        let read = pread(FILTER, addr_of_mut!(FILTER_PROGRAM).cast(), FILTER_BYTES, 0);
        if read <= 0 || read % 8 != 0 {
            return say(c"the filter cannot be read\n");
        }
        FILTER_LEN = read as usize / 8;
        // The arguments stand one after the other; a long one makes the room.
        let last = *argv.add(argc as usize - 1);
        let end = last.add(CStr::from_ptr(last).count_bytes() + 1);
        TITLE = ptr::slice_from_raw_parts_mut(*argv, end.offset_from(*argv) as usize);
        // The loader says it in errors.
        let name = CStr::from_ptr(*argv).to_bytes_with_nul();
        if name.len() <= NAME_BYTES {
            ptr::copy_nonoverlapping(name.as_ptr(), addr_of_mut!(NAME).cast(), name.len());
            *argv = addr_of_mut!(NAME).cast();
        }
        close(FILTER);
        let config = addr_of_mut!(CONFIG).cast();
        PyConfig_InitPythonConfig(config);
        let status = PyConfig_SetBytesArgv(config, argc as isize, argv);
        if status.kind != 0 {
            return say(c"the interpreter takes no arguments\n");
        }
        let status = Py_InitializeFromConfig(config);
        PyConfig_Clear(config);
        if status.kind != 0 {
            return say(c"the interpreter cannot be initialised\n");
        }
        let shim = load_shim();
        if shim.is_null() {
            return complain(c"the shim cannot be loaded\n");
        }
        let prepared = PyObject_CallFunction(PyDict_GetItemString(shim, c"prepare".as_ptr()), null());
        if prepared.is_null() {
            return complain(c"the interpreter cannot be warmed up\n");
        }
        Py_DecRef(prepared);
        let Some(held) = Held::find(shim) else {
            return complain(c"the shim is not the one for this library\n");
        };
        // A program finds no trace of them in /proc/self/environ.
        for variable in ours.into_iter().flatten() {
            ptr::write_bytes(variable, 0, CStr::from_ptr(variable).count_bytes());
        }
        text::make_huge();
        heap::make_compact();
        show_title([&b"greenroom: warm python"[..]].into_iter());
        serve(&held)
    }
}

/// Variables that are the zygote's alone (src/zygote.rs).
const OURS: [&[u8]; 3] = [b"LD_PRELOAD=", b"LD_BIND_NOW=", b"GREENROOM_WARM="];

/// Where a variable of the environment stands, as the kernel put it there.
/// SAFETY: the variables are those that `main` is called with.
unsafe fn find_variable(variables: *mut *mut c_char, name: &[u8]) -> Option<*mut c_char> {
    unsafe {
        let mut at = variables;
        while !(*at).is_null() {
            if CStr::from_ptr(*at).to_bytes().starts_with(name) {
                return Some(*at);
            }
            at = at.add(1);
        }
        None
    }
}

/// Says an error of the interpreter, and what it means: but not where nobody can ask for children any more. A runner that ends takes
/// along much that an interpreter needs to start.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
unsafe fn complain(what: &CStr) -> c_int {
    const MSG_PEEK: c_int = 2;
    let mut byte = 0_u8;
    unsafe {
        if recv(REQUESTS, addr_of_mut!(byte).cast(), 1, MSG_PEEK | MSG_DONTWAIT) != 0 {
            PyErr_Print();
            say(what);
        }
    }
    1
}

fn say(what: &CStr) -> c_int {
    // SAFETY: a C string, written to standard error; nobody is left to tell if that fails.
    unsafe { write(2, what.as_ptr().cast(), what.count_bytes()) };
    1
}

/// The shim's names. It is a module of nobody: programs do not see it, nor does it see what they make of the builtins.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
unsafe fn load_shim() -> Object {
    unsafe {
        let file = fopen(SHIM.as_ptr(), c"rb".as_ptr());
        if file.is_null() {
            return null_mut();
        }
        let names = PyDict_New();
        PyDict_SetItemString(names, c"__builtins__".as_ptr(), PyDict_Copy(PyEval_GetBuiltins()));
        let ran = PyRun_FileExFlags(file, SHIM.as_ptr(), PY_FILE_INPUT, names, names, 1, null_mut());
        if ran.is_null() { null_mut() } else { names }
    }
}

/// What children share with each other and cannot have anew, a zygote ends for: its successor has another hash seed and layout.
const MOST_CHILDREN: u32 = 2000;
const LONGEST_LIFE_MS: i64 = 600_000;
/// One whose life is over says so to the runner, and serves on for so long while its successor initialises itself.
const SUCCESSION_MS: i64 = 5000;
const RETIRES: [u8; 1] = [1];

fn milliseconds() -> i64 {
    const CLOCK_MONOTONIC: c_int = 1;
    let mut now = Timespec { sec: 0, nsec: 0 };
    // SAFETY: writes one timespec into a place for one.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    now.sec * 1000 + now.nsec / 1_000_000
}

/// A request to be born.
struct Birth {
    uid: c_uint,
    place: usize,
    step: u8,
    landlock: bool,
    cgroups: usize,
    fds: [c_int; FDS],
    count: usize,
}

/// The order of a request's descriptors; the cgroups' `cgroup.procs` come last.
const STATUS: usize = 0;
const JOB: usize = 1;
const STDIN: usize = 2;
const INIT: usize = 5;
const RULES: usize = 6;

/// Forks a child for every request, until nobody can send any. Comes back only in a child that has run its program.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
unsafe fn serve(held: &Held) -> c_int {
    let started = milliseconds();
    let mut born_here = 0;
    let mut ends_at = None;
    loop {
        let now = milliseconds();
        if ends_at.is_none() && (born_here >= MOST_CHILDREN || now - started >= LONGEST_LIFE_MS) {
            ends_at = Some(now + SUCCESSION_MS);
            // SAFETY: the message outlives the call. A runner that does not hear it sees this process end.
            unsafe { send(REQUESTS, RETIRES.as_ptr().cast(), RETIRES.len(), MSG_NOSIGNAL | MSG_DONTWAIT) };
        }
        if ends_at.is_some_and(|at| !comes_within(at - now)) {
            return 0;
        }
        // The successor may be faster.
        let flags = if ends_at.is_some() { MSG_DONTWAIT } else { 0 };
        // SAFETY: nothing else uses the buffer that a request is received into.
        let birth = match unsafe { receive(flags) } {
            Received::Birth(birth) => birth,
            Received::Interrupted => continue,
            Received::End => return 0,
        };
        unsafe {
            // What the child needs of the new pid namespace, it gets by being born there.
            let entered = setns(birth.fds[INIT], CLONE_NEWPID) == 0;
            if !entered {
                refuse(&birth);
            } else {
                born_here += 1;
                if held.reseed.is_none() {
                    PyOS_BeforeFork();
                }
                match born() {
                    0 => {
                        after_fork(&birth, held);
                        return live(&birth, held);
                    }
                    parent => {
                        if held.reseed.is_none() {
                            PyOS_AfterFork_Parent();
                        }
                        let mut status = 0;
                        while parent > 0 && waitpid(parent, &mut status, 0) < 0 && errno() == EINTR {}
                        if parent < 0 || status != 0 {
                            refuse(&birth);
                        }
                    }
                }
            }
            for fd in &birth.fds[..birth.count] {
                close(*fd);
            }
        }
    }
}

/// What an interpreter has to do in a child.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
unsafe fn after_fork(birth: &Birth, held: &Held) {
    unsafe {
        let Some(reseed) = held.reseed else { return PyOS_AfterFork_Child() };
        let seeded = PyObject_CallFunctionObjArgs(reseed, null_mut::<c_void>());
        if seeded.is_null() {
            // Never with another child's random numbers.
            PyErr_Print();
            refuse(birth);
            _exit(1);
        }
        Py_DecRef(seeded);
    }
}

/// Forks twice, so that the child's parent is the first process of its pid namespace: the one between shares our memory, costs next
/// to nothing, and is gone when this returns. 0 in the child; else the pid of the one between, to wait for, or -1.
///
/// `vfork` returns twice in this frame. The process between calls one function and ends; it leaves nothing that the second
/// return would read. SAFETY: single-threaded; the process between only forks and ends.
#[inline(never)]
unsafe fn born() -> c_int {
    unsafe {
        let between = vfork();
        if between == 0 {
            match fork() {
                0 => return 0,
                -1 => _exit(1),
                _ => _exit(0),
            }
        }
        between
    }
}

/// Whether a request comes, or the end of all, in time.
fn comes_within(left_ms: i64) -> bool {
    let mut requests = PollFd { fd: REQUESTS, events: POLLIN, happened: 0 };
    // SAFETY: the kernel writes into the one entry.
    left_ms > 0 && unsafe { poll(&mut requests, 1, left_ms as c_int) } != 0
}

enum Received {
    Birth(Birth),
    Interrupted,
    End,
}

/// SAFETY: the buffers outlive the call; the kernel says how much of them it filled.
unsafe fn receive(flags: c_int) -> Received {
    unsafe {
        let mut request = [0u8; REQUEST_BYTES];
        let mut iov = IoVec { base: request.as_mut_ptr().cast(), len: REQUEST_BYTES };
        let mut message = MsgHdr {
            name: null_mut(),
            name_len: 0,
            iov: &mut iov,
            iov_len: 1,
            control: addr_of_mut!(CONTROL).cast(),
            control_len: size_of::<[u64; 16]>(),
            flags: 0,
        };
        let received = recvmsg(REQUESTS, &mut message, MSG_CMSG_CLOEXEC | flags);
        if received < 0 && [EINTR, EAGAIN].contains(&errno()) {
            return Received::Interrupted;
        }
        if received <= 0 {
            return Received::End;
        }
        let mut birth = Birth {
            uid: u32::from_le_bytes([request[0], request[1], request[2], request[3]]),
            place: request[4] as usize,
            step: request[5],
            landlock: request[6] != 0,
            cgroups: request[7] as usize,
            fds: [-1; FDS],
            count: 0,
        };
        let header = addr_of!(CONTROL).cast::<CmsgHdr>();
        if message.control_len >= size_of::<CmsgHdr>() && (*header).level == SOL_SOCKET && (*header).kind == SCM_RIGHTS {
            birth.count = (((*header).len - size_of::<CmsgHdr>()) / size_of::<c_int>()).min(FDS);
            ptr::copy_nonoverlapping(header.add(1).cast::<c_int>(), birth.fds.as_mut_ptr(), birth.count);
        }
        let expected = RULES + usize::from(birth.landlock) + birth.cgroups;
        if received as usize != REQUEST_BYTES || birth.count != expected || birth.place >= PLACES.len() {
            for fd in &birth.fds[..birth.count] {
                close(*fd);
            }
            return Received::Interrupted;
        }
        Received::Birth(birth)
    }
}

/// Tells the slot that the fork failed.
/// SAFETY: what is passed to the system lives in this frame, and the descriptors are this process's own.
unsafe fn refuse(birth: &Birth) {
    let error = unsafe { errno() } as u32;
    // Status::Failed(step, errno), as postcard writes it; a signed number is doubled.
    let mut message = [2, birth.step, 0, 0];
    let len = 2 + varint(u64::from(error) << 1, &mut message[2..]);
    unsafe { send(birth.fds[STATUS], message.as_ptr().cast(), len, MSG_NOSIGNAL) };
}

fn varint(mut value: u64, to: &mut [u8]) -> usize {
    let mut len = 0;
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            to[len] = byte;
            return len + 1;
        }
        to[len] = byte | 0x80;
        len += 1;
    }
}

/// The child's life. Its return value is the exit status.
/// SAFETY: the interpreter is initialised, and this, its only thread, has its lock.
unsafe fn live(birth: &Birth, held: &Held) -> c_int {
    unsafe {
        if !seal(birth) {
            refuse(birth);
            _exit(1);
        }
        let (status, job_fd) = (birth.fds[STATUS], birth.fds[JOB]);
        let Some(job) = Job::read(job_fd) else {
            refuse(birth);
            _exit(1);
        };
        limit(&job.limits);
        let mut go = 0u8;
        while read_one(status, &mut go) < 0 && errno() == EINTR {}
        if go == 0 {
            _exit(1);
        }
        tell_start(status);
        close(status);
        if !job.channel {
            close(job_fd);
        } else if job_fd != 3 {
            dup2(job_fd, 3);
            close(job_fd);
        }
        run(job, held)
    }
}

/// SAFETY: room for one byte, which outlives the call.
unsafe fn read_one(fd: c_int, byte: &mut u8) -> isize {
    unsafe { read(fd, ptr::from_mut(byte).cast(), 1) }
}

/// `Status::Exec`, now. SAFETY: what is passed to the system lives in this frame, and the descriptors are this process's own.
unsafe fn tell_start(status: c_int) {
    const CLOCK_MONOTONIC: c_int = 1;
    let mut now = Timespec { sec: 0, nsec: 0 };
    // SAFETY: writes one timespec into a place for one.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    let mut message = [3u8; 12];
    let len = 1 + varint(now.sec as u64 * 1_000_000 + now.nsec as u64 / 1000, &mut message[1..]);
    // SAFETY: bytes of this frame.
    unsafe { send(status, message.as_ptr().cast(), len, MSG_NOSIGNAL) };
}

/// As `set_limits` in init/worker.rs. SAFETY: limits are plain numbers in this frame.
unsafe fn limit(of_job: &Limits) {
    const STACK_BYTES: u64 = 256 << 20;
    // setrlimit(2): FSIZE 1, STACK 3, CORE 4, NPROC 6, NOFILE 7, MEMLOCK 8, SIGPENDING 11, MSGQUEUE 12, NICE 13, RTPRIO 14.
    let limits = [
        (4, 0),
        (1, of_job.file_size_bytes),
        (7, of_job.open_files),
        (6, of_job.processes),
        (8, 64 * 1024),
        (12, 0),
        (11, 1024),
        (13, 0),
        (14, 0),
        (3, of_job.memory_bytes.min(STACK_BYTES)),
    ];
    for (resource, value) in limits {
        // SAFETY: reads and writes limits of this frame.
        unsafe {
            let mut ours = Rlimit { current: 0, maximum: 0 };
            getrlimit(resource, &mut ours);
            let value = if ours.maximum < value { ours.maximum } else { value };
            if setrlimit(resource, &Rlimit { current: value, maximum: value }) != 0 {
                _exit(1);
            }
        }
    }
}
