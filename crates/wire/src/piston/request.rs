use greenroom_core::{DiskLimits, Limits};
use serde_json::{Map, Value};

use super::files::{self, RawFile, SourceFile};
use super::invalid::{Field, Invalid};
use super::javascript;

/// MAX_ARG_STRLEN of execve(2): 32 pages, the NUL included.
const ARG_BYTES: usize = 131_072 - 1;
/// Half of what execve(2) takes with the default stack limit, so that interpreter, options and environment fit, too.
const ARGS_BYTES: usize = 1 << 20;

/// An execute request that has passed Piston's checks 1 to 4: what was sent, before the runtime is known.
///
/// The runtime is looked up (check 5) between [`ExecuteRequest::parse`] and [`ExecuteRequest::finish`]; where there is
/// none, [`ExecuteRequest::unknown_runtime`] is the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecuteRequest {
    language: String,
    version: String,
    files: Vec<RawFile>,
    stdin: Value,
    args: Value,
    /// In the order of [`Field::ALL`].
    limits: [Value; 6],
}

/// What the caller found for [`ExecuteRequest::language`] and [`ExecuteRequest::version`].
#[derive(Clone, Debug)]
pub struct ResolvedRuntime {
    /// Whether it is Piston's language `file`, which runs its first file whatever its encoding.
    pub is_file_language: bool,
    /// The configured limits of its compile stage: maximum and default. Also checked where there is no such stage.
    pub compile: Limits,
    /// The configured limits of its run stage.
    pub run: Limits,
}

/// What is to be run: everything of the request, checked and decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// In the order sent; no two have the same path, and none is a directory of another.
    pub files: Vec<SourceFile>,
    /// The main file: index of the first code file.
    pub main: usize,
    /// Arguments of the run stage. No NUL, and short enough for execve(2).
    pub args: Vec<String>,
    /// Standard input of the run stage over HTTP, ended by a newline. The WebSocket has its own.
    pub stdin: Vec<u8>,
    /// Limits of the compile stage: the configured ones, lowered by the request.
    pub compile: Limits,
    /// Limits of the run stage.
    pub run: Limits,
}

impl ExecuteRequest {
    /// Piston's checks 1 to 4. A body that is no object (an array, nothing) has no fields.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn parse(body: Value) -> Result<Self, Invalid> {
        let mut fields = match body {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let mut take = |key: &str| fields.get_mut(key).map(Value::take).unwrap_or_default();
        let language = required_string(take("language")).ok_or(Invalid::Language)?;
        let version = required_string(take("version")).ok_or(Invalid::Version)?;
        let Value::Array(files) = take("files") else { return Err(Invalid::Files) };
        let files = files.into_iter().enumerate().map(|(index, file)| RawFile::parse(index, file)).collect::<Result<_, _>>()?;
        Ok(Self {
            language,
            version,
            files,
            stdin: take("stdin"),
            args: take("args"),
            limits: Field::ALL.map(|field| take(field.as_str())),
        })
    }

    /// The language or alias as sent: matched exactly, case included.
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The version as sent: a range in node-semver's syntax.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Check 5's answer, for the caller that found no runtime.
    pub fn unknown_runtime(&self) -> Invalid {
        Invalid::UnknownRuntime { language: self.language.clone(), version: self.version.clone() }
    }

    /// Piston's checks 6 to 9 against the runtime found, and the decoded request.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn finish(self, runtime: &ResolvedRuntime) -> Result<Submission, Invalid> {
        if !runtime.is_file_language && !self.files.iter().any(RawFile::is_declared_utf8) {
            return Err(Invalid::NoCodeFile);
        }
        let [compile_memory, run_memory, compile_wall, run_wall, compile_cpu, run_cpu] = self.limits;
        let (mut compile, mut run) = (runtime.compile, runtime.run);
        lower(Field::CompileMemoryLimit, &compile_memory, &mut compile.memory_bytes)?;
        lower(Field::RunMemoryLimit, &run_memory, &mut run.memory_bytes)?;
        lower(Field::CompileTimeout, &compile_wall, &mut compile.wall_ms)?;
        lower(Field::RunTimeout, &run_wall, &mut run.wall_ms)?;
        lower(Field::CompileCpuTime, &compile_cpu, &mut compile.cpu_ms)?;
        lower(Field::RunCpuTime, &run_cpu, &mut run.cpu_ms)?;
        let stdin = stdin(self.stdin)?;
        let files = files::place(self.files, runtime.is_file_language)?;
        let main = files.iter().position(|file| file.code).ok_or(Invalid::NoFile)?;
        let args = args(self.args)?;
        Ok(Submission { files, main, args, stdin, compile, run })
    }
}

impl Submission {
    /// Whether the files fit into this quota, so that a request that cannot be written is the caller's error and not a sandbox's.
    ///
    /// # Errors
    /// [`Invalid::FilesTooLarge`] or [`Invalid::TooManyFiles`].
    pub fn fits(&self, disk: &DiskLimits) -> Result<(), Invalid> {
        files::fits(&self.files, disk)
    }
}

fn required_string(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Check 7 for one limit. Absent, null, 0, false and "" leave the configured limit: there is no "unlimited".
fn lower(field: Field, value: &Value, configured: &mut u64) -> Result<(), Invalid> {
    if !javascript::is_truthy(value) {
        return Ok(());
    }
    let Value::Number(number) = value else { return Err(Invalid::LimitType(field)) };
    let number = javascript::number(number);
    #[expect(clippy::cast_precision_loss, reason = "Piston compares doubles; limits are far below 2^53")]
    let maximum = *configured as f64;
    if number > maximum {
        return Err(Invalid::LimitTooLarge { field, configured: *configured });
    }
    if number < 0.0 {
        // Clients send -1, Piston's "none" and default, with every request; memory is limited by default here.
        let is_customary = field.is_memory() && number.to_bits() == (-1.0_f64).to_bits();
        return if is_customary { Ok(()) } else { Err(Invalid::LimitNegative(field)) };
    }
    // Upwards, because less than one unit is no limit that anything could keep.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies in 0..=configured")]
    let units = number.ceil() as u64;
    *configured = units.min(*configured);
    Ok(())
}

/// Check 8. Arrays are joined by commas, as JavaScript's `+` does.
fn stdin(value: Value) -> Result<Vec<u8>, Invalid> {
    let mut text = match value {
        Value::Null => String::new(),
        Value::String(text) => {
            if text.ends_with('\n') {
                return Ok(text.into_bytes());
            }
            text
        }
        list @ Value::Array(_) => javascript::to_string(&list),
        _ => return Err(Invalid::Stdin),
    };
    text.push('\n');
    Ok(text.into_bytes())
}

/// The arguments (check 9). A string is spread into its characters, as JavaScript's `...` does.
fn args(value: Value) -> Result<Vec<String>, Invalid> {
    let args: Vec<String> = match value {
        Value::Null => Vec::new(),
        Value::String(text) => text.chars().map(String::from).collect(),
        Value::Array(items) => items.iter().map(javascript::to_string).collect(),
        _ => return Err(Invalid::Args),
    };
    for (index, arg) in args.iter().enumerate() {
        if arg.contains('\0') {
            return Err(Invalid::ArgNul(index));
        }
        if arg.len() > ARG_BYTES {
            return Err(Invalid::ArgTooLong(index));
        }
    }
    // Each argument costs its NUL and a pointer, too.
    let total: usize = args.iter().map(|arg| arg.len() + 1 + size_of::<usize>()).sum();
    if total > ARGS_BYTES {
        return Err(Invalid::ArgsTooLong);
    }
    Ok(args)
}

#[cfg(test)]
mod tests;
