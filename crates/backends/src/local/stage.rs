//! One stage in a prepared sandbox: the job goes in, output comes out, the slot says how it ended.

use std::{io, os::fd::OwnedFd};

use greenroom_core::{Exit, JobFile, Limits, Output, StageOutcome, StageSpec, Stdin, Stream, Usage, Verdict};
use greenroom_sandbox::message::{Ended, FileHead, FromSlot, JobHead, StageLimits, Stopped, ToSlot};
use rustix::io::{Errno, write};
use tokio::{
    io::unix::AsyncFd,
    sync::{Semaphore, SemaphorePermit, mpsc},
};

use super::{
    Control, Event, ExecError, monotonic_us,
    pipes::{Pipes, READ_BYTES},
    runner::nonblocking,
    slot::{Ends, Lease, Left, SlotConnection},
};

/// So much a pipe or a socket that nobody has written to yet takes at once (pipe(7), PIPE_BUF).
const FRESH_BYTES: usize = 4096;
/// Events waiting for a client that reads slowly; more, and the program waits too.
pub(super) const EVENT_QUEUE: usize = 16;

/// Where a stage's output goes and its input comes from, where that is a client and not the request.
pub(super) struct Client {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) control: mpsc::Receiver<Control>,
}

/// A stage that is over.
pub(super) struct StageEnd {
    pub(super) outcome: StageOutcome,
    /// How long it waited for its turn, microseconds.
    pub(super) turn_us: u64,
    /// Monotonic microseconds of exec and end.
    pub(super) exec_at_us: u64,
    pub(super) ended_at_us: u64,
}

/// A job up to this size is handed over before its turn has come; it fits into the socket's buffer, and what it takes
/// of the sandbox's memory, before its own limits are in force, is little.
const EARLY_BYTES: usize = 64 * 1024;

/// Runs a stage. Dropping the future kills it (by dropping the lease).
pub(super) async fn run(
    lease: &mut Lease,
    turns: &Semaphore,
    files: &[JobFile],
    stage: &StageSpec,
    mut client: Option<&mut Client>,
) -> Result<StageEnd, ExecError> {
    let (slot, ends) = lease.open()?;
    let mut running = Running::new(slot, ends, files, stage)?;
    running.job.write_if_fresh();
    running.stdin.write_if_fresh();
    if running.job.bytes.len() <= EARLY_BYTES {
        running.job.advance();
    }
    let asked = monotonic_us();
    let turn = turns.acquire().await.map_err(|_| ExecError::ShuttingDown)?;
    let turn_us = monotonic_us() - asked;
    slot.send(&ToSlot::Start(StageLimits::from(&stage.limits)), None).await?;
    let over = running.finish(slot, turn, client.as_deref_mut()).await?;
    // What came too late for this stage is not the next one's.
    while client.as_mut().is_some_and(|client| client.control.try_recv().is_ok()) {}
    lease.ended(if over.ended.status.is_some() { Left::Exited } else { Left::Ended });
    over.judge(stage, turn_us)
}

/// What is kept of a running stage.
pub(super) struct Running {
    /// What is left to send of the job: head and files.
    job: Outgoing,
    /// What is left to send to its standard input.
    stdin: Outgoing,
    pipes: Pipes,
    output: Output,
    /// The stream that crossed its limit, if one did.
    crossed: Option<Stream>,
    output_bytes: Option<u64>,
    interactive: bool,
}

/// A stage that has ended and whose output is complete.
pub(super) struct Over {
    ended: Ended,
    output: Output,
    crossed: Option<Stream>,
}

impl Running {
    fn new(slot: &SlotConnection, ends: Ends, files: &[JobFile], stage: &StageSpec) -> Result<Self, ExecError> {
        let io_failed = |source| ExecError::Io { what: "the sandbox's pipes", source };
        let (stdin, interactive) = match &stage.stdin {
            Stdin::Bytes(bytes) => (bytes.clone(), false),
            Stdin::Interactive => (Vec::new(), true),
        };
        let mut running = Self {
            job: Outgoing::new(ends.job, encode(files, &stage.argv, &stage.env, &stage.limits, false).map_err(io_failed)?),
            stdin: Outgoing::new(ends.stdin, stdin),
            pipes: Pipes::new(slot.outputs(), ends.stdout, ends.stderr).map_err(io_failed)?,
            output: Output::default(),
            crossed: None,
            output_bytes: stage.limits.output_bytes,
            interactive,
        };
        running.stdin.keep_open = interactive;
        Ok(running)
    }

