use std::{collections::BTreeMap, time::Duration};

use greenroom_core::{DiskLimits, Limits};
use greenroom_runtimes::Runtime;

/// What the gateway needs to know. Every number has been checked by whoever read it from an operator.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Limits of run stages.
    pub run: Limits,
    /// Limits of compile stages.
    pub compile: Limits,
    /// Quota of a job's files.
    pub disk: DiskLimits,
    /// Limits that differ for one language, by its canonical name. They win over what the runtime itself asks for.
    pub languages: BTreeMap<String, LimitOverrides>,
    /// Executions at once; more wait.
    pub max_concurrent: usize,
    /// Executions that may wait; more are refused with 429.
    pub queue: usize,
    /// Longest request body, bytes, after decompression.
    pub body_bytes: u64,
    /// Time for a request's headers.
    pub header_timeout: Duration,
    /// Time for a request's body.
    pub body_timeout: Duration,
    /// Longest WebSocket message, bytes.
    pub websocket_message_bytes: usize,
    /// Whether packages may be installed and removed over HTTP.
    pub package_admin: bool,
    /// How long a drain waits for running executions.
    pub drain_timeout: Duration,
}

/// Limits that differ; `None` keeps the configured one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOverrides {
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Open files of one process.
    pub open_files: Option<u32>,
    /// Size of one file, bytes.
    pub file_size_bytes: Option<u64>,
    /// Kept output per stream, bytes.
    pub output_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u32>,
    /// Wall-clock time to compile, milliseconds.
    pub compile_wall_ms: Option<u64>,
    /// Wall-clock time to run, milliseconds.
    pub run_wall_ms: Option<u64>,
    /// CPU time to compile, milliseconds.
    pub compile_cpu_ms: Option<u64>,
    /// CPU time to run, milliseconds.
    pub run_cpu_ms: Option<u64>,
    /// Memory to compile, bytes.
    pub compile_memory_bytes: Option<u64>,
    /// Memory to run, bytes.
    pub run_memory_bytes: Option<u64>,
}

impl From<greenroom_runtimes::LimitOverrides> for LimitOverrides {
    fn from(of: greenroom_runtimes::LimitOverrides) -> Self {
        Self {
            processes: of.processes,
            open_files: of.open_files,
            file_size_bytes: of.file_size_bytes,
            output_bytes: of.output_bytes,
            cpu_milli: of.cpu_milli,
            compile_wall_ms: of.compile_wall_ms,
            run_wall_ms: of.run_wall_ms,
            compile_cpu_ms: of.compile_cpu_ms,
            run_cpu_ms: of.run_cpu_ms,
            compile_memory_bytes: of.compile_memory_bytes,
            run_memory_bytes: of.run_memory_bytes,
        }
    }
}

impl LimitOverrides {
    fn apply(&self, compile: &mut Limits, run: &mut Limits) {
        for limits in [&mut *compile, &mut *run] {
            set(&mut limits.processes, self.processes);
            set(&mut limits.open_files, self.open_files);
            set(&mut limits.file_size_bytes, self.file_size_bytes);
            limits.output_bytes = self.output_bytes.or(limits.output_bytes);
        }
        set(&mut run.cpu_milli, self.cpu_milli);
        set(&mut compile.wall_ms, self.compile_wall_ms);
        set(&mut compile.cpu_ms, self.compile_cpu_ms);
        set(&mut compile.memory_bytes, self.compile_memory_bytes);
        set(&mut run.wall_ms, self.run_wall_ms);
        set(&mut run.cpu_ms, self.run_cpu_ms);
        set(&mut run.memory_bytes, self.run_memory_bytes);
    }
}

fn set<T>(limit: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *limit = value;
    }
}

impl GatewayConfig {
    /// The limits of a runtime's stages, compile and run: the configured ones, then what the runtime needs, then
    /// what the operator says of its language.
    pub fn limits_of(&self, runtime: &Runtime) -> (Limits, Limits) {
        let (mut compile, mut run) = (self.compile, self.run);
        LimitOverrides::from(runtime.limit_overrides()).apply(&mut compile, &mut run);
        if let Some(of_language) = self.languages.get(runtime.language()) {
            of_language.apply(&mut compile, &mut run);
        }
        (compile, run)
    }
}
