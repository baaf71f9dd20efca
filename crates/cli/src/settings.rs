//! The settings, typed and checked.

mod egress;
mod identity;
mod pools;
mod raw;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use greenroom_core::{DiskLimits, Limits, Profile, RelativePath};
use greenroom_gateway::GatewayConfig;
use greenroom_pool::{Kept, OperationsKept, UsageKept};
use greenroom_runtimes::{Catalogue, DiscoverOptions, Elevation, Runtime};
use greenroom_sandbox::{Network, SandboxConfig, SharedDirectory, SupportFile, ZygoteConfig};

pub use self::egress::EgressSettings;
pub use self::identity::{IdentitySettings, TlsSettings};
pub use self::pools::{POOL_KEYS, PoolSettings, new_pool};
use self::raw::{Raw, RawOverrides};

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Of the wrong type.
    #[error("{key}: {reason}")]
    Type {
        /// Which.
        key: String,
        /// What it is, and what was expected.
        reason: String,
    },
    /// Out of range.
    #[error("{key} {reason}")]
    Value {
        /// Which.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl SettingsError {
    /// The setting.
    pub fn key(&self) -> &str {
        match self {
            SettingsError::Type { key, .. } | SettingsError::Value { key, .. } => key,
        }
    }

    fn of_type(error: &serde_path_to_error::Error<toml::de::Error>) -> Self {
        // An operator does not know Rust's types.
        let mut reason = error.inner().message().to_owned();
        for (rust, plain) in [
            ("expected u64", "expected a whole number, 0 or more"),
            ("expected u32", "expected a whole number from 0 to 4294967295"),
        ] {
            reason = reason.replace(rust, plain);
        }
        Self::Type { key: error.path().to_string(), reason }
    }
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
    /// Whether headers are compiled ahead.
    pub precompiled_headers: bool,
    /// Memory for what compile stages made, bytes.
    pub cache_bytes: u64,
    /// Processes that stand by, of each kind.
    pub standbys: u32,
    /// Who may use it.
    pub identity: IdentitySettings,
    /// Where https is served, if it is.
    pub tls: Option<TlsSettings>,
    /// The gateway's part.
    pub gateway: GatewayConfig,
    /// The pools that the configuration names.
    pub pools: BTreeMap<String, PoolSettings>,
    /// What sessions with network may reach.
    pub egress: EgressSettings,
    /// How much is kept of what is over.
    pub kept: Kept,
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
    max_sessions: u32,
    warm: bool,
    python_modules: Vec<String>,
    ready_children: u32,
    adaptive_bytes: u64,
}

fn bad(key: &str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Value { key: key.to_owned(), reason: reason.into() }
}

/// An address with its port.
fn address(key: &str, text: &str) -> Result<SocketAddr, SettingsError> {
    // The one name that needs nobody to be asked.
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = local.as_deref().unwrap_or(text).parse();
    address.map_err(|_| bad(key, format!("is {text:?}, which is no ADDRESS:PORT (127.0.0.1:2000, [::1]:2000)")))
}

fn positive<T: Into<u64> + Copy>(key: &str, value: T) -> Result<T, SettingsError> {
    if value.into() == 0 { Err(bad(key, "must be above 0: there is no \"unlimited\"")) } else { Ok(value) }
}

/// Sessions that may exist at once, where the range of uids allows it.
const MAX_SESSIONS: u32 = 256;
/// Uids that a sandbox uses in turn.
const UIDS_OF_A_SANDBOX: u32 = 8;

/// The adaptive part, where nothing is said of it: three JVMs, or as many children of interpreters as there are slots for.
const MOST_ADAPTIVE_BYTES: u64 = 512 << 20;
/// No process that stands by holds less for itself (Node 18: 7 MB; its program is shared).
const LEAST_STANDBY_BYTES: u64 = 6 << 20;
/// So many of them, for each processor, are started as fast as programs end.
const ADAPTIVE_STANDBYS: u32 = 2;

/// The kernel gives no smaller share (sched-bwc.rst: a quota of at least 1 ms, here of every 100 ms).
pub const LEAST_CPU_MILLI: u32 = 10;

