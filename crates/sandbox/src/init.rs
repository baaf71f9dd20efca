//! The first process of a sandbox where there are no namespaces (profile restricted): it clones the worker, gives its own rights
//! away, and then only reaps. Where there are, a program of its own does this and more (init/main.rs).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior, set_parent_process_death_signal, wait},
};

use crate::{
    message::{Prepare, Status, send},
    rights,
    slot::Shared,
    step::{Failure, Step, take},
    sys::{self, Cloned},
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
    take(Step::ParentDeath, || {
        rustix::thread::set_name(c"greenroom-init")?;
        set_parent_process_death_signal(Some(Signal::KILL))
    })?;
    let directory = match &birth.workspace {
        Some(workspace) => Some(take(Step::MountDisk, || open_directory(workspace))?),
        None => None,
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failure { step: Step::CloneWorker, source: error.into() })?;
    let (worker, pidfd) = match take(Step::CloneWorker, || sys::clone(0, None))? {
        Cloned::Child => worker::main(&birth, ends),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(ends);
    take(Step::Ready, || {
        rights::drop_capabilities()?;
        if !birth.shared.own_uids {
            // The program has our uid: it shall not look into us, also where Landlock does not keep it from that.
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        // A change of identity clears it (prctl(2)). Had the slot died in between, the send below would fail.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let fds: Vec<BorrowedFd<'_>> = [Some(&pidfd), directory.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
        send(&birth.status, &Status::Ready, &fds)
    })?;
    drop((pidfd, directory));
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

fn open_directory(path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}
