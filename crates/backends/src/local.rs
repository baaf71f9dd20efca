use greenroom_core::{Blame, Job, Outcome, StageKind, StageOutcome, Stream};
use greenroom_sandbox::{HostReport, SandboxConfig};
use tokio::sync::mpsc;

/// The local backend: a handle on the runner process. Cheap to clone. When the last clone is dropped the
/// runner ends everything and exits.
#[derive(Clone)]
pub struct Local {}

/// Why the backend could not start. The text says what is missing and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runner refused: the required isolation cannot be had, or a step of it failed.
    #[error("{0}")]
    Refused(String),
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
        step: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl ExecError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            ExecError::RunnerLost | ExecError::Sandbox { .. } | ExecError::ShuttingDown => Blame::Us,
        }
    }
}

/// A job that ran to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What came of it.
    pub outcome: Outcome,
    /// How long each hop took.
    pub timings: Timings,
}

/// Time spent in each hop behind admission, microseconds, summed over the stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Waiting for a prepared sandbox.
    pub lease_us: u64,
    /// Handing over files and command, until the program is exec'ed.
    pub sandbox_us: u64,
    /// The program itself.
    pub run_us: u64,
    /// From its end to the verdict: counters read, output drained.
    pub settle_us: u64,
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
}

impl Local {
    /// Starts the runner process (`<this executable> runner`) and waits until it is ready to serve.
    ///
    /// # Errors
    /// [`StartError`], with the reason to show to the operator.
    pub async fn start(_config: SandboxConfig) -> Result<Self, StartError> {
        todo!()
    }

    /// Runs a job to its end, keeping its output up to its limits. Dropping the future stops the job.
    ///
    /// # Errors
    /// [`ExecError`]: never caused by the program.
    pub async fn run(&self, _job: Job) -> Result<Finished, ExecError> {
        todo!()
    }

    /// Starts a job whose output is streamed.
    pub fn stream(&self, _job: Job) -> Execution {
        todo!()
    }

    /// What the host offers, as the runner found it.
    pub fn host(&self) -> &HostReport {
        todo!()
    }

    /// What the backend is doing now.
    pub fn status(&self) -> LocalStatus {
        todo!()
    }

    /// Stops everything and waits for the runner to exit. Jobs still running end as cancelled.
    pub async fn shutdown(&self) {}
}
