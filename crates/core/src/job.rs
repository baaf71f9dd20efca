use std::path::PathBuf;

use crate::{DiskLimits, ExecutionId, Limits, RelativePath};

/// Where a job's files stand and its stages start, as the program sees it (Piston's place, so that
/// paths in tracebacks do not change when a deployment moves).
pub const WORKSPACE: &str = "/box/submission";

/// Where a session's files stand and its programs start (Azure's place: clients name it in paths).
pub const DATA: &str = "/mnt/data";
/// Another name of it, as in Azure's image for the shell: there, directories that clients name are below it.
pub const DATA_TOO: &str = "/app";

/// A unit of work for a backend: files, and commands to run over them in order. It knows nothing of
/// languages: a runtime has been resolved into commands before.
#[derive(Clone, Debug)]
pub struct Job {
    /// Server-made id, for logs.
    pub id: ExecutionId,
    /// Written into the workspace before the first stage; a later file of the same path replaces an earlier one.
    pub files: Vec<JobFile>,
    /// One or two stages: the run stage, or compile then run. The first that does not end with exit
    /// status 0 is the last one run.
    pub stages: Vec<StageSpec>,
    /// Quota of the workspace and temporary files.
    pub disk: DiskLimits,
    /// What the compile stage's result is kept by, to be used again by the same job; `None`: it is not kept.
    pub reuse: Option<Reuse>,
    /// A process that may stand by for jobs such as this, and do it in the place of the commands of `stages`, with the same effect.
    pub standby: Option<Standby>,
}

/// How a job is done by a process that was started before the job was known. Nothing but time depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// Program and arguments of the process: the same for many jobs. It starts with the environment and the limits of the run stage.
    pub argv: Vec<String>,
    /// What it is told of the compile stage, where it does that too.
    pub compile: Option<Vec<String>>,
    /// What it is told of the run stage.
    pub run: Vec<String>,
}

/// Who may use what a compile stage made again, and what made it besides what the job says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Whose job it is. Nobody gets what came of another's.
    pub tenant: String,
    /// The toolchain in words: language and version.
    pub toolchain: String,
    /// Files of the system that programs see, absolute paths: when one changes, it is another toolchain.
    pub made_with: Vec<PathBuf>,
}

impl Reuse {
    /// Whose jobs are that nobody else's are.
    pub const NOBODY: &str = "";
}

/// A file of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFile {
    /// Below [`WORKSPACE`]; missing directories are made.
    pub path: RelativePath,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Mode 0755 rather than 0644.
    pub executable: bool,
}

/// What a stage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// Turns sources into something that runs; the request's input is not for it.
    Compile,
    /// Runs the program.
    Run,
}

impl StageKind {
    /// The name used on the wire, in metrics and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StageKind::Compile => "compile",
            StageKind::Run => "run",
        }
    }
}

/// One command of a job.
#[derive(Clone, Debug)]
pub struct StageSpec {
    /// What it is for.
    pub kind: StageKind,
    /// Program and arguments; exec'ed directly, no shell between. `argv[0]` is a path inside the sandbox:
    /// absolute, or relative to [`WORKSPACE`] (`./a.out`); it is not searched for in `PATH`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
    /// Where its standard input comes from.
    pub stdin: Stdin,
    /// The language whose warm interpreter may run `argv` in place of a fresh one, with the same effect. Nothing but time depends
    /// on it.
    pub warm: Option<String>,
}

/// A stage's standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// What the client sends while the stage runs; end of file when it says so.
    Interactive,
}
