//! Configuration in layers, each value with its origin: defaults, file, `PISTON_*`, `GREENROOM_*`, flags.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use greenroom_wire::piston;
use toml::{Table, Value};

use crate::{
    commands::Flag,
    settings::{POOL_KEYS, Settings},
};

/// The embedded defaults.
const DEFAULTS: &str = include_str!("../config.default.toml");
/// The file that is read if it exists and none is named.
const SYSTEM_FILE: &str = "/etc/greenroom/config.toml";
/// The tables whose keys are the operator's, and what these may hold.
const OPEN_TABLES: [OpenTable; 2] = [
    OpenTable { name: "limits.languages", settings: &OVERRIDABLE, what: "is no limit of a language" },
    OpenTable { name: "pools", settings: &POOL_KEYS, what: "is no setting of a pool" },
];
/// What may be said of a language there.
const OVERRIDABLE: [&str; 11] = [
    "processes", "open_files", "file_size_bytes", "output_bytes", "cpu_milli", "compile_wall_ms", "run_wall_ms", "compile_cpu_ms",
    "run_cpu_ms", "compile_memory_bytes", "run_memory_bytes",
];

struct OpenTable {
    name: &'static str,
    settings: &'static [&'static str],
    what: &'static str,
}

/// A key below an open table: the table, the operator's name (which may hold dots, as `c#.net`) and the setting.
fn opened(key: &str) -> Option<(&'static OpenTable, &str, &str)> {
    OPEN_TABLES.iter().find_map(|table| {
        let rest = key.strip_prefix(table.name)?.strip_prefix('.')?;
        let (name, setting) = rest.rsplit_once('.').unwrap_or((rest, ""));
        Some((table, name, setting))
    })
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded file.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The settings, and where each came from.
pub struct Loaded {
    /// Checked.
    pub settings: Settings,
    /// What was given and does not count.
    pub warnings: Vec<String>,
    values: BTreeMap<String, (Value, Origin)>,
}

/// Reads all layers.
pub fn load(file: Option<&Path>, flags: &[Flag]) -> anyhow::Result<Loaded> {
    let system = Path::new(SYSTEM_FILE);
    let file = file.or_else(|| system.exists().then_some(system));
    let file = file
        .map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok::<_, anyhow::Error>((path.to_owned(), text))
        })
        .transpose()?;
    merge(file, std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))), flags)
}

fn merge(
    file: Option<(PathBuf, String)>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Flag],
) -> anyhow::Result<Loaded> {
    let mut layers = Layers { values: BTreeMap::new() };
    layers.read(DEFAULTS, &Origin::Default).context("the embedded defaults")?;
    if let Some((path, text)) = file {
        layers.read(&text, &Origin::File(path.clone())).with_context(|| format!("in {}", path.display()))?;
    }
    let environment: BTreeMap<String, String> = environment.collect();
    let warnings = layers.piston(&environment)?;
    layers.environment(&environment)?;
    for flag in flags {
        let origin = Origin::Flag(flag.name.clone());
        layers.text(&flag.key, &flag.value, origin).with_context(|| format!("{} {}", flag.name, flag.key))?;
    }
    let settings = Settings::from_table(layers.table()).map_err(|error| layers.blame(error))?;
    Ok(Loaded { settings, warnings, values: layers.values })
}

struct Layers {
    values: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    fn read(&mut self, text: &str, origin: &Origin) -> anyhow::Result<()> {
        let table: Table = text.parse()?;
        self.take_table("", table, origin)
    }

