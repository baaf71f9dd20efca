//! The system call filter: an allow-list, compiled to a binary search over ranges of numbers.
//!
//! Anything not listed answers ENOSYS, as on an older kernel, so that programs fall back; what a program may
//! reasonably try and must not have answers EPERM. A wrong architecture kills. Arguments are compared in their
//! low 32 bits only, because the kernel itself reads an `int` argument so: a 64-bit compare of `socket(2)`'s
//! family is passed by `0x1_0000_0028` (`contracts`: finding 5).
//!
//! Why a search and not a chain: the kernel runs a new filter once per system call number when it is installed
//! (to learn which are always allowed), so its length is paid at every sandbox: 500 instructions cost 0.4 ms, a
//! search over the same set a fifth of that.

use libc::sock_filter;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    /// The call fails with this errno.
    Errno(u32),
    /// The call is allowed if the low 32 bits of an argument pass.
    If(Condition),
}

/// A test of one argument's low 32 bits. What fails it answers `EPERM`, or the errno named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// One of these values, else this errno.
    OneOf(u32, &'static [u32], u32),
    /// None of these values.
    NoneOf(u32, &'static [u32]),
    /// None of these bits.
    NoBits(u32, u32),
}

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;
const EAFNOSUPPORT: u32 = libc::EAFNOSUPPORT as u32;

/// CLONE_NEWTIME | NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (sched.h).
const CLONE_NEW: u32 = 0x7e02_0080;

const ONLY_LOCAL: Condition = Condition::OneOf(0, &[libc::AF_UNIX as u32], EAFNOSUPPORT);

/// A rule: the calls, what happens to them, and why.
struct Rule {
    calls: &'static [i64],
    action: Action,
    reason: &'static str,
}

const fn allow(calls: &'static [i64], reason: &'static str) -> Rule {
    Rule { calls, action: Action::Allow, reason }
}

const fn refuse(calls: &'static [i64], reason: &'static str) -> Rule {
    Rule { calls, action: Action::Errno(EPERM), reason }
}

const fn only_if(calls: &'static [i64], condition: Condition, reason: &'static str) -> Rule {
    Rule { calls, action: Action::If(condition), reason }
}

const RULES: &[Rule] = &[
    allow(
        &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_preadv,
            libc::SYS_pwritev,
            libc::SYS_preadv2,
            libc::SYS_pwritev2,
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_lseek,
            libc::SYS_dup,
            libc::SYS_dup3,
            libc::SYS_fcntl,
            libc::SYS_flock,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_sync_file_range,
            libc::SYS_ftruncate,
            libc::SYS_truncate,
            libc::SYS_fallocate,
            libc::SYS_fadvise64,
            libc::SYS_readahead,
            libc::SYS_sendfile,
            libc::SYS_splice,
            libc::SYS_tee,
            libc::SYS_copy_file_range,
            libc::SYS_pipe2,
        ],
        "files and pipes one has opened; locks are needed by sqlite",
    ),
    allow(
        &[
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_newfstatat,
            libc::SYS_fstat,
            libc::SYS_statx,
            libc::SYS_statfs,
            libc::SYS_fstatfs,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_readlinkat,
            libc::SYS_getdents64,
            libc::SYS_mkdirat,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_mknodat,
            libc::SYS_fchmod,
            libc::SYS_fchmodat,
            libc::SYS_fchmodat2,
            libc::SYS_fchown,
            libc::SYS_fchownat,
            libc::SYS_utimensat,
            libc::SYS_chdir,
            libc::SYS_fchdir,
            libc::SYS_getcwd,
            libc::SYS_umask,
            libc::SYS_getxattr,
            libc::SYS_lgetxattr,
            libc::SYS_fgetxattr,
            libc::SYS_listxattr,
            libc::SYS_llistxattr,
            libc::SYS_flistxattr,
        ],
        "the file tree, bounded by the mounts and Landlock; device nodes need a capability nobody has",
    ),
    refuse(
        &[
            libc::SYS_setxattr,
            libc::SYS_lsetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_removexattr,
            libc::SYS_lremovexattr,
            libc::SYS_fremovexattr,
            libc::SYS_chroot,
        ],
        "no program needs them here; an honest error for those that try",
    ),
    allow(
        &[
            libc::SYS_brk,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_mprotect,
            libc::SYS_madvise,
            libc::SYS_msync,
            libc::SYS_mincore,
            libc::SYS_mlock,
            libc::SYS_mlock2,
            libc::SYS_munlock,
            libc::SYS_mlockall,
            libc::SYS_munlockall,
            libc::SYS_membarrier,
            libc::SYS_memfd_create,
            libc::SYS_pkey_alloc,
            libc::SYS_pkey_free,
            libc::SYS_pkey_mprotect,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_get_mempolicy,
        ],
        "memory, charged to the cgroup; JIT compilers need mprotect from writable to executable",
    ),
    allow(
        &[
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_wait4,
            libc::SYS_waitid,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
            libc::SYS_getpid,
            libc::SYS_getppid,
            libc::SYS_gettid,
            libc::SYS_getpgid,
            libc::SYS_setpgid,
            libc::SYS_getsid,
            libc::SYS_setsid,
            libc::SYS_set_tid_address,
            libc::SYS_set_robust_list,
            libc::SYS_get_robust_list,
            libc::SYS_rseq,
            libc::SYS_futex,
            libc::SYS_futex_waitv,
            libc::SYS_restart_syscall,
        ],
        "processes and threads of one's own pid namespace",
    ),
    only_if(
        &[libc::SYS_clone],
        Condition::NoBits(0, CLONE_NEW),
        "threads and forks, but no namespaces: a nested user namespace opens kernel code that is not hardened",
    ),
    Rule {
        calls: &[libc::SYS_clone3],
        action: Action::Errno(ENOSYS),
        reason: "its flags are behind a pointer that a filter cannot read; ENOSYS (not EPERM) makes every C library fall back to clone",
    },
    allow(
        &[
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_rt_sigpending,
            libc::SYS_rt_sigtimedwait,
            libc::SYS_rt_sigsuspend,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_sigaltstack,
            libc::SYS_signalfd4,
        ],
        "signals, within the pid namespace",
    ),
    allow(
        &[
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_clock_nanosleep,
            libc::SYS_nanosleep,
            libc::SYS_gettimeofday,
            libc::SYS_getitimer,
            libc::SYS_setitimer,
            libc::SYS_timer_create,
            libc::SYS_timer_settime,
            libc::SYS_timer_gettime,
            libc::SYS_timer_getoverrun,
            libc::SYS_timer_delete,
            libc::SYS_timerfd_create,
            libc::SYS_timerfd_settime,
            libc::SYS_timerfd_gettime,
            libc::SYS_times,
        ],
        "reading clocks and own timers; setting a clock is absent",
    ),
    allow(
        &[
            libc::SYS_sched_yield,
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_getparam,
            libc::SYS_sched_setparam,
            libc::SYS_sched_getscheduler,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_get_priority_max,
            libc::SYS_sched_get_priority_min,
            libc::SYS_sched_getattr,
            libc::SYS_getpriority,
            libc::SYS_setpriority,
            libc::SYS_getcpu,
            libc::SYS_ioprio_get,
        ],
        "JVM and Mono abort without them; the kernel itself refuses raising one's priority",
    ),
    allow(
        &[
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
            libc::SYS_getresuid,
            libc::SYS_getresgid,
            libc::SYS_getgroups,
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setreuid,
            libc::SYS_setregid,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
            libc::SYS_setfsuid,
            libc::SYS_setfsgid,
            libc::SYS_setgroups,
            libc::SYS_capget,
            libc::SYS_capset,
            libc::SYS_prlimit64,
            libc::SYS_getrlimit,
            libc::SYS_setrlimit,
            libc::SYS_getrusage,
            libc::SYS_sysinfo,
            libc::SYS_uname,
            libc::SYS_getrandom,
        ],
        "who and what one is; without capabilities no identity can change",
    ),
    only_if(
        &[libc::SYS_prctl],
        Condition::NoneOf(0, &[libc::PR_SET_SECCOMP as u32, libc::PR_SET_MM as u32]),
        "names, death signals, dumpable; further filters are a way to burn kernel memory",
    ),
    only_if(
        &[libc::SYS_personality],
        Condition::OneOf(0, &[0, 0xffff_ffff], EPERM),
        "asking is harmless; READ_IMPLIES_EXEC and ADDR_NO_RANDOMIZE are not",
    ),
    only_if(
        &[libc::SYS_ioctl],
        Condition::NoneOf(1, &[libc::TIOCSTI as u32, 0x541c, libc::TIOCSETD as u32]),
        "terminals and FIONREAD; TIOCSTI and TIOCLINUX type into somebody else's terminal (CVE-2017-5226), TIOCSETD loads line disciplines",
    ),
    only_if(
        &[libc::SYS_socket],
        Condition::OneOf(0, &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32], EAFNOSUPPORT),
        "every other family is kernel code reachable for nothing: VSOCK, NETLINK, ALG (CVE-2026-31431), RXRPC, PACKET …",
    ),
    only_if(&[libc::SYS_socketpair], ONLY_LOCAL, "asyncio, node, java and rustc need local pairs"),
    allow(
        &[
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_connect,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_getsockopt,
            libc::SYS_setsockopt,
            libc::SYS_sendto,
            libc::SYS_recvfrom,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvmmsg,
            libc::SYS_shutdown,
        ],
        "sockets, within a network namespace with nothing else in it",
    ),
    allow(
        &[
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_eventfd2,
            libc::SYS_inotify_init1,
            libc::SYS_inotify_add_watch,
            libc::SYS_inotify_rm_watch,
        ],
        "waiting",
    ),
    refuse(
        &[
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
        ],
        "namespaces and mounts are the walls",
    ),
    refuse(
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kcmp,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_madvise,
            libc::SYS_perf_event_open,
            libc::SYS_bpf,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_seccomp,
            libc::SYS_memfd_secret,
            libc::SYS_vmsplice,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_add_rule,
            libc::SYS_landlock_restrict_self,
        ],
        "much-attacked kernel code that programs here do not need",
    ),
    refuse(
        &[
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_syslog,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_adjtimex,
            libc::SYS_clock_adjtime,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_vhangup,
            libc::SYS_ioprio_set,
            libc::SYS_sched_setattr,
            libc::SYS_fanotify_init,
        ],
        "the machine's, not a program's",
    ),
    refuse(
        &[
            libc::SYS_shmget,
            libc::SYS_shmat,
            libc::SYS_shmctl,
            libc::SYS_shmdt,
            libc::SYS_semget,
            libc::SYS_semop,
            libc::SYS_semctl,
            libc::SYS_semtimedop,
            libc::SYS_msgget,
            libc::SYS_msgsnd,
            libc::SYS_msgrcv,
            libc::SYS_msgctl,
            libc::SYS_mq_open,
            libc::SYS_mq_unlink,
            libc::SYS_mq_timedsend,
            libc::SYS_mq_timedreceive,
        ],
        "System V and POSIX queues: memory outside the file quota; POSIX shared memory works",
    ),
    refuse(&[libc::SYS_sync, libc::SYS_syncfs], "flushes the host's disks; fsync of one's own files works"),
    #[cfg(target_arch = "x86_64")]
    allow(
        &[
            libc::SYS_open,
            libc::SYS_creat,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_getdents,
            libc::SYS_mkdir,
            libc::SYS_rmdir,
            libc::SYS_unlink,
            libc::SYS_rename,
            libc::SYS_link,
            libc::SYS_symlink,
            libc::SYS_mknod,
            libc::SYS_chmod,
            libc::SYS_chown,
            libc::SYS_lchown,
            libc::SYS_utime,
            libc::SYS_utimes,
            libc::SYS_futimesat,
            libc::SYS_pipe,
            libc::SYS_dup2,
            libc::SYS_poll,
            libc::SYS_select,
            libc::SYS_epoll_create,
            libc::SYS_epoll_wait,
            libc::SYS_eventfd,
            libc::SYS_signalfd,
            libc::SYS_inotify_init,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_getpgrp,
            libc::SYS_alarm,
            libc::SYS_pause,
            libc::SYS_time,
            libc::SYS_arch_prctl,
        ],
        "the older names of calls allowed above",
    ),
    #[cfg(target_arch = "x86_64")]
    refuse(
        &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_kexec_file_load],
        "hardware ports and segment tables",
    ),
];

