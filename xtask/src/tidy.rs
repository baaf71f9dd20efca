//! The rules that no compiler checks. Each complaint says what to do.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    read,
    step::{cargo, root},
};

/// Longest source file, lines; longer ones hold more than one idea.
const MAX_LINES: usize = 500;
/// Longest file of tests beside the code, lines.
const MAX_TEST_LINES: usize = 1000;

/// What a crate must not reach, directly or by way of others, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("greenroom-core", &["tokio", "rustix", "libc", "axum"], "the vocabulary does no I/O"),
    ("greenroom-wire", &["tokio", "axum", "rustix", "greenroom-runtimes"], "wire formats are pure translation"),
    ("greenroom-runtimes", &["tokio", "axum", "greenroom-sandbox"], "languages know neither HTTP nor namespaces"),
    ("greenroom-sandbox", &["tokio", "tracing", "axum"], "the runner is single-threaded and forks"),
    ("greenroom-egress", &["axum", "greenroom-sandbox"], "what programs may reach, whoever made their sandbox"),
    ("greenroom-backends", &["axum", "greenroom-runtimes", "greenroom-wire"], "backends run jobs, whatever the language or format"),
];

/// What a crate must not name itself (it may reach it by way of others).
const FORBIDDEN_DIRECTLY: &[(&str, &[&str], &str)] = &[
    ("greenroom-gateway", &["greenroom-sandbox", "landlock", "libc", "rustix"], "the gateway knows nothing of namespaces"),
    ("greenroom", &["axum", "hyper", "landlock", "libc"], "the command line wires; routes are the gateway's, walls the sandbox's"),
];

/// Checks all rules.
pub fn tidy() -> Result<()> {
    println!("== tidy");
    let mut complaints = Vec::new();
    edges(&mut complaints)?;
    let files = tracked_files()?;
    sources(&files, &mut complaints)?;
    documents(&files, &mut complaints)?;
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    bail!("{} rules are broken", complaints.len())
}

fn tree(package: &str, depth: &str) -> Result<BTreeSet<String>> {
    let output = cargo(&["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--depth", depth]).output()?;
    if !output.status.success() {
        bail!("cargo tree -p {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn edges(complaints: &mut Vec<String>) -> Result<()> {
    for (table, depth) in [(FORBIDDEN, "99"), (FORBIDDEN_DIRECTLY, "1")] {
        for (package, forbidden, why) in table {
            let reached = tree(package, depth)?;
            for name in forbidden.iter().filter(|name| reached.contains(**name)) {
                complaints
                    .push(format!("{package} reaches {name}: {why}; move what needs it (`cargo tree -p {package} -i {name}`)"));
            }
        }
    }
    Ok(())
}

/// Files of the repository, new ones included.
fn tracked_files() -> Result<Vec<String>> {
    let output = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root()).output();
    let output = output.context("git is needed to list the repository's files")?;
    Ok(String::from_utf8(output.stdout)?.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect())
}

fn sources(files: &[String], complaints: &mut Vec<String>) -> Result<()> {
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let text = read(file)?;
        let lines = text.lines().count();
        let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
        let limit = if is_test { MAX_TEST_LINES } else { MAX_LINES };
        if lines > limit {
            complaints.push(format!("{file} has {lines} lines, more than {limit}: split it by its ideas"));
        }
        if (file.ends_with("src/lib.rs") || file.ends_with("src/main.rs"))
            && !file.contains("crates/sandbox")
            && !text.contains("#![forbid(unsafe_code)]")
        {
            complaints.push(format!("{file} lacks #![forbid(unsafe_code)]: only crates/sandbox may have unsafe code"));
        }
        let has_unsafe = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        // What is loaded into an interpreter, or is pid 1, is foreign functions and system calls and nothing else.
        let bare = ["crates/sandbox/zygote/", "crates/sandbox/init/"].iter().any(|place| file.starts_with(place));
        let may = file == "crates/sandbox/src/sys.rs" || bare || file == "xtask/src/tidy.rs";
        if has_unsafe && !may {
            complaints.push(format!("{file} has unsafe code: it belongs into crates/sandbox/src/sys.rs"));
        }
        // Put together, so that this file does not find itself.
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            if text.contains(mark) {
                complaints.push(format!("{file} has a {mark}: do it, or open an issue and name it"));
            }
        }
    }
    Ok(())
}

fn documents(files: &[String], complaints: &mut Vec<String>) -> Result<()> {
    let architecture = read("ARCHITECTURE.md")?;
    let crates: BTreeSet<&str> = files.iter().filter_map(|file| file.strip_prefix("crates/")?.split('/').next()).collect();
    for name in &crates {
        if !architecture.contains(&format!("`crates/{name}`")) {
            complaints.push(format!("ARCHITECTURE.md does not name crates/{name}: add it to the map"));
        }
    }
    if !root().join("docs/openapi.json").is_file() {
        complaints.push("docs/openapi.json is missing: UPDATE=1 cargo test -p greenroom-gateway".into());
    }
    for document in files.iter().filter(|file| file.ends_with(".md")) {
        for path in named_paths(&read(document)?) {
            let beside = Path::new(document).parent().unwrap_or(Path::new("")).join(&path);
            if !root().join(&path).exists() && !root().join(beside).exists() {
                complaints.push(format!("{document} names {path}, which does not exist: mend the name, or write the file"));
            }
        }
    }
    Ok(())
}

/// What a path of ours begins with.
const PLACES: [&str; 7] = ["crates/", "docs/", "runtimes/", "tests/", "bench/", "xtask/", ".ci/"];

/// Relative link targets, and words that begin as a path of ours does: in backticks, or in a picture at the start of a line.
fn named_paths(text: &str) -> BTreeSet<String> {
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.starts_with('#'));
    let quoted = text.split('`').skip(1).step_by(2);
    let drawn = text.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| word.ends_with(".rs"));
    let named = quoted
        .chain(drawn)
        .filter(|word| PLACES.iter().any(|place| word.starts_with(place)) && !word.contains(['<', '*', '{', ' ', '…', ':']));
    links
        .chain(named)
        .map(|path| path.split('#').next().unwrap_or(path).trim_end_matches('/').to_owned())
        .filter(|path| !path.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::named_paths;

    #[test]
    fn paths_are_found_in_links_in_backticks_and_in_pictures() {
        let text =
            "See [this](docs/a.md#part), [that](https://x.y/z) and `crates/core/src`, not `cargo x` or `runtimes/<language>/x`.
                    crates/wire/src/lib.rs   translates\n  client -> server";
        assert_eq!(Vec::from_iter(named_paths(text)), ["crates/core/src", "crates/wire/src/lib.rs", "docs/a.md"]);
    }
}
