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

mod birth;
mod watch;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

use greenroom_core::Profile;
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};

use crate::{
    cgroup::SlotCgroup,
    config::Network,
    message::{FromSlot, Place, Prepare, ToSlot, receive, receive_now, send},
    network::Devices,
    step::{Step, take},
    sys::{self, Stack},
    workspaces::{self, Workspaces},
    zygote::Line,
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
    /// Where network devices are made, if they can be.
    pub(crate) devices: Option<Devices>,
    /// Where sandboxes have mounts of their own.
    pub(crate) init: Option<InitFiles>,
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

/// What the first processes of sandboxes are made of.
pub(crate) struct InitFiles {
    /// The program.
    pub(crate) program: OwnedFd,
    /// The system call filter, as the kernel takes it.
    pub(crate) filter: OwnedFd,
}

/// How often a slot looks at the CPU time at most.
const CPU_RESOLUTION_US: u64 = 1_000;
/// How long the end of a killed sandbox is waited for before the slot gives itself up (a process stuck in the
/// kernel); the runner replaces it.
const REAP_TIMEOUT: Duration = Duration::from_secs(30);

/// The slot's own state.
pub(crate) struct Slot {
    pub(crate) shared: Rc<Shared>,
    pub(crate) index: u32,
    pub(crate) cgroup: Option<SlotCgroup>,
    /// The server.
    pub(crate) server: OwnedFd,
    generation: u32,
    /// What processes that share our memory for a moment stand on.
    stack: Stack,
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
    /// The way out of its network, if it has one.
    device: Option<OwnedFd>,
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
    pub(crate) fn new(shared: Rc<Shared>, index: u32, cgroup: Option<SlotCgroup>, server: OwnedFd) -> io::Result<Self> {
        Ok(Self { shared, index, cgroup, server, generation: 0, stack: Stack::new()? })
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
                if let (Some(workspaces), Place::Data) = (&self.shared.workspaces, prepare.place) {
                    take(Step::RemoveLeaf, || workspaces.clear(self.index)).map_err(|failure| Exit::Broken(failure.source))?;
                }
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
            fds.extend(ends.mount_namespace.iter().chain(&ends.device).map(AsFd::as_fd));
        }
        send(&self.server, &FromSlot::Ready { uid: sandbox.uid }, &fds).map_err(|_| Exit::ServerGone)
    }

    fn next_uid(&mut self) -> u32 {
        let generation = self.generation % self.shared.uids_per_slot;
        self.generation = self.generation.wrapping_add(1);
        self.shared.first_uid + self.index + self.shared.slots * generation
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
