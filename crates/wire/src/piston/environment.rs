//! Piston's configuration: the `PISTON_*` variables, so that a deployment can move with its environment as it is.

use std::collections::BTreeMap;

use serde_json::Value;

use super::javascript;

/// What the environment says. `None` where it says nothing, or nothing that applies here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PistonSettings {
    /// `PISTON_LOG_LEVEL`: `debug`, `info`, `warn`, `error` or `none`.
    pub log_level: Option<&'static str>,
    /// `PISTON_BIND_ADDRESS`: `host:port`.
    pub bind_address: Option<String>,
    /// `PORT`, which counts where [`PistonSettings::bind_address`] is not given.
    pub port: Option<u16>,
    /// `PISTON_DATA_DIRECTORY`.
    pub data_directory: Option<String>,
    /// `PISTON_DISABLE_NETWORKING`.
    pub disable_networking: Option<bool>,
    /// `PISTON_MAX_CONCURRENT_JOBS`.
    pub max_concurrent_jobs: Option<u32>,
    /// `PISTON_MAX_PROCESS_COUNT` to `PISTON_RUN_MEMORY_LIMIT`.
    pub limits: LimitOverrides,
    /// `PISTON_LIMIT_OVERRIDES`, by language name.
    pub limit_overrides: BTreeMap<String, LimitOverrides>,
    /// What was set and does not count, to be told to the operator.
    pub ignored: Vec<Ignored>,
}

/// Limits that Piston's environment sets: for all languages, or for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOverrides {
    /// Bytes kept of each output stream.
    pub output_max_size: Option<u64>,
    /// Processes and threads.
    pub max_process_count: Option<u64>,
    /// Open files of a process.
    pub max_open_files: Option<u64>,
    /// Bytes of a written file.
    pub max_file_size: Option<u64>,
    /// Milliseconds of wall-clock time.
    pub compile_timeout: Option<u64>,
    /// Milliseconds of wall-clock time.
    pub run_timeout: Option<u64>,
    /// Milliseconds.
    pub compile_cpu_time: Option<u64>,
    /// Milliseconds.
    pub run_cpu_time: Option<u64>,
    /// Bytes.
    pub compile_memory_limit: Option<u64>,
    /// Bytes.
    pub run_memory_limit: Option<u64>,
}

/// A setting that was given and does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The variable; within `PISTON_LIMIT_OVERRIDES` with language and key.
    pub variable: String,
    /// Why.
    pub reason: &'static str,
}

