//! A slot: the process that makes one sandbox after the other, and watches the one that runs.
//!
//! ```text
//!            Prepare                    Start                   program ends, limit, Kill
//!   idle ───────────────► prepared ───────────────► running ──────────────────────────────► ended
//!    ▲   (clone, mounts,     │   (limits in force,                (kill, counters)            │
//!    │    filter)            │    go)                                                         │
//!    └───────────────────────┴────────────────────────── Idle (reaped, cgroup removed) ◄──────┘
//! ```
//!
//! One sandbox at a time, one thing at a time: what has to wait (a mount, a dying fork bomb) waits here, and
//! holds up neither the server nor another slot.

mod watch;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

use greenroom_core::Profile;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    cgroup::SlotCgroup,
    config::Network,
    init::{self, Birth, WorkerEnds},
    message::{FromSlot, Prepare, Status, ToSlot, packet_pair, receive, receive_now, send, stream_pair},
    step::{Failure, Step, take},
    sys::{self, Cloned},
    workspaces::{self, Workspaces},
    zygote::{self, Line},
};

/// What all sandboxes of a runner share; made before the first slot, never changed.
pub(crate) struct Shared {
    pub(crate) profile: Profile,
    pub(crate) network: Network,
    /// The system call filter, compiled.
    pub(crate) filter: Vec<libc::sock_filter>,
    pub(crate) landlock_abi: u32,
    /// Whether limits are the cgroups' (else rlimits').
    pub(crate) cgroups: bool,
    /// Whether each sandbox has a host uid of its own.
    pub(crate) own_uids: bool,
    /// Whose init is, in profile full.
    pub(crate) init_uid: u32,
    /// First uid of sandboxes; a slot takes every `slots`-th from its own index on, in turn.
    pub(crate) first_uid: u32,
    /// How often a slot may go on before it starts over with its first uid.
    pub(crate) uids_per_slot: u32,
    /// How many slots there are.
    pub(crate) slots: u32,
    /// The runner's mount namespace, to come back to.
    pub(crate) mount_namespace: Option<OwnedFd>,
    /// Where workspaces stand without mounts of our own (profile restricted).
    pub(crate) workspaces: Option<Workspaces>,
    /// oom_score_adj of our own processes.
    pub(crate) oom_score: &'static str,
    /// Paths below `/etc` that programs may read in profile restricted.
    pub(crate) etc: Vec<String>,
    /// Where children of zygotes are asked for.
    pub(crate) zygotes: Vec<Line>,
    /// CPUs of this machine.
    pub(crate) cpus: u64,
}

/// How often a slot looks at the CPU time at most.
const CPU_RESOLUTION_US: u64 = 1_000;
/// How long the end of a killed sandbox is waited for before the slot gives itself up (a process stuck in the
/// kernel); the runner replaces it.
const REAP_TIMEOUT: Duration = Duration::from_secs(30);

const NAMESPACES: u64 =
    (libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP) as u64;

/// The slot's own state.
pub(crate) struct Slot {
    pub(crate) shared: Rc<Shared>,
    pub(crate) index: u32,
    pub(crate) cgroup: Option<SlotCgroup>,
    /// The server.
    pub(crate) server: OwnedFd,
    generation: u32,
}

/// A sandbox that exists.
struct Sandbox {
    init: Pid,
    init_fd: OwnedFd,
    worker_fd: OwnedFd,
    status: OwnedFd,
    uid: u32,
}

/// The server's ends of a sandbox's pipes.
struct ServerEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    job: OwnedFd,
    directory: OwnedFd,
    mount_namespace: Option<OwnedFd>,
}

/// Why a slot ends.
enum Exit {
    /// The server is gone.
    ServerGone,
    /// Something that must not fail did.
    Broken(io::Error),
}

impl From<io::Error> for Exit {
    fn from(error: io::Error) -> Self {
        Exit::Broken(error)
    }
}

impl Slot {
    pub(crate) fn new(shared: Rc<Shared>, index: u32, cgroup: Option<SlotCgroup>, server: OwnedFd) -> Self {
        Self { shared, index, cgroup, server, generation: 0 }
    }

    /// Serves until the server is gone.
    pub(crate) fn main(mut self) -> ! {
        let code = match self.serve() {
            Exit::ServerGone => 0,
            Exit::Broken(error) => {
                eprintln!("greenroom runner: slot {} ends: {error}", self.index);
                1
            }
        };
        sys::exit_now(code)
    }

    fn serve(&mut self) -> Exit {
        loop {
            let mut request = match receive::<ToSlot>(&self.server) {
                Ok(Some(request)) => request,
                Ok(None) => return Exit::ServerGone,
                Err(error) => return Exit::Broken(error),
            };
            // Anything else is for a sandbox that has ended meanwhile.
            while let (ToSlot::Prepare(prepare), fds) = request {
                request = match self.one(prepare, fds.into_iter().next()).and_then(|()| self.next()) {
                    Ok(Some(next)) => next,
                    Ok(None) => break,
                    Err(exit) => return exit,
                };
            }
        }
    }

