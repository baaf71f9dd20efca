//! The runner process: started, listened to, replaced when it ends.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use greenroom_sandbox::{
    HostReport, SandboxConfig,
    message::{CONFIG_FOLLOWS, FromRunner, packet_pair, receive_report, send},
};
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};

use super::{Inner, StartError, slot::SlotConnection};

/// A runner that ended is replaced after this long, so that one that cannot live does not spin.
const RESTART_DELAY: Duration = Duration::from_millis(200);

/// A running runner.
pub(super) struct RunnerProcess {
    /// Shared with its slots' connections: while one is in use the runner lives.
    control: Arc<AsyncFd<OwnedFd>>,
    ended: oneshot::Receiver<io::Result<std::process::ExitStatus>>,
    /// The slots' generation that it serves.
    pub(super) generation: u64,
}

impl RunnerProcess {
    /// Starts one and waits for its report.
    pub(super) async fn start(config: &SandboxConfig) -> Result<(Self, HostReport), StartError> {
        let (ours, theirs) = packet_pair().map_err(StartError::Spawn)?;
        send_config(&ours, config).map_err(StartError::Spawn)?;
        let ended = spawn(theirs).map_err(StartError::Spawn)?;
        let control = Arc::new(nonblocking(ours).map_err(StartError::Spawn)?);
        let mut runner = Self { control, ended, generation: 0 };
        match runner.next().await.map_err(StartError::Spawn)? {
            Some((FromRunner::Report(report), _)) => Ok((runner, report)),
            Some((FromRunner::Refused(reason), _)) => {
                // It exits by itself now; wait, so that nothing of it is left when we say so.
                drop(runner.control);
                runner.ended.await.map_err(|_| StartError::Died)?.map_err(StartError::Spawn)?;
                Err(StartError::Refused(reason))
            }
            Some((FromRunner::Slot(_), _)) | None => Err(StartError::Died),
        }
    }

    /// The next message; `None` when the runner has ended.
    async fn next(&mut self) -> io::Result<Option<(FromRunner, Vec<OwnedFd>)>> {
        read(&self.control, |socket| receive_report(socket)).await
    }
}

/// A runner that is to take over.
pub(super) struct Successor {
    pub(super) runner: RunnerProcess,
    /// Told when it has.
    pub(super) took_over: oneshot::Sender<()>,
}

impl Successor {
    /// Its number is the latest from here on: whoever took one before it, and after it was started, has taken over before it.
    fn take_over(self, inner: &Inner) -> RunnerProcess {
        let Self { mut runner, took_over } = self;
        runner.generation = inner.slots.next_generation();
        inner.slots.runner_back();
        // Whoever asked for it may have gone away.
        let _nobody_waits = took_over.send(());
        runner
    }
}

/// Takes in the runner's slots until it ends; then starts another, until the server shuts down.
pub(super) async fn supervise(inner: Arc<Inner>, mut runner: RunnerProcess, mut successors: mpsc::Receiver<Successor>) {
    loop {
        tokio::select! {
            message = runner.next() => match message {
                Ok(Some((FromRunner::Slot(index), fds))) => {
                    if let Some(socket) = fds.into_iter().next() {
                        adopt(&inner, &runner, index, socket);
                    }
                    continue;
                }
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "the runner cannot be understood"),
            },
            Some(successor) = successors.recv() => {
                runner = successor.take_over(&inner);
                continue;
            }
            () = inner.shutdown.cancelled() => {
                inner.slots.close();
                // Leases may still hold it: this end is for all of them.
                if let Err(error) = rustix::net::shutdown(runner.control.get_ref(), rustix::net::Shutdown::Both) {
                    tracing::warn!(%error, "the runner cannot be told to end");
                }
                if runner.ended.await.is_err() {
                    tracing::warn!("the runner's end was not seen");
                }
                inner.stopped.cancel();
                return;
            }
        }
        inner.slots.runner_lost();
        match runner.ended.await {
            Ok(Ok(status)) => tracing::error!(%status, "the runner ended; starting another"),
            other => tracing::error!(?other, "the runner ended; starting another"),
        }
        runner = loop {
            tokio::select! {
                () = tokio::time::sleep(RESTART_DELAY) => {}
                Some(successor) = successors.recv() => break successor.take_over(&inner),
                () = inner.shutdown.cancelled() => {
                    inner.stopped.cancel();
                    return;
                }
            }
            let config = inner.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            match RunnerProcess::start(&config).await {
                Ok((mut runner, _)) => {
                    runner.generation = inner.slots.next_generation();
                    break runner;
                }
                Err(error) => tracing::error!(%error, "no runner can be started; trying again"),
            }
        };
        inner.slots.runner_back();
    }
}

fn adopt(inner: &Arc<Inner>, runner: &RunnerProcess, index: u32, socket: OwnedFd) {
    match SlotConnection::new(index, socket, runner.generation, Arc::clone(&runner.control)) {
        Ok(slot) => inner.slots.adopt(slot, Arc::clone(&runner.control)),
        Err(error) => tracing::error!(%error, index, "a slot's socket cannot be used"),
    }
}

fn send_config(socket: &OwnedFd, config: &SandboxConfig) -> io::Result<()> {
    let file = memfd_create("greenroom-config", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    // In one piece, and not as text: the files that go along can be long.
    file.write_all(&postcard::to_stdvec(config).map_err(io::Error::other)?)?;
    send(socket, &CONFIG_FOLLOWS, &[file.as_fd()])
}

/// Starts `<this executable> runner` from a thread that waits for its end.
fn spawn(socket: OwnedFd) -> io::Result<oneshot::Receiver<io::Result<std::process::ExitStatus>>> {
    let mut command = Command::new("/proc/self/exe");
    // Its environment is nobody's business but its own: what it does not have, no program can find.
    command.arg("runner").env_clear().stdin(Stdio::from(socket)).stdout(Stdio::null());
    if let Ok(step) = std::env::var("GREENROOM_CRASH_AT") {
        command.env("GREENROOM_CRASH_AT", step);
    }
    let mut child = command.spawn()?;
    // The command holds our copy of its socket: while that is open, its end cannot be seen.
    drop(command);
    let (tell, ended) = oneshot::channel();
    std::thread::Builder::new().name("runner-wait".into()).spawn(move || {
        // Nobody may be interested any more.
        let _unheard = tell.send(child.wait());
    })?;
    Ok(ended)
}

/// Makes a descriptor non-blocking and registers it with the reactor.
pub(crate) fn nonblocking(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    watch(fd, Interest::READABLE | Interest::WRITABLE)
}

/// Registers a descriptor with the reactor.
#[expect(deprecated, reason = "its successor is unsafe for types whose descriptor may change; an OwnedFd's cannot")]
pub(super) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// Receives a message when there is one.
pub(super) async fn read<T>(socket: &AsyncFd<OwnedFd>, receive: fn(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(result) = ready.try_io(|socket| receive(socket.get_ref())) {
            return result;
        }
    }
}
