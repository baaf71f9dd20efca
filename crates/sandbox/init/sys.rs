//! The kernel, called without a C library.

use core::{arch::asm, ffi::CStr};

/// An `errno`.
pub type Errno = i32;
pub const EINTR: Errno = 4;
pub const ENOENT: Errno = 2;
pub const EINVAL: Errno = 22;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const IOCTL: usize = 16;
    pub const SOCKET: usize = 41;
    pub const SENDMSG: usize = 46;
    pub const WAIT4: usize = 61;
    pub const UMASK: usize = 95;
    pub const GETRUSAGE: usize = 98;
    pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117;
    pub const SETRESGID: usize = 119;
    pub const CAPSET: usize = 126;
    pub const PRCTL: usize = 157;
    pub const MOUNT: usize = 165;
    pub const SETHOSTNAME: usize = 170;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const FCHOWNAT: usize = 260;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const IOCTL: usize = 29;
    pub const MKDIRAT: usize = 34;
    pub const MOUNT: usize = 40;
    pub const FCHOWNAT: usize = 54;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const READ: usize = 63;
    pub const CAPSET: usize = 91;
    pub const EXIT_GROUP: usize = 94;
    pub const SETRESUID: usize = 147;
    pub const SETRESGID: usize = 149;
    pub const SETGROUPS: usize = 159;
    pub const SETHOSTNAME: usize = 161;
    pub const GETRUSAGE: usize = 165;
    pub const UMASK: usize = 166;
    pub const PRCTL: usize = 167;
    pub const SOCKET: usize = 198;
    pub const SENDMSG: usize = 211;
    pub const WAIT4: usize = 260;
}

/// The newer calls have one number everywhere.
const MOVE_MOUNT: usize = 429;
const FSOPEN: usize = 430;
const FSCONFIG: usize = 431;
const FSMOUNT: usize = 432;

/// open(2): these three differ.
pub const O_CLOEXEC: usize = 0o2_000_000;
pub const O_PATH: usize = 0o10_000_000;
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

/// One packet with descriptors, at most four. No SIGPIPE.
pub fn send(fd: i32, bytes: &[u8], fds: &[i32]) -> Result<(), Errno> {
    #[repr(C)]
    struct Control {
        len: usize,
        level: i32,
        kind: i32,
        fds: [i32; 4],
    }
    #[repr(C)]
    struct Message {
        name: usize,
        name_len: usize,
        parts: *const [usize; 2],
        count: usize,
        control: *const Control,
        control_len: usize,
        flags: usize,
    }
    const SOL_SOCKET: i32 = 1;
    const SCM_RIGHTS: i32 = 1;
    const MSG_NOSIGNAL: usize = 0x4000;
    let mut control = Control { len: 16 + 4 * fds.len(), level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [-1; 4] };
    for (to, from) in control.fds.iter_mut().zip(fds) {
        *to = *from;
    }
    let part = [bytes.as_ptr() as usize, bytes.len()];
    let control_len = if fds.is_empty() { 0 } else { (control.len + 7) & !7 };
    let message = Message { name: 0, name_len: 0, parts: &part, count: 1, control: &control, control_len, flags: 0 };
    loop {
        // SAFETY: a message header (struct msghdr) whose parts live in this frame.
        match unsafe { call(number::SENDMSG, [fd as usize, (&raw const message) as usize, MSG_NOSIGNAL, 0, 0, 0]) } {
            Err(EINTR) => {}
            other => return other.map(drop),
        }
    }
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
    let context = unsafe { call(FSOPEN, [kind.at(), CLOEXEC, 0, 0, 0, 0]) }?;
    for (name, value) in settings {
        // SAFETY: as above.
        unsafe { call(FSCONFIG, [context, SET_STRING, name.as_ptr() as usize, value.at(), 0, 0]) }?;
    }
    // SAFETY: as above.
    unsafe { call(FSCONFIG, [context, CREATE, 0, 0, 0, 0]) }?;
    // SAFETY: as above.
    let root = unsafe { call(FSMOUNT, [context, CLOEXEC, attributes, 0, 0, 0]) }?;
    // SAFETY: as above.
    unsafe { call(MOVE_MOUNT, [root, c"".as_ptr() as usize, AT_FDCWD as usize, at.at(), EMPTY_PATH, 0]) }?;
    close(context as i32);
    Ok(root as i32)
}

pub fn set_host_name(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: reads as many bytes as there are.
    unsafe { call(number::SETHOSTNAME, [name.as_ptr() as usize, name.len(), 0, 0, 0, 0]) }.map(drop)
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
