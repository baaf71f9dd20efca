//! The settings, typed and checked.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use greenroom_core::{DiskLimits, Limits, Profile, RelativePath};
use greenroom_gateway::{GatewayConfig, LimitOverrides};
use greenroom_runtimes::{Catalogue, DiscoverOptions, Elevation};
use greenroom_sandbox::{Network, SandboxConfig, SupportFile};
use serde::Deserialize;

/// A value, or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a value of the right type, or \"auto\"")]
enum Auto<T> {
    Value(T),
    Auto(AutoWord),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum AutoWord {
    #[serde(rename = "auto")]
    Auto,
}

impl<T> Auto<T> {
    fn or_else(self, default: impl FnOnce() -> T) -> T {
        match self {
            Auto::Value(value) => value,
            Auto::Auto(_) => default(),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Of the wrong type, or unknown.
    #[error("{0}")]
    Type(#[from] toml::de::Error),
    /// Out of range.
    #[error("{key} {reason}")]
    Value {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl SettingsError {
    /// The setting, where it is known.
    pub fn key(&self) -> &str {
        match self {
            SettingsError::Type(_) => "",
            SettingsError::Value { key, .. } => key,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: String,
    data_dir: String,
    isolation: RawIsolation,
    sandboxes: RawSandboxes,
    admission: RawAdmission,
    limits: RawLimits,
    http: RawHttp,
    packages: RawPackages,
    log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIsolation {
    require: String,
    network: String,
    system_root: String,
    uid_first: u32,
    uid_count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSandboxes {
    max: Auto<u32>,
    ready: Auto<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdmission {
    max_concurrent: Auto<u32>,
    queue: u32,
    drain_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    run: RawStage,
    compile: RawStage,
    disk: DiskLimits,
    #[serde(default)]
    languages: BTreeMap<String, RawOverrides>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStage {
    wall_ms: u64,
    cpu_ms: u64,
    memory_bytes: u64,
    processes: u32,
    open_files: u32,
    file_size_bytes: u64,
    output_bytes: u64,
    cpu_milli: Auto<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOverrides {
    processes: Option<u32>,
    open_files: Option<u32>,
    file_size_bytes: Option<u64>,
    output_bytes: Option<u64>,
    cpu_milli: Option<u32>,
    compile_wall_ms: Option<u64>,
    run_wall_ms: Option<u64>,
    compile_cpu_ms: Option<u64>,
    run_cpu_ms: Option<u64>,
    compile_memory_bytes: Option<u64>,
    run_memory_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    body_bytes: u64,
    header_timeout_ms: u64,
    body_timeout_ms: u64,
    websocket_message_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackages {
    admin: Auto<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: String,
    format: String,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// All settings, checked, with `auto` decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to serve.
    pub listen: SocketAddr,
    /// Where the server keeps its data.
    pub data_dir: PathBuf,
    /// The gateway's part.
    pub gateway: GatewayConfig,
    /// Log filter directives.
    pub log_level: String,
    /// Log format.
    pub log_format: LogFormat,
    require: Option<Profile>,
    network: Network,
    system_root: Option<PathBuf>,
    uid_first: u32,
    uid_count: u32,
    max_sandboxes: u32,
    ready_sandboxes: u32,
}

fn bad(key: &'static str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Value { key, reason: reason.into() }
}

fn positive<T: Into<u64> + Copy>(key: &'static str, value: T) -> Result<T, SettingsError> {
    if value.into() == 0 { Err(bad(key, "must be above 0: there is no \"unlimited\"")) } else { Ok(value) }
}

/// A limit's name below `limits.run` or `limits.compile`.
macro_rules! stage_limits {
    ($prefix:literal, $raw:expr, $cpu_milli:expr) => {{
        let raw = $raw;
        let key = |name: &'static str| name;
        Ok::<_, SettingsError>(Limits {
            wall_ms: positive(key(concat!($prefix, ".wall_ms")), raw.wall_ms)?,
            cpu_ms: positive(key(concat!($prefix, ".cpu_ms")), raw.cpu_ms)?,
            memory_bytes: positive(key(concat!($prefix, ".memory_bytes")), raw.memory_bytes)?,
            processes: positive(key(concat!($prefix, ".processes")), raw.processes)?,
            open_files: positive(key(concat!($prefix, ".open_files")), raw.open_files)?,
            file_size_bytes: positive(key(concat!($prefix, ".file_size_bytes")), raw.file_size_bytes)?,
            output_bytes: Some(positive(key(concat!($prefix, ".output_bytes")), raw.output_bytes)?),
            cpu_milli: positive(key(concat!($prefix, ".cpu_milli")), raw.cpu_milli.or_else($cpu_milli))?,
        })
    }};
}

impl Settings {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, by its name.
    pub fn from_table(table: toml::Table) -> Result<Self, SettingsError> {
        let raw: Raw = table.try_into()?;
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let listen: SocketAddr = raw
            .listen
            .parse()
            .map_err(|_| bad("listen", format!("is {:?}, which is no ADDRESS:PORT (127.0.0.1:2000, [::1]:2000)", raw.listen)))?;
        let require = match raw.isolation.require.as_str() {
            "auto" => None,
            name => Some(name.parse().map_err(|error| bad("isolation.require", format!("{error}")))?),
        };
        let network = match raw.isolation.network.as_str() {
            "none" => Network::None,
            "loopback" => Network::Loopback,
            other => return Err(bad("isolation.network", format!("is {other:?}: expected none or loopback"))),
        };
        let system_root = (raw.isolation.system_root != "host").then(|| PathBuf::from(&raw.isolation.system_root));
        if let Some(root) = &system_root
            && !root.join("usr").is_dir()
        {
            return Err(bad("isolation.system_root", format!("is {}, where there is no directory usr", root.display())));
        }
        let max_concurrent = positive("admission.max_concurrent", raw.admission.max_concurrent.or_else(|| cores))?;
        let ready_sandboxes = raw.sandboxes.ready.or_else(|| cores.saturating_mul(2));
        let max_sandboxes = raw.sandboxes.max.or_else(|| (max_concurrent.max(cores) * 2 + ready_sandboxes).max(4 * cores + 2));
        if max_sandboxes < 2 || max_sandboxes < ready_sandboxes {
            let reason = format!("is {max_sandboxes}: it must be at least 2 (a compile stage and a run stage) and sandboxes.ready");
            return Err(bad("sandboxes.max", reason));
        }
        let disk = DiskLimits {
            bytes: positive("limits.disk.bytes", raw.limits.disk.bytes)?,
            inodes: positive("limits.disk.inodes", raw.limits.disk.inodes)?,
        };
        let run = stage_limits!("limits.run", raw.limits.run, || 1000)?;
        let compile = stage_limits!("limits.compile", raw.limits.compile, || cores.saturating_mul(1000))?;
        if disk.bytes >= run.memory_bytes.min(compile.memory_bytes) {
            let reason =
                "must be below limits.run.memory_bytes and limits.compile.memory_bytes: files are kept in memory and count";
            return Err(bad("limits.disk.bytes", reason));
        }
        let http = raw.http;
        let gateway = GatewayConfig {
            run,
            compile,
            disk,
            languages: raw.limits.languages.into_iter().map(|(name, of)| (name, of.into())).collect(),
            max_concurrent: max_concurrent as usize,
            queue: raw.admission.queue as usize,
            body_bytes: positive("http.body_bytes", http.body_bytes)?,
            header_timeout: Duration::from_millis(positive("http.header_timeout_ms", http.header_timeout_ms)?),
            body_timeout: Duration::from_millis(positive("http.body_timeout_ms", http.body_timeout_ms)?),
            websocket_message_bytes: usize::try_from(positive("http.websocket_message_bytes", http.websocket_message_bytes)?)
                .unwrap_or(usize::MAX),
            package_admin: raw.packages.admin.or_else(|| listen.ip().is_loopback()),
            drain_timeout: Duration::from_millis(raw.admission.drain_ms),
        };
        let log_format = match raw.log.format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(bad("log.format", format!("is {other:?}: expected text or json"))),
        };
        Ok(Self {
            listen,
            data_dir: if raw.data_dir == "auto" { default_data_dir() } else { raw.data_dir.into() },
            gateway,
            log_level: raw.log.level,
            log_format,
            require,
            network,
            system_root,
            uid_first: positive("isolation.uid_first", raw.isolation.uid_first)?,
            uid_count: positive("isolation.uid_count", raw.isolation.uid_count)?,
            max_sandboxes,
            ready_sandboxes,
        })
    }

    /// How to find languages.
    pub fn discovery(&self, elevation: Elevation) -> DiscoverOptions {
        DiscoverOptions { definitions: None, system_root: self.system_root.clone(), elevation }
    }

    /// The runner's part, for these languages.
    pub fn sandbox(&self, catalogue: &Catalogue) -> SandboxConfig {
        let support = catalogue.support_files();
        let file = |(path, content, executable): (RelativePath, Vec<u8>, bool)| SupportFile::new(&path, content, executable);
        SandboxConfig {
            require: self.require,
            network: self.network,
            system_root: self.system_root.clone(),
            etc: catalogue.etc_names(),
            support: support.into_iter().map(file).collect(),
            workspace_dir: self.data_dir.clone(),
            disk: self.gateway.disk,
            uid_first: self.uid_first,
            uid_count: self.uid_count,
            max_sandboxes: self.max_sandboxes,
            ready_sandboxes: self.ready_sandboxes,
        }
    }
}

impl From<RawOverrides> for LimitOverrides {
    fn from(of: RawOverrides) -> Self {
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

/// `/var/lib/greenroom` for root; else below the user's data directory (XDG Base Directory Specification).
fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/greenroom");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home).unwrap_or_else(std::env::temp_dir);
    base.join("greenroom")
}
