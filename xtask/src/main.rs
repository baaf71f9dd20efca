//! The house's own commands. CI runs what a developer runs: `cargo xtask ci`.
#![forbid(unsafe_code)]

mod bench;
mod debian;
mod e2e;
mod server;
mod step;
mod tidy;

use std::{os::unix::process::CommandExt, path::Path, process::ExitCode};

use anyhow::{Result, bail};

use crate::step::{cargo, release, root, run, run_tests};

const USAGE: &str = "\
cargo xtask up [--listen ADDR:PORT] [--data-dir DIR] [--no-serve]
                        install what is missing, build, serve
cargo xtask test        install what the tests need, and run all of them
cargo xtask ci          tidy, formatting, lints, tests: what CI runs
cargo xtask tidy        the rules that no compiler checks
cargo xtask e2e [WORD…]
                        published clients, from PyPI, against the real binary; words choose some of them
cargo xtask bench [--quick] [WORD…]
                        measure against bare processes and bubblewrap; writes bench/RESULTS.md,
                        unless words choose some of the work
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("up") => up(&arguments[1..]),
        Some("test") => test(),
        Some("ci") => ci(),
        Some("tidy") => tidy::tidy(),
        Some("e2e") => e2e::e2e(&arguments[1..]),
        Some("bench") => bench::bench(&arguments[1..]),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// From nothing to a running server. A second run finds everything in place.
fn up(arguments: &[String]) -> Result<()> {
    let mut serve: Vec<&str> = vec!["serve"];
    let mut stay = true;
    let mut listen = "127.0.0.1:2000";
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match (argument.as_str(), rest.as_slice().first()) {
            ("--no-serve", _) => stay = false,
            ("--listen", Some(value)) => {
                listen = value;
                serve.extend(["--listen", value]);
                rest.next();
            }
            ("--data-dir", Some(value)) => {
                serve.extend(["--data-dir", value]);
                rest.next();
            }
            _ => bail!("unknown or incomplete argument {argument}\n{USAGE}"),
        }
    }
    debian::install(&debian::base_languages()?, "the base set of languages")?;
    run("building the server", release())?;
    if !stay {
        return Ok(());
    }
    let body = r#"{"language":"python","version":"*","files":[{"content":"print(42)"}]}"#;
    println!(
        "\nTry, from another terminal:\n  curl http://{listen}/api/v2/execute -H 'content-type: application/json' -d '{body}'\n"
    );
    // The server takes this process's place: signals and the exit status are its own.
    let error = std::process::Command::new(root().join("target/release/greenroom")).args(serve).exec();
    bail!("the server cannot be started: {error}")
}

/// Everything is built once, in the dev profile, and driven from there.
fn test() -> Result<()> {
    let mut packages = debian::base_languages()?;
    packages.push("iproute2".to_owned());
    debian::install(&packages, "the languages that the tests run programs in, and what makes a network of their own")?;
    // The command line's tests bring the binary along, with the features that the tests have: a `cargo build` of its own
    // would compile tokio, and everything above it, a second time.
    run("building the tests and the binary that they drive", cargo(&["test", "--workspace", "--no-run"]))?;
    let scratch = root().join("target/self-test");
    let self_test = |arguments: &[&str]| {
        let mut command = std::process::Command::new(root().join("target/debug/greenroom"));
        command.args(["--set", &format!("data_dir={}", scratch.display()), "runtimes", "test"]).args(arguments);
        command
    };
    let base = run("running the self-tests of the base languages", self_test(&["--base"]));
    let installed = run("running the self-tests of every installed language", self_test(&["--installed"]));
    // Not nextest: the suites start one server for all their rows, and nextest would start one for each.
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false") {
        // Here a test that cannot make a namespace fails instead of skipping.
        tests.env("GREENROOM_MUST_WORK", "1");
    }
    // Last, so that the output ends with what failed.
    let tested = run_tests("running all tests", tests);
    base.and(installed).and(tested)
}

fn ci() -> Result<()> {
    tidy::tidy()?;
    run("checking the formatting", cargo(&["fmt", "--all", "--check"]))?;
    run("linting", cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    test()
}

/// Reads a file of the repository.
fn read(path: impl AsRef<Path>) -> Result<String> {
    use anyhow::Context;
    std::fs::read_to_string(root().join(&path)).with_context(|| format!("cannot read {}", path.as_ref().display()))
}
