//! The local backend: jobs run in sandboxes of the runner process on this machine.

mod finished;
mod kept;
mod open;
mod pipes;
mod runner;
mod slot;
mod slots;
mod stage;
mod standby;
mod stock;

use std::{
    borrow::Cow,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use greenroom_core::{Blame, Job, Outcome, Profile, StageKind, StageOutcome, Stream, Verdict};
use greenroom_sandbox::{HostReport, SandboxConfig};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use self::open::{OpenEnd, OpenHandle, OpenSandbox, OpenSpec, OpenUsage};
pub(crate) use self::runner::nonblocking;
pub use self::{
    finished::{Finished, Start, Timings},
    kept::KeptStatus,
    standby::StandbyStatus,
    stock::{Held, StockStatus},
};
use self::{
    kept::Kept,
    runner::{RunnerProcess, Successor},
    slot::{Base, Lease},
    slots::Slots,
    stage::{Client, EVENT_QUEUE},
    standby::{Standbys, Work},
    stock::{Bounds, Kind, SharedStock, Stock},
};

/// How often what is kept ready is looked over where no job comes.
const LOOK_OVER: Duration = Duration::from_secs(5);

/// The local backend: a handle on the runner process. Cheap to clone. When the last clone is dropped the
/// runner ends everything and exits.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
    /// Dropped with the last handle: ends the runner.
    _alive: Arc<tokio_util::sync::DropGuard>,
}

struct Inner {
    host: HostReport,
    config: Mutex<SandboxConfig>,
    /// The zygotes' names and programs, by their numbers.
    zygotes: Vec<(String, String)>,
    slots: Arc<Slots>,
    /// What is kept ready.
    stock: SharedStock,
    /// One permit per slot. A job takes all that it will need at once: two jobs that each have one slot and wait
    /// for another's would wait for ever.
    capacity: Semaphore,
    /// One permit per program that may run at once.
    turns: Arc<Semaphore>,
    /// One permit per sandbox that may stay at once, beside those of jobs.
    staying: Arc<Semaphore>,
    /// What compile stages made.
    kept: Kept,
    /// Processes that wait for jobs.
    standbys: Arc<Standbys>,
    /// Asks the runner to end.
    shutdown: CancellationToken,
    /// It has ended.
    stopped: CancellationToken,
    /// A runner that replaces the present one.
    takeover: mpsc::Sender<Successor>,
}

/// Why the backend could not start. The text says what is missing and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runner refused: the required isolation cannot be had, or a step of it failed.
    #[error("{0}")]
    Refused(String),
    /// The runner process could not be started.
    #[error("the runner process cannot be started: {0}")]
    Spawn(#[source] io::Error),
    /// It ended before it said anything.
    #[error("the runner process ended before it was ready; its last words are on standard error")]
    Died,
}

/// Why a job has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The runner process ended under the job; it is being restarted.
    #[error("the runner process ended while the job was running; it is being restarted, try again")]
    RunnerLost,
    /// A sandbox could not be made or prepared.
    #[error("the sandbox failed at step {step}: {source}")]
    Sandbox {
        /// The step that failed.
        step: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The server's own pipes failed.
    #[error("{what} cannot be used: {source}")]
    Io {
        /// Which.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// As many sandboxes stay as may.
    #[error("no further session can be made: as many exist as this server makes at once (sandboxes.sessions)")]
    NoRoom,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl ExecError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            ExecError::RunnerLost
            | ExecError::Sandbox { .. }
            | ExecError::Io { .. }
            | ExecError::NoRoom
            | ExecError::ShuttingDown => Blame::Us,
        }
    }
}

/// What happens while a streamed job runs, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// A stage begins.
    StageStarted(StageKind),
    /// It wrote something.
    Output {
        /// Where to.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// It ended. Its `output` is empty: it was streamed.
    StageEnded(StageOutcome),
}

/// What a client may do to a streamed job. Both reach the current stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Bytes for its standard input.
    Stdin(Vec<u8>),
    /// End of file on its standard input.
    StdinEof,
    /// A signal for its first process.
    Signal(i32),
}

