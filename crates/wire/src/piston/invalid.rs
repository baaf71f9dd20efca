use greenroom_core::PathError;

/// A field of an execute request that carries a limit. Spelled as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `compile_memory_limit`, bytes.
    CompileMemoryLimit,
    /// `run_memory_limit`, bytes.
    RunMemoryLimit,
    /// `compile_timeout`, milliseconds of wall-clock time.
    CompileTimeout,
    /// `run_timeout`, milliseconds of wall-clock time.
    RunTimeout,
    /// `compile_cpu_time`, milliseconds.
    CompileCpuTime,
    /// `run_cpu_time`, milliseconds.
    RunCpuTime,
}

impl Field {
    /// In the order in which Piston checks them.
    pub const ALL: [Field; 6] = [
        Field::CompileMemoryLimit,
        Field::RunMemoryLimit,
        Field::CompileTimeout,
        Field::RunTimeout,
        Field::CompileCpuTime,
        Field::RunCpuTime,
    ];

    /// The key in the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Field::CompileMemoryLimit => "compile_memory_limit",
            Field::RunMemoryLimit => "run_memory_limit",
            Field::CompileTimeout => "compile_timeout",
            Field::RunTimeout => "run_timeout",
            Field::CompileCpuTime => "compile_cpu_time",
            Field::RunCpuTime => "run_cpu_time",
        }
    }

    pub(super) fn is_memory(self) -> bool {
        matches!(self, Field::CompileMemoryLimit | Field::RunMemoryLimit)
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an execute request is refused: status 400, and the text is the answer's `message`.
///
/// The texts of the first nine are Piston's, word for word. What follows is answered by Piston with `{}` or an
/// empty 500; here the text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Missing, empty or not a string.
    #[error("language is required as a string")]
    Language,
    /// Missing, empty or not a string.
    #[error("version is required as a string")]
    Version,
    /// Missing or not an array.
    #[error("files is required as an array")]
    Files,
    /// Missing or not a string.
    #[error("files[{0}].content is required as a string")]
    Content(usize),
    /// No installed runtime has this name and a version in this range. The texts are the client's.
    #[error("{language}-{version} runtime is unknown")]
    UnknownRuntime {
        /// As sent.
        language: String,
        /// As sent.
        version: String,
    },
    /// Nothing that could be the main file.
    #[error("files must include at least one utf8 encoded file")]
    NoCodeFile,
    /// A limit that is no number.
    #[error("If specified, {0} must be a number")]
    LimitType(Field),
    /// A limit above the configured one.
    #[error("{field} cannot exceed the configured limit of {configured}")]
    LimitTooLarge {
        /// Which.
        field: Field,
        /// Milliseconds or bytes, as the field has it.
        configured: u64,
    },
    /// A limit below zero (but -1 for memory, which every client sends: it means the configured limit).
    #[error("{0} must be non-negative")]
    LimitNegative(Field),

    /// An element of `files` that is null.
    #[error("files[{0}] must be an object")]
    File(usize),
    /// Runtime `file` runs its first file, and there is none.
    #[error("files must include at least one file")]
    NoFile,
    /// A number, a boolean or an object.
    #[error("stdin must be a string")]
    Stdin,
    /// A number, a boolean or an object.
    #[error("args must be an array")]
    Args,
    /// An argument is a C string for the program that gets it.
    #[error("args[{0}] must not contain a NUL character")]
    ArgNul(usize),
    /// The kernel takes no argument larger than 32 pages (MAX_ARG_STRLEN of execve(2)).
    #[error("args[{0}] must not be longer than 131071 bytes")]
    ArgTooLong(usize),
    /// The kernel limits all arguments together (execve(2): a quarter of the stack limit, 8 MiB by default).
    #[error("args must not be longer than 1048576 bytes together")]
    ArgsTooLong,
    /// A file name of another type.
    #[error("files[{0}].name must be a string")]
    NameType(usize),
    /// A file name that cannot be written below the working directory.
    #[error("files[{index}].name {reason}")]
    Name {
        /// Which file.
        index: usize,
        /// As sent.
        name: String,
        /// What is wrong with it.
        reason: PathError,
    },
    /// `m` and `m/x`: one would have to be a file and a directory.
    #[error("files[{index}].name needs a directory where files[{other}].name has a file")]
    NameConflict {
        /// The file below.
        index: usize,
        /// The file that is in the way.
        other: usize,
    },
    /// More than the quota of a job's files.
    #[error("files must not need more than {available} bytes together")]
    FilesTooLarge {
        /// The quota, bytes.
        available: u64,
    },
    /// More than the quota of a job's files.
    #[error("files must not be more than {available}, directories included")]
    TooManyFiles {
        /// The quota: files and directories.
        available: u64,
    },
}

impl Invalid {
    /// The text of the WebSocket's `error` message. Piston lets some failures through to HTTP without a text that it
    /// spells out here, so those keep their own words.
    pub fn websocket_message(&self) -> String {
        match self {
            Invalid::Name { name, reason: PathError::Escapes, .. } => {
                format!("File path \"{name}\" tries to escape parent directory: {name}")
            }
            Invalid::Args => "this.args is not iterable".to_owned(),
            other => other.to_string(),
        }
    }
}
