//! How a sandbox is made.
//!
//! ```text
//!  slot ──spawn──► init (pid 1)                        init/main.rs
//!   │    ◄─ Mounted ─┘ mounts, and waits
//!   ├─ descriptors ─► init ──fork──► worker (pid 2)     seals itself: init/worker.rs
//!   │    ◄───── Ready ─┘ only reaps     │
//!   │    ◄─────────────────── Sealed ──┘
//!   └─ or asks a zygote, which forks the worker into init's namespaces, as init's child (zygote/python.rs), and tells init its pid
//! ```
//!
//! Init and the worker are a program of their own, so that they cost no copy of the slot. Where there are no namespaces both are such
//! copies (src/init.rs, src/worker.rs).

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use greenroom_core::Profile;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::SendFlags,
    pipe::{PipeFlags, pipe_with},
    process::Pid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{Sandbox, ServerEnds, Slot, kill, reap};
use crate::{
    cgroup::SlotCgroup,
    config::Network,
    fence,
    init::{self, Birth, WorkerEnds},
    layout,
    message::{Prepare, Status, packet_pair, receive, send_bytes, stream_pair},
    network::Away,
    plan,
    step::{Failure, Step, take},
    sys::{self, Cloned},
    zygote,
};

/// What each sandbox has of its own. The others are its slot's: see `settle` in `runner.rs`.
const NAMESPACES: u64 = (libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWCGROUP) as u64;

/// A first process.
struct Init {
    pid: Pid,
    pidfd: OwnedFd,
    /// The way out of its network, if it has one.
    device: Option<OwnedFd>,
}

impl Slot {
    pub(super) fn prepare(&mut self, prepare: Prepare, base: Option<OwnedFd>) -> Result<(Sandbox, ServerEnds), Failure> {
        let uid = match prepare.uid {
            Some(uid) => uid,
            None if self.shared.own_uids => self.next_uid(),
            // Ours: the server may do with the files of a sandbox what it may do with its own.
            None => rustix::process::geteuid().as_raw(),
        };
        take(Step::LeafCgroup, || self.cgroup.as_mut().map_or(Ok(()), SlotCgroup::begin))?;
        let (status, status_inside, server, ends) = take(Step::Channels, channels)?;
        let workspace = match &self.shared.workspaces {
            Some(workspaces) => Some(take(Step::MountDisk, || {
                let owner = self.shared.own_uids.then_some(uid);
                workspaces.ready(self.index, prepare.continues, owner)
            })?),
            None => None,
        };
        let birth = Birth { shared: &self.shared, prepare, uid, workspace, status: status_inside };
        let (init, born) = match &self.shared.init {
            None => {
                // Both are copies of this process.
                let cgroup = self.cgroup.as_ref().and_then(SlotCgroup::clone_into);
                let Cloned::Parent { pid, pidfd } = take(Step::CloneInit, || sys::clone(0, cgroup))? else {
                    drop((status, server));
                    init::main(birth, ends);
                };
                // While we have the inner end, too, the end of an init that dies without a word cannot be seen.
                drop((birth, ends));
                (Init { pid: to_pid(pid)?, pidfd, device: None }, await_birth(&status))
            }
            Some(files) => {
                let init = self.start_init(&files.program, &birth, &status, base.as_ref())?;
                let born = self.born_into(&init, &files.filter, &status, birth, ends);
                (init, born)
            }
        };
        let mut fds = match born {
            Ok(fds) => fds.into_iter(),
            Err(failure) => {
                // It may hang in a later step: end it in any case, and leave no zombie.
                take(Step::Reap, || kill(&init.pidfd).and_then(|()| reap(init.pid)))?;
                return Err(failure);
            }
        };
        let mut next =
            || fds.next().ok_or_else(|| Failure { step: Step::Ready, source: io::Error::from(io::ErrorKind::UnexpectedEof) });
        let (worker_fd, directory) = (next()?, next()?);
        let (stdin, stdout, stderr, job) = server;
        let ends = ServerEnds { stdin, stdout, stderr, job, directory, mount_namespace: fds.next(), device: init.device };
        Ok((Sandbox { init: init.pid, init_fd: init.pidfd, worker_fd, status, uid }, ends))
    }

