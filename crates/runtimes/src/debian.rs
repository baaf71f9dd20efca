//! Installing and removing languages with Debian's own tools.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, ExitStatus, Stdio},
};

/// What may be done where root is needed and we are not root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elevation {
    /// Fail, and say so.
    #[default]
    Never,
    /// Run `sudo`, which may ask for a password on the terminal.
    Sudo,
}

/// Why packages could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// Not Debian or a relative of it.
    #[error("{program} cannot be started: {source}; languages can be installed by Greenroom on Debian and its relatives only")]
    NoTool {
        /// The tool.
        program: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Packages can only be changed by root.
    #[error("packages can only be changed by root: run `{command}` as root, or this command with sudo")]
    NotRoot {
        /// What would have been run.
        command: String,
    },
    /// apt-get failed. Its own words were given to the progress callback.
    #[error("`{command}` failed with {status}: {last_line}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last line it wrote.
        last_line: String,
    },
    /// The pipe of apt-get broke.
    #[error("the output of apt-get cannot be read: {0}")]
    Output(#[from] std::io::Error),
    /// Other things on this machine need the packages.
    #[error("removing {} would also remove {}: remove it with apt-get if that is what you want", packages.join(", "), others.join(", "))]
    Needed {
        /// The language's packages.
        packages: Vec<String>,
        /// What would go with them.
        others: Vec<String>,
    },
}

/// Installs those of `packages` that are missing; nothing is run where none is.
pub(crate) fn install(packages: &[String], elevation: Elevation, progress: &mut dyn FnMut(&str)) -> Result<(), DebianError> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    progress(&format!("installing {}", missing.join(", ")));
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(missing.iter().map(String::as_str));
    match apt_get(&arguments, elevation, progress) {
        // The lists are old or were never fetched (as in a container image): a package or one of its files is not found.
        Err(DebianError::Failed { .. }) => {
            apt_get(&["update"], elevation, progress)?;
            apt_get(&arguments, elevation, progress)
        }
        other => other,
    }
}

/// Removes `packages` unless something else would go with them.
pub(crate) fn remove(packages: &[String], elevation: Elevation, progress: &mut dyn FnMut(&str)) -> Result<(), DebianError> {
    let missing = missing(packages)?;
    let present: Vec<&str> = packages.iter().filter(|name| !missing.contains(name)).map(String::as_str).collect();
    if present.is_empty() {
        return Ok(());
    }
    let others = removed_besides(&simulate_removal(&present)?, packages);
    if !others.is_empty() {
        return Err(DebianError::Needed { packages: present.into_iter().map(str::to_owned).collect(), others });
    }
    progress(&format!("removing {}", present.join(", ")));
    apt_get(&removal_of(&present), elevation, progress)
}

fn removal_of<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    ["remove", "--yes"].into_iter().chain(packages.iter().copied()).collect()
}

/// What apt-get says that it would do. One that fails has nothing to say, which must not be taken for "nothing else goes".
pub(crate) fn simulate_removal(packages: &[&str]) -> Result<String, DebianError> {
    let mut command = Command::new("apt-get");
    command.args(["--simulate", "-q"]).args(removal_of(packages)).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let output = command.output().map_err(|source| DebianError::NoTool { program: "apt-get", source })?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let last_line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_end().to_owned();
        let command = format!("apt-get --simulate {}", removal_of(packages).join(" "));
        return Err(DebianError::Failed { command, status: output.status, last_line });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a simulation of apt-get would remove besides `packages`: lines such as `Remv lua5.4 [5.4.4-3]`.
pub(crate) fn removed_besides(simulation: &str, packages: &[String]) -> Vec<String> {
    let removed = simulation.lines().filter_map(|line| line.strip_prefix("Remv ")).filter_map(|line| line.split(' ').next());
    removed.filter(|name| !packages.iter().any(|package| package == name)).map(str::to_owned).collect()
}

fn missing(packages: &[String]) -> Result<Vec<String>, DebianError> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]).args(packages).env("LC_ALL", "C.UTF-8");
    // A package that dpkg has never heard of makes it fail, after it has told about the others.
    let output = query.output().map_err(|source| DebianError::NoTool { program: "dpkg-query", source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let installed: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(packages.iter().filter(|name| !installed.contains(name.as_str())).cloned().collect())
}

fn apt_get(arguments: &[&str], elevation: Elevation, progress: &mut dyn FnMut(&str)) -> Result<(), DebianError> {
    let text = format!("apt-get {}", arguments.join(" "));
    // Another apt-get may be at work: wait for it rather than fail.
    let options = ["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"];
    let environment = ["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"];
    let root = rustix::process::geteuid().is_root();
    let mut command = match elevation {
        _ if root => Command::new("env"),
        Elevation::Sudo => {
            // sudo clears the environment, so it is set behind it.
            let mut sudo = Command::new("sudo");
            sudo.arg("env");
            sudo
        }
        Elevation::Never => return Err(DebianError::NotRoot { command: text }),
    };
    command.args(environment).arg("apt-get").args(options).args(arguments);
    command.stdin(Stdio::null());
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().map_err(|source| DebianError::NoTool { program: "apt-get", source })?;
    // The command keeps the pipe's write end open: the reader would never see its end.
    drop(command);
    let mut last_line = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        progress(&line);
        if !line.is_empty() {
            last_line = line;
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(DebianError::Failed { command: text, status, last_line }) }
}

#[cfg(test)]
mod tests;
