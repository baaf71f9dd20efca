//! The system calls that have no safe wrapper. The only `unsafe` of the project.

use std::{
    arch::asm,
    ffi::{CStr, CString, c_void},
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, configure_capability_in_ambient_set, unshare_unsafe};

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
    let mut args = clone_args(flags, Some(&mut pidfd), cgroup)?;
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

/// A stack for processes that share this one's memory for a moment. Lives as long as this process.
#[derive(Clone, Copy)]
pub(crate) struct Stack {
    bottom: *mut c_void,
}

const STACK_BYTES: usize = 64 << 10;
const GUARD_BYTES: usize = 64 << 10;

impl Stack {
    pub(crate) fn new() -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
        // SAFETY: a mapping at a place that the kernel chooses takes the place of none.
        let bottom = unsafe { libc::mmap(ptr::null_mut(), GUARD_BYTES + STACK_BYTES, protection, flags, -1, 0) };
        if bottom == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the lowest part of the mapping just made, which nothing uses yet.
        check(i64::from(unsafe { libc::mprotect(bottom, GUARD_BYTES, libc::PROT_NONE) }))?;
        Ok(Self { bottom })
    }
}

/// `clone3(2)` on a stack of its own, sharing memory, this process waiting until the child has ended or become a program
/// (`CLONE_VM`, `CLONE_VFORK`). Gives the child's pid or an errno.
///
/// SAFETY: `entry(argument)` is called in the child. It must leave no memory of this process in a state that this process does
/// not expect, and must not return. One child at a time uses `stack`.
unsafe fn clone_sharing(
    args: &mut libc::clone_args,
    stack: Stack,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> i64 {
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    args.stack = stack.bottom as u64 + GUARD_BYTES as u64;
    args.stack_size = STACK_BYTES as u64;
    let (args, size) = (ptr::from_mut(args), size_of::<libc::clone_args>());
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the parent goes on behind the label with what the kernel leaves as it was: all but rax, rcx and r11. The child begins with the same
    // registers on top of the empty stack, aligned to 16 as a call wants it, and never leaves `entry`.
    unsafe {
        asm!(
            "syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r13", "call r12", "ud2", "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args, in("rsi") size, in("r12") entry, in("r13") argument, out("rcx") _, out("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; the kernel leaves all registers but x0 as they were.
    unsafe {
        asm!(
            "svc #0", "cbnz x0, 2f", "mov x29, xzr", "mov x30, xzr", "mov x0, x21", "blr x20", "brk #1", "2:",
            in("x8") libc::SYS_clone3, inlateout("x0") args => result,
            in("x1") size, in("x20") entry, in("x21") argument, lateout("x30") _,
        );
    }
    result
}

/// A program to become, with a descriptor of ours as its standard input.
struct Becoming<'a> {
    program: BorrowedFd<'a>,
    stdin: BorrowedFd<'a>,
    name: &'a CStr,
    /// What has to be kept by name: who is not root of his user namespace loses all else (capabilities(7), "ambient").
    ambient: CapabilitySet,
    errno: i32,
}

extern "C" fn become_program(this: *mut c_void) -> ! {
    // SAFETY: `spawn` passes its own, and waits while this runs.
    let this = unsafe { &mut *this.cast::<Becoming<'_>>() };
    let error = match this.prepare() {
        Ok(()) => {
            let (argv, envp) = ([this.name.as_ptr(), ptr::null()], [ptr::null::<libc::c_char>()]);
            let (program, empty) = (this.program.as_raw_fd(), c"");
            // SAFETY: C strings and arrays of them ended by null, which outlive the call. (Not libc's own function: not all have it.)
            unsafe {
                libc::syscall(libc::SYS_execveat, program, empty.as_ptr(), argv.as_ptr(), envp.as_ptr(), libc::AT_EMPTY_PATH)
            };
            io::Error::last_os_error()
        }
        Err(error) => error,
    };
    this.errno = error.raw_os_error().unwrap_or(libc::EIO);
    exit_now(1)
}

impl Becoming<'_> {
    /// System calls only: the memory is the parent's.
    fn prepare(&self) -> io::Result<()> {
        rustix::stdio::dup2_stdin(self.stdin)?;
        // The program has its end of the socket and nothing else: what the runner writes to is no business of a sandbox.
        close_on_exec_from(1)?;
        Ok(self.ambient.iter().try_for_each(|capability| configure_capability_in_ambient_set(capability, true))?)
    }
}

/// Starts a program in new namespaces without a copy of this process. Its only descriptor is `stdin`; of our capabilities it has those
/// to hand on. Gives its pid and a pidfd.
pub(crate) fn spawn(
    stack: Stack,
    (program, name): (BorrowedFd<'_>, &CStr),
    stdin: BorrowedFd<'_>,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<(i32, OwnedFd)> {
    let is_root = rustix::process::geteuid().is_root();
    let ambient = if is_root { CapabilitySet::empty() } else { capabilities(None)?.inheritable };
    let mut becoming = Becoming { program, stdin, name, ambient, errno: 0 };
    let mut pidfd: RawFd = -1;
    let mut args = clone_args(flags, Some(&mut pidfd), cgroup)?;
    // SAFETY: the child makes system calls, writes one number of `becoming`, and execs or exits.
    let result = unsafe { clone_sharing(&mut args, stack, become_program, ptr::from_mut(&mut becoming).cast()) };
    let pid = answer(result)?;
    // SAFETY: the kernel stored a fresh descriptor there (CLONE_PIDFD), owned by nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if becoming.errno != 0 {
        wait_for(pid)?;
        return Err(io::Error::from_raw_os_error(becoming.errno));
    }
    Ok((pid, pidfd))
}

/// What `clone3` is asked for. `pidfd`, if wanted, must outlive the call.
fn clone_args(flags: u64, pidfd: Option<&mut RawFd>, cgroup: Option<BorrowedFd<'_>>) -> io::Result<libc::clone_args> {
    // SAFETY: clone_args is plain integers, for which zero is a valid value (clone3(2): unused fields must be 0).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(pidfd) = pidfd {
        args.flags |= libc::CLONE_PIDFD as u64;
        args.pidfd = ptr::from_mut(pidfd) as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    }
    Ok(args)
}

/// A raw call's answer.
fn answer(result: i64) -> io::Result<i32> {
    let pid = i32::try_from(result).map_err(io::Error::other)?;
    if pid < 0 { Err(io::Error::from_raw_os_error(-pid)) } else { Ok(pid) }
}

fn wait_for(pid: i32) -> io::Result<()> {
    loop {
        match rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
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

/// Closes what this process was started with beside its first three descriptors (close_range(2)): its parent may have had, and handed
/// on without knowing, what its own parent left open. The first thing that the process does.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: touches no memory, and before anything was opened nothing owns a descriptor above 2.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) })
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

/// The network namespace of a socket (ioctl SIOCGSKNS, Linux 4.10, include/uapi/linux/sockios.h).
pub(crate) fn network_namespace_of(socket: &OwnedFd) -> io::Result<OwnedFd> {
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    // SAFETY: this request takes no argument and touches no memory.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    check(i64::from(fd))?;
    // SAFETY: the kernel made a fresh descriptor, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What network devices are asked with, of 40 bytes (netdevice(7), `struct ifreq`).
#[repr(C)]
struct Request<T> {
    name: [u8; libc::IFNAMSIZ],
    value: T,
}

fn ask<T>(fd: &OwnedFd, request: libc::c_ulong, name: &CStr, value: T) -> io::Result<()> {
    const { assert!(size_of::<Request<T>>() == size_of::<libc::ifreq>()) };
    let mut asked = Request { name: [0; libc::IFNAMSIZ], value };
    let name = name.to_bytes();
    asked.name[..name.len()].copy_from_slice(name);
    // SAFETY: these requests read and write one ifreq, which this has the size of, and which outlives the call.
    check(i64::from(unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, &raw mut asked) }))
}

/// Of an ifreq whose value is flags.
type Flags = (i16, [u8; 22]);

/// Makes a network device of `/dev/net/tun`, opened, whose packets are IP's alone (tun.c, TUNSETIFF).
pub(crate) fn make_tun(device: &OwnedFd, name: &CStr) -> io::Result<()> {
    const FLAGS: i16 = 0x1001;
    const { assert!(FLAGS as i32 == libc::IFF_TUN | libc::IFF_NO_PI) };
    ask::<Flags>(device, libc::TUNSETIFF as libc::c_ulong, name, (FLAGS, [0; 22]))
}

/// Brings a device up.
pub(crate) fn bring_up(socket: &OwnedFd, name: &CStr) -> io::Result<()> {
    const FLAGS: i16 = 0x41;
    const { assert!(FLAGS as i32 == libc::IFF_UP | libc::IFF_RUNNING) };
    ask::<Flags>(socket, libc::SIOCSIFFLAGS as libc::c_ulong, name, (FLAGS, [0; 22]))
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr_in {
    const FAMILY: libc::sa_family_t = 2;
    const { assert!(FAMILY as i32 == libc::AF_INET) };
    let sin_addr = libc::in_addr { s_addr: u32::from(address).to_be() };
    libc::sockaddr_in { sin_family: FAMILY, sin_port: 0, sin_addr, sin_zero: [0; 8] }
}

/// Gives a device its address.
pub(crate) fn set_address(socket: &OwnedFd, name: &CStr, address: Ipv4Addr, netmask: Ipv4Addr) -> io::Result<()> {
    for (request, address) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, netmask)] {
        ask(socket, request as libc::c_ulong, name, (socket_address(address), [0u8; 8]))?;
    }
    Ok(())
}

/// Sends everything to this gateway (`SIOCADDRT`, include/uapi/linux/route.h).
pub(crate) fn add_default_route(socket: &OwnedFd, gateway: Ipv4Addr) -> io::Result<()> {
    #[repr(C)]
    struct Route {
        unused: libc::c_ulong,
        addresses: [libc::sockaddr_in; 3],
        flags: u16,
        more: [u64; 7],
    }
    const { assert!(size_of::<Route>() == size_of::<libc::rtentry>()) };
    let any = socket_address(Ipv4Addr::UNSPECIFIED);
    let flags = libc::RTF_UP | libc::RTF_GATEWAY;
    let mut route = Route { unused: 0, addresses: [any, socket_address(gateway), any], flags, more: [0; 7] };
    // SAFETY: the request reads one rtentry, which this has the size of, and whose pointer (in `more`) is null.
    check(i64::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as libc::Ioctl, &raw mut route) }))
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes pages of this program's own code out of memory's map (madvise(2), MADV_DONTNEED): they come back when they are used.
/// `from` and `to` are the borders of a mapping of the executable that was never written to.
fn unmap_code(from: usize, to: usize) -> io::Result<()> {
    // SAFETY: of a private mapping of a file that was never written to, the next access reads the same bytes from the file.
    check(i64::from(unsafe { libc::madvise(ptr::with_exposed_provenance_mut(from), to - from, libc::MADV_DONTNEED) }))
}

/// Gives back what only the start of this program needed: its code, and the free memory between what is in use.
///
/// # Errors
/// Those of reading `/proc/self/maps`, and `madvise(2)`'s.
pub fn forget_the_start() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        // Addresses, rights, offset, device, inode, path (proc_pid_maps(5)). What may be executed cannot have been written to.
        let mut fields = line.split_ascii_whitespace();
        let (Some(borders), Some("r-xp"), Some(path)) = (fields.next(), fields.next(), fields.nth(3)) else { continue };
        if std::path::Path::new(path) == program
            && let Some((from, to)) = borders.split_once('-')
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            unmap_code(from, to)?;
        }
    }
    give_back_memory();
    Ok(())
}

/// Gives free memory back to the system, where the allocator can.
pub(crate) fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) touches free memory only, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}
