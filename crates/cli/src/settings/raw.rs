//! The settings as they are written, before anything is checked but names and types.

use std::collections::BTreeMap;

use greenroom_core::DiskLimits;
use greenroom_gateway::LimitOverrides;
use serde::Deserialize;

use super::{
    PoolSettings,
    egress::RawEgress,
    identity::{RawIdentity, RawTls},
};

/// A value, or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a value of the right type, or \"auto\"")]
pub enum Auto<T> {
    Value(T),
    Auto(AutoWord),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AutoWord {
    #[serde(rename = "auto")]
    Auto,
}

impl<T> Auto<T> {
    pub fn or_else(self, default: impl FnOnce() -> T) -> T {
        match self {
            Auto::Value(value) => value,
            Auto::Auto(_) => default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub listen: String,
    pub data_dir: String,
    pub isolation: RawIsolation,
    pub sandboxes: RawSandboxes,
    pub admission: RawAdmission,
    pub limits: RawLimits,
    pub compile: RawCompile,
    pub standby: RawStandby,
    pub http: RawHttp,
    pub identity: RawIdentity,
    pub tls: RawTls,
    pub packages: RawPackages,
    #[serde(default)]
    pub pools: BTreeMap<String, PoolSettings>,
    pub egress: RawEgress,
    pub usage: RawUsage,
    pub results: RawResults,
    pub warm: RawWarm,
    pub log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawResults {
    pub keep_hours: u32,
    pub keep_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUsage {
    pub keep_days: u32,
    pub keep_rows: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWarm {
    pub enabled: bool,
    pub ready: Auto<u32>,
    pub adaptive_bytes: Auto<u64>,
    pub python_modules: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIsolation {
    pub require: String,
    pub network: String,
    pub system_root: String,
    pub uid_first: u32,
    pub uid_count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSandboxes {
    pub max: Auto<u32>,
    pub ready: Auto<u32>,
    pub sessions: Auto<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAdmission {
    pub max_concurrent: Auto<u32>,
    pub queue: u32,
    pub drain_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    pub run: RawStage,
    pub compile: RawStage,
    pub disk: DiskLimits,
    #[serde(default)]
    pub languages: BTreeMap<String, RawOverrides>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStage {
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub memory_bytes: u64,
    pub processes: u32,
    pub open_files: u32,
    pub file_size_bytes: u64,
    pub output_bytes: u64,
    pub cpu_milli: Auto<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOverrides {
    pub processes: Option<u32>,
    pub open_files: Option<u32>,
    pub file_size_bytes: Option<u64>,
    pub output_bytes: Option<u64>,
    pub cpu_milli: Option<u32>,
    pub compile_wall_ms: Option<u64>,
    pub run_wall_ms: Option<u64>,
    pub compile_cpu_ms: Option<u64>,
    pub run_cpu_ms: Option<u64>,
    pub compile_memory_bytes: Option<u64>,
    pub run_memory_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStandby {
    pub ready: Auto<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCompile {
    pub precompiled_headers: bool,
    pub cache_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHttp {
    pub body_bytes: u64,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub websocket_message_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPackages {
    pub admin: Auto<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    pub level: String,
    pub format: String,
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
