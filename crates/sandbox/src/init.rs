//! The first process of a sandbox: pid 1 of its namespaces. It makes the mounts, clones the worker, gives its own
//! rights away, and then only reaps: when the worker ends, it says how and exits, and the kernel ends all the rest.
//!
//! The program must not be pid 1 itself: signals whose action is the default are ignored there, so `abort()` would
//! do nothing (pid_namespaces(7)).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use greenroom_core::Profile;
use rustix::{
    fs::{CWD, Gid, Mode, OFlags, Uid, chown, mkdirat, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen, mount_bind, mount_remount, move_mount,
    },
    process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, wait},
};

use crate::{
    config::Network,
    fence,
    message::{Prepare, Status, send},
    slot::Shared,
    step::{Failure, Step, take},
    sys::{self, Cloned},
    template::DISK,
    worker,
};

/// What a worker is given: its ends of the pipes and of the job stream.
pub(crate) struct WorkerEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) job: OwnedFd,
}

/// One sandbox to make.
pub(crate) struct Birth<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) prepare: Prepare,
    pub(crate) uid: u32,
    /// The workspace's directory on disk, where there are no mounts of our own.
    pub(crate) workspace: Option<PathBuf>,
    pub(crate) status: OwnedFd,
}

/// Files of /proc that speak of the host and that everybody may read.
const MASKED: &[&str] = &["/proc/kallsyms", "/proc/keys", "/proc/cmdline"];

/// oom_score_adj of programs: they die before any of ours.
const PROGRAM_OOM_SCORE: &[u8] = b"500";

/// Runs in the clone; never returns to its caller's life.
pub(crate) fn main(birth: Birth<'_>, ends: WorkerEnds) -> ! {
    let status = match birth.status.try_clone() {
        Ok(status) => status,
        Err(_) => sys::exit_now(1),
    };
    let failure = match live(birth, ends) {
        Ok(()) => sys::exit_now(0),
        Err(failure) => failure,
    };
    // If even this fails the slot sees its socket close, which says the same.
    let told = send(&status, &Status::Failed(failure.step, failure.errno()), &[]);
    sys::exit_now(if told.is_ok() { 1 } else { 2 })
}

