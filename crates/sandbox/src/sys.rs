//! The system calls that have no safe wrapper. The only `unsafe` of the project.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// clone3(2), from linux/sched.h (libc's constant has too narrow a type).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where [`clone`] returned.
pub(crate) enum Cloned {
    /// In the caller: the child's pid (in the caller's pid namespace) and a pidfd for it.
    Parent {
        /// For `waitpid`.
        pid: i32,
        /// For signals, without the risk of a reused pid.
        pidfd: OwnedFd,
    },
    /// In the child.
    Child,
}

/// `clone3(2)`, as `fork` with namespaces (`flags`: `CLONE_NEW*`), straight into a cgroup v2 directory if one is given.
///
/// The caller's process must be single-threaded: then the child's copy of memory is whole (no lock is held by
/// a thread that does not exist there) and it may do anything a normal process may. `runner_main` checks this
/// once at start, and nothing in this crate makes threads.
pub(crate) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is a valid value (clone3(2): unused fields must be 0).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    }
    // SAFETY: `args` and `pidfd` outlive the call; without CLONE_VM the child gets its own copy of the address
    // space, and the process is single-threaded (see above), so no invariant of another thread can be torn.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: the kernel stored a fresh descriptor there (CLONE_PIDFD), owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// `unshare(2)`. The caller is single-threaded (see [`clone`]), so no other thread's view changes under it, and the
/// kernel's own demand for some namespaces is met.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: rustix asks that no other thread relies on what is unshared; there is none.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// A command ready for `execve`: everything is allocated before.
pub(crate) struct Command {
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Command {
    /// Fails with `EINVAL` where a string holds a NUL, or `argv` is empty.
    pub(crate) fn new(argv: &[String], env: &[(String, String)]) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let string = |text: &str| CString::new(text).map_err(|_| invalid());
        Ok(Self {
            path: string(argv.first().ok_or_else(invalid)?)?,
            argv: argv.iter().map(|arg| string(arg)).collect::<io::Result<_>>()?,
            envp: env.iter().map(|(name, value)| string(&format!("{name}={value}"))).collect::<io::Result<_>>()?,
        })
    }

    /// Becomes the program. Returns only if that fails.
    pub(crate) fn exec(&self) -> io::Error {
        let pointers =
            |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<*const libc::c_char>>();
        let (argv, envp) = (pointers(&self.argv), pointers(&self.envp));
        // SAFETY: path is a C string, argv and envp are arrays of C strings ended by null; all outlive the call,
        // which either replaces this process or leaves them untouched.
        unsafe { libc::execve(self.path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: touches no memory; closing happens only at exec, so no live OwnedFd loses its descriptor before.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Makes `stream` descriptor [`CHANNEL`] of the program that this process becomes.
pub(crate) fn put_on_channel(stream: impl AsFd) -> io::Result<()> {
    let from = stream.as_fd().as_raw_fd();
    if from == CHANNEL {
        return Ok(rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: whatever owned the target number is closed without its owner's knowing. The worker calls this last thing
    // before it execs, and uses no descriptor above 2 after it.
    check(i64::from(unsafe { libc::dup2(from, CHANNEL) }))
}

/// Puts descriptors on the numbers that the program this process becomes expects; all others are closed when it does.
pub(crate) fn put_on_descriptors(wanted: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<()> {
    // First out of the way of each other.
    let above = wanted.iter().map(|(_, to)| to + 1).max().unwrap_or(0);
    let mut copies = Vec::with_capacity(wanted.len());
    for (fd, to) in wanted {
        copies.push((rustix::io::fcntl_dupfd_cloexec(fd, above)?, *to));
    }
    close_on_exec_from(3)?;
    for (copy, to) in &copies {
        // SAFETY: as in `put_on_channel`: this process execs next, and uses no descriptor above 2 by its number.
        check(i64::from(unsafe { libc::dup2(copy.as_raw_fd(), *to) }))?;
    }
    Ok(())
}

/// The descriptor by which a session's program talks with the server.
const CHANNEL: RawFd = 3;

/// Attributes to set and clear on a mount (mount_setattr(2), Linux 5.12), with everything below it.
pub(crate) fn mount_setattr_recursive(at: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attr = MountAttr { set, clear: 0, propagation: 0, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    let empty: &CStr = c"";
    // SAFETY: `attr` has the kernel's layout (struct mount_attr, version 0) and outlives the call; the path is a C string.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, at.as_raw_fd(), empty.as_ptr(), flags, &raw const attr, size_of::<MountAttr>())
    })
}

/// Installs a system call filter on this process, for good (seccomp(2)). `no_new_privs` must be set before.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `prog` points at `len` instructions that outlive the call; the kernel copies and verifies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const prog) })
}

/// The Landlock ABI of the kernel, 0 where there is none (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION).
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with the version flag the call reads no memory: attr is null and size 0, as the man page demands.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Brings the loopback interface of this network namespace up (netdevice(7)).
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is plain data (integers and byte arrays in a union), for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    check(i64::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }))
}

/// Default action for every signal, none blocked: both survive an exec. Whoever started the server may have ignored some.
pub(crate) fn reset_signals() -> io::Result<()> {
    // 32 and 33 belong to the C library, which refuses them; KILL and STOP cannot be changed.
    for signal in (1..=64).filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP | 32 | 33)) {
        restore_signal(signal)?;
    }
    // SAFETY: sigset_t is plain data; sigemptyset below gives it its value.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is a valid place for a set.
    check(i64::from(unsafe { libc::sigemptyset(&raw mut none) }))?;
    // SAFETY: reads a valid set; the old mask is not asked for.
    check(i64::from(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) }))
}

/// The default action of one signal.
pub(crate) fn restore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: the default action runs no code of ours.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ignores a signal: a terminal's or a supervisor's word is for the server, which tells us.
pub(crate) fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: ignoring runs no code of ours.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The children of this process begin with an ordinary priority, whatever its own is (sched(7), "The reset-on-fork flag").
pub(crate) fn reset_priority_on_fork() -> io::Result<()> {
    let ordinary = libc::sched_param { sched_priority: 0 };
    let policy = libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK;
    // SAFETY: reads one sched_param, which outlives the call. (Not libc's own function: some C libraries refuse it.)
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const ordinary) })
}

/// CPU time of all children that were waited for, and of theirs, microseconds (getrusage(2), RUSAGE_CHILDREN).
pub(crate) fn children_cpu_us() -> u64 {
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes one rusage into a place for one. It cannot fail with these arguments.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let us = |time: libc::timeval| u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or(0);
    us(usage.ru_utime) + us(usage.ru_stime)
}

/// Ends this process at once, running nothing (`_exit(2)`): in a clone, the parent's exit handlers are not ours.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
