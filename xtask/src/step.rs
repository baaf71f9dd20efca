//! Steps: a command, what it is for, how long it took.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// The cargo that runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Builds `target/release/greenroom`, linked statically: the runner is cloned for every slot, and a process
/// without shared libraries has a third of the mappings to copy and to take down (about a tenth more runs a second).
pub fn release() -> Command {
    cargo(&["rustc", "--release", "--package", "greenroom", "--bin", "greenroom", "--", "-C", "target-feature=+crt-static"])
}

/// Runs a command to its end, its output shown.
pub fn run(what: &str, mut command: Command) -> Result<()> {
    println!("== {what}");
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{what}: {} cannot be started", command.get_program().display()))?;
    println!("== {what}: {} s", begun.elapsed().as_secs());
    if status.success() { Ok(()) } else { bail!("{what} failed ({status})") }
}
