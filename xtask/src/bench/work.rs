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
pub const WORKER: &str = "{worker}";

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

/// Stands for a number that no other request has: what was asked before may be answered from a cache.
pub const NONCE: &str = "{nonce}";

/// One kind of work.
pub struct Work {
    pub name: &'static str,
    /// What the server is started with.
    pub server: Setup,
    pub bare: Vec<Step>,
    /// Empty where bubblewrap would start the same as bare does.
    pub bubblewrap: Vec<Step>,
    pub request: Request,
    /// How much longer it takes than the fastest: so many times fewer runs.
    pub weight: usize,
    pub targets: &'static [Target],
}

/// What is sent.
pub struct Request {
    pub path: &'static str,
    pub body: String,
    /// Stands in every right answer.
    pub expected: &'static str,
}

/// How a server is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// As it comes.
    Default,
    /// Every program starts cold.
    Cold,
    /// Nothing is prepared ahead: a child is forked when it is asked for.
    OnDemand,
    /// Numpy is imported before.
    Numpy,
}

impl Setup {
    pub const ALL: [Setup; 4] = [Setup::Default, Setup::Cold, Setup::OnDemand, Setup::Numpy];

    pub fn settings(self) -> &'static [&'static str] {
        match self {
            // One session for each of those that call at once, and new ones beside.
            Setup::Default => &["pools.default.max_sessions=40"],
            Setup::Cold => &["warm.enabled=false"],
            Setup::OnDemand => &["warm.ready=0", "warm.adaptive_bytes=0"],
            Setup::Numpy => &["warm.python_modules=numpy"],
        }
    }
}

/// Everything that is measured.
pub fn all(scratch: &Path) -> Result<Vec<Work>> {
    Ok(vec![
        python(
            scratch,
            "python print(42), cold",
            Setup::Cold,
            &[Target::OverBareUs { at: 1, us: 3000 }, Target::ThroughputPercent { at: 4, percent: 85 }],
        )?,
        native(scratch)?,
        c(scratch)?,
        python(
            scratch,
            "python print(42), warm",
            Setup::Default,
            &[Target::RatioPermille { at: 1, permille: 125 }, Target::ThroughputPercent { at: 4, percent: 450 }],
        )?,
        session(scratch)?,
        script(
            scratch,
            "javascript console.log(42)",
            "javascript",
            "main.js",
            "/usr/bin/node",
            "console.log(42)\n",
            &[Target::RatioPermille { at: 1, permille: 200 }],
        )?,
        java(scratch)?,
        cpp(scratch, "C++ bits/stdc++.h, compile and run", NONCE, &[Target::RatioPermille { at: 1, permille: 300 }])?,
        cpp(scratch, "C++ bits/stdc++.h, submitted again", "", &[Target::AtMostUs { at: 1, us: 5000 }])?,
        python(scratch, "python print(42), forked on demand", Setup::OnDemand, &[Target::RatioPermille { at: 1, permille: 250 }])?,
        numpy(scratch)?,
    ])
}

fn step(argv: &[&str], directory: &Path, prints: bool) -> Step {
    Step { argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), directory: directory.to_owned(), prints }
}

