//! The kernel, called without a C library.

use core::{arch::asm, ffi::CStr};

use crate::number;

/// An `errno`.
pub type Errno = i32;
pub const EINTR: Errno = 4;
pub const ENOENT: Errno = 2;
pub const EEXIST: Errno = 17;
pub const EINVAL: Errno = 22;
pub const EPIPE: Errno = 32;
pub const ENAMETOOLONG: Errno = 36;
pub const EBADMSG: Errno = 74;
pub const EMSGSIZE: Errno = 90;

/// open(2): these three differ.
pub const O_CLOEXEC: usize = 0o2_000_000;
pub const O_PATH: usize = 0o10_000_000;
pub const O_WRONLY: usize = 1;
pub const O_CREAT: usize = 0o100;
pub const O_TRUNC: usize = 0o1000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: usize = 0o100_000;

pub const AT_FDCWD: i32 = -100;

/// Flags of mount(2).
pub const MS_RDONLY: usize = 1;
pub const MS_NOSUID: usize = 2;
pub const MS_NODEV: usize = 4;
pub const MS_NOEXEC: usize = 8;
pub const MS_REMOUNT: usize = 32;
pub const MS_BIND: usize = 4096;

/// SAFETY: pointers among the arguments are what the call expects, for as long as it takes.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    if result < 0 { Err(-result as Errno) } else { Ok(result as usize) }
}

/// SAFETY: pointers among the arguments are what the call expects, for as long as it takes.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    if result < 0 { Err(-result as Errno) } else { Ok(result as usize) }
}

/// Ends as by `kill -9`, where that can be: the first process of a pid namespace cannot kill itself, and exits.
pub fn die() -> ! {
    const SIGKILL: usize = 9;
    // SAFETY: touches no memory.
    if let Ok(pid) = unsafe { call(number::GETPID, [0; 6]) } {
        // SAFETY: touches no memory.
        let _comes_back_in_the_first = unsafe { call(number::KILL, [pid, SIGKILL, 0, 0, 0, 0]) };
    }
    exit(137)
}

pub fn exit(code: usize) -> ! {
    loop {
        // SAFETY: touches no memory, and does not come back.
        let _never = unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
    }
}

/// Reads once, as much as is there.
pub fn read(fd: i32, to: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: writes `len` bytes at most into a place for as many.
        match unsafe { call(number::READ, [fd as usize, to.as_mut_ptr() as usize, to.len(), 0, 0, 0]) } {
            Err(EINTR) => {}
            other => return other,
        }
    }
}