/// A streamed job. Dropping it stops the job.
pub struct Execution {
    /// What happens. Bounded: a slow reader slows the program down. After the last stage: one `Ok(Finished)`
    /// through [`Execution::finished`].
    pub events: mpsc::Receiver<Event>,
    /// What the client does.
    pub control: mpsc::Sender<Control>,
    /// Resolves when the job is over and all events have been sent.
    pub finished: tokio::sync::oneshot::Receiver<Result<Finished, ExecError>>,
}

/// What the backend is doing now, for `/readyz` and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStatus {
    /// Sandboxes prepared and free.
    pub ready: u32,
    /// Sandboxes in use.
    pub busy: u32,
    /// Whether the runner process is alive and answering.
    pub runner_alive: bool,
    /// What compile stages made, and is kept.
    pub kept: KeptStatus,
    /// Processes that wait for jobs.
    pub standby: StandbyStatus,
    /// What is kept ready, and how much memory it holds.
    pub stock: StockStatus,
}

impl Local {
    /// Starts the runner process (`<this executable> runner`) and waits until it is ready to serve. At most `at_once`
    /// programs run at the same time; more jobs than that have their sandbox and their files already, and go on the
    /// moment a program ends: on a busy machine no processor waits for our messages.
    ///
    /// # Errors
    /// [`StartError`], with the reason to show to the operator.
    pub async fn start(config: SandboxConfig, at_once: usize) -> Result<Self, StartError> {
        let (runner, host) = RunnerProcess::start(&config).await?;
        let shutdown = CancellationToken::new();
        // Interpreters are kept warm where their children can be held as firmly as other programs.
        let zygotes = if host.profile == Profile::Full { config.zygotes.len() } else { 0 };
        let zygotes = &config.zygotes[..zygotes];
        let zygotes: Vec<_> = zygotes.iter().map(|zygote| (zygote.name.clone(), zygote.program.clone())).collect();
        let count = u32::try_from(zygotes.len()).unwrap_or(u32::MAX);
        let bounds = Bounds {
            bytes: config.adaptive_bytes,
            // Each job may need another one beside what is ready.
            sandboxes: (config.max_sandboxes as usize).saturating_sub(2 * at_once),
            standbys: 0,
        };
        let (ready, children) = (config.ready_sandboxes, config.ready_children);
        let stock = SharedStock::new(Stock::new(ready as usize, count, children as usize, bounds));
        let slots = Slots::new(stock.clone(), config.disk);
        let (takeover, successors) = mpsc::channel(1);
        let turns = Arc::new(Semaphore::new(at_once));
        let staying = Arc::new(Semaphore::new(config.max_sessions as usize));
        let inner = Arc::new(Inner {
            takeover,
            capacity: Semaphore::new(config.max_sandboxes as usize),
            standbys: Standbys::new(Arc::clone(&slots), stock.clone(), Arc::clone(&staying), Arc::clone(&turns)),
            turns,
            staying,
            host,
            zygotes,
            slots,
            stock,
            kept: Kept::default(),
            config: Mutex::new(config),
            shutdown: shutdown.clone(),
            stopped: CancellationToken::new(),
        });
        tokio::spawn(runner::supervise(Arc::clone(&inner), runner, successors));
        tokio::spawn(look_over(Arc::clone(&inner)));
        Ok(Self { inner, _alive: Arc::new(shutdown.drop_guard()) })
    }

    /// Runs a job to its end, keeping its output up to its limits. Dropping the future stops the job.
    ///
    /// # Errors
    /// [`ExecError`]: never caused by the program.
    pub async fn run(&self, job: Job) -> Result<Finished, ExecError> {
        self.inner.execute(&job, None).await
    }