    /// A stage in a process that runs already: its input is on its way.
    pub(super) fn going_on(stdin: Outgoing, pipes: Pipes, stage: &StageSpec) -> Self {
        let interactive = stage.stdin == Stdin::Interactive;
        let mut running = Self {
            job: Outgoing::nothing(),
            stdin,
            pipes,
            output: Output::default(),
            crossed: None,
            output_bytes: stage.limits.output_bytes,
            interactive,
        };
        running.stdin.keep_open = interactive;
        running
    }

    pub(super) async fn finish(
        mut self,
        slot: &SlotConnection,
        turn: SemaphorePermit<'_>,
        mut client: Option<&mut Client>,
    ) -> Result<Over, ExecError> {
        let io_failed = |source| ExecError::Io { what: "the program's output", source };
        let (mut ended, mut turn) = (None, Some(turn));
        self.job.advance();
        self.stdin.advance();
        loop {
            if let (Some(ended), true) = (ended, self.pipes.at_end()) {
                return Ok(Over { ended, output: self.output, crossed: self.crossed });
            }
            tokio::select! {
                chunk = self.pipes.next(), if !self.pipes.at_end() => {
                    let (stream, bytes) = chunk.map_err(io_failed)?;
                    self.take(stream, bytes, slot, client.as_deref_mut()).await?;
                }
                message = slot.receive(), if ended.is_none() => {
                    if let (FromSlot::Ended(how), _) = message? {
                        ended = Some(how);
                        // The next may run while we tidy up.
                        drop(turn.take());
                        // Nobody reads them any more.
                        self.job.close();
                        self.stdin.close();
                    }
                }
                () = self.job.writable(), if self.job.waits() => self.job.advance(),
                () = self.stdin.writable(), if self.stdin.waits() => self.stdin.advance(),
                request = next_request(client.as_deref_mut()), if self.interactive && self.stdin.has_room() => {
                    self.obey(request, slot).await?;
                }
            }
        }
    }

    /// Keeps or passes on what the program wrote.
    async fn take(
        &mut self,
        stream: Stream,
        bytes: Vec<u8>,
        slot: &SlotConnection,
        client: Option<&mut Client>,
    ) -> Result<(), ExecError> {
        if let Some(client) = client {
            // Waits while the client's queue is full. A client that is gone has dropped us too.
            if !bytes.is_empty() && client.events.send(Event::Output { stream, bytes }).await.is_err() {
                slot.send(&ToSlot::Kill, None).await?;
            }
            return Ok(());
        }
        let kept = match stream {
            Stream::Stdout => self.output.stdout.len(),
            Stream::Stderr => self.output.stderr.len(),
        };
        let limit = self.output_bytes.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let room = limit.saturating_sub(kept);
        self.output.push(stream, &bytes[..bytes.len().min(room)]);
        if bytes.len() > room && self.crossed.is_none() {
            self.crossed = Some(stream);
            slot.send(&ToSlot::Kill, None).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, request: Option<Control>, slot: &SlotConnection) -> Result<(), ExecError> {
        match request {
            Some(Control::Stdin(bytes)) => self.stdin.push(bytes),
            Some(Control::StdinEof) => self.stdin.keep_open = false,
            Some(Control::Signal(number)) => slot.send(&ToSlot::Signal(number), None).await?,
            // Whoever could write is gone.
            None => {
                self.stdin.keep_open = false;
                self.interactive = false;
            }
        }
        self.stdin.advance();
        Ok(())
    }
}

async fn next_request(client: Option<&mut Client>) -> Option<Control> {
    match client {
        Some(client) => client.control.recv().await,
        None => None,
    }
}

/// The job as the worker reads it: length, head, contents. With `channel` the program keeps the stream.
pub(super) fn encode(
    files: &[JobFile],
    argv: &[String],
    env: &[(String, String)],
    limits: &Limits,
    channel: bool,
) -> io::Result<Vec<u8>> {
    let head = JobHead {
        argv: argv.to_vec(),
        env: env.to_vec(),
        processes: limits.processes,
        open_files: limits.open_files,
        file_size_bytes: limits.file_size_bytes,
        memory_bytes: limits.memory_bytes,
        cpu_ms: limits.cpu_ms,
        channel,
        files: files
            .iter()
            .map(|file| FileHead { path: file.path.to_string(), len: file.content.len() as u64, executable: file.executable })
            .collect(),
    };
    let head = postcard::to_stdvec(&head).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + head.len() + files.iter().map(|file| file.content.len()).sum::<usize>());
    bytes.extend(u32::try_from(head.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend(head);
    files.iter().for_each(|file| bytes.extend(&file.content));
    Ok(bytes)
}

/// Bytes on their way into a descriptor. Written at once as far as it takes them; only what does not fit
/// registers with the reactor and waits.
pub(super) struct Outgoing {
    /// `None` once closed.
    fd: Option<OwnedFd>,
    waiting: Option<AsyncFd<OwnedFd>>,
    bytes: Vec<u8>,
    sent: usize,
    /// Writing does not block.
    nonblocking: bool,
    /// More may come: do not close when all is sent.
    keep_open: bool,
}

impl Outgoing {
    pub(super) fn new(fd: OwnedFd, bytes: Vec<u8>) -> Self {
        Self { fd: Some(fd), bytes, ..Self::nothing() }
    }

    /// Nowhere to go, and nothing that does.
    fn nothing() -> Self {
        Self { fd: None, waiting: None, bytes: Vec::new(), sent: 0, nonblocking: false, keep_open: false }
    }

    /// Nothing yet, but more may come.
    pub(super) fn open(fd: OwnedFd) -> Self {
        Self { keep_open: true, ..Self::new(fd, Vec::new()) }
    }

    /// Writes what is so little that it cannot wait: only before anything was written, and before the program begins.
    fn write_if_fresh(&mut self) {
        if self.bytes.len() <= FRESH_BYTES {
            self.write();
        }
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if self.sent == self.bytes.len() {
            (self.bytes, self.sent) = (bytes, 0);
        } else {
            self.bytes.extend(bytes);
        }
    }

    /// Whether a client may send more: it waits while a pipe's worth is on its way.
    fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < READ_BYTES
    }

    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) async fn writable(&self) {
        if let Some(waiting) = &self.waiting {
            match waiting.writable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => tracing::warn!(%error, "a pipe cannot be waited for"),
            }
        }
    }

    /// Writes what fits; closes when done.
    pub(super) fn advance(&mut self) {
        if !self.nonblocking
            && self.sent < self.bytes.len()
            && let Some(fd) = &self.fd
        {
            match rustix::io::ioctl_fionbio(fd, true) {
                Ok(()) => self.nonblocking = true,
                Err(error) => {
                    tracing::warn!(%error, "a pipe cannot be written");
                    return self.close();
                }
            }
        }
        self.write();
    }

    fn write(&mut self) {
        while self.sent < self.bytes.len() {
            let Some(fd) = &self.fd else { return };
            match write(fd, &self.bytes[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.waiting.is_none() {
                        match fd.try_clone().and_then(nonblocking) {
                            Ok(waiting) => self.waiting = Some(waiting),
                            Err(error) => {
                                tracing::warn!(%error, "a pipe cannot be waited for");
                                self.close();
                            }
                        }
                    }
                    return;
                }
                // The program has closed its end, or ended: the rest is not wanted.
                Err(_) => return self.close(),
            }
        }
        self.waiting = None;
        if !self.keep_open {
            self.close();
        }
    }

    fn close(&mut self) {
        self.waiting = None;
        self.fd = None;
        self.bytes = Vec::new();
        self.sent = 0;
    }
}