pub fn close(fd: i32) {
    // SAFETY: touches no memory. On Linux the descriptor is gone whatever the answer.
    let _gone = unsafe { call(number::CLOSE, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// A packet carries so many descriptors at most.
pub const MOST_FDS: usize = 6;

/// struct cmsghdr with room for descriptors, and struct msghdr.
#[repr(C)]
struct Control {
    len: usize,
    level: i32,
    kind: i32,
    fds: [i32; MOST_FDS],
}
#[repr(C)]
struct Message {
    name: usize,
    name_len: usize,
    parts: *const [usize; 2],
    count: usize,
    control: *mut Control,
    control_len: usize,
    flags: usize,
}
const CONTROL_HEAD: usize = 16;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;

/// One packet with descriptors. No SIGPIPE.
pub fn send(fd: i32, bytes: &[u8], fds: &[i32]) -> Result<(), Errno> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let mut control = Control { len: CONTROL_HEAD + 4 * fds.len(), level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [-1; MOST_FDS] };
    for (to, from) in control.fds.iter_mut().zip(fds) {
        *to = *from;
    }
    let part = [bytes.as_ptr() as usize, bytes.len()];
    let control_len = if fds.is_empty() { 0 } else { (control.len + 7) & !7 };
    let message = Message { name: 0, name_len: 0, parts: &part, count: 1, control: &mut control, control_len, flags: 0 };
    loop {
        // SAFETY: a message header (struct msghdr) whose parts live in this frame.
        match unsafe { call(number::SENDMSG, [fd as usize, (&raw const message) as usize, MSG_NOSIGNAL, 0, 0, 0]) } {
            Err(EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// One packet with descriptors: its length, theirs (-1 where there is none), and how many.
pub fn receive(fd: i32, to: &mut [u8]) -> Result<(usize, [i32; MOST_FDS], usize), Errno> {
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    let mut control = Control { len: 0, level: 0, kind: 0, fds: [-1; MOST_FDS] };
    let part = [to.as_mut_ptr() as usize, to.len()];
    let control_len = size_of::<Control>();
    let mut message = Message { name: 0, name_len: 0, parts: &part, count: 1, control: &mut control, control_len, flags: 0 };
    loop {
        // SAFETY: a message header (struct msghdr) whose parts live in this frame.
        match unsafe { call(number::RECVMSG, [fd as usize, (&raw mut message) as usize, MSG_CMSG_CLOEXEC, 0, 0, 0]) } {
            Err(EINTR) => {}
            Err(error) => return Err(error),
            Ok(len) => {
                // What the kernel filled in, and nothing else, is descriptors.
                let filled = message.control_len >= CONTROL_HEAD && control.level == SOL_SOCKET && control.kind == SCM_RIGHTS;
                let count = if filled { ((control.len - CONTROL_HEAD) / 4).min(MOST_FDS) } else { 0 };
                return Ok((len, control.fds, count));
            }
        }
    }
}

/// Writes all of it.
pub fn write(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: reads as many bytes as there are.
        match unsafe { call(number::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) } {
            Err(EINTR) => {}
            Err(error) => return Err(error),
            Ok(written) => bytes = &bytes[written..],
        }
    }
    Ok(())
}

/// Fills all of it; `EPIPE` where the stream ends before.
pub fn read_exact(fd: i32, mut to: &mut [u8]) -> Result<(), Errno> {
    while !to.is_empty() {
        match read(fd, to)? {
            0 => return Err(EPIPE),
            len => to = &mut to[len..],
        }
    }
    Ok(())
}

/// Memory of our own, zeroed when it is touched, for as long as we live.
pub fn room(len: usize) -> Result<&'static mut [u8], Errno> {
    const READ_WRITE: usize = 1 | 2;
    const PRIVATE_ANONYMOUS: usize = 0x02 | 0x20;
    // SAFETY: a mapping at a place that the kernel chooses takes the place of none.
    let at = unsafe { call(number::MMAP, [0, len, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]) }?;
    // SAFETY: the mapping just made, which is nobody else's and is never taken down.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

/// A copy of this process: `None` in it; here its pid and a pidfd.
pub fn fork() -> Result<Option<(i32, i32)>, Errno> {
    const SIGCHLD: usize = 17;
    const CLONE_PIDFD: usize = 0x1000;
    let mut pidfd = -1i32;
    // SAFETY: a fork of a single thread; the kernel stores a descriptor in a place for one.
    let pid = unsafe { call(number::CLONE, [SIGCHLD | CLONE_PIDFD, 0, (&raw mut pidfd) as usize, 0, 0, 0]) }?;
    Ok(if pid == 0 { None } else { Some((pid as i32, pidfd)) })
}

/// Another number for a descriptor, ten or more, closed on exec.
pub fn move_up(fd: i32) -> Result<i32, Errno> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    // SAFETY: touches no memory.
    unsafe { call(number::FCNTL, [fd as usize, F_DUPFD_CLOEXEC, 10, 0, 0, 0]) }.map(|fd| fd as i32)
}

/// This number for a descriptor of another, kept on exec.
pub fn put(fd: i32, at: i32) -> Result<(), Errno> {
    const F_SETFD: usize = 2;
    if fd == at {
        // SAFETY: touches no memory.
        return unsafe { call(number::FCNTL, [fd as usize, F_SETFD, 0, 0, 0, 0]) }.map(drop);
    }
    // SAFETY: touches no memory; whatever stood there is closed, and used by its number by nobody.
    unsafe { call(number::DUP3, [fd as usize, at as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_on_exec_from(first: usize) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    // SAFETY: touches no memory.
    unsafe { call(number::CLOSE_RANGE, [first, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0]) }.map(drop)
}

pub fn new_session() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call(number::SETSID, [0; 6]) }.map(drop)
}

/// The default action of one signal.
pub fn restore_signal(signal: i32) -> Result<(), Errno> {
    const SET_BYTES: usize = 8;
    let default = [0usize; 4];
    // SAFETY: reads one struct sigaction of the kernel's, whose first field is the action: 0, SIG_DFL.
    unsafe { call(number::RT_SIGACTION, [signal as usize, (&raw const default) as usize, 0, SET_BYTES, 0, 0]) }.map(drop)
}

pub fn restrict(rules: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call(number::LANDLOCK_RESTRICT_SELF, [rules as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Installs the filter whose instructions, eight bytes each, are the file's, for good.
pub fn install_filter(file: i32, instructions: usize) -> Result<(), Errno> {
    const READ: usize = 1;
    const PRIVATE: usize = 2;
    const SET_MODE_FILTER: usize = 1;
    // SAFETY: a mapping at a place that the kernel chooses takes the place of none.
    let at = unsafe { call(number::MMAP, [0, instructions * 8, READ, PRIVATE, file as usize, 0]) }?;
    let program = [instructions, at];
    // SAFETY: struct sock_fprog: how many (the low two bytes of a small number), and where, mapped as above.
    unsafe { call(number::SECCOMP, [SET_MODE_FILTER, 0, (&raw const program) as usize, 0, 0, 0]) }.map(drop)
}

/// openat2(2) beneath a directory and through no link: what stands there may be a client's.
pub fn open_beneath(at: i32, path: Text<'_>, flags: usize, mode: usize) -> Result<i32, Errno> {
    const BENEATH: usize = 0x08 | 0x04 | 0x02 | 0x01;
    let how = [flags | O_CLOEXEC, mode, BENEATH];
    // SAFETY: a path that ends, and one struct open_how.
    unsafe { call(number::OPENAT2, [at as usize, path.at(), (&raw const how) as usize, size_of_val(&how), 0, 0]) }
        .map(|fd| fd as i32)
}

pub fn go_to(directory: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call(number::FCHDIR, [directory as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Soft and hard; of more than we have ourselves, what we have.
pub fn limit(resource: usize, value: u64) -> Result<(), Errno> {
    let mut ours = [0u64; 2];
    // SAFETY: writes one struct rlimit64.
    unsafe { call(number::PRLIMIT64, [0, resource, 0, (&raw mut ours) as usize, 0, 0]) }?;
    let wanted = [value.min(ours[1]); 2];
    // SAFETY: reads one struct rlimit64.
    unsafe { call(number::PRLIMIT64, [0, resource, (&raw const wanted) as usize, 0, 0, 0]) }.map(drop)
}

/// CLOCK_MONOTONIC, microseconds.
pub fn monotonic_us() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut now = [0u64; 2];
    // SAFETY: writes one struct timespec. It cannot fail with these arguments.
    let _cannot_fail = unsafe { call(number::CLOCK_GETTIME, [CLOCK_MONOTONIC, (&raw mut now) as usize, 0, 0, 0, 0]) };
    now[0] * 1_000_000 + now[1] / 1000
}

/// Becomes another program. Returns only if that fails. SAFETY: both are texts that end, the last of them null.
pub unsafe fn become_program(arguments: &[usize], environment: &[usize]) -> Errno {
    let path = arguments.first().copied().unwrap_or(0);
    // SAFETY: the caller's.
    let failed = unsafe { call(number::EXECVE, [path, arguments.as_ptr() as usize, environment.as_ptr() as usize, 0, 0, 0]) };
    failed.err().unwrap_or(EINVAL)
}

/// A path or another text: it ends with a NUL. SAFETY of all that take one is this.
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Nothing where there is no NUL.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        CStr::from_bytes_until_nul(bytes).map(|text| Self(text.to_bytes_with_nul())).map_err(|_| EINVAL)
    }

    fn at(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

impl<'a> From<&'a CStr> for Text<'a> {
    fn from(text: &'a CStr) -> Self {
        Self(text.to_bytes_with_nul())
    }
}

pub fn open_at(at: i32, path: Text<'_>, flags: usize) -> Result<i32, Errno> {
    // SAFETY: a path that ends.
    unsafe { call(number::OPENAT, [at as usize, path.at(), flags | O_CLOEXEC, 0, 0, 0]) }.map(|fd| fd as i32)
}

pub fn make_directory(at: i32, name: Text<'_>, mode: usize) -> Result<(), Errno> {
    // SAFETY: a path that ends.
    unsafe { call(number::MKDIRAT, [at as usize, name.at(), mode, 0, 0, 0]) }.map(drop)
}

pub fn own(at: i32, name: Text<'_>, uid: u32) -> Result<(), Errno> {
    // SAFETY: a path that ends.
    unsafe { call(number::FCHOWNAT, [at as usize, name.at(), uid as usize, uid as usize, 0, 0]) }.map(drop)
}

pub fn mask(mask: usize) {
    // SAFETY: touches no memory, and cannot fail.
    let _before = unsafe { call(number::UMASK, [mask, 0, 0, 0, 0, 0]) };
}

/// mount(2) of what is there already: a bind, or a remount.
pub fn mount(from: Text<'_>, to: Text<'_>, flags: usize) -> Result<(), Errno> {
    // SAFETY: paths that end; type and data are not looked at.
    unsafe { call(number::MOUNT, [from.at(), to.at(), 0, flags, 0, 0]) }.map(drop)
}

/// A file system of its own, with these settings, at this place; gives its root.
pub fn mount_new(kind: Text<'_>, settings: &[(&CStr, Text<'_>)], attributes: usize, at: Text<'_>) -> Result<i32, Errno> {
    const CLOEXEC: usize = 1;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    const EMPTY_PATH: usize = 4;
    // SAFETY: in all of these, texts that end and descriptors of our own.
    let context = unsafe { call(number::FSOPEN, [kind.at(), CLOEXEC, 0, 0, 0, 0]) }?;
    for (name, value) in settings {
        // SAFETY: as above.
        unsafe { call(number::FSCONFIG, [context, SET_STRING, name.as_ptr() as usize, value.at(), 0, 0]) }?;
    }
    // SAFETY: as above.
    unsafe { call(number::FSCONFIG, [context, CREATE, 0, 0, 0, 0]) }?;
    // SAFETY: as above.
    let root = unsafe { call(number::FSMOUNT, [context, CLOEXEC, attributes, 0, 0, 0]) }?;
    // SAFETY: as above.
    unsafe { call(number::MOVE_MOUNT, [root, c"".as_ptr() as usize, AT_FDCWD as usize, at.at(), EMPTY_PATH, 0]) }?;
    close(context as i32);
    Ok(root as i32)
}

/// Takes away the topmost mount there.
pub fn unmount(at: &CStr) -> Result<(), Errno> {
    // SAFETY: a text that ends.
    unsafe { call(number::UMOUNT2, [at.as_ptr() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// netdevice(7).
pub fn loopback_up() -> Result<(), Errno> {
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    const AF_INET: usize = 2;
    const DATAGRAMS: usize = 2 | O_CLOEXEC;
    const SIOCSIFFLAGS: usize = 0x8914;
    const UP_AND_RUNNING: i16 = 0x41;
    let mut request = Request { name: [0; 16], flags: UP_AND_RUNNING, rest: [0; 22] };
    (request.name[0], request.name[1]) = (b'l', b'o');
    // SAFETY: touches no memory.
    let socket = unsafe { call(number::SOCKET, [AF_INET, DATAGRAMS, 0, 0, 0, 0]) }?;
    // SAFETY: reads one struct ifreq, 40 bytes, which outlives the call.
    unsafe { call(number::IOCTL, [socket, SIOCSIFFLAGS, (&raw const request) as usize, 0, 0, 0]) }?;
    close(socket as i32);
    Ok(())
}

pub fn set_name(name: &CStr) -> Result<(), Errno> {
    const PR_SET_NAME: usize = 15;
    // SAFETY: a text that ends.
    unsafe { call(number::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Keeps this process's files in /proc, and its memory, from others of its uid (prctl(2), PR_SET_DUMPABLE).
pub fn let_nobody_look() -> Result<(), Errno> {
    const PR_SET_DUMPABLE: usize = 4;
    // SAFETY: touches no memory.
    unsafe { call(number::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Asks for SIGKILL at the parent's end. A change of identity clears it (prctl(2)).
pub fn die_with_parent() -> Result<(), Errno> {
    const PR_SET_PDEATHSIG: usize = 1;
    const SIGKILL: usize = 9;
    // SAFETY: touches no memory.
    unsafe { call(number::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0]) }.map(drop)
}

/// Takes a uid and gid of its own, for good.
pub fn take_identity(id: u32) -> Result<(), Errno> {
    let id = id as usize;
    // SAFETY: an empty list.
    unsafe { call(number::SETGROUPS, [0, 0, 0, 0, 0, 0]) }?;
    // SAFETY: plain numbers.
    unsafe { call(number::SETRESGID, [id, id, id, 0, 0, 0]) }?;
    // SAFETY: plain numbers.
    unsafe { call(number::SETRESUID, [id, id, id, 0, 0, 0]) }.map(drop)
}

/// Gives away every capability, also to hand on.
pub fn drop_capabilities() -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let (header, none) = ([VERSION_3, 0], [0u32; 6]);
    // SAFETY: a header and two sets of three numbers, as version 3 has them (capset(2)).
    unsafe { call(number::CAPSET, [(&raw const header) as usize, (&raw const none) as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Waits for any child; its pid and status.
pub fn wait() -> Result<(i32, i32), Errno> {
    let mut status = 0i32;
    loop {
        // SAFETY: writes one number into a place for one.
        match unsafe { call(number::WAIT4, [usize::MAX, (&raw mut status) as usize, 0, 0, 0, 0]) } {
            Err(EINTR) => {}
            other => return other.map(|pid| (pid as i32, status)),
        }
    }
}

/// CPU time of all children that were waited for, and of theirs, microseconds.
pub fn children_cpu_us() -> u64 {
    const RUSAGE_CHILDREN: usize = usize::MAX;
    let mut usage = [0u64; 18];
    // SAFETY: writes one struct rusage, 18 numbers of which the first four are the times.
    let _cannot_fail = unsafe { call(number::GETRUSAGE, [RUSAGE_CHILDREN, (&raw mut usage) as usize, 0, 0, 0, 0]) };
    (usage[0] + usage[2]) * 1_000_000 + usage[1] + usage[3]
}
