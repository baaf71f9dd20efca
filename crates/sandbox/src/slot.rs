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
    message::{Ended, FromSlot, Prepare, StageLimits, Status, Stopped, ToSlot, packet_pair, receive, send, stream_pair},
    step::{Failure, Step, take},
    sys::{self, Cloned},
    worker::monotonic_us,
    workspaces::{self, Workspaces},
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
            let request = match receive::<ToSlot>(&self.server) {
                Ok(Some(request)) => request,
                Ok(None) => return Exit::ServerGone,
                Err(error) => return Exit::Broken(error),
            };
            // Anything else is for a sandbox that has ended meanwhile.
            if let (ToSlot::Prepare(prepare), fds) = request
                && let Err(exit) = self.one(prepare, fds.into_iter().next())
            {
                return exit;
            }
        }
    }

    /// One sandbox, from its making to its removal.
    fn one(&mut self, prepare: Prepare, base: Option<OwnedFd>) -> Result<(), Exit> {
        match self.prepare(prepare, base) {
            Ok((sandbox, ends)) => {
                self.tell_ready(&sandbox, &ends)?;
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
        self.tell(&FromSlot::Idle)
    }

    fn tell(&self, message: &FromSlot) -> Result<(), Exit> {
        send(&self.server, message, &[]).map_err(|_| Exit::ServerGone)
    }

    fn tell_ready(&self, sandbox: &Sandbox, ends: &ServerEnds) -> Result<(), Exit> {
        let mut fds = vec![ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd(), ends.job.as_fd()];
        fds.extend(ends.mount_namespace.as_ref().map(AsFd::as_fd));
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
        drop((status_inside, worker));
        let init = Pid::from_raw(pid).ok_or_else(|| Failure { step: Step::CloneInit, source: rustix::io::Errno::SRCH.into() })?;
        let born = await_birth(&status);
        let mut fds = match born {
            Ok(fds) => fds.into_iter(),
            Err(failure) => {
                // It may hang in a later step: end it in any case, and leave no zombie.
                take(Step::Reap, || kill(&init_fd).and_then(|()| reap(init)))?;
                return Err(failure);
            }
        };
        let worker_fd =
            fds.next().ok_or_else(|| Failure { step: Step::Ready, source: io::Error::from(io::ErrorKind::UnexpectedEof) })?;
        let (stdin, stdout, stderr, job) = server;
        let ends = ServerEnds { stdin, stdout, stderr, job, mount_namespace: fds.next() };
        Ok((Sandbox { init, init_fd, worker_fd, status, uid }, ends))
    }

    /// Watches a prepared sandbox until its stage is over.
    fn watch(&mut self, sandbox: &Sandbox) -> Result<Ended, Exit> {
        let mut run = Run::default();
        let stopped = loop {
            match self.turn(sandbox, &mut run)? {
                Turn::Goes => {}
                Turn::Over(stopped) => break stopped,
            }
        };
        self.end(sandbox, run, stopped)
    }

    /// Waits for the next thing to happen, and does it.
    fn turn(&mut self, sandbox: &Sandbox, run: &mut Run) -> Result<Turn, Exit> {
        let now = monotonic_us();
        let timeout = match self.check_time(run, now)? {
            Check::Stop(why) => return Ok(Turn::Over(Some(why))),
            Check::In(wait_us) => wait_us,
        };
        let timeout = timeout.map(|us| Timespec::try_from(Duration::from_micros(us)).map_err(io::Error::other)).transpose()?;
        let mut fds = [PollFd::new(&sandbox.status, PollFlags::IN), PollFd::new(&self.server, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Turn::Goes),
            other => other.map_err(io::Error::from)?,
        };
        let [from_sandbox, from_server] = fds.map(|fd| !fd.revents().is_empty());
        if from_sandbox {
            return self.hear_sandbox(sandbox, run);
        }
        if from_server {
            return self.hear_server(sandbox, run);
        }
        Ok(Turn::Goes)
    }

    fn hear_sandbox(&self, sandbox: &Sandbox, run: &mut Run) -> Result<Turn, Exit> {
        match receive::<Status>(&sandbox.status)? {
            Some((Status::Exec(at), _)) => run.exec_at_us = Some(at),
            Some((Status::Exited { status, cpu_us }, _)) => {
                (run.status, run.waited_cpu_us) = (Some(status), cpu_us);
                return Ok(Turn::Over(None));
            }
            Some((Status::Failed(step, errno), _)) => {
                run.failed = Some((step, errno));
                return Ok(Turn::Over(None));
            }
            Some((Status::Ready | Status::Sealed, _)) => {}
            // Init is gone, without a word: killed (by the kernel, out of memory).
            None => return Ok(Turn::Over(None)),
        }
        Ok(Turn::Goes)
    }

    fn hear_server(&mut self, sandbox: &Sandbox, run: &mut Run) -> Result<Turn, Exit> {
        match receive::<ToSlot>(&self.server)? {
            Some((ToSlot::Start(limits), _)) => {
                if let Some(cgroup) = &mut self.cgroup {
                    match take(Step::SetLimits, || cgroup.limit(&limits)) {
                        Ok(()) => {}
                        // Less than the sandbox itself needs: out of memory before it began.
                        Err(failure) if failure.errno() == libc::EBUSY => {
                            run.cannot_fit = true;
                            return Ok(Turn::Over(None));
                        }
                        Err(failure) => {
                            run.failed = Some((failure.step, failure.errno()));
                            return Ok(Turn::Over(None));
                        }
                    }
                }
                run.limits = Some(limits);
                run.started_at_us = monotonic_us();
                // A worker that is gone already says so itself, on the status socket.
                match rustix::io::write(&sandbox.status, b"g") {
                    Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(Turn::Goes),
                    Err(error) => Err(Exit::Broken(error.into())),
                }
            }
            Some((ToSlot::Signal(number), _)) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    match pidfd_send_signal(&sandbox.worker_fd, signal) {
                        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                        Err(error) => return Err(Exit::Broken(error.into())),
                    }
                }
                Ok(Turn::Goes)
            }
            Some((ToSlot::Kill, _)) => Ok(Turn::Over(Some(Stopped::Asked))),
            Some((ToSlot::Prepare(_), _)) => Ok(Turn::Goes),
            None => {
                self.kill(sandbox)?;
                Err(Exit::ServerGone)
            }
        }
    }

    /// Whether a time limit has been reached; else how long it can take at least, microseconds.
    fn check_time(&self, run: &Run, now: u64) -> io::Result<Check> {
        let Some(limits) = run.limits else { return Ok(Check::In(None)) };
        let since = run.exec_at_us.unwrap_or(run.started_at_us);
        let wall_left = (limits.wall_ms * 1000).saturating_sub(now.saturating_sub(since));
        if wall_left == 0 {
            return Ok(Check::Stop(Stopped::Wall));
        }
        let Some(cgroup) = &self.cgroup else { return Ok(Check::In(Some(wall_left))) };
        let cpu_left = (limits.cpu_ms * 1000).saturating_sub(cgroup.cpu_us()?);
        if cpu_left == 0 {
            return Ok(Check::Stop(Stopped::Cpu));
        }
        // All processors that it may use, used without pause: sooner it cannot be used up.
        let parallel = u64::from(limits.cpu_milli).div_ceil(1000).clamp(1, self.shared.cpus);
        Ok(Check::In(Some(wall_left.min((cpu_left / parallel).max(CPU_RESOLUTION_US)))))
    }

    /// Ends what is left of a stage and takes stock.
    fn end(&self, sandbox: &Sandbox, run: Run, stopped: Option<Stopped>) -> Result<Ended, Exit> {
        let ended_at_us = monotonic_us();
        if run.status.is_none() || self.shared.profile == Profile::Restricted {
            self.kill(sandbox)?;
        }
        // Else init has told and exits: the kernel itself ends whatever is left in its pid namespace.
        let counters = self.cgroup.as_ref().map(SlotCgroup::counters).transpose()?.unwrap_or_default();
        let mut ended = Ended {
            status: run.status,
            stopped,
            out_of_memory: counters.out_of_memory || run.cannot_fit,
            wall_us: run.exec_at_us.map_or(0, |at| ended_at_us.saturating_sub(at)),
            cpu_us: if self.cgroup.is_some() { counters.cpu_us } else { run.waited_cpu_us },
            memory_peak_bytes: counters.memory_peak_bytes,
            failed: run.failed,
            exec_at_us: run.exec_at_us.unwrap_or(ended_at_us),
            ended_at_us,
        };
        if run.exec_at_us.is_none() && stopped.is_none() && !ended.out_of_memory && ended.failed.is_none() {
            // It died before it became the program, and nothing of the program's can have caused that.
            ended.failed = Some((Step::Exec, libc::EIO));
        }
        if let (None, Some(limits)) = (stopped, run.limits) {
            // It ended by itself, but late: the clocks are looked at from time to time only.
            if ended.wall_us >= limits.wall_ms * 1000 {
                ended.stopped = Some(Stopped::Wall);
            } else if self.used_up_cpu(&ended, &limits) {
                ended.stopped = Some(Stopped::Cpu);
            }
        }
        Ok(ended)
    }

    fn used_up_cpu(&self, ended: &Ended, limits: &StageLimits) -> bool {
        match &self.cgroup {
            Some(_) => ended.cpu_us >= limits.cpu_ms * 1000,
            // Then the kernel itself ends the process, at a whole second (setrlimit(2), RLIMIT_CPU).
            None => ended.status.is_some_and(|status| status & 0x7f == libc::SIGXCPU) || ended.cpu_us >= limits.cpu_ms * 1000,
        }
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

/// What is known of a stage while it runs.
#[derive(Default)]
struct Run {
    limits: Option<StageLimits>,
    started_at_us: u64,
    exec_at_us: Option<u64>,
    status: Option<i32>,
    waited_cpu_us: u64,
    failed: Option<(Step, i32)>,
    cannot_fit: bool,
}

enum Turn {
    Goes,
    Over(Option<Stopped>),
}

enum Check {
    Stop(Stopped),
    In(Option<u64>),
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
            Some((Status::Exec(_) | Status::Exited { .. }, _)) | None => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
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