fn live(birth: Birth<'_>, ends: WorkerEnds) -> Result<(), Failure> {
    let shared = birth.shared;
    take(Step::ParentDeath, || {
        rustix::thread::set_name(c"greenroom-init")?;
        set_parent_process_death_signal(Some(Signal::KILL))
    })?;
    let (mut directory, mut mount_namespace) = (None, None);
    if shared.profile != Profile::Restricted {
        take(Step::Hostname, || rustix::system::sethostname(b"greenroom"))?;
        if shared.network == Network::Loopback {
            take(Step::Loopback, loopback_up)?;
        }
        directory = Some(take(Step::MountDisk, || mount_disk(&birth))?);
        let proc = take(Step::MountProc, mount_proc)?;
        take(Step::MaskProc, mask_proc)?;
        mount_namespace =
            Some(take(Step::Ready, || openat(&proc, "self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?);
        if birth.prepare.zygote.is_some() {
            return wait_for_birth(birth, ends, directory, mount_namespace);
        }
        if shared.profile == Profile::Full {
            // The worker is born with the program's score; what is ours goes back to being the last to die.
            take(Step::CloneWorker, || oom_score(&proc, PROGRAM_OOM_SCORE))?;
        }
        let cloned = take(Step::CloneWorker, || sys::clone(0, None))?;
        if let Cloned::Parent { .. } = cloned
            && shared.profile == Profile::Full
        {
            take(Step::CloneWorker, || oom_score(&proc, shared.oom_score.as_bytes()))?;
        }
        return serve(birth, ends, cloned, directory, mount_namespace);
    }
    if let Some(workspace) = &birth.workspace {
        directory = Some(take(Step::MountDisk, || open_directory(workspace))?);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failure { step: Step::CloneWorker, source: error.into() })?;
    let cloned = take(Step::CloneWorker, || sys::clone(0, None))?;
    serve(birth, ends, cloned, directory, mount_namespace)
}

fn serve(
    birth: Birth<'_>,
    ends: WorkerEnds,
    cloned: Cloned,
    directory: Option<OwnedFd>,
    mount_namespace: Option<OwnedFd>,
) -> Result<(), Failure> {
    let (worker, pidfd) = match cloned {
        Cloned::Child => worker::main(&birth, ends),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(ends);
    take(Step::Ready, || {
        if birth.shared.profile != Profile::Restricted {
            // Only now: the worker's score was written through it. A remount reaches this mount only.
            mount_remount("/proc", MountFlags::BIND | proc_flags() | MountFlags::RDONLY, "")?;
        }
        seal(birth.shared)?;
        // A change of identity clears it (prctl(2)). Had the slot died in between, the send below would fail.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let fds: Vec<BorrowedFd<'_>> =
            [Some(&pidfd), directory.as_ref(), mount_namespace.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
        send(&birth.status, &Status::Ready, &fds)
    })?;
    drop((pidfd, directory, mount_namespace));
    reap(&birth.status, worker)
}

/// As [`serve`], where the worker comes from a zygote: it is born into what is made here, while this process can still be entered.
fn wait_for_birth(
    birth: Birth<'_>,
    ends: WorkerEnds,
    directory: Option<OwnedFd>,
    mount_namespace: Option<OwnedFd>,
) -> Result<(), Failure> {
    drop(ends);
    let rules = take(Step::Landlock, || fence::for_zygote(&birth))?;
    let fds: Vec<BorrowedFd<'_>> =
        [directory.as_ref(), mount_namespace.as_ref(), rules.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
    let worker = take(Step::Ready, || {
        send(&birth.status, &Status::Mounted, &fds)?;
        let mut pid = [0; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&birth.status, &mut pid))? {
            4 => Ok(i32::from_le_bytes(pid)),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    })?;
    drop((directory, mount_namespace, rules));
    take(Step::Ready, || {
        mount_remount("/proc", MountFlags::BIND | proc_flags() | MountFlags::RDONLY, "")?;
        seal(birth.shared)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        send(&birth.status, &Status::Ready, &[])
    })?;
    reap(&birth.status, worker)
}

fn reap(status: &OwnedFd, worker: i32) -> Result<(), Failure> {
    let worker = Pid::from_raw(worker);
    loop {
        let (pid, ended) = match wait(WaitOptions::empty()) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Failure { step: Step::Reap, source: error.into() }),
        };
        if Some(pid) == worker {
            return send(status, &Status::Exited { status: ended.as_raw(), cpu_us: sys::children_cpu_us() }, &[])
                .map_err(|source| Failure { step: Step::Reap, source });
        }
    }
}

/// Gives away every right that is not needed for waiting.
fn seal(shared: &Shared) -> io::Result<()> {
    if shared.profile == Profile::Full {
        worker::take_identity(shared.init_uid)?;
    } else {
        worker::drop_capabilities()?;
    }
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::loopback_up(socket.as_fd())
}

fn open_directory(path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// The private tmpfs and its three views. Continuing after an earlier stage, the workspace is kept and the
/// temporary directories are fresh. Gives the workspace's directory.
fn mount_disk(birth: &Birth<'_>) -> io::Result<OwnedFd> {
    let (tmp, shm) = if birth.prepare.continues { ("tmp-run", "shm-run") } else { ("tmp", "shm") };
    if !birth.prepare.continues {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "size", birth.prepare.disk_bytes.to_string())?;
        fsconfig_set_string(&context, "nr_inodes", birth.prepare.disk_inodes.to_string())?;
        fsconfig_set_string(&context, "mode", "0700")?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let disk = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(&disk, "", CWD, DISK, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    let disk = open_directory(DISK)?;
    let owned = birth.shared.profile == Profile::Full;
    for (name, at, mode) in [("submission", birth.prepare.place.path(), 0o755), (tmp, "/tmp", 0o1777), (shm, "/dev/shm", 0o1777)] {
        if name == "submission" && birth.prepare.continues {
            continue;
        }
        mkdirat(&disk, name, Mode::from_raw_mode(mode))?;
        let path = format!("{DISK}/{name}");
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
        if owned {
            chown(&path, Some(Uid::from_raw(birth.uid)), Some(Gid::from_raw(birth.uid)))?;
        }
        mount_bind(&path, at)?;
    }
    open_directory(birth.prepare.place.path())
}

fn proc_flags() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

/// A /proc of this pid namespace, still writable: see [`serve`].
fn mount_proc() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Other users' processes (init) are invisible (proc(5), hidepid=2).
    fsconfig_set_string(&context, "hidepid", "2")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&proc, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(proc)
}

fn mask_proc() -> io::Result<()> {
    for path in MASKED {
        match mount_bind("/dev/null", *path) {
            Err(rustix::io::Errno::NOENT) => {} // a kernel built without it
            other => other?,
        }
    }
    Ok(())
}

fn oom_score(proc: &OwnedFd, score: &[u8]) -> io::Result<()> {
    let file = openat(proc, "self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, score)?;
    Ok(())
}
