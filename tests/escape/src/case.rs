use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The rows of the catalogue: group, name, what must come of it.
const ROWS: &str = include_str!("../rows.tsv");

/// Files of cases: the group they belong to, and the theme where a group has several.
const FILES: &[(&str, &str, &str)] = &[
    ("resource", "processes", include_str!("../cases/resource/processes.toml")),
    ("resource", "memory", include_str!("../cases/resource/memory.toml")),
    ("resource", "files", include_str!("../cases/resource/files.toml")),
    ("resource", "output", include_str!("../cases/resource/output.toml")),
    ("resource", "time", include_str!("../cases/resource/time.toml")),
    ("resource", "verdicts", include_str!("../cases/resource/verdicts.toml")),
    ("compile-time", "", include_str!("../cases/compile-time.toml")),
    ("escape", "proc", include_str!("../cases/escape/proc.toml")),
    ("escape", "namespaces", include_str!("../cases/escape/namespaces.toml")),
    ("escape", "rights", include_str!("../cases/escape/rights.toml")),
    ("escape", "syscalls", include_str!("../cases/escape/syscalls.toml")),
    ("escape", "shared", include_str!("../cases/escape/shared.toml")),
    ("files", "", include_str!("../cases/files.toml")),
    ("cross-session", "", include_str!("../cases/cross-session.toml")),
    ("zygote-fork", "", include_str!("../cases/zygote-fork.toml")),
    ("network", "", include_str!("../cases/network.toml")),
    ("api", "", include_str!("../cases/api.toml")),
    ("auth", "", include_str!("../cases/auth.toml")),
    ("operations", "", include_str!("../cases/operations.toml")),
    ("must-work", "", include_str!("../cases/must-work.toml")),
];

/// One file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Programs and what must come of them.
    #[serde(default)]
    pub case: Vec<Case>,
    /// Requests and what must be answered.
    #[serde(default)]
    pub request: Vec<Exchange>,
    /// Rows that are code in the suite.
    #[serde(default)]
    pub coded: Vec<String>,
    /// Rows that are left for later.
    #[serde(default)]
    pub deferred: Vec<Deferred>,
}

/// A row that is left for later, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deferred {
    /// The row.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A program, and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The row.
    pub name: String,
    /// Tells apart several cases of one row.
    #[serde(default)]
    pub variant: String,
    /// The language, by Piston's name.
    pub language: String,
    /// The program.
    pub source: String,
    /// Name of the main file, where it matters.
    pub file: Option<String>,
    /// Further files: name to content.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// A second program, run afterwards in a sandbox of its own; the expectations are about it.
    pub then: Option<String>,
    /// What must come of the first one, where there is a second.
    #[serde(default)]
    pub first: Expect,
    /// Its language, if another.
    pub then_language: Option<String>,
    /// The second program is run while the first still runs, and ends before it.
    #[serde(default)]
    pub together: bool,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Standard input.
    #[serde(default)]
    pub stdin: String,
    /// Standard input is this often `stdin`.
    #[serde(default = "once")]
    pub stdin_times: usize,
    /// Wall-clock limit of the run stage, milliseconds.
    pub run_timeout: Option<u64>,
    /// CPU limit of the run stage, milliseconds.
    pub run_cpu_time: Option<u64>,
    /// Memory limit of the run stage, bytes.
    pub run_memory_limit: Option<u64>,
    /// Wall-clock limit of the compile stage, milliseconds.
    pub compile_timeout: Option<u64>,
    /// What must come of it.
    #[serde(default)]
    pub expect: Expect,
    /// Whether a neighbour runs at the same time and must not notice.
    #[serde(default)]
    pub neighbour: bool,
    /// Programs of the system that it starts (`git`); it is not tested where one is missing.
    #[serde(default)]
    pub needs: Vec<String>,
    /// It never has more processes than this, as the kernel counts them, and at some time at least half as many.
    pub processes: Option<u64>,
    /// How often it is run.
    #[serde(default = "once")]
    pub repeat: usize,
}

fn once() -> usize {
    1
}

/// A request, and what must be answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The row.
    pub name: String,
    /// Tells apart several requests of one row.
    #[serde(default)]
    pub variant: String,
    /// The method.
    #[serde(default = "post")]
    pub method: String,
    /// The target.
    #[serde(default = "execute")]
    pub target: String,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body, as sent. Sent as `application/json` unless `headers` say otherwise.
    #[serde(default)]
    pub body: String,
    /// The answer's status is one of these.
    pub status: Vec<u16>,
    /// Each in the answer's body.
    #[serde(default)]
    pub has: Vec<String>,
    /// None in the answer's body.
    #[serde(default)]
    pub lacks: Vec<String>,
}

fn post() -> String {
    "POST".to_owned()
}

fn execute() -> String {
    "/api/v2/execute".to_owned()
}

/// What must come of a program.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// One of these, `ok` for none. Empty: `ok`, unless `compile_fails`.
    pub status: Vec<String>,
    /// One of these.
    pub signal: Vec<String>,
    /// Exactly this exit status.
    pub code: Option<i64>,
    /// In the stage's message.
    pub message: Option<String>,
    /// Each in stdout.
    pub stdout_has: Vec<String>,
    /// None in what either stage printed.
    pub lacks: Vec<String>,
    /// Exactly this stdout, white space at both ends aside.
    pub stdout_is: Option<String>,
    /// Each in stderr.
    pub stderr_has: Vec<String>,
    /// Exactly this stderr, white space at both ends aside.
    pub stderr_is: Option<String>,
    /// The compile stage fails; the expectations are about it.
    pub compile_fails: bool,
    /// Any end of either stage will do, as long as it is the program's own.
    pub contained: bool,
}

/// All groups' files, in the catalogue's order; a group may have several.
///
/// # Errors
/// A file that is not as it should be.
pub fn groups() -> Result<Vec<(&'static str, Group)>> {
    let parse = |(group, theme, text): &(&'static str, &str, &str)| {
        Ok((*group, toml::from_str(text).with_context(|| format!("cases/{group}/{theme}"))?))
    };
    FILES.iter().map(parse).collect()
}

/// All rows of the catalogue: group and name.
pub fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.lines().filter_map(|line| line.split_once('\t').and_then(|(group, rest)| Some((group, rest.split_once('\t')?.0))))
}