    /// What the server wants next, where it has said so already; else it is told that there is nothing to do here.
    fn next(&self) -> Result<Option<(ToSlot, Vec<OwnedFd>)>, Exit> {
        loop {
            match receive_now::<ToSlot>(&self.server) {
                Ok(Some(request @ (ToSlot::Prepare(_), _))) => return Ok(Some(request)),
                // For the sandbox that has ended.
                Ok(Some(_)) => {}
                Ok(None) => return Err(Exit::ServerGone),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.tell(&FromSlot::Idle)?;
        Ok(None)
    }

    /// One sandbox, from its making to its removal.
    fn one(&mut self, prepare: Prepare, base: Option<OwnedFd>) -> Result<(), Exit> {
        match self.prepare(prepare, base) {
            Ok((sandbox, ends)) => {
                self.tell_ready(&sandbox, &ends, prepare.hands_files_over())?;
                drop(ends);
                let ended = self.watch(&sandbox)?;
                self.tell(&FromSlot::Ended(ended))?;
                self.remove(sandbox)?;
            }
            Err(failure) => {
                eprintln!("greenroom runner: slot {}: a sandbox cannot be made: {failure}", self.index);
                self.clean_up()?;
                self.tell(&FromSlot::PrepareFailed { step: failure.step, errno: failure.errno() })?;
            }
        }
        Ok(())
    }

    fn tell(&self, message: &FromSlot) -> Result<(), Exit> {
        send(&self.server, message, &[]).map_err(|_| Exit::ServerGone)
    }

    fn tell_ready(&self, sandbox: &Sandbox, ends: &ServerEnds, with_files: bool) -> Result<(), Exit> {
        let mut fds = vec![ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd(), ends.job.as_fd()];
        if with_files {
            fds.push(ends.directory.as_fd());
            fds.extend(ends.mount_namespace.as_ref().map(AsFd::as_fd));
        }
        send(&self.server, &FromSlot::Ready { uid: sandbox.uid }, &fds).map_err(|_| Exit::ServerGone)
    }

    fn next_uid(&mut self) -> u32 {
        let generation = self.generation % self.shared.uids_per_slot;
        self.generation = self.generation.wrapping_add(1);
        self.shared.first_uid + self.index + self.shared.slots * generation
    }

    fn prepare(&mut self, prepare: Prepare, base: Option<OwnedFd>) -> Result<(Sandbox, ServerEnds), Failure> {
        let uid = prepare.uid.unwrap_or_else(|| self.next_uid());
        take(Step::LeafCgroup, || self.cgroup.as_mut().map_or(Ok(()), SlotCgroup::begin))?;
        let (status, status_inside, server, worker) = take(Step::Channels, channels)?;
        let workspace = match &self.shared.workspaces {
            Some(workspaces) => Some(take(Step::MountDisk, || {
                let owner = self.shared.own_uids.then_some(uid);
                workspaces.ready(self.index, prepare.continues, owner)
            })?),
            None => None,
        };
        if let Some(base) = &base {
            take(Step::EnterBase, || move_into_link_name_space(base.as_fd(), Some(LinkNameSpaceType::Mount)))?;
        }
        let cloned = take(Step::CloneInit, || -> io::Result<Cloned> {
            let mut flags = 0;
            if self.shared.profile != Profile::Restricted {
                flags |= NAMESPACES;
                if self.shared.network == Network::Loopback {
                    flags |= libc::CLONE_NEWNET as u64;
                }
            }
            sys::clone(flags, self.cgroup.as_ref().and_then(SlotCgroup::clone_into))
        });
        if let Ok(Cloned::Child) = cloned {
            drop((status, server));
            let birth = Birth { shared: &self.shared, prepare, uid, workspace, status: status_inside };
            init::main(birth, worker);
        }
        if let (Some(_), Some(home)) = (&base, &self.shared.mount_namespace) {
            take(Step::EnterBase, || move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount)))?;
        }
        let Cloned::Parent { pid, pidfd: init_fd } = cloned? else { sys::exit_now(1) };
        let init = Pid::from_raw(pid).ok_or_else(|| Failure { step: Step::CloneInit, source: rustix::io::Errno::SRCH.into() })?;
        let born = match prepare.zygote {
            None => {
                // While we have the inner end, too, the end of an init that dies without a word cannot be seen.
                drop((status_inside, worker));
                await_birth(&status)
            }
            Some(number) => self.await_fork(number, prepare, uid, (&status, &status_inside), &worker, &init_fd),
        };
        let mut fds = match born {
            Ok(fds) => fds.into_iter(),
            Err(failure) => {
                // It may hang in a later step: end it in any case, and leave no zombie.
                take(Step::Reap, || kill(&init_fd).and_then(|()| reap(init)))?;
                return Err(failure);
            }
        };
        let mut next =
            || fds.next().ok_or_else(|| Failure { step: Step::Ready, source: io::Error::from(io::ErrorKind::UnexpectedEof) });
        let (worker_fd, directory) = (next()?, next()?);
        let (stdin, stdout, stderr, job) = server;
        let ends = ServerEnds { stdin, stdout, stderr, job, directory, mount_namespace: fds.next() };
        Ok((Sandbox { init, init_fd, worker_fd, status, uid }, ends))
    }

