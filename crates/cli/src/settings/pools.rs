//! Pools as the configuration names them: `[pools.NAME]`.

use greenroom_pool::{Lifecycle, LifecycleKind, LifecyclePatch, Network, PoolKind, PoolSpec, Rules, SpecError};
use serde::Deserialize;

use super::SettingsError;

/// What may be said of a pool.
pub const POOL_KEYS: [&str; 18] = [
    "kind", "network", "max_sessions", "ready_sessions", "lifecycle", "cooldown_s", "max_alive_s", "warm", "execution_wall_ms",
    "execution_cpu_ms", "execution_output_bytes", "memory_bytes", "cpu_milli", "processes", "open_files", "file_size_bytes",
    "disk_bytes", "disk_inodes",
];

/// What is said of one pool. What is not said stays as it is in the store, or is the default of a pool that is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    kind: Option<PoolKind>,
    network: Option<Network>,
    max_sessions: Option<u32>,
    ready_sessions: Option<u32>,
    lifecycle: Option<LifecycleKind>,
    cooldown_s: Option<u32>,
    max_alive_s: Option<u32>,
    warm: Option<Vec<String>>,
    execution_wall_ms: Option<u64>,
    execution_cpu_ms: Option<u64>,
    execution_output_bytes: Option<u64>,
    memory_bytes: Option<u64>,
    cpu_milli: Option<u32>,
    processes: Option<u32>,
    open_files: Option<u32>,
    file_size_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    disk_inodes: Option<u64>,
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl PoolSettings {
    /// The pool that comes of it, checked.
    pub fn apply(&self, mut spec: PoolSpec) -> Result<PoolSpec, SpecError> {
        set(&mut spec.kind, self.kind);
        set(&mut spec.network, self.network);
        set(&mut spec.max_sessions, self.max_sessions);
        // A small pool keeps no more ready than it may have.
        spec.ready_sessions = self.ready_sessions.unwrap_or(spec.ready_sessions.min(spec.max_sessions));
        // Whoever gives the time of a lifecycle means that lifecycle.
        let kind = self.lifecycle.or_else(|| self.max_alive_s.map(|_| LifecycleKind::OnContainerExit));
        let kind = kind.or_else(|| self.cooldown_s.map(|_| LifecycleKind::Timed));
        let patch = LifecyclePatch { kind, cooldown_s: self.cooldown_s, max_alive_s: self.max_alive_s };
        spec.lifecycle = patch.apply(spec.lifecycle)?;
        set(&mut spec.warm, self.warm.clone());
        let limits = &mut spec.limits;
        set(&mut limits.execution_wall_ms, self.execution_wall_ms);
        set(&mut limits.execution_cpu_ms, self.execution_cpu_ms);
        set(&mut limits.execution_output_bytes, self.execution_output_bytes);
        set(&mut limits.memory_bytes, self.memory_bytes);
        set(&mut limits.cpu_milli, self.cpu_milli);
        set(&mut limits.processes, self.processes);
        set(&mut limits.open_files, self.open_files);
        set(&mut limits.file_size_bytes, self.file_size_bytes);
        set(&mut limits.disk.bytes, self.disk_bytes);
        set(&mut limits.disk.inodes, self.disk_inodes);
        spec.check(&Rules::OWN)?;
        Ok(spec)
    }

    /// Checked as far as it can be before the store is asked: as if the pool were new.
    pub fn check(&self, name: &str) -> Result<(), SettingsError> {
        self.apply(new_pool(name)).map(drop).map_err(|error| bad(name, &error))
    }
}

/// A pool that the configuration says nothing of yet. Few are kept ready: each takes memory.
pub fn new_pool(name: &str) -> PoolSpec {
    PoolSpec { ready_sessions: 2, lifecycle: Lifecycle::default(), ..PoolSpec::new(name) }
}

/// By the name that the setting has in the configuration.
fn bad(name: &str, error: &SpecError) -> SettingsError {
    let text = error.to_string();
    let (field, reason) = text.split_once(": ").unwrap_or(("", &text));
    let field = field.strip_prefix("limits.").unwrap_or(field).replace('.', "_");
    let key = if field == "name" || field.is_empty() { format!("pools.{name}") } else { format!("pools.{name}.{field}") };
    SettingsError::Value { key, reason: reason.to_owned() }
}