fn share(key: &str, cpu_milli: u32) -> Result<u32, SettingsError> {
    let reason = || format!("is {cpu_milli}: it must be at least {LEAST_CPU_MILLI} (thousandths of a processor)");
    if cpu_milli < LEAST_CPU_MILLI { Err(bad(key, reason())) } else { Ok(cpu_milli) }
}

/// The uids of sandboxes are nobody else's.
fn check_uids(first: u32, count: u32, max_sandboxes: u32) -> Result<(), SettingsError> {
    // Below are the system's own users (adduser(8)); a program must not get their rights.
    if first < 1000 {
        return Err(bad("isolation.uid_first", format!("is {first}: it must be at least 1000, users below belong to the system")));
    }
    if count < max_sandboxes {
        let reason = format!("is {count}: each of the {max_sandboxes} sandboxes (sandboxes.max) needs a uid of its own");
        return Err(bad("isolation.uid_count", reason));
    }
    // The last number of all is no uid: it means "leave as it is" to chown(2).
    let last = u64::from(first) + u64::from(count) - 1;
    if last >= u64::from(u32::MAX) {
        let reason = format!("is {first}: with {count} of them (isolation.uid_count) the last is {last}; none is above 4294967294");
        return Err(bad("isolation.uid_first", reason));
    }
    // `nobody`, as whom everything runs that must have no rights, and its 16-bit `-1`.
    if (u64::from(first)..=last).any(|uid| uid == 65534 || uid == 65535) {
        return Err(bad(
            "isolation.uid_first",
            format!("is {first}: the range up to {last} holds 65534 (nobody); begin above 65535"),
        ));
    }
    Ok(())
}

fn check_overrides(languages: &BTreeMap<String, RawOverrides>) -> Result<(), SettingsError> {
    for (language, of) in languages {
        let small = [("processes", of.processes), ("open_files", of.open_files), ("cpu_milli", of.cpu_milli)];
        let large = [
            ("file_size_bytes", of.file_size_bytes),
            ("output_bytes", of.output_bytes),
            ("compile_wall_ms", of.compile_wall_ms),
            ("run_wall_ms", of.run_wall_ms),
            ("compile_cpu_ms", of.compile_cpu_ms),
            ("run_cpu_ms", of.run_cpu_ms),
            ("compile_memory_bytes", of.compile_memory_bytes),
            ("run_memory_bytes", of.run_memory_bytes),
        ];
        let all = small.into_iter().map(|(name, value)| (name, value.map(u64::from))).chain(large);
        for (name, value) in all {
            value.map_or(Ok(0), |value| positive(&format!("limits.languages.{language}.{name}"), value))?;
        }
        of.cpu_milli.map_or(Ok(0), |cpu_milli| share(&format!("limits.languages.{language}.cpu_milli"), cpu_milli))?;
    }
    Ok(())
}

/// A word that is no level would be taken for the name of a part of the program, and silence everything else.
fn check_log_level(level: &str) -> Result<(), SettingsError> {
    let is_level = |word: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&word);
    let fine = level.split(',').all(|directive| match directive.split_once('=') {
        Some((_, level)) => is_level(level.trim()),
        None => is_level(directive.trim()),
    });
    let reason = || {
        format!("is {level:?}: expected error, warn, info, debug, trace or off, or directives as `info,greenroom_gateway=debug`")
    };
    if fine { Ok(()) } else { Err(bad("log.level", reason())) }
}

/// A limit's name below `limits.run` or `limits.compile`.
macro_rules! stage_limits {
    ($prefix:literal, $raw:expr, $cpu_milli:expr) => {{
        let raw = $raw;
        Ok::<_, SettingsError>(Limits {
            wall_ms: positive(concat!($prefix, ".wall_ms"), raw.wall_ms)?,
            cpu_ms: positive(concat!($prefix, ".cpu_ms"), raw.cpu_ms)?,
            memory_bytes: positive(concat!($prefix, ".memory_bytes"), raw.memory_bytes)?,
            processes: positive(concat!($prefix, ".processes"), raw.processes)?,
            open_files: positive(concat!($prefix, ".open_files"), raw.open_files)?,
            file_size_bytes: positive(concat!($prefix, ".file_size_bytes"), raw.file_size_bytes)?,
            output_bytes: Some(positive(concat!($prefix, ".output_bytes"), raw.output_bytes)?),
            cpu_milli: share(concat!($prefix, ".cpu_milli"), raw.cpu_milli.or_else($cpu_milli))?,
        })
    }};
}

