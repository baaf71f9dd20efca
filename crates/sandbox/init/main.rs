//! The first process of a sandbox with mounts of its own: pid 1 of its namespaces. It makes the mounts, forks the worker (or
//! waits until one from a zygote is born), gives its own rights away, and then only reaps: when the worker ends, it says how and
//! exits, and the kernel ends all the rest.
//!
//! The program must not be pid 1 itself: signals whose action is the default are ignored there, so `abort()` would
//! do nothing (pid_namespaces(7)).
//!
//! A program of its own, without the standard library, because there is one for every run: it has a dozen pages, where a copy
//! of the runner has hundreds to be copied and taken down. Compiled by `build.rs`; `src/slot/birth.rs` starts it and speaks with it over its
//! standard input, a packet socket: first the plan comes in, then mounts are reported, then the worker's descriptors come in, or the
//! pid of the one from the zygote.
#![no_std]
#![no_main]

mod errors;
mod job;
mod layout;
mod memory;
mod message;
mod number;
mod sys;
mod worker;

use core::ffi::CStr;

use layout::{CONTINUES, DISK, LOOPBACK, NETWORK, NETWORK_FILES, OWN_UIDS, PLAN_BYTES, step};
use message::{Plan, Status};
use sys::{Errno, Text};
use worker::Ends;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {}", "ud2", sym main);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "bl {}", "brk #1", sym main);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit(134)
}

/// The precompiled core library names it; nothing unwinds here, so nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The socket to the slot.
const SLOT: i32 = 0;
/// oom_score_adj of programs.
const PROGRAM_OOM_SCORE: &[u8] = b"500";
/// Files of /proc that speak of the host and that everybody may read.
const MASKED: [&CStr; 3] = [c"/proc/kallsyms", c"/proc/keys", c"/proc/cmdline"];
/// These have the same numbers in mount(2) and in fsmount(2).
const PROC_FLAGS: usize = sys::MS_NOSUID | sys::MS_NODEV | sys::MS_NOEXEC;

struct Failure {
    step: u8,
    errno: Errno,
}

extern "C" fn main() -> ! {
    let mut bytes = [0; PLAN_BYTES];
    let Some(plan) = sys::read(SLOT, &mut bytes).ok().and_then(|len| Plan::received(bytes, len)) else { sys::exit(1) };
    match live(&plan) {
        Ok(()) => sys::exit(0),
        Err(failure) => {
            // If even this fails the slot sees our end, which says the same.
            let told = sys::send(SLOT, Status::failed(failure.step, failure.errno).bytes(), &[]);
            sys::exit(if told.is_ok() { 1 } else { 2 })
        }
    }
}

/// Runs one step; names it if it fails. Dies here if this is the step asked for.
fn take<T>(plan: &Plan, step: u8, body: impl FnOnce() -> Result<T, Errno>) -> Result<T, Failure> {
    if plan.crash_at() == step {
        sys::die();
    }
    body().map_err(|errno| Failure { step, errno })
}

fn live(plan: &Plan) -> Result<(), Failure> {
    take(plan, step::PARENT_DEATH, || {
        sys::set_name(c"greenroom-init")?;
        sys::die_with_parent()
    })?;
    if plan.has(LOOPBACK) {
        take(plan, step::LOOPBACK, sys::loopback_up)?;
    }
    // Modes are what they are said to be.
    sys::mask(0);
    take(plan, step::MOUNT_DISK, || mount_disk(plan))?;
    if plan.has(NETWORK) {
        take(plan, step::MOUNT_DISK, show_network)?;
    }
    let proc = take(plan, step::MOUNT_PROC, mount_proc)?;
    take(plan, step::MASK_PROC, mask_proc)?;
    let birth = take(plan, step::READY, || {
        let place = Text::new(plan.place())?;
        let fds = [
            sys::open_at(sys::AT_FDCWD, place, sys::O_DIRECTORY | sys::O_NOFOLLOW)?,
            sys::open_at(proc, c"self/ns/mnt".into(), 0)?,
            sys::open_at(sys::AT_FDCWD, c"/tmp".into(), sys::O_PATH | sys::O_DIRECTORY)?,
            sys::open_at(sys::AT_FDCWD, c"/dev/shm".into(), sys::O_PATH | sys::O_DIRECTORY)?,
        ];
        sys::send(SLOT, Status::mounted().bytes(), &fds)?;
        fds.into_iter().for_each(sys::close);
        let mut bytes = [0; 4];
        match sys::receive(SLOT, &mut bytes)? {
            (4, _, 0) => Ok(Birth::Elsewhere(i32::from_le_bytes(bytes))),
            (1, [stdin, stdout, stderr, job, filter, rules], count @ 5..) => {
                Ok(Birth::Here(Ends { stdio: [stdin, stdout, stderr], job, filter, rules: (count == 6).then_some(rules) }))
            }
            _ => Err(sys::EINVAL),
        }
    })?;
    let (worker, pidfd) = match birth {
        Birth::Elsewhere(pid) => (pid, None),
        Birth::Here(ends) => {
            let Some((pid, pidfd)) = take(plan, step::CLONE_WORKER, sys::fork)? else { worker::main(plan, &ends, SLOT) };
            // What it writes to and reads from ends with it.
            let Ends { stdio: [stdin, stdout, stderr], job, filter, rules } = ends;
            [stdin, stdout, stderr, job, filter].into_iter().chain(rules).for_each(sys::close);
            if plan.has(OWN_UIDS) {
                take(plan, step::CLONE_WORKER, || score(proc, pid))?;
            }
            (pid, Some(pidfd))
        }
    };
    take(plan, step::READY, || {
        // Only now: the worker's score was written through it. A remount reaches this mount only.
        sys::mount(c"".into(), c"/proc".into(), sys::MS_BIND | sys::MS_REMOUNT | sys::MS_RDONLY | PROC_FLAGS)?;
        sys::close(proc);
        if plan.has(OWN_UIDS) {
            sys::take_identity(plan.init_uid())?;
        } else {
            // The program has our uid: it shall not see us, nor what we have open, also where Landlock does not keep it from us.
            sys::let_nobody_look()?;
        }
        sys::drop_capabilities()?;
        // Had the slot died in between, the sending would fail.
        sys::die_with_parent()?;
        sys::send(SLOT, Status::ready().bytes(), pidfd.as_slice())?;
        pidfd.into_iter().for_each(sys::close);
        Ok(())
    })?;
    loop {
        let (pid, status) = sys::wait().map_err(|errno| Failure { step: step::REAP, errno })?;
        if pid == worker {
            let exited = Status::exited(status, sys::children_cpu_us());
            return sys::send(SLOT, exited.bytes(), &[]).map_err(|errno| Failure { step: step::REAP, errno });
        }
    }
}