    /// Starts init in namespaces of its own, with its plan.
    fn start_init(&self, program: &OwnedFd, birth: &Birth<'_>, status: &OwnedFd, base: Option<&OwnedFd>) -> Result<Init, Failure> {
        let (shared, prepare) = (&self.shared, &birth.prepare);
        let (mut flags, mut wanted) = (NAMESPACES, 0);
        for (is_wanted, what) in [
            (shared.network == Network::Loopback || prepare.network, layout::LOOPBACK),
            (prepare.network, layout::NETWORK),
            (prepare.continues, layout::CONTINUES),
            (shared.profile == Profile::Full, layout::OWN_UIDS),
            (!shared.cgroups, layout::WITHOUT_CGROUPS),
        ] {
            wanted |= if is_wanted { what } else { 0 };
        }
        if shared.network == Network::Loopback && !prepare.network {
            flags |= libc::CLONE_NEWNET as u64;
        }
        // Init is born into it. First: what fails before the slot is in another's mounts leaves it where it was.
        let away = if prepare.network { Some(take(Step::SlotNetwork, || self.leave_for_network())?) } else { None };
        if let Some(base) = base
            && let Err(failure) = take(Step::EnterBase, || move_into_link_name_space(base.as_fd(), Some(LinkNameSpaceType::Mount)))
        {
            away.map(Away::back);
            return Err(failure);
        }
        let spawned = take(Step::CloneInit, || {
            let filter_len = u32::try_from(shared.filter.len()).map_err(io::Error::other)?;
            rustix::io::write(status, &plan::encode(prepare, [wanted, birth.uid, shared.init_uid, filter_len])?)?;
            let cgroup = self.cgroup.as_ref().and_then(SlotCgroup::clone_into);
            let program = (program.as_fd(), c"greenroom-init");
            sys::spawn(self.stack, program, birth.status.as_fd(), flags, cgroup)
        });
        let device = away.map(Away::back);
        if let (Some(_), Some(home)) = (base, &shared.mount_namespace)
            && let Err(failure) = take(Step::EnterBase, || move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount)))
        {
            // Never another sandbox from here, with a client's files in it. Init ends with us, and the runner starts another slot.
            eprintln!("greenroom runner: slot {} cannot come back from a sandbox and ends: {failure}", self.index);
            sys::exit_now(1)
        }
        let (pid, pidfd) = spawned?;
        Ok(Init { pid: to_pid(pid)?, pidfd, device })
    }

    fn leave_for_network(&self) -> io::Result<Away> {
        self.shared.devices.as_ref().ok_or_else(|| io::Error::from(rustix::io::Errno::NODEV))?.go()
    }

    /// Has the worker born into what init has made, as soon as it has. Gives the worker's pidfd, the directory of its files and the
    /// mount namespace.
    fn born_into(
        &self,
        init: &Init,
        filter: &OwnedFd,
        status: &OwnedFd,
        birth: Birth<'_>,
        ends: WorkerEnds,
    ) -> Result<Vec<OwnedFd>, Failure> {
        let failed = |source| Failure { step: Step::Ready, source };
        let mounted = await_status(status, init, Step::Ready, None, |message| matches!(message, Status::Mounted))?.1;
        let Ok([directory, mount_namespace, tmp, shm]) = <[OwnedFd; 4]>::try_from(mounted) else {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        };
        let rules = take(Step::Landlock, || fence::for_sandbox(self.shared.landlock_abi, &directory, &tmp, &shm))?;
        let worker = match birth.prepare.zygote {
            Some(zygote) => {
                let (pid, worker) = self.fork_from_zygote(zygote, init, status, &birth, &ends, rules.as_ref())?;
                // Init waits for it, its child, and closes behind it what it wrote its score through.
                rustix::io::write(status, &pid.to_le_bytes()).map_err(|error| failed(error.into()))?;
                await_status(status, init, Step::Ready, None, |message| matches!(message, Status::Ready))?;
                worker
            }
            None => {
                // Init makes a copy of itself.
                let fds = [&ends.stdin, &ends.stdout, &ends.stderr, &ends.job, filter];
                let fds: Vec<_> = fds.into_iter().chain(rules.as_ref()).map(AsFd::as_fd).collect();
                send_bytes(status, b"w", &fds, SendFlags::NOSIGNAL).map_err(failed)?;
                // While we have the inner end, too, the end of an init that dies without a word cannot be seen.
                drop((birth, ends));
                await_birth(status)?.into_iter().next().ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?
            }
        };
        Ok(vec![worker, directory, mount_namespace])
    }

    /// A zygote's copy becomes the worker.
    fn fork_from_zygote(
        &self,
        zygote: u32,
        init: &Init,
        status: &OwnedFd,
        birth: &Birth<'_>,
        ends: &WorkerEnds,
        rules: Option<&OwnedFd>,
    ) -> Result<(u32, OwnedFd), Failure> {
        let failed = |source| Failure { step: Step::Fork, source };
        let cgroups = self.cgroup.as_ref().map(SlotCgroup::procs).unwrap_or_default();
        let request = zygote::Birth {
            uid: birth.uid,
            place: birth.prepare.place,
            status: birth.status.as_fd(),
            job: ends.job.as_fd(),
            stdin: ends.stdin.as_fd(),
            stdout: ends.stdout.as_fd(),
            stderr: ends.stderr.as_fd(),
            init: init.pidfd.as_fd(),
            rules: rules.map(AsFd::as_fd),
            cgroups: &cgroups,
        };
        let line = self.shared.zygotes.get(zygote as usize).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        take(Step::Fork, || line.ask(&request))?;
        let born = await_status(status, init, Step::Fork, Some(zygote::FORK_TIMEOUT), |message| matches!(message, Status::Born(_)));
        if born.as_ref().is_err_and(|failure| failure.errno() == libc::ETIMEDOUT) {
            line.complain();
        }
        match born? {
            (Status::Born(pid), fds) if fds.len() == 1 => {
                let worker = fds.into_iter().next().ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
                Ok((pid, worker))
            }
            _ => Err(failed(io::ErrorKind::InvalidData.into())),
        }
    }
}