/// What `waitpid` told.
pub(super) fn exit_of(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

impl Over {
    /// One that said nothing.
    pub(super) fn of(ended: Ended) -> Self {
        Self { ended, output: Output::default(), crossed: None }
    }

    /// The verdict: from our own timers first, then the kernel's counters, and only then what `waitpid` says.
    pub(super) fn judge(self, stage: &StageSpec, turn_us: u64) -> Result<StageEnd, ExecError> {
        let Self { ended, output, crossed } = self;
        if let Some((step, errno)) = ended.failed {
            return Err(ExecError::Sandbox { step: step.name(), source: io::Error::from_raw_os_error(errno) });
        }
        let exit = ended.status.map(exit_of);
        let verdict = match (ended.stopped, crossed, exit) {
            (Some(Stopped::Cpu), ..) => Verdict::CpuTime,
            (Some(Stopped::Wall), ..) => Verdict::WallTime,
            (_, Some(Stream::Stdout), _) => Verdict::StdoutLimit,
            (_, Some(Stream::Stderr), _) => Verdict::StderrLimit,
            (Some(Stopped::Asked), ..) => Verdict::Cancelled,
            _ if ended.out_of_memory => Verdict::Memory,
            (_, _, Some(Exit::Code(0))) => Verdict::Ok,
            (_, _, Some(Exit::Code(_))) => Verdict::ExitStatus,
            (_, _, Some(Exit::Signal(_))) => Verdict::Signal,
            (_, _, None) => Verdict::SandboxFailed,
        };
        let usage = Usage { wall_us: ended.wall_us, cpu_us: ended.cpu_us, memory_peak_bytes: ended.memory_peak_bytes };
        let outcome = StageOutcome { kind: stage.kind, verdict, exit, output, usage };
        Ok(StageEnd { outcome, turn_us, exec_at_us: ended.exec_at_us, ended_at_us: ended.ended_at_us })
    }
}
