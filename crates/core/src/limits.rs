/// What one stage may use. Every field is a hard limit: there is no "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time, milliseconds (CLOCK_MONOTONIC).
    pub wall_ms: u64,
    /// CPU time of all processes and threads together, user and system, milliseconds.
    pub cpu_ms: u64,
    /// Memory of all processes together, page tables and kernel buffers included, bytes. No swap.
    pub memory_bytes: u64,
    /// Processes and threads alive at once.
    pub processes: u32,
    /// Open files of one process (RLIMIT_NOFILE).
    pub open_files: u32,
    /// Size of one written file, bytes (RLIMIT_FSIZE).
    pub file_size_bytes: u64,
    /// Bytes kept of each of stdout and stderr; crossing it ends the stage.
    /// `None` where the output is streamed to a client that reads at its own pace (WebSocket).
    pub output_bytes: Option<u64>,
    /// Share of processors, in thousandths of one: 1000 is one whole core.
    pub cpu_milli: u32,
}

/// The quota of an execution's private files: workspace, `/tmp` and `/dev/shm` together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DiskLimits {
    /// Bytes. Kept in memory, and charged to the stage that writes them: choose it well below its memory limit.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}