/// The rules as text, with their reasons, for those who want to check them.
pub(crate) fn describe() -> String {
    let lines = RULES.iter().map(|rule| format!("{:?} {:?}\n    {}\n", rule.action, rule.calls, rule.reason));
    lines.chain(["every other call: ENOSYS; another architecture: killed\n".to_owned()]).collect()
}

/// What every call number does, sorted; numbers in between answer ENOSYS.
fn table() -> Vec<(u32, Action)> {
    let mut table: Vec<(u32, Action)> = RULES
        .iter()
        .flat_map(|rule| rule.calls.iter().map(|&call| (u32::try_from(call).unwrap_or(u32::MAX), rule.action)))
        .collect();
    table.sort_by_key(|&(call, _)| call);
    table
}

/// Ranges that cover all numbers: each starts at its number and ends before the next one.
fn ranges(local_only: bool) -> Vec<(u32, Action)> {
    let mut ranges = vec![(0, Action::Errno(ENOSYS))];
    let mut next = 0;
    let mut push = |start: u32, action: Action| match ranges.last_mut() {
        Some(last) if last.1 == action => {}
        Some(last) if last.0 == start => last.1 = action,
        _ => ranges.push((start, action)),
    };
    for (call, action) in table() {
        let socket = local_only && i64::from(call) == libc::SYS_socket;
        let action = if socket { Action::If(ONLY_LOCAL) } else { action };
        if call > next {
            push(next, Action::Errno(ENOSYS));
        }
        push(call, action);
        next = call + 1;
    }
    push(next, Action::Errno(ENOSYS));
    ranges
}

