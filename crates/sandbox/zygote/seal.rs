//! How a child gives away what it may not have.

use core::{
    ffi::c_int,
    ptr::{self, addr_of, null, null_mut},
};

use crate::{Birth, FILTER_LEN, FILTER_PROGRAM, INIT, JOB, OOM_SCORE, PLACES, RULES, STATUS, STDIN, foreign::*, varint};

/// Goes where the program will be, and gives away all that it may not have.
/// SAFETY: what is passed to the system lives in this frame, and the descriptors are this process's own.
pub unsafe fn seal(birth: &Birth) -> bool {
    unsafe {
        let first = RULES + usize::from(birth.landlock);
        for procs in &birth.fds[first..first + birth.cgroups] {
            if write(*procs, b"0".as_ptr().cast(), 1) != 1 {
                return false;
            }
        }
        if setns(birth.fds[INIT], OTHER_NAMESPACES) != 0 {
            return false;
        }
        let score = open(c"/proc/self/oom_score_adj".as_ptr(), 0o2_000_001);
        if score < 0 || write(score, OOM_SCORE.as_ptr().cast(), OOM_SCORE.len()) < 0 {
            return false;
        }
        close(score);
        if chdir(PLACES[birth.place].as_ptr()) != 0 || setsid() < 0 {
            return false;
        }
        umask(0o022);
        for fd in 0..3 {
            if dup2(birth.fds[STDIN + fd], fd as c_int) < 0 {
                return false;
            }
        }
        if setgroups(0, null()) != 0
            || setresgid(birth.uid, birth.uid, birth.uid) != 0
            || setresuid(birth.uid, birth.uid, birth.uid) != 0
        {
            return false;
        }
        // Not even to hand on: what the zygote has of its capabilities.
        let header = [0x2008_0522u32, 0];
        let none = [0u32; 6];
        if syscall(SYS_CAPSET, header.as_ptr(), none.as_ptr()) != 0 {
            return false;
        }
        // Whoever has a uid of its own and no capability can be looked into by itself alone (prctl(2), PR_SET_DUMPABLE).
        const PR_SET_DUMPABLE: c_int = 4;
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        if birth.landlock && syscall(SYS_LANDLOCK_RESTRICT_SELF, birth.fds[RULES], 0) != 0 {
            return false;
        }
        let pidfd = syscall(SYS_PIDFD_OPEN, getpid(), 0) as c_int;
        let program = SockFprog { len: FILTER_LEN as u16, filter: addr_of!(FILTER_PROGRAM).cast() };
        const SET_MODE_FILTER: c_int = 1;
        if pidfd < 0 || syscall(SYS_SECCOMP, SET_MODE_FILTER, 0, &program) != 0 {
            return false;
        }
        // The process between is about to end: then the sandbox's init is our parent, and waits for us.
        while getppid() != 1 {
            sched_yield();
        }
        let (status, job) = (birth.fds[STATUS], birth.fds[JOB]);
        if !tell_born(status, pidfd) {
            return false;
        }
        // All descriptors but the first three and these two.
        let (low, high) = if status < job { (status, job) } else { (job, status) };
        for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, c_int::MAX)] {
            if first <= last {
                syscall(SYS_CLOSE_RANGE, first, last, 0);
            }
        }
        true
    }
}

/// `Status::Born`, with our pid and pidfd.
/// SAFETY: what is passed to the system lives in this frame, and the descriptors are this process's own.
unsafe fn tell_born(status: c_int, pidfd: c_int) -> bool {
    #[repr(C)]
    struct Control {
        header: CmsgHdr,
        fd: c_int,
        padding: c_int,
    }
    let mut message = [5u8; 6];
    // SAFETY: touches nothing.
    let len = 1 + varint(unsafe { getpid() } as u64, &mut message[1..]);
    let mut iov = IoVec { base: message.as_mut_ptr().cast(), len };
    let header = CmsgHdr { len: size_of::<CmsgHdr>() + size_of::<c_int>(), level: SOL_SOCKET, kind: SCM_RIGHTS };
    let mut control = Control { header, fd: pidfd, padding: 0 };
    let message = MsgHdr {
        name: null_mut(),
        name_len: 0,
        iov: &mut iov,
        iov_len: 1,
        control: ptr::from_mut(&mut control).cast(),
        control_len: size_of::<Control>(),
        flags: 0,
    };
    // SAFETY: what the message points to is of this frame.
    unsafe { sendmsg(status, &message, MSG_NOSIGNAL) == len as isize }
}