    /// Starts a job whose output is streamed.
    pub fn stream(&self, job: Job) -> Execution {
        let (events, event_receiver) = mpsc::channel(EVENT_QUEUE);
        let (control, control_receiver) = mpsc::channel(EVENT_QUEUE);
        let (tell, finished) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let gone = events.clone();
            let mut client = Client { events, control: control_receiver };
            let result = tokio::select! {
                result = inner.execute(&job, Some(&mut client)) => result,
                // The execution's owner dropped it: so do we, which kills the job.
                () = gone.closed() => return,
            };
            drop((client, gone));
            // Whoever has the events may not care for the end.
            let _unheard = tell.send(result);
        });
        Execution { events: event_receiver, control, finished }
    }

    /// What the host offers, as the runner found it.
    pub fn host(&self) -> &HostReport {
        &self.inner.host
    }

    /// What the backend is doing now.
    pub fn status(&self) -> LocalStatus {
        let Inner { kept, standbys, stock, slots, .. } = &*self.inner;
        // By itself: its lock is the innermost.
        let stock = stock.lock().status();
        LocalStatus { kept: kept.status(), standby: standbys.status(), stock, ..slots.status() }
    }

    /// Keeps so many processes waiting for jobs of each kind that comes, where kinds have such processes; more of those that come often,
    /// all together `most`. 0, as at first: none. They are sandboxes that stay, and need room among those. Only in profile full.
    pub fn stand_by(&self, of_each: usize, most: usize) {
        self.inner.standbys.set_floor(if self.inner.host.profile == Profile::Full { of_each } else { 0 }, most);
    }

    /// Keeps what compile stages make, where their jobs say that it may be used again, in so many bytes of memory. 0, as at first:
    /// nothing.
    pub fn keep(&self, bytes: usize) {
        self.inner.kept.set_budget(bytes);
    }

    /// Makes sandboxes from now on after this configuration (more of `/etc`, other shims): another runner takes
    /// over. Jobs that run go on in the old one, which ends with the last of them.
    ///
    /// # Errors
    /// [`StartError`] where a runner cannot work so; the old one goes on then.
    pub async fn reload(&self, config: SandboxConfig) -> Result<(), StartError> {
        let (runner, _) = RunnerProcess::start(&config).await?;
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        let (took_over, done) = oneshot::channel();
        self.inner.takeover.send(Successor { runner, took_over }).await.map_err(|_| StartError::Died)?;
        done.await.map_err(|_| StartError::Died)?;
        self.inner.standbys.clear();
        Ok(())
    }

    /// Stops everything and waits for the runner to exit. Jobs still running end without an outcome.
    pub async fn shutdown(&self) {
        self.inner.standbys.set_floor(0, 0);
        self.inner.standbys.clear();
        self.inner.shutdown.cancel();
        self.inner.stopped.cancelled().await;
    }
}

impl Inner {
    async fn execute(&self, job: &Job, mut client: Option<&mut Client>) -> Result<Finished, ExecError> {
        let mut timings = Timings::default();
        let mut outcomes = Vec::with_capacity(job.stages.len());
        let key = self.kept.key(job, &self.system_root());
        let made = key.and_then(|key| self.kept.get(&key, job.stages[0].limits.output_bytes));
        // What the first stage would make is there already: the job is its other stages.
        let (first, mut found) = (usize::from(made.is_some()), Cow::Borrowed(job.files.as_slice()));
        if let Some(made) = &made {
            tell_again(client.as_deref(), &made.outcome).await;
            outcomes.push(made.outcome.clone());
            found = Cow::Owned(made.over(&job.files));
        }
        let begun = monotonic_us();
        let stages = job.stages.len() - first;
        let needed = if self.host.profile == Profile::Restricted { 1 } else { stages.clamp(1, 2) };
        let needed = u32::try_from(needed).unwrap_or(2);
        let _capacity = self.capacity.acquire_many(needed).await.map_err(|_| ExecError::ShuttingDown)?;
        let work = Work { job, first, files: &found, keep: key.map(|key| (&self.kept, key)) };
        if let Some(ends) = self.standbys.run(&work, client.as_deref_mut()).await? {
            timings.sandbox_us += ends.first().map_or(0, |end| end.exec_at_us.saturating_sub(begun + end.turn_us));
            for end in ends {
                // Of each stage, the time from its end on is the next one's: only the last one's is there to be counted.
                timings.settle_us = 0;
                timings.count(&end);
                outcomes.push(end.outcome);
            }
            return Ok(Finished { outcome: Outcome { stages: outcomes }, timings, start: Start::Standby });
        }
        // A child's files are its own: no other stage goes on with them.
        let only = job.stages.get(first).filter(|_| stages == 1);
        let kind = only.map_or(Kind::Program, |stage| self.kind_of(stage.warm.as_deref(), &stage.argv));
        let mut lease = self.slots.lease(job.disk, kind).await?;
        let start = match lease.kind() {
            Some(Kind::Zygote(_)) if lease.was_ready => Start::Ready,
            Some(Kind::Zygote(_)) => Start::Forked,
            _ => Start::Cold,
        };
        timings.lease_us += monotonic_us() - begun;
        for (index, spec) in job.stages.iter().enumerate().skip(first) {
            let files = if index == first { found.as_ref() } else { &[] };
            tell(client.as_deref(), || Event::StageStarted(spec.kind)).await;
            let leased = monotonic_us();
            let is_last = index + 1 == job.stages.len();
            let base = (!is_last && self.host.profile != Profile::Restricted).then(|| lease.base());
            let workspace = key.filter(|_| index == 0).map(|_| lease.files().map(|(directory, _)| directory));
            // While this stage runs the next one's sandbox is made, over the same workspace.
            let (end, mut next) = tokio::join!(stage::run(&mut lease, &self.turns, files, spec, client.as_deref_mut()), async {
                match base {
                    Some(base) => Some(self.next_sandbox(base, job).await),
                    None => None,
                }
            });
            let end = end?;
            timings.sandbox_us += end.exec_at_us.saturating_sub(leased + end.turn_us);
            timings.count(&end);
            // Streamed output is not there to be kept. Before the next stage: its program could change what is read here.
            if let (Some(key), Some(workspace), None) = (key, workspace, &client) {
                self.kept.keep(key, job, &end.outcome, workspace).await;
            }
            let goes_on = end.outcome.verdict == Verdict::Ok && !is_last;
            tell_ended(client.as_deref(), &end.outcome).await;
            outcomes.push(end.outcome);
            if !goes_on {
                break;
            }
            let begun = monotonic_us();
            lease = match next.take() {
                Some(made) => made?,
                // Without mount namespaces only the same slot can go on in its workspace.
                None => lease.again(job.disk).await?,
            };
            timings.lease_us += monotonic_us() - begun;
        }
        Ok(Finished { outcome: Outcome { stages: outcomes }, timings, start })
    }
}