/// The same command in bubblewrap: all namespaces, the system read-only (some of its libraries are links to what is chosen in /etc),
/// the directory writable.
fn in_bubblewrap(step: &Step) -> Step {
    let directory = step.directory.to_string_lossy();
    let mut argv: Vec<String> =
        "bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib \
                                 --symlink usr/lib64 /lib64 --ro-bind /etc/alternatives /etc/alternatives --proc /proc --dev /dev \
                                 --tmpfs /tmp"
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

/// The body of a request to run one file.
fn execute(language: &str, name: &str, content: &str) -> Request {
    let file = json!({ "name": name, "content": content });
    let body = json!({ "language": language, "version": "*", "files": [file] }).to_string();
    Request { path: "/api/v2/execute", body, expected: r#""stdout":"42\n","stderr":"","code":0"# }
}

fn python(scratch: &Path, name: &'static str, server: Setup, targets: &'static [Target]) -> Result<Work> {
    let directory = directory(scratch, "python")?;
    std::fs::write(directory.join("main.py"), HELLO_PY)?;
    let bare = vec![step(&["/usr/bin/python3", "main.py"], &directory, true)];
    let bubblewrap = bare.iter().map(in_bubblewrap).collect();
    Ok(Work { name, server, bubblewrap, bare, request: execute("python", "main.py", HELLO_PY), weight: 2, targets })
}

fn script(
    scratch: &Path,
    name: &'static str,
    language: &str,
    file: &str,
    program: &str,
    source: &str,
    targets: &'static [Target],
) -> Result<Work> {
    let directory = directory(scratch, language)?;
    std::fs::write(directory.join(file), source)?;
    let bare = vec![step(&[program, file], &directory, true)];
    let bubblewrap = bare.iter().map(in_bubblewrap).collect();
    Ok(Work { name, server: Setup::Default, bubblewrap, bare, request: execute(language, file, source), weight: 10, targets })
}

/// Numpy is 100 ms of imports.
fn numpy(scratch: &Path) -> Result<Work> {
    const SOURCE: &str = "import numpy\nprint(int(numpy.arange(43)[-1]))\n";
    let work = script(
        scratch,
        "python with numpy, imported before",
        "python",
        "with_numpy.py",
        "/usr/bin/python3",
        SOURCE,
        &[Target::RatioPermille { at: 1, permille: 100 }],
    )?;
    Ok(Work { server: Setup::Numpy, ..work })
}

/// A call of an identifier that has its session: one each for as many as call at once.
fn session(scratch: &Path) -> Result<Work> {
    let fresh = python(scratch, "python print(42), in a session", Setup::Default, &[Target::AtMostUs { at: 1, us: 1000 }])?;
    let request = Request {
        path: "/subscriptions/s/resourceGroups/g/sessionPools/default/executions?api-version=2025-10-02-preview&identifier=bench-{worker}",
        body: json!({ "code": "print(42)" }).to_string(),
        expected: r#""stdout":"42\n""#,
    };
    Ok(Work { request, ..fresh })
}

fn java(scratch: &Path) -> Result<Work> {
    const SOURCE: &str = "public class Main { public static void main(String[] args) { System.out.println(42); } }\n";
    let directory = directory(scratch, "java")?;
    std::fs::write(directory.join("Main.java"), SOURCE)?;
    let bare = vec![
        step(&["/usr/bin/javac", "-d", "{worker}", "Main.java"], &directory, false),
        step(&["/usr/bin/java", "-cp", "{worker}", "Main"], &directory, true),
    ];
    let request = execute("java", "Main.java", &format!("{SOURCE}// {NONCE}\n"));
    let targets = &[Target::RatioPermille { at: 1, permille: 250 }];
    let name = "Java hello, compile and run";
    Ok(Work { name, server: Setup::Default, bubblewrap: Vec::new(), bare, request, weight: 25, targets })
}

fn cpp(scratch: &Path, name: &'static str, mark: &str, targets: &'static [Target]) -> Result<Work> {
    const SOURCE: &str = "#include <bits/stdc++.h>\nint main() { std::cout << 42 << std::endl; }\n";
    let directory = directory(scratch, "c++")?;
    std::fs::write(directory.join("main.cpp"), SOURCE)?;
    let bare = vec![
        step(&["/usr/bin/g++", "-std=c++17", "-I.", "-o", "{worker}.out", "main.cpp", "-lm"], &directory, false),
        step(&["./{worker}.out"], &directory, true),
    ];
    let request = execute("c++", "main.cpp", &format!("{SOURCE}// {mark}\n"));
    Ok(Work { name, server: Setup::Default, bubblewrap: Vec::new(), bare, request, weight: 25, targets })
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
        server: Setup::Default,
        bubblewrap: bare.iter().map(in_bubblewrap).collect(),
        bare,
        request: execute("c", "main.c", &format!("{HELLO_C}// {NONCE}\n")),
        weight: 8,
        targets: &[Target::RatioPermille { at: 1, permille: 1100 }],
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
    let body = json!({ "language": "file", "version": "*", "files": [file] }).to_string();
    Ok(Work {
        name: "native binary, run",
        server: Setup::Default,
        bubblewrap: bare.iter().map(in_bubblewrap).collect(),
        bare,
        request: Request { body, ..execute("file", "hello", "") },
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
