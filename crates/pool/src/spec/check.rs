use std::ops::RangeInclusive;

use greenroom_core::Blame;

use super::{Lifecycle, LifecycleKind, PoolKind, PoolSpec, SessionLimits};

/// Most modules of a warm set.
const MAX_WARM: usize = 64;
/// Longest name of a module, bytes.
const MAX_MODULE_BYTES: usize = 128;

/// Which numbers a pool may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    max_sessions: RangeInclusive<u64>,
    cooldown_s: RangeInclusive<u64>,
    max_alive_s: RangeInclusive<u64>,
    lifecycles: &'static [LifecycleKind],
}

impl Rules {
    /// What a pool of ours can do.
    pub const OWN: Rules = Rules {
        max_sessions: 1..=10_000,
        cooldown_s: 1..=604_800,
        max_alive_s: 1..=604_800,
        lifecycles: &[LifecycleKind::Timed, LifecycleKind::OnContainerExit],
    };

    /// What Azure's control plane accepts for a code interpreter: fewer sessions, no short cooldown,
    /// `OnContainerExit` for custom containers only.
    pub const AZURE: Rules =
        Rules { max_sessions: 1..=600, cooldown_s: 300..=3600, max_alive_s: 1..=604_800, lifecycles: &[LifecycleKind::Timed] };
}

/// What is wrong with a specification. Always the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number outside its range.
    #[error("{field}: {value} is not in the allowed range, {min} to {max}")]
    Range {
        /// Its field.
        field: &'static str,
        /// What was given.
        value: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// More ready than there may be.
    #[error("ready_sessions: {ready} is not in the allowed range, 0 to max_sessions ({max})")]
    ReadyAboveMax {
        /// `ready_sessions`.
        ready: u32,
        /// `max_sessions`.
        max: u32,
    },
    /// No name of a pool.
    #[error("name: {name:?} is not 3 to 63 lower-case letters, digits and hyphens, beginning with a letter")]
    Name {
        /// What was given.
        name: String,
    },
    /// A lifecycle that these rules do not have.
    #[error("lifecycle: {given} is not allowed here, only {allowed} is")]
    Lifecycle {
        /// What was given.
        given: &'static str,
        /// What may be given.
        allowed: &'static str,
    },
    /// A time of the other lifecycle.
    #[error("{field}: goes with the lifecycle {needs}, and the pool's is {has}")]
    OtherLifecycle {
        /// The field that was given.
        field: &'static str,
        /// The lifecycle that has it.
        needs: &'static str,
        /// The lifecycle of the pool.
        has: &'static str,
    },
    /// Too many modules to warm.
    #[error("warm: {count} modules are named, allowed are 0 to 64")]
    WarmCount {
        /// How many were given.
        count: usize,
    },
    /// Shells import nothing.
    #[error("warm: a Shell pool imports nothing; leave the list empty")]
    WarmShell,
    /// No name of a module of this language.
    #[error("warm[{index}]: {module:?} is not the name of a module of {kind}")]
    WarmName {
        /// Its place in the list.
        index: usize,
        /// What was given.
        module: String,
        /// The pool's kind.
        kind: &'static str,
    },
    /// Named twice.
    #[error("warm[{index}]: {module:?} is named twice")]
    WarmTwice {
        /// The second place in the list.
        index: usize,
        /// The module.
        module: String,
    },
}

impl SpecError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        Blame::Caller
    }
}

impl PoolSpec {
    /// Checks every field; the first that is wrong is named.
    pub fn check(&self, rules: &Rules) -> Result<(), SpecError> {
        check_name(&self.name)?;
        in_range("max_sessions", self.max_sessions, &rules.max_sessions)?;
        if self.ready_sessions > self.max_sessions {
            return Err(SpecError::ReadyAboveMax { ready: self.ready_sessions, max: self.max_sessions });
        }
        let kind = LifecycleKind::of(self.lifecycle);
        if !rules.lifecycles.contains(&kind) {
            let allowed = rules.lifecycles.first().map_or("none", |kind| kind.as_str());
            return Err(SpecError::Lifecycle { given: kind.as_str(), allowed });
        }
        match self.lifecycle {
            Lifecycle::Timed { cooldown_s } => in_range("cooldown_s", cooldown_s, &rules.cooldown_s)?,
            Lifecycle::OnContainerExit { max_alive_s } => in_range("max_alive_s", max_alive_s, &rules.max_alive_s)?,
        }
        check_limits(&self.limits)?;
        check_warm(self.kind, &self.warm)
    }
}

fn in_range(field: &'static str, value: impl Into<u64>, range: &RangeInclusive<u64>) -> Result<(), SpecError> {
    let value = value.into();
    if range.contains(&value) {
        return Ok(());
    }
    Err(SpecError::Range { field, value, min: *range.start(), max: *range.end() })
}

fn check_name(name: &str) -> Result<(), SpecError> {
    let fits = (3..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(()) } else { Err(SpecError::Name { name: name.chars().take(100).collect() }) }
}

fn check_limits(limits: &SessionLimits) -> Result<(), SpecError> {
    const MIB: u64 = 1 << 20;
    const TIB: u64 = 1 << 40;
    in_range("limits.execution_wall_ms", limits.execution_wall_ms, &(1..=3_600_000))?;
    in_range("limits.execution_cpu_ms", limits.execution_cpu_ms, &(1..=36_000_000))?;
    in_range("limits.execution_output_bytes", limits.execution_output_bytes, &(1..=64 * MIB))?;
    in_range("limits.memory_bytes", limits.memory_bytes, &(16 * MIB..=TIB))?;
    in_range("limits.cpu_milli", limits.cpu_milli, &(10..=1_024_000))?;
    in_range("limits.processes", limits.processes, &(1..=65_536))?;
    in_range("limits.open_files", limits.open_files, &(16..=1_048_576))?;
    in_range("limits.file_size_bytes", limits.file_size_bytes, &(1..=TIB))?;
    in_range("limits.disk.bytes", limits.disk.bytes, &(MIB..=TIB))?;
    in_range("limits.disk.inodes", limits.disk.inodes, &(64..=100_000_000))
}

fn check_warm(kind: PoolKind, warm: &[String]) -> Result<(), SpecError> {
    if warm.len() > MAX_WARM {
        return Err(SpecError::WarmCount { count: warm.len() });
    }
    for (index, module) in warm.iter().enumerate() {
        let fits = match kind {
            PoolKind::PythonLts => is_python_module(module),
            PoolKind::NodeLts => is_node_module(module),
            PoolKind::Shell => return Err(SpecError::WarmShell),
        };
        if !fits || module.len() > MAX_MODULE_BYTES {
            return Err(SpecError::WarmName { index, module: module.chars().take(100).collect(), kind: kind.as_str() });
        }
        if warm[..index].contains(module) {
            return Err(SpecError::WarmTwice { index, module: module.clone() });
        }
    }
    Ok(())
}

/// Dotted ASCII identifiers: `numpy`, `xml.etree`.
fn is_python_module(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// Packages and their parts, never paths: `lodash`, `node:fs`, `@scope/name/part`.
fn is_node_module(name: &str) -> bool {
    let bare = name.strip_prefix("node:").or_else(|| name.strip_prefix('@')).unwrap_or(name);
    bare.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    })
}