impl Inner {
    fn system_root(&self) -> PathBuf {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config.system_root.clone().unwrap_or_else(|| PathBuf::from("/"))
    }

    /// What a program of this language is best started in.
    fn kind_of(&self, warm: Option<&str>, argv: &[String]) -> Kind {
        // A child runs a script as its interpreter does without options.
        let script = argv.get(1).is_some_and(|script| !script.starts_with('-'));
        let fits = |(name, program): &(String, String)| Some(name.as_str()) == warm && argv.first() == Some(program) && script;
        let number = self.zygotes.iter().position(fits);
        number.and_then(|number| u32::try_from(number).ok()).map_or(Kind::Program, Kind::Zygote)
    }

    async fn next_sandbox(&self, base: io::Result<Base>, job: &Job) -> Result<Lease, ExecError> {
        let base = base.map_err(|source| ExecError::Io { what: "the workspace of the stage before", source })?;
        self.slots.lease_continuing(base.uid, job.disk, base.mount_namespace).await
    }
}

/// Has what nobody asks for any more ended.
async fn look_over(inner: Arc<Inner>) {
    while tokio::time::timeout(LOOK_OVER, inner.shutdown.cancelled()).await.is_err() {
        inner.slots.look_over();
        inner.standbys.look_over();
    }
}

/// A stage that did not run again, as if it had.
async fn tell_again(client: Option<&Client>, outcome: &StageOutcome) {
    tell(client, || Event::StageStarted(outcome.kind)).await;
    for (stream, bytes) in outcome.output.pieces() {
        tell(client, || Event::Output { stream, bytes: bytes.to_vec() }).await;
    }
    tell_ended(client, outcome).await;
}

/// The output of a streamed stage was streamed.
async fn tell_ended(client: Option<&Client>, outcome: &StageOutcome) {
    tell(client, || Event::StageEnded(StageOutcome { output: greenroom_core::Output::default(), ..outcome.clone() })).await;
}

async fn tell(client: Option<&Client>, event: impl FnOnce() -> Event) {
    if let Some(client) = client {
        // A client that is gone has dropped us too.
        let _unheard = client.events.send(event()).await;
    }
}

/// CLOCK_MONOTONIC, microseconds: the clock that slots speak.
fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