    fn take_table(&mut self, prefix: &str, table: Table, origin: &Origin) -> anyhow::Result<()> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(below) => self.take_table(&key, below, origin)?,
                value => self.put(&key, value, origin.clone())?,
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: Value, origin: Origin) -> anyhow::Result<()> {
        if let Some((table, name, setting)) = opened(key) {
            if !table.settings.contains(&setting) {
                let near = nearest(setting, table.settings.iter().copied()).map(|near| format!("; did you mean {near:?}?"));
                bail!("unknown setting {key:?}: {setting:?} {} ({name}){}", table.what, near.unwrap_or_default());
            }
        } else if origin != Origin::Default && !self.values.contains_key(key) {
            if self.values.keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))) {
                bail!("{key:?} is a section, not a setting");
            }
            match nearest(key, self.values.keys().map(String::as_str)) {
                Some(near) => bail!("unknown setting {key:?}: did you mean {near:?}?"),
                None => bail!("unknown setting {key:?}: `greenroom config show` lists all of them"),
            }
        }
        self.values.insert(key.to_owned(), (value, origin));
        Ok(())
    }

    /// A value given as text takes the type of what it replaces.
    fn text(&mut self, key: &str, text: &str, origin: Origin) -> anyhow::Result<()> {
        let value = match self.values.get(key).map(|(value, _)| value) {
            Some(Value::Integer(_)) => {
                Value::Integer(text.parse().with_context(|| format!("{key} takes a whole number, not {text:?}"))?)
            }
            Some(Value::Boolean(_)) => {
                Value::Boolean(text.parse().with_context(|| format!("{key} takes true or false, not {text:?}"))?)
            }
            // `auto` may stand for a number or for true and false.
            _ => match (text.parse::<i64>(), text.parse::<bool>()) {
                (Ok(number), _) => Value::Integer(number),
                (_, Ok(truth)) => Value::Boolean(truth),
                _ => Value::String(text.to_owned()),
            },
        };
        self.put(key, value, origin)
    }

    fn environment(&mut self, environment: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let names: BTreeMap<String, String> =
            self.values.keys().map(|key| (format!("GREENROOM_{}", key.replace('.', "_").to_uppercase()), key.clone())).collect();
        for (name, text) in environment.iter().filter(|(name, _)| name.starts_with("GREENROOM_")) {
            // Not settings: which file to read, which server to ask, and what tests say to themselves.
            if matches!(
                name.as_str(),
                "GREENROOM_CONFIG"
                    | "GREENROOM_SERVER"
                    | "GREENROOM_KEY"
                    | "GREENROOM_MUST_WORK"
                    | "GREENROOM_CRASH_AT"
                    | "GREENROOM_BIN"
            ) || name.starts_with("GREENROOM_CONTRACT_")
                || name.starts_with("GREENROOM_ESCAPE_")
            {
                continue;
            }
            let Some(key) = names.get(name) else {
                match nearest(name, names.keys().map(String::as_str)) {
                    Some(near) => bail!("unknown environment variable {name}: did you mean {near}?"),
                    None => bail!("unknown environment variable {name}: `greenroom config show` lists the settings"),
                }
            };
            self.text(key, text, Origin::Environment(name.clone()))?;
        }
        Ok(())
    }

    /// Piston's variables, so that a deployment can move with its environment as it is.
    fn piston(&mut self, environment: &BTreeMap<String, String>) -> anyhow::Result<Vec<String>> {
        let given = piston::environment(environment.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        let mut set = |key: &str, value: Option<Value>, name: &str| match value {
            Some(value) => self.put(key, value, Origin::Environment(name.to_owned())),
            None => Ok(()),
        };
        let text = |text: &str| Value::String(text.to_owned());
        set("log.level", given.log_level.map(|level| text(if level == "none" { "off" } else { level })), "PISTON_LOG_LEVEL")?;
        // PORT alone is everybody's: it must not open a server without authentication to the network. Beside a variable
        // of Piston's own it means what it means there.
        let moved = environment.keys().any(|name| name.starts_with("PISTON_"));
        let port = given.port.filter(|_| moved).map(|port| Value::String(format!("0.0.0.0:{port}")));
        set("listen", port, "PORT")?;
        set("listen", given.bind_address.as_deref().map(text), "PISTON_BIND_ADDRESS")?;
        set("data_dir", given.data_directory.as_deref().map(text), "PISTON_DATA_DIRECTORY")?;
        let network = given.disable_networking.map(|off| text(if off { "none" } else { "loopback" }));
        set("isolation.network", network, "PISTON_DISABLE_NETWORKING")?;
        let concurrent = given.max_concurrent_jobs.map(|jobs| Value::Integer(jobs.into()));
        set("admission.max_concurrent", concurrent, "PISTON_MAX_CONCURRENT_JOBS")?;
        let l = given.limits;
        for (key, value, name) in [
            ("output_bytes", l.output_max_size, "PISTON_OUTPUT_MAX_SIZE"),
            ("processes", l.max_process_count, "PISTON_MAX_PROCESS_COUNT"),
            ("open_files", l.max_open_files, "PISTON_MAX_OPEN_FILES"),
            ("file_size_bytes", l.max_file_size, "PISTON_MAX_FILE_SIZE"),
        ] {
            for stage in ["run", "compile"] {
                set(&format!("limits.{stage}.{key}"), value.map(integer), name)?;
            }
        }
        for (key, value, name) in [
            ("compile.wall_ms", l.compile_timeout, "PISTON_COMPILE_TIMEOUT"),
            ("run.wall_ms", l.run_timeout, "PISTON_RUN_TIMEOUT"),
            ("compile.cpu_ms", l.compile_cpu_time, "PISTON_COMPILE_CPU_TIME"),
            ("run.cpu_ms", l.run_cpu_time, "PISTON_RUN_CPU_TIME"),
            ("compile.memory_bytes", l.compile_memory_limit, "PISTON_COMPILE_MEMORY_LIMIT"),
            ("run.memory_bytes", l.run_memory_limit, "PISTON_RUN_MEMORY_LIMIT"),
        ] {
            set(&format!("limits.{key}"), value.map(integer), name)?;
        }
        for (language, of) in &given.limit_overrides {
            for (key, value) in [
                ("output_bytes", of.output_max_size),
                ("processes", of.max_process_count),
                ("open_files", of.max_open_files),
                ("file_size_bytes", of.max_file_size),
                ("compile_wall_ms", of.compile_timeout),
                ("run_wall_ms", of.run_timeout),
                ("compile_cpu_ms", of.compile_cpu_time),
                ("run_cpu_ms", of.run_cpu_time),
                ("compile_memory_bytes", of.compile_memory_limit),
                ("run_memory_bytes", of.run_memory_limit),
            ] {
                set(&format!("limits.languages.{language}.{key}"), value.map(integer), "PISTON_LIMIT_OVERRIDES")?;
            }
        }
        Ok(given.ignored.iter().map(|ignored| format!("{} is ignored: {}", ignored.variable, ignored.reason)).collect())
    }

    /// All values as one nested table.
    fn table(&self) -> Table {
        let mut root = Table::new();
        for (key, (value, _)) in &self.values {
            let mut parts: Vec<&str> = match opened(key) {
                Some((table, name, setting)) => table.name.split('.').chain([name, setting]).collect(),
                None => key.split('.').collect(),
            };
            let last = parts.pop().unwrap_or_default();
            let mut at = &mut root;
            for part in parts {
                let below = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
                match below {
                    Value::Table(table) => at = table,
                    _ => return root, // a value and a table of one name: the defaults have no such pair
                }
            }
            at.insert(last.to_owned(), value.clone());
        }
        root
    }

    /// Says where a bad value came from.
    fn blame(&self, error: crate::settings::SettingsError) -> anyhow::Error {
        match self.values.get(error.key()) {
            Some((_, origin)) => anyhow::anyhow!("{error} (from {origin})"),
            None => error.into(),
        }
    }
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The known name most like an unknown one, if any is like it at all.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|candidate| (distance(name, candidate), candidate)).min()?;
    (best.0 <= name.len() / 3).then_some(best.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl Loaded {
    /// Every setting, its value and its origin; for `"auto"` also what was decided.
    pub fn show(&self, json: bool) -> anyhow::Result<String> {
        let decided = |key: &str, value: &Value| if value.as_str() == Some("auto") { self.settings.decided(key) } else { None };
        if json {
            let mut all = BTreeMap::new();
            for (key, (value, origin)) in &self.values {
                let mut entry = serde_json::json!({ "value": value, "origin": origin.to_string() });
                if let Some(decided) = decided(key, value) {
                    entry["decided"] = decided.into();
                }
                all.insert(key, entry);
            }
            return Ok(serde_json::to_string_pretty(&all)? + "\n");
        }
        let line = |(key, (value, origin)): (&String, &(Value, Origin))| {
            let decided = decided(key, value).map(|decided| format!(": {decided}")).unwrap_or_default();
            format!("{key} = {value}  # {origin}{decided}\n")
        };
        Ok(self.values.iter().map(line).collect())
    }
}

#[cfg(test)]
mod tests;