impl Settings {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, by its name.
    pub fn from_table(table: toml::Table) -> Result<Self, SettingsError> {
        let raw: Raw = serde_path_to_error::deserialize(table).map_err(|error| SettingsError::of_type(&error))?;
        let cores = cores();
        let listen = address("listen", &raw.listen)?;
        let require = match raw.isolation.require.as_str() {
            "auto" => None,
            "full" => Some(Profile::Full),
            "rootless" => Some(Profile::Rootless),
            "restricted" => Some(Profile::Restricted),
            other => return Err(bad("isolation.require", format!("is {other:?}: expected auto, full, rootless or restricted"))),
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
        let ready_children = raw.warm.ready.or_else(|| cores.saturating_mul(2));
        let adaptive_bytes = raw.warm.adaptive_bytes.or_else(|| (memory_bytes() / 16).min(MOST_ADAPTIVE_BYTES));
        // So many slots: the adaptive part takes them where it has the memory.
        let beyond = if adaptive_bytes > 0 { cores.saturating_mul(2) } else { 0 };
        let warm_sandboxes = if raw.warm.enabled { ready_children.saturating_add(beyond) } else { 0 };
        let max_sandboxes = raw
            .sandboxes
            .max
            .or_else(|| (max_concurrent.max(cores) * 2 + ready_sandboxes).max(4 * cores + 2).saturating_add(warm_sandboxes));
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
        check_overrides(&raw.limits.languages)?;
        check_uids(raw.isolation.uid_first, raw.isolation.uid_count, max_sandboxes)?;
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
        for (name, pool) in &raw.pools {
            pool.check(name)?;
        }
        check_log_level(&raw.log.level)?;
        let log_format = match raw.log.format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(bad("log.format", format!("is {other:?}: expected text or json"))),
        };
        let data_dir = if raw.data_dir == "auto" { default_data_dir() } else { raw.data_dir.into() };
        Ok(Self {
            listen,
            identity: IdentitySettings::check(raw.identity)?,
            tls: TlsSettings::check(raw.tls, &data_dir)?,
            data_dir,
            precompiled_headers: raw.compile.precompiled_headers,
            cache_bytes: raw.compile.cache_bytes,
            standbys: raw.standby.ready.or_else(|| cores.min(4)),
            gateway,
            pools: raw.pools,
            egress: EgressSettings::check(raw.egress)?,
            kept: Kept {
                usage: UsageKept {
                    age: Duration::from_secs(u64::from(positive("usage.keep_days", raw.usage.keep_days)?) * 86_400),
                    rows: positive("usage.keep_rows", raw.usage.keep_rows)?,
                },
                operations: OperationsKept {
                    age: Duration::from_secs(u64::from(positive("results.keep_hours", raw.results.keep_hours)?) * 3600),
                    bytes: raw.results.keep_bytes,
                },
            },
            log_level: raw.log.level,
            log_format,
            require,
            network,
            system_root,
            uid_first: raw.isolation.uid_first,
            uid_count: raw.isolation.uid_count,
            max_sandboxes,
            ready_sandboxes,
            warm: raw.warm.enabled,
            python_modules: raw.warm.python_modules.split_whitespace().map(str::to_owned).collect(),
            ready_children,
            adaptive_bytes,
            max_sessions: raw.sandboxes.sessions.or_else(|| {
                // Several servers side by side share the range.
                MAX_SESSIONS.min((raw.isolation.uid_count / UIDS_OF_A_SANDBOX).saturating_sub(max_sandboxes + 1))
            }),
        })
    }

    /// The same, content with whatever isolation can be had.
    pub fn undemanding(&self) -> Self {
        Self { require: Some(Profile::Restricted), ..self.clone() }
    }

    /// The same for a command that ends with its programs: what it warmed up would be ready when nobody needs it any more.
    pub fn for_once(&self) -> Self {
        Self { warm: false, standbys: 0, adaptive_bytes: 0, ..self.clone() }
    }