/// Who becomes the worker.
enum Birth {
    /// A process that a zygote has forked: its pid.
    Elsewhere(i32),
    /// A copy of this one, with these descriptors.
    Here(Ends),
}

/// Has the program die before any of ours, when memory is short.
fn score(proc: i32, worker: i32) -> Result<(), Errno> {
    // It is the second process here.
    let digit = u8::try_from(worker).ok().filter(|pid| *pid < 10).ok_or(sys::EINVAL)?;
    let mut path = *b"0/oom_score_adj\0";
    path[0] += digit;
    let file = sys::open_at(proc, Text::new(&path)?, sys::O_WRONLY)?;
    sys::write(file, PROGRAM_OOM_SCORE)?;
    sys::close(file);
    Ok(())
}

/// A directory of the disk: its name, its path, its mode.
type View = (&'static CStr, &'static CStr, usize);

const FILES: View = (c"submission", c"/run/disk/submission", 0o755);
const TMP: [View; 2] = [(c"tmp", c"/run/disk/tmp", 0o1777), (c"tmp-run", c"/run/disk/tmp-run", 0o1777)];
const SHM: [View; 2] = [(c"shm", c"/run/disk/shm", 0o1777), (c"shm-run", c"/run/disk/shm-run", 0o1777)];

/// The private tmpfs and its three views. Continuing after an earlier stage, the files are kept and the
/// temporary directories are fresh.
fn mount_disk(plan: &Plan) -> Result<(), Errno> {
    const AT: &CStr = c"/run/disk";
    const _: () = assert!(AT.count_bytes() == DISK.len());
    let continues = plan.has(CONTINUES);
    let disk = if continues {
        if !plan.has(OWN_UIDS) {
            sys::unmount(AT)?;
        }
        sys::open_at(sys::AT_FDCWD, AT.into(), sys::O_PATH | sys::O_DIRECTORY | sys::O_NOFOLLOW)?
    } else {
        let settings = [(c"size", Text::new(plan.size())?), (c"nr_inodes", Text::new(plan.inodes())?), (c"mode", c"0700".into())];
        sys::mount_new(c"tmpfs".into(), &settings, sys::MS_NOSUID | sys::MS_NODEV, AT.into())?
    };
    if !continues {
        show(plan, disk, FILES, Text::new(plan.place())?)?;
    }
    show(plan, disk, TMP[usize::from(continues)], c"/tmp".into())?;
    show(plan, disk, SHM[usize::from(continues)], c"/dev/shm".into())?;
    sys::close(disk);
    if !plan.has(OWN_UIDS) {
        // The program has our uid, and the mode does not keep it out: what it made there could be in a later stage's way.
        sys::mount(c"/var".into(), AT.into(), sys::MS_BIND)?;
    }
    Ok(())
}

fn show(plan: &Plan, disk: i32, (name, path, mode): View, at: Text<'_>) -> Result<(), Errno> {
    sys::make_directory(disk, name.into(), mode)?;
    if plan.has(OWN_UIDS) {
        sys::own(disk, name.into(), plan.uid())?;
    }
    sys::mount(path.into(), at, sys::MS_BIND)
}

/// How names are looked up where there is a network.
fn show_network() -> Result<(), Errno> {
    const FILES: [(&CStr, &CStr); 2] =
        [(c"/run/network/resolv.conf", c"/etc/resolv.conf"), (c"/run/network/nsswitch.conf", c"/etc/nsswitch.conf")];
    const _: () = assert!(FILES[0].0.count_bytes() == NETWORK_FILES.len() + "/resolv.conf".len());
    FILES.iter().try_for_each(|(from, to)| sys::mount((*from).into(), (*to).into(), sys::MS_BIND))
}

/// A /proc of this pid namespace, still writable.
fn mount_proc() -> Result<i32, Errno> {
    // Other users' processes (init) are invisible (proc(5), hidepid=2).
    sys::mount_new(c"proc".into(), &[(c"hidepid", c"2".into())], PROC_FLAGS, c"/proc".into())
}

fn mask_proc() -> Result<(), Errno> {
    for path in MASKED {
        match sys::mount(c"/dev/null".into(), path.into(), sys::MS_BIND) {
            Err(sys::ENOENT) => {} // a kernel built without it
            other => other?,
        }
    }
    Ok(())
}