fn to_pid(pid: i32) -> Result<Pid, Failure> {
    Pid::from_raw(pid).ok_or_else(|| Failure { step: Step::CloneInit, source: rustix::io::Errno::SRCH.into() })
}

/// Waits for one message, and takes any failure for the answer, or init's end, which is then this step's: the socket's other end is
/// open in more places than one, and does not tell of it.
fn await_status(
    status: &OwnedFd,
    init: &Init,
    step: Step,
    timeout: Option<Duration>,
    wanted: impl Fn(&Status) -> bool,
) -> Result<(Status, Vec<OwnedFd>), Failure> {
    let failed = |source| Failure { step, source };
    let timeout = timeout.map(Timespec::try_from).transpose().map_err(|error| failed(io::Error::other(error)))?;
    // In this order: an init that is seen to have ended has said before what it had to say.
    let mut fds = [PollFd::new(&init.pidfd, PollFlags::IN), PollFd::new(status, PollFlags::IN)];
    let polled = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()));
    if polled.map_err(|error| failed(error.into()))? == 0 {
        return Err(failed(rustix::io::Errno::TIMEDOUT.into()));
    }
    if fds[1].revents().is_empty() {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    match receive::<Status>(status).map_err(failed)? {
        Some((Status::Failed(step, errno), _)) => Err(Failure { step, source: io::Error::from_raw_os_error(errno) }),
        Some((message, fds)) if wanted(&message) => Ok((message, fds)),
        _ => Err(failed(io::ErrorKind::UnexpectedEof.into())),
    }
}

type Channels = (OwnedFd, OwnedFd, (OwnedFd, OwnedFd, OwnedFd, OwnedFd), WorkerEnds);

fn channels() -> io::Result<Channels> {
    let (status, status_inside) = packet_pair()?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, stdin_in), (stdout_in, stdout), (stderr_in, stderr)) = (pipe()?, pipe()?, pipe()?);
    let (job_in, job) = stream_pair()?;
    Ok((status, status_inside, (stdin_in, stdout_in, stderr_in, job_in), WorkerEnds { stdin, stdout, stderr, job }))
}

/// Waits until init and worker are both ready; gives init's descriptors.
fn await_birth(status: &OwnedFd) -> Result<Vec<OwnedFd>, Failure> {
    let failed = |source| Failure { step: Step::Ready, source };
    let (mut sealed, mut ready) = (false, None);
    loop {
        match receive::<Status>(status).map_err(failed)? {
            Some((Status::Ready, fds)) => ready = Some(fds),
            Some((Status::Sealed, _)) => sealed = true,
            Some((Status::Failed(step, errno), _)) => return Err(Failure { step, source: io::Error::from_raw_os_error(errno) }),
            Some((Status::Exec(_) | Status::Exited { .. } | Status::Born(_) | Status::Mounted, _)) | None => {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        if sealed && let Some(fds) = ready.take() {
            return Ok(fds);
        }
    }
}
