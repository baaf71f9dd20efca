//! A sandbox that stays: its first process lives until somebody ends it, and talks with the server meanwhile.
//!
//! One task owns the slot's connection for as long as the sandbox lives; handles send it requests.

use std::{io, os::fd::OwnedFd, sync::Arc};

use greenroom_core::{DiskLimits, Exit, JobFile, Limits};
use greenroom_sandbox::message::{Counted, Ended, FromSlot, Prepare, StageLimits, ToSlot};
use tokio::{
    io::unix::AsyncFd,
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
};

use super::{
    ExecError, Local,
    runner::nonblocking,
    slot::{Lease, SlotConnection},
    stage,
};

/// Requests of handles that wait for the owner task.
const REQUESTS: usize = 16;

/// What to start in a sandbox that stays.
#[derive(Clone, Debug)]
pub struct OpenSpec {
    /// Program and arguments; `argv[0]` is a path.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// What it may use in its whole life. `output_bytes` means nothing: whoever opens it reads its pipes.
    pub limits: Limits,
    /// Quota of its files.
    pub disk: DiskLimits,
    /// Written below [`greenroom_core::DATA`], where it starts.
    pub files: Vec<JobFile>,
    /// The language whose warm interpreter may run `argv`, as in [`greenroom_core::StageSpec::warm`].
    pub warm: Option<String>,
    /// Whether it has a network: [`OpenSandbox::device`].
    pub network: bool,
}

impl OpenSpec {
    /// For `wall_ms` and `cpu_ms`: no limit that anybody lives to see (a hundred years).
    pub const NO_TIME_LIMIT_MS: u64 = 100 * 366 * 86_400_000;
}

/// A sandbox that stays. Dropped, it is killed.
pub struct OpenSandbox {
    /// The conversation: a connected stream socket, whose other end is the program's descriptor 3. Does not block.
    pub channel: OwnedFd,
    /// Its standard input. None of these blocks.
    pub stdin: OwnedFd,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
    /// The directory of its files, [`greenroom_core::DATA`] as it sees it: only for `openat2` beneath it, through no link.
    pub directory: OwnedFd,
    /// Whose its files are.
    pub uid: u32,
    /// Where the packets of its programs come from and go to, if it has a network. Its network is there until this is closed.
    pub device: Option<OwnedFd>,
    handle: OpenHandle,
}

/// The part of an [`OpenSandbox`] that is not descriptors. Cheap to clone; with the last one the sandbox ends.
#[derive(Clone)]
pub struct OpenHandle {
    requests: mpsc::Sender<Request>,
    phase: watch::Receiver<Phase>,
}

/// What a sandbox has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenUsage {
    /// User and system time of all its processes since the program started, microseconds.
    pub cpu_us: u64,
    /// Memory in use now, bytes. `None` where nothing counts it, and after the end.
    pub memory_bytes: Option<u64>,
    /// The most it had, bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Whether the kernel's out-of-memory killer has struck.
    pub out_of_memory: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenEnd {
    /// How its first process ended; `None` where it was killed by us, or the runner was lost.
    pub exit: Option<Exit>,
    /// What it used in its life.
    pub usage: OpenUsage,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    /// The program has ended; what is left of it is being removed.
    Ended(OpenEnd),
    /// Nothing is left of it.
    Gone(OpenEnd),
}

enum Request {
    Signal(i32),
    Count(oneshot::Sender<OpenUsage>),
    Kill,
}

impl Local {
    /// Makes a sandbox and starts a program in it that stays. Dropping the future gives up.
    ///
    /// # Errors
    /// [`ExecError`]. A program that cannot be started is none: it ends at once.
    pub async fn open(&self, spec: OpenSpec) -> Result<OpenSandbox, ExecError> {
        let place = Arc::clone(&self.inner.staying).try_acquire_owned().map_err(|_| ExecError::NoRoom)?;
        let kind = self.inner.kind_of(spec.warm.as_deref(), &spec.argv);
        let mut lease =
            self.inner.slots.lease_staying(Prepare::session(spec.disk).with_network(spec.network), spec.disk, kind).await?;
        let failed = |source| ExecError::Io { what: "the session's pipes", source };
        let (directory, uid) = lease.files().map_err(failed)?;
        let device = lease.device();
        let (slot, ends) = lease.open()?;
        let job = stage::encode(&spec.files, &spec.argv, &spec.env, &spec.limits, true).map_err(failed)?;
        let channel = nonblocking(ends.job).map_err(failed)?;
        for fd in [&ends.stdin, &ends.stdout, &ends.stderr] {
            rustix::io::ioctl_fionbio(fd, true).map_err(|errno| failed(errno.into()))?;
        }
        slot.send(&ToSlot::Start(StageLimits::from(&spec.limits)), None).await?;
        write_all(&channel, &job).await.map_err(failed)?;
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (tell, phase) = watch::channel(Phase::Running);
        tokio::spawn(own(lease, place, receiver, tell));
        Ok(OpenSandbox {
            channel: channel.into_inner(),
            stdin: ends.stdin,
            stdout: ends.stdout,
            stderr: ends.stderr,
            directory,
            uid,
            device,
            handle: OpenHandle { requests, phase },
        })
    }
}

