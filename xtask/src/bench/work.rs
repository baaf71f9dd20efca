//! What is measured: the same work as a bare process, in bubblewrap, and as a request.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::report::Target;
use crate::step::run;

/// What every program prints.
pub const EXPECTED: &str = "42\n";
const HELLO_C: &str = "#include <stdio.h>\nint main(void) { puts(\"42\"); return 0; }\n";
const HELLO_PY: &str = "print(42)\n";

/// Stands for the number of the worker in a command: workers must not write the same file.
const WORKER: &str = "{worker}";

/// A process to start.
pub struct Step {
    argv: Vec<String>,
    pub directory: PathBuf,
    /// Whether it prints what the work is to print.
    pub prints: bool,
}

impl Step {
    /// The command of one worker.
    pub fn argv_of(&self, worker: usize) -> Vec<String> {
        self.argv.iter().map(|argument| argument.replace(WORKER, &worker.to_string())).collect()
    }
}

/// One kind of work.
pub struct Work {
    pub name: &'static str,
    pub bare: Vec<Step>,
    pub bubblewrap: Vec<Step>,
    /// The body of the request.
    pub request: String,
    /// How much longer it takes than the fastest: so many times fewer runs.
    pub weight: usize,
    pub targets: &'static [Target],
}

/// Everything that is measured.
pub fn all(scratch: &Path) -> Result<Vec<Work>> {
    Ok(vec![python(scratch)?, c(scratch)?, native(scratch)?])
}

fn step(argv: &[&str], directory: &Path, prints: bool) -> Step {
    Step { argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), directory: directory.to_owned(), prints }
}

/// The same command in bubblewrap: all namespaces, the system read-only, the directory writable.
fn in_bubblewrap(step: &Step) -> Step {
    let directory = step.directory.to_string_lossy();
    let mut argv: Vec<String> =
        "bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib \
                                 --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
    argv.extend(["--bind", &directory, "/work", "--chdir", "/work"].map(str::to_owned));
    argv.extend(step.argv.iter().cloned());
    Step { argv, directory: step.directory.clone(), prints: step.prints }
}

fn directory(scratch: &Path, name: &str) -> Result<PathBuf> {
    let path = scratch.join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

fn python(scratch: &Path) -> Result<Work> {
    let directory = directory(scratch, "python")?;
    std::fs::write(directory.join("main.py"), HELLO_PY)?;
    let bare = vec![step(&["/usr/bin/python3", "main.py"], &directory, true)];
    Ok(Work {
        name: "python print(42), cold",
        bubblewrap: bare.iter().map(in_bubblewrap).collect(),
        bare,
        request: json!({ "language": "python", "version": "*", "files": [{ "name": "main.py", "content": HELLO_PY }] }).to_string(),
        weight: 2,
        targets: &[Target::OverBareUs { at: 1, us: 3000 }, Target::ThroughputPercent { at: 4, percent: 85 }],
    })
}

fn c(scratch: &Path) -> Result<Work> {
    let directory = directory(scratch, "c")?;
    std::fs::write(directory.join("main.c"), HELLO_C)?;
    // The compiler as Greenroom starts it, then the program: no shell in between.
    let bare = vec![
        step(&["/usr/bin/gcc", "-std=c11", "main.c", "-I.", "-o", "{worker}.out", "-lm"], &directory, false),
        step(&["./{worker}.out"], &directory, true),
    ];
    Ok(Work {
        name: "C hello, compile and run",
        bubblewrap: bare.iter().map(in_bubblewrap).collect(),
        bare,
        request: json!({ "language": "c", "version": "*", "files": [{ "name": "main.c", "content": HELLO_C }] }).to_string(),
        weight: 8,
        targets: &[Target::RatioPercent { at: 1, percent: 110 }],
    })
}

/// A binary that is there already: what is left is the sandbox.
pub fn native(scratch: &Path) -> Result<Work> {
    let directory = directory(scratch, "native")?;
    std::fs::write(directory.join("main.c"), HELLO_C)?;
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-o", "hello", "main.c"]).current_dir(&directory);
    run("compiling the native program", compiler)?;
    let binary = std::fs::read(directory.join("hello")).context("the compiled program")?;
    let bare = vec![step(&["./hello"], &directory, true)];
    let file = json!({ "name": "hello", "content": base64(&binary), "encoding": "base64" });
    Ok(Work {
        name: "native binary, run",
        bubblewrap: bare.iter().map(in_bubblewrap).collect(),
        bare,
        request: json!({ "language": "file", "version": "*", "files": [file] }).to_string(),
        weight: 1,
        targets: &[Target::OverBareUs { at: 1, us: 1500 }, Target::PerSecond { at: 4, runs: 900 }],
    })
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
    }
}
