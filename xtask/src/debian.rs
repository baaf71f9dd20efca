//! What Debian's packages have to give before anything can be built or run.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context, Result};

use crate::{
    read,
    step::{root, run},
};

/// The packages of the languages marked `base = true`. (The linker that Rust needs is here already: it linked us.)
pub fn base_languages() -> Result<Vec<String>> {
    let mut packages = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("runtimes")).context("cannot list runtimes/")? {
        let path = entry?.path().join("runtime.toml");
        if !path.is_file() {
            continue;
        }
        let definition: toml::Table = read(&path)?.parse().with_context(|| format!("in {}", path.display()))?;
        if definition.get("base").and_then(toml::Value::as_bool) != Some(true) {
            continue;
        }
        let names = definition.get("debian").and_then(|debian| debian.get("packages")).and_then(toml::Value::as_array);
        packages.extend(names.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned));
    }
    Ok(packages.into_iter().collect())
}

/// Installs the ones that are missing; says which and why, and asks for rights only if it has none.
pub fn install(packages: &[String], why: &str) -> Result<()> {
    let missing: Vec<&String> = packages.iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
    println!("missing Debian packages: {} ({why})", names.join(" "));
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("installing packages needs root: sudo may ask for your password");
    }
    let apt = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command
    };
    run("refreshing the package lists", apt(&["update", "-q"]))?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(names);
    run("installing packages", apt(&arguments))
}

fn is_installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    asked.is_ok_and(|answer| answer.stdout.starts_with(b"installed"))
}
