//! Steps: a command, what it is for, how long it took.

use std::{
    io::{BufRead, BufReader},
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

/// Runs `cargo test` to its end, its output shown, and then again what the targets said that failed: cargo itself ends
/// with their names alone, thousands of lines below the reason.
pub fn run_tests(what: &str, mut command: Command) -> Result<()> {
    println!("== {what}");
    let begun = Instant::now();
    let (output, input) = std::io::pipe()?;
    command.stdout(input.try_clone()?).stderr(input);
    let mut child = command.spawn().with_context(|| format!("{what}: {} cannot be started", command.get_program().display()))?;
    // Our own copies of the pipe's writing end.
    drop(command);
    let mut targets = vec![Target::default()];
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        if ["Running ", "Doc-tests "].iter().any(|begin| line.trim_start().starts_with(begin)) {
            targets.push(Target::default());
        }
        if let Some(target) = targets.last_mut() {
            target.heard(line);
        }
    }
    let status = child.wait()?;
    println!("== {what}: {} s", begun.elapsed().as_secs());
    if status.success() {
        return Ok(());
    }
    println!("== what failed");
    targets.iter().filter(|target| !target.passed).flat_map(|target| &target.said).for_each(|line| println!("{line}"));
    bail!("{what} failed ({status})")
}

/// What one target of `cargo test` said.
#[derive(Default)]
struct Target {
    /// Without the tests that went well.
    said: Vec<String>,
    passed: bool,
}

impl Target {
    fn heard(&mut self, line: String) {
        // One that passes is said to have failed by cargo, at once, where something went wrong after its last test.
        self.passed = (self.passed || line.starts_with("test result: ok")) && !line.starts_with("error: test failed");
        let well = line.starts_with("test ") && [" ... ok", " ... ignored"].iter().any(|end| line.contains(end));
        if !well && !line.is_empty() {
            self.said.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn a_target_has_passed_when_its_summary_says_so_and_cargo_does_not_object() {
        let target = |lines: &[&str]| {
            let mut target = Target::default();
            lines.iter().for_each(|line| target.heard((*line).to_owned()));
            target
        };
        assert!(target(&["running 1 test", "test a ... ok", "test result: ok. 1 passed"]).passed);
        assert!(!target(&["running 1 test"]).passed, "it ended before its summary");
        assert!(!target(&["test result: ok. 1 passed", "after the last test: 1 left", "error: test failed, to rerun"]).passed);
        let failed =
            target(&["running 2 tests", "test a ... ok", "test b ... FAILED", "", "b: why", "test result: FAILED. 1 passed"]);
        assert!(!failed.passed);
        assert_eq!(failed.said, ["running 2 tests", "test b ... FAILED", "b: why", "test result: FAILED. 1 passed"]);
    }
}