    /// What `auto` was decided to be, by setting.
    pub fn decided(&self, key: &str) -> Option<String> {
        Some(match key {
            "data_dir" => self.data_dir.display().to_string(),
            "isolation.require" if rustix::process::geteuid().is_root() => Profile::Full.to_string(),
            "isolation.require" => "the strongest that can be had".to_owned(),
            "standby.ready" => self.standbys.to_string(),
            "sandboxes.max" => self.max_sandboxes.to_string(),
            "sandboxes.ready" => self.ready_sandboxes.to_string(),
            "warm.ready" => self.ready_children.to_string(),
            "warm.adaptive_bytes" => self.adaptive_bytes.to_string(),
            "sandboxes.sessions" => self.max_sessions.to_string(),
            "admission.max_concurrent" => self.gateway.max_concurrent.to_string(),
            "limits.run.cpu_milli" => self.gateway.run.cpu_milli.to_string(),
            "limits.compile.cpu_milli" => self.gateway.compile.cpu_milli.to_string(),
            "packages.admin" => self.gateway.package_admin.to_string(),
            _ => return None,
        })
    }

    /// Limits of languages that are none: no error, because definitions come and go, but nobody means them.
    pub fn idle_overrides(&self, catalogue: &Catalogue) -> Vec<String> {
        let known: BTreeSet<String> = catalogue.packages().into_iter().map(|package| package.language).collect();
        let idle = self.gateway.languages.keys().filter(|name| !known.contains(*name));
        idle.map(|name| match catalogue.resolve(name, "*") {
            Some(runtime) => format!("limits.languages.{name} does not count: the language's own name is {}", runtime.language()),
            None => format!("limits.languages.{name} does not count: there is no such language"),
        })
        .collect()
    }

    /// How to find languages.
    pub fn discovery(&self, elevation: Elevation) -> DiscoverOptions {
        DiscoverOptions { definitions: None, system_root: self.system_root.clone(), elevation }
    }

    /// Where headers are compiled ahead, if they are.
    pub fn precompiled(&self) -> Option<PathBuf> {
        self.precompiled_headers.then(|| self.data_dir.join(Catalogue::PRECOMPILED_AT))
    }

    /// Processes that may stand by at once: of two languages, under the limits of two callers; and what the adaptive part has room for.
    pub fn most_standbys(&self) -> u32 {
        let adaptive = u32::try_from(self.adaptive_bytes / LEAST_STANDBY_BYTES)
            .unwrap_or(u32::MAX)
            .min(cores().saturating_mul(ADAPTIVE_STANDBYS));
        if self.standbys == 0 { 0 } else { self.standbys.saturating_mul(4).saturating_add(adaptive) }
    }

    fn zygotes(&self, catalogue: &Catalogue) -> Vec<ZygoteConfig> {
        let installed = catalogue.installed();
        let of = |runtime: &Arc<Runtime>| {
            let (program, env) = runtime.zygote()?;
            let modules = if runtime.language() == "python" { self.python_modules.clone() } else { Vec::new() };
            Some(ZygoteConfig { name: runtime.language().to_owned(), program: program.to_owned(), env, modules })
        };
        installed.iter().filter_map(of).collect()
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
            directories: self
                .precompiled()
                .map(|path| SharedDirectory { path, at: Catalogue::PRECOMPILED_AT.to_owned() })
                .into_iter()
                .collect(),
            workspace_dir: self.data_dir.clone(),
            disk: self.gateway.disk,
            uid_first: self.uid_first,
            uid_count: self.uid_count,
            max_sandboxes: self.max_sandboxes,
            ready_sandboxes: self.ready_sandboxes,
            // Those that stand by are of these too.
            max_sessions: self.max_sessions.saturating_add(self.most_standbys()),
            zygotes: if self.warm { self.zygotes(catalogue) } else { Vec::new() },
            ready_children: self.ready_children,
            adaptive_bytes: self.adaptive_bytes,
        }
    }
}

/// Processors that we may use.
fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Of this machine.
fn memory_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    system.totalram.saturating_mul(system.mem_unit.into())
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