/// Writes everything; a program that has ended already reads nothing, and that is no failure of the writing.
async fn write_all(to: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = to.writable().await?;
        match ready.try_io(|to| rustix::net::send(to, bytes, rustix::net::SendFlags::NOSIGNAL).map_err(io::Error::from)) {
            Ok(Ok(sent)) => bytes = &bytes[sent..],
            Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}

/// Owns the sandbox from its start until nothing of it is left.
async fn own(lease: Lease, place: OwnedSemaphorePermit, mut requests: mpsc::Receiver<Request>, tell: watch::Sender<Phase>) {
    let end = match lease.slot() {
        Ok(slot) => watch_over(slot, &mut requests).await,
        Err(_) => OpenEnd::default(),
    };
    // Nobody may be interested any more.
    tell.send_replace(Phase::Ended(end));
    lease.finish().await;
    drop(place);
    tell.send_replace(Phase::Gone(end));
}

async fn watch_over(slot: &SlotConnection, requests: &mut mpsc::Receiver<Request>) -> OpenEnd {
    let mut counting: std::collections::VecDeque<oneshot::Sender<OpenUsage>> = std::collections::VecDeque::new();
    let mut handles_left = true;
    loop {
        tokio::select! {
            message = slot.receive() => match message {
                Ok((FromSlot::Counted(counted), _)) => {
                    if let Some(asked) = counting.pop_front() {
                        // Who asked may be gone.
                        let _unheard = asked.send(counted.into());
                    }
                }
                Ok((FromSlot::Ended(ended), _)) => return ended.into(),
                Ok(_) => {}
                // The runner is lost, and everything with it.
                Err(_) => return OpenEnd::default(),
            },
            request = requests.recv(), if handles_left && counting.len() < REQUESTS => {
                let sent = match request {
                    Some(Request::Signal(number)) => slot.send(&ToSlot::Signal(number), None).await,
                    Some(Request::Count(asked)) => {
                        counting.push_back(asked);
                        slot.send(&ToSlot::Count, None).await
                    }
                    Some(Request::Kill) => slot.send(&ToSlot::Kill, None).await,
                    None => {
                        handles_left = false;
                        slot.send(&ToSlot::Kill, None).await
                    }
                };
                if sent.is_err() {
                    return OpenEnd::default();
                }
            }
        }
    }
}

impl From<Counted> for OpenUsage {
    fn from(counted: Counted) -> Self {
        Self {
            cpu_us: counted.cpu_us,
            memory_bytes: counted.memory_bytes,
            memory_peak_bytes: counted.memory_peak_bytes,
            out_of_memory: counted.out_of_memory,
        }
    }
}

impl From<Ended> for OpenEnd {
    fn from(ended: Ended) -> Self {
        Self {
            exit: ended.status.filter(|_| ended.stopped.is_none()).map(stage::exit_of),
            usage: OpenUsage {
                cpu_us: ended.cpu_us,
                memory_bytes: None,
                memory_peak_bytes: ended.memory_peak_bytes,
                out_of_memory: ended.out_of_memory,
            },
        }
    }
}

impl OpenSandbox {
    /// What can be done with it by those who do not hold its descriptors.
    pub fn handle(&self) -> &OpenHandle {
        &self.handle
    }

    /// Signals its first process.
    ///
    /// # Errors
    /// [`ExecError::RunnerLost`] where it has ended.
    pub async fn signal(&self, number: i32) -> Result<(), ExecError> {
        self.handle.signal(number).await
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// [`ExecError::RunnerLost`] where it has ended.
    pub async fn usage(&self) -> Result<OpenUsage, ExecError> {
        self.handle.usage().await
    }

    /// Resolves when its first process has ended.
    pub async fn ended(&self) -> OpenEnd {
        self.handle.ended().await
    }

    /// Kills it, and returns when nothing of it is left.
    pub async fn close(&self) -> OpenEnd {
        self.handle.close().await
    }
}

impl OpenHandle {
    /// See [`OpenSandbox::signal`].
    ///
    /// # Errors
    /// [`ExecError::RunnerLost`] where it has ended.
    pub async fn signal(&self, number: i32) -> Result<(), ExecError> {
        self.requests.send(Request::Signal(number)).await.map_err(|_| ExecError::RunnerLost)
    }

    /// See [`OpenSandbox::usage`].
    ///
    /// # Errors
    /// [`ExecError::RunnerLost`] where it has ended.
    pub async fn usage(&self) -> Result<OpenUsage, ExecError> {
        let (asked, answer) = oneshot::channel();
        self.requests.send(Request::Count(asked)).await.map_err(|_| ExecError::RunnerLost)?;
        answer.await.map_err(|_| ExecError::RunnerLost)
    }

    /// Whether its first process has not ended yet, as far as is known here.
    pub fn is_alive(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Running)
    }

    /// See [`OpenSandbox::ended`].
    pub async fn ended(&self) -> OpenEnd {
        self.until(|phase| match phase {
            Phase::Running => None,
            Phase::Ended(end) | Phase::Gone(end) => Some(end),
        })
        .await
    }

    /// See [`OpenSandbox::close`].
    pub async fn close(&self) -> OpenEnd {
        // Where nobody takes it, it has ended already.
        let _ended_before = self.requests.send(Request::Kill).await;
        self.until(|phase| match phase {
            Phase::Running | Phase::Ended(_) => None,
            Phase::Gone(end) => Some(end),
        })
        .await
    }

    async fn until(&self, reached: impl Fn(Phase) -> Option<OpenEnd>) -> OpenEnd {
        let mut phase = self.phase.clone();
        loop {
            if let Some(end) = reached(*phase.borrow_and_update()) {
                return end;
            }
            if phase.changed().await.is_err() {
                // Its owner is gone without a word: the async runtime ends.
                return OpenEnd::default();
            }
        }
    }
}