// Offsets in struct seccomp_data (seccomp(2)).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP_EQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;

fn op(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn errno(errno: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno
}

/// The filter, ready to install.
///
/// `local_only`: no internet sockets either, for where no network namespace stands before the host's network.
pub(crate) fn program(local_only: bool) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD, ARCH), branch(JUMP_EQ, NATIVE, 1, 0), op(RETURN, libc::SECCOMP_RET_KILL_PROCESS), op(LOAD, NR)];
    program.extend(search(&ranges(local_only)));
    program
}

fn search(ranges: &[(u32, Action)]) -> Vec<sock_filter> {
    if let [(_, action)] = ranges {
        return leaf(*action);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (pivot, low, high) = (high[0].0, search(low), search(high));
    let mut code = Vec::with_capacity(low.len() + high.len() + 2);
    // A conditional jump reaches 255 instructions; further ones go by way of an unconditional one.
    match u8::try_from(low.len()) {
        Ok(distance) => code.push(branch(JUMP_GE, pivot, distance, 0)),
        Err(_) => {
            code.push(branch(JUMP_GE, pivot, 0, 1));
            code.push(op(JUMP, u32::try_from(low.len()).unwrap_or(u32::MAX)));
        }
    }
    code.extend(low);
    code.extend(high);
    code
}

fn leaf(action: Action) -> Vec<sock_filter> {
    match action {
        Action::Allow => vec![op(RETURN, libc::SECCOMP_RET_ALLOW)],
        Action::Errno(number) => vec![op(RETURN, errno(number))],
        Action::If(Condition::NoBits(arg, bits)) => vec![
            op(LOAD, ARGS + 8 * arg),
            branch(JUMP_SET, bits, 0, 1),
            op(RETURN, errno(EPERM)),
            op(RETURN, libc::SECCOMP_RET_ALLOW),
        ],
        Action::If(Condition::OneOf(arg, values, refused)) => one_of(arg, values, libc::SECCOMP_RET_ALLOW, errno(refused)),
        Action::If(Condition::NoneOf(arg, values)) => one_of(arg, values, errno(EPERM), libc::SECCOMP_RET_ALLOW),
    }
}

/// `found` if the argument is one of a few values, `otherwise` if not.
fn one_of(arg: u32, values: &[u32], found: u32, otherwise: u32) -> Vec<sock_filter> {
    let mut code = vec![op(LOAD, ARGS + 8 * arg)];
    for (before, &value) in values.iter().enumerate() {
        let to_found = u8::try_from(values.len() - before).unwrap_or(u8::MAX);
        code.push(branch(JUMP_EQ, value, to_found, 0));
    }
    code.push(op(RETURN, otherwise));
    code.push(op(RETURN, found));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn decide(program: &[sock_filter], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NR => nr,
            ARCH => arch,
            _ => {
                let arg = args[((offset - ARGS) / 8) as usize];
                u32::try_from(arg & 0xffff_ffff).unwrap()
            }
        };
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let ins = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { ins.jt } else { ins.jf });
            match ins.code {
                LOAD => accumulator = word(ins.k),
                RETURN => return ins.k,
                JUMP => at += ins.k as usize,
                JUMP_EQ => at += jump(accumulator == ins.k),
                JUMP_GE => at += jump(accumulator >= ins.k),
                JUMP_SET => at += jump(accumulator & ins.k != 0),
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn call(nr: i64, args: [u64; 6]) -> u32 {
        decide(&program(false), NATIVE, u32::try_from(nr).unwrap(), args)
    }

    #[test]
    fn every_number_does_what_the_table_says_and_all_others_are_unknown() {
        let (program, table) = (program(false), table());
        for nr in 0..1024 {
            let expected = match table.iter().find(|&&(call, _)| call == nr) {
                None => errno(ENOSYS),
                Some((_, Action::Allow)) => libc::SECCOMP_RET_ALLOW,
                Some((_, Action::Errno(number))) => errno(*number),
                Some((_, Action::If(_))) => continue,
            };
            assert_eq!(decide(&program, NATIVE, nr, [0; 6]), expected, "system call {nr}");
        }
    }

    #[test]
    fn a_call_stands_in_one_rule_only_and_every_rule_has_a_reason() {
        for pair in table().windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "system call {} stands in two rules", pair[0].0);
        }
        assert!(RULES.iter().all(|rule| !rule.reason.is_empty()));
    }

    #[test]
    fn high_bits_of_an_argument_change_nothing() {
        for high in [0u64, 1 << 32, 0xffff_ffff << 32] {
            assert_eq!(call(libc::SYS_socket, [high | 40, 1, 0, 0, 0, 0]), errno(EAFNOSUPPORT));
            assert_eq!(call(libc::SYS_socket, [high | 2, 1, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
            assert_eq!(call(libc::SYS_ioctl, [0, high | 0x5412, 0, 0, 0, 0]), errno(EPERM));
            assert_eq!(call(libc::SYS_clone, [high | 0x1000_0000, 0, 0, 0, 0, 0]), errno(EPERM));
        }
    }

    #[test]
    fn threads_work_and_namespaces_do_not() {
        let thread_flags = 0x003d_0f00;
        assert_eq!(call(libc::SYS_clone, [thread_flags, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_clone3, [0; 6]), errno(ENOSYS));
        assert_eq!(call(libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0, 0]), errno(EPERM));
        assert_eq!(call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]), errno(EPERM));
    }

    #[test]
    fn without_a_network_namespace_only_local_sockets_are_left() {
        let socket = |family| decide(&program(true), NATIVE, u32::try_from(libc::SYS_socket).unwrap(), [family, 1, 0, 0, 0, 0]);
        assert_eq!(socket(1), libc::SECCOMP_RET_ALLOW);
        assert_eq!(socket(2), errno(EAFNOSUPPORT));
    }

    #[test]
    fn another_architecture_is_killed_and_x32_is_unknown() {
        assert_eq!(decide(&program(false), 0x4000_0003, 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(decide(&program(false), NATIVE, 0x4000_0000, [0; 6]), errno(ENOSYS));
    }

    #[test]
    fn the_filter_is_short_because_its_length_is_paid_per_sandbox() {
        let len = program(false).len();
        assert!(len < 250, "{len} instructions");
    }
}