/// Why the environment is refused. Piston exits with status 1 then, too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// No number in front.
    #[error("{variable} must be a number, and {value:?} is not")]
    NotANumber {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// Zero or less.
    #[error("{variable} must be larger than 0, and {value:?} is not")]
    NotPositive {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// Larger than anything can be.
    #[error("{variable} is too large: {value:?}")]
    TooLarge {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// Not one of the five.
    #[error("PISTON_LOG_LEVEL must be DEBUG, INFO, WARN, ERROR or NONE, and {0:?} is not")]
    LogLevel(String),
    /// Not `host:port`.
    #[error("PISTON_BIND_ADDRESS must be an address and a port, as in 0.0.0.0:2000, and {0:?} is not")]
    BindAddress(String),
    /// Piston takes anything but `true` for permission to use the network; that is not repeated here.
    #[error("PISTON_DISABLE_NETWORKING must be true or false, and {0:?} is not")]
    Networking(String),
    /// No JSON object.
    #[error("PISTON_LIMIT_OVERRIDES must be a JSON object such as {{\"c++\":{{\"run_timeout\":5000}}}}: {0}")]
    OverridesJson(String),
    /// A language's overrides that are no object.
    #[error("PISTON_LIMIT_OVERRIDES: the limits of {0:?} must be a JSON object")]
    OverridesType(String),
    /// A key that is no limit.
    #[error("PISTON_LIMIT_OVERRIDES: {key:?} of {language:?} is no limit; there are {}", LimitOverrides::KEYS.join(", "))]
    OverridesKey {
        /// The language.
        language: String,
        /// The key.
        key: String,
    },
}

const NO_UNLIMITED: &str = "there is no \"unlimited\" here: the default stays";

impl LimitOverrides {
    const KEYS: [&'static str; 10] = [
        "output_max_size", "max_process_count", "max_open_files", "max_file_size", "compile_timeout", "run_timeout",
        "compile_cpu_time", "run_cpu_time", "compile_memory_limit", "run_memory_limit",
    ];

    fn field(&mut self, key: &str) -> Option<&mut Option<u64>> {
        match key {
            "output_max_size" => Some(&mut self.output_max_size),
            "max_process_count" => Some(&mut self.max_process_count),
            "max_open_files" => Some(&mut self.max_open_files),
            "max_file_size" => Some(&mut self.max_file_size),
            "compile_timeout" => Some(&mut self.compile_timeout),
            "run_timeout" => Some(&mut self.run_timeout),
            "compile_cpu_time" => Some(&mut self.compile_cpu_time),
            "run_cpu_time" => Some(&mut self.run_cpu_time),
            "compile_memory_limit" => Some(&mut self.compile_memory_limit),
            "run_memory_limit" => Some(&mut self.run_memory_limit),
            _ => None,
        }
    }

    /// Sets one. Piston's 0 and -1 mean "none" and leave the default.
    fn set(&mut self, key: &str, variable: String, value: &str, ignored: &mut Vec<Ignored>) -> Result<(), EnvironmentError> {
        let number = integer(&variable, value)?;
        match u64::try_from(number).ok().filter(|&number| number > 0) {
            Some(number) => {
                if let Some(field) = self.field(key) {
                    *field = Some(number);
                }
            }
            None => ignored.push(Ignored { variable, reason: NO_UNLIMITED }),
        }
        Ok(())
    }
}

/// Reads Piston's variables out of an environment; others are skipped. Numbers are read as Piston reads them, so `3s` is 3.
///
/// # Errors
/// [`EnvironmentError`]: the first variable that cannot be understood, in the environment's order.
pub fn environment<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Result<PistonSettings, EnvironmentError>
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    let mut settings = PistonSettings::default();
    for (variable, value) in variables {
        settings.read(variable.as_ref(), value.as_ref())?;
    }
    Ok(settings)
}

impl PistonSettings {
    fn read(&mut self, variable: &str, value: &str) -> Result<(), EnvironmentError> {
        if variable == "PORT" {
            self.port = Some(port(variable, value)?);
            return Ok(());
        }
        let Some(name) = variable.strip_prefix("PISTON_") else { return Ok(()) };
        match name {
            "LOG_LEVEL" => self.log_level = Some(log_level(value)?),
            "BIND_ADDRESS" => {
                let (host, text) = value.rsplit_once(':').ok_or_else(|| EnvironmentError::BindAddress(value.to_owned()))?;
                port(variable, text).map_err(|_| EnvironmentError::BindAddress(value.to_owned()))?;
                if host.is_empty() {
                    return Err(EnvironmentError::BindAddress(value.to_owned()));
                }
                self.bind_address = Some(value.to_owned());
            }
            "DATA_DIRECTORY" => self.data_directory = Some(value.to_owned()),
            "DISABLE_NETWORKING" => {
                self.disable_networking = Some(match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(EnvironmentError::Networking(value.to_owned())),
                });
            }
            "MAX_CONCURRENT_JOBS" => {
                let number = integer(variable, value)?;
                if number <= 0 {
                    return Err(EnvironmentError::NotPositive { variable: variable.to_owned(), value: value.to_owned() });
                }
                self.max_concurrent_jobs = Some(u32::try_from(number).map_err(|_| too_large(variable, value))?);
            }
            "LIMIT_OVERRIDES" => self.read_overrides(value)?,
            "RUNNER_UID_MIN" | "RUNNER_UID_MAX" | "RUNNER_GID_MIN" | "RUNNER_GID_MAX" => {
                self.ignore(variable, "users of programs are configured by Greenroom's own range (Piston does not use it either)");
            }
            "REPO_URL" => {
                self.ignore(variable, "languages are installed as packages of the system, not from a repository of archives")
            }
            name => {
                let key = name.to_ascii_lowercase();
                if LimitOverrides::KEYS.contains(&key.as_str()) {
                    self.limits.set(&key, variable.to_owned(), value, &mut self.ignored)?;
                } else {
                    self.ignore(variable, "there is no such variable");
                }
            }
        }
        Ok(())
    }

    fn ignore(&mut self, variable: &str, reason: &'static str) {
        self.ignored.push(Ignored { variable: variable.to_owned(), reason });
    }

    fn read_overrides(&mut self, json: &str) -> Result<(), EnvironmentError> {
        let overrides: Value = serde_json::from_str(json).map_err(|error| EnvironmentError::OverridesJson(error.to_string()))?;
        let Value::Object(overrides) = overrides else {
            return Err(EnvironmentError::OverridesJson("it is none".to_owned()));
        };
        for (language, limits) in overrides {
            let Value::Object(limits) = limits else { return Err(EnvironmentError::OverridesType(language)) };
            let mut read = LimitOverrides::default();
            for (key, value) in limits {
                if !LimitOverrides::KEYS.contains(&key.as_str()) {
                    return Err(EnvironmentError::OverridesKey { language, key });
                }
                let place = format!("PISTON_LIMIT_OVERRIDES[{language}].{key}");
                read.set(&key, place, &javascript::to_string(&value), &mut self.ignored)?;
            }
            self.limit_overrides.insert(language, read);
        }
        Ok(())
    }
}

fn integer(variable: &str, value: &str) -> Result<i64, EnvironmentError> {
    javascript::parse_int(value)
        .ok_or_else(|| EnvironmentError::NotANumber { variable: variable.to_owned(), value: value.to_owned() })
}

fn port(variable: &str, value: &str) -> Result<u16, EnvironmentError> {
    u16::try_from(integer(variable, value)?).map_err(|_| too_large(variable, value))
}

fn too_large(variable: &str, value: &str) -> EnvironmentError {
    EnvironmentError::TooLarge { variable: variable.to_owned(), value: value.to_owned() }
}

fn log_level(value: &str) -> Result<&'static str, EnvironmentError> {
    match value {
        "DEBUG" => Ok("debug"),
        "INFO" => Ok("info"),
        "WARN" => Ok("warn"),
        "ERROR" => Ok("error"),
        "NONE" => Ok("none"),
        _ => Err(EnvironmentError::LogLevel(value.to_owned())),
    }
}

#[cfg(test)]
mod tests;