    /// Kills everything of a sandbox: by cgroup, and its init in any case.
    fn kill(&self, sandbox: &Sandbox) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill()?;
        }
        kill(&sandbox.init_fd)?;
        if self.shared.profile == Profile::Restricted { workspaces::end_descendants(sandbox.init) } else { Ok(()) }
    }

    /// Waits until nothing of a sandbox is left, and removes its cgroup.
    fn remove(&mut self, sandbox: Sandbox) -> Result<(), Exit> {
        take(Step::Reap, || reap(sandbox.init)).map_err(|failure| Exit::Broken(failure.source))?;
        drop(sandbox);
        self.clean_up()
    }

    fn clean_up(&mut self) -> Result<(), Exit> {
        let Some(cgroup) = &mut self.cgroup else { return Ok(()) };
        // A process that a namespace's end has killed may be counted for a moment longer.
        let deadline = std::time::Instant::now() + REAP_TIMEOUT;
        while cgroup.populated()? {
            if std::time::Instant::now() > deadline {
                return Err(Exit::Broken(io::Error::new(io::ErrorKind::TimedOut, "killed processes do not end")));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        take(Step::RemoveLeaf, || cgroup.end()).map_err(|failure| Exit::Broken(failure.source))
    }
}

impl Slot {
    /// Has a zygote fork the worker into what init has made, as soon as it has.
    fn await_fork(
        &self,
        zygote: u32,
        prepare: Prepare,
        uid: u32,
        (status, inside): (&OwnedFd, &OwnedFd),
        worker: &WorkerEnds,
        init: &OwnedFd,
    ) -> Result<Vec<OwnedFd>, Failure> {
        let failed = |source| Failure { step: Step::Fork, source };
        let mut mounted = await_status(status, init, None, |message| matches!(message, Status::Mounted))?.1.into_iter();
        let mut next = || mounted.next().ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()));
        let (directory, mount_namespace) = (next()?, next()?);
        let cgroups = self.cgroup.as_ref().map(SlotCgroup::procs).unwrap_or_default();
        let rules = mounted.next();
        let birth = zygote::Birth {
            uid,
            place: prepare.place,
            status: inside.as_fd(),
            job: worker.job.as_fd(),
            stdin: worker.stdin.as_fd(),
            stdout: worker.stdout.as_fd(),
            stderr: worker.stderr.as_fd(),
            init: init.as_fd(),
            rules: rules.as_ref().map(AsFd::as_fd),
            cgroups: &cgroups,
        };
        let line = self.shared.zygotes.get(zygote as usize).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        take(Step::Fork, || line.ask(&birth))?;
        let born = await_status(status, init, Some(zygote::FORK_TIMEOUT), |message| matches!(message, Status::Born(_)));
        if born.as_ref().is_err_and(|failure| failure.errno() == libc::ETIMEDOUT) {
            line.complain();
        }
        let (born, fds) = born?;
        let Status::Born(pid) = born else { return Err(failed(io::ErrorKind::InvalidData.into())) };
        // Init waits for it: the program is its child by now.
        rustix::io::write(status, &pid.to_le_bytes()).map_err(|error| failed(error.into()))?;
        await_status(status, init, None, |message| matches!(message, Status::Ready))?;
        Ok(fds.into_iter().chain([directory, mount_namespace]).collect())
    }
}

/// Waits for one message, and takes any failure for the answer. The socket's other end is open in more places than init:
/// its death is seen by its own descriptor.
fn await_status(
    status: &OwnedFd,
    init: &OwnedFd,
    timeout: Option<Duration>,
    wanted: impl Fn(&Status) -> bool,
) -> Result<(Status, Vec<OwnedFd>), Failure> {
    let failed = |source| Failure { step: Step::Fork, source };
    let timeout = timeout.map(Timespec::try_from).transpose().map_err(|error| failed(io::Error::other(error)))?;
    let mut fds = [PollFd::new(status, PollFlags::IN), PollFd::new(init, PollFlags::IN)];
    let polled = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()));
    if polled.map_err(|error| failed(error.into()))? == 0 {
        return Err(failed(rustix::io::Errno::TIMEDOUT.into()));
    }
    if fds[0].revents().is_empty() {
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

fn kill(process: &OwnedFd) -> Result<(), io::Error> {
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for init's end: with it, the kernel has ended and reaped everything in its pid namespace.
fn reap(init: Pid) -> io::Result<()> {
    loop {
        match waitpid(Some(init), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// For [`crate::runner`]: what a descriptor of a namespace is called.
pub(crate) fn own_mount_namespace() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/self/ns/mnt")?.into())
}
