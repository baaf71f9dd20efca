//! Whether a language is there, and in which version. Nothing is remembered from one discovery to the next: a version that
//! was upgraded under a running server is seen at the next refresh.

use std::{
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use semver::Version;

use crate::{
    definition::{Definition, VersionSource},
    range::version_in,
};

/// A compiler that has not said its version by then hangs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(2);

/// Why a language counts as not installed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A program of it does not exist.
    #[error("{} is not there", program.display())]
    Missing {
        /// Where it would be.
        program: PathBuf,
    },
    /// It is somewhere where sandboxed programs see nothing.
    #[error("{} leads to {}, which programs in a sandbox cannot see: only /usr is visible", program.display(), target.display())]
    Invisible {
        /// Where it was found.
        program: PathBuf,
        /// What it links to.
        target: PathBuf,
    },
    /// The command or file that tells the version failed.
    #[error("its version cannot be read from {from}: {source}")]
    Unreadable {
        /// Which.
        from: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// What was read has no number where one is expected.
    #[error("its version cannot be found in {from}")]
    NoVersion {
        /// Where it was looked for.
        from: String,
    },
    /// The version command did not end.
    #[error("its version command {command} did not end within {} s", COMMAND_TIMEOUT.as_secs())]
    Hangs {
        /// Which.
        command: String,
    },
}

/// The system that programs see.
pub(crate) struct System {
    root: PathBuf,
    /// dpkg's list of packages, read when first asked for.
    packages: OnceLock<String>,
}

impl System {
    pub fn new(root: Option<&Path>) -> Self {
        Self { root: root.unwrap_or(Path::new("/")).to_owned(), packages: OnceLock::new() }
    }

    /// The version of a language that is installed.
    pub fn probe(&self, definition: &Definition) -> Result<Version, ProbeError> {
        for program in &definition.programs {
            let target = self.resolve(program).ok_or_else(|| ProbeError::Missing { program: program.clone() })?;
            if !target.starts_with("/usr") {
                return Err(ProbeError::Invisible { program: program.clone(), target });
            }
        }
        let (text, from) = self.version_text(&definition.version)?;
        version_in(&text).ok_or(ProbeError::NoVersion { from })
    }

    /// The content of one of its files.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        std::fs::read(self.outside(&self.resolve(path)?)).ok()
    }

    fn version_text(&self, source: &VersionSource) -> Result<(String, String), ProbeError> {
        let (text, from, after) = match source {
            VersionSource::Fixed(version) => return Ok((version.clone(), "the definition".to_owned())),
            VersionSource::Package(name) => {
                let from = format!("the Debian package {name}");
                let version = self.package_version(name).ok_or_else(|| ProbeError::NoVersion { from: from.clone() })?;
                // Before the upstream version stands an epoch: `4:12.2.0-3`.
                return Ok((version.split_once(':').map_or(version.as_str(), |(_, rest)| rest).to_owned(), from));
            }
            VersionSource::Link(path) => {
                let missing = || ProbeError::Missing { program: path.clone() };
                let target = self.resolve(path).ok_or_else(missing)?;
                return Ok((target.file_name().unwrap_or_default().to_string_lossy().into_owned(), target.display().to_string()));
            }
            VersionSource::File { path, after } => {
                let from = path.display().to_string();
                let target = self.resolve(path).ok_or_else(|| ProbeError::Missing { program: path.clone() })?;
                let bytes = std::fs::read(self.outside(&target));
                let bytes = bytes.map_err(|source| ProbeError::Unreadable { from: from.clone(), source })?;
                (String::from_utf8_lossy(&bytes).into_owned(), from, after)
            }
            VersionSource::Command { argv, after } => (self.output(argv)?, format!("the output of {}", argv.join(" ")), after),
        };
        match text.split_once(after.as_str()) {
            Some((_, rest)) => Ok((rest.to_owned(), from)),
            None => Err(ProbeError::NoVersion { from }),
        }
    }

    /// What a command prints on both streams.
    fn output(&self, argv: &[String]) -> Result<String, ProbeError> {
        let unreadable = |source| ProbeError::Unreadable { from: argv.join(" "), source };
        let mut command = if self.root == Path::new("/") {
            Command::new(&argv[0])
        } else {
            // Another tree's programs run in that tree, and not as root.
            let mut chroot = Command::new("/usr/sbin/chroot");
            chroot.arg("--userspec=65534:65534").arg(&self.root).arg(&argv[0]);
            chroot
        };
        command.args(&argv[1..]).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/tmp").env("LANG", "C.UTF-8");
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(unreadable)?;
        // A version is a few lines: it fits into the pipes, so nobody need read while we wait.
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        while child.try_wait().map_err(unreadable)?.is_none() {
            if Instant::now() >= deadline {
                child.kill().and_then(|()| child.wait()).map_err(unreadable)?;
                return Err(ProbeError::Hangs { command: argv.join(" ") });
            }
            thread::sleep(POLL);
        }
        let output = child.wait_with_output().map_err(unreadable)?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    fn package_version(&self, name: &str) -> Option<String> {
        let status = self.packages.get_or_init(|| {
            let bytes = std::fs::read(self.outside(Path::new("/var/lib/dpkg/status"))).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let header = format!("Package: {name}\n");
        let paragraph = status.split("\n\n").find(|paragraph| paragraph.starts_with(&header))?;
        let field = |key| paragraph.lines().find_map(|line| line.strip_prefix(key));
        field("Status: ").filter(|status| status.ends_with(" installed"))?;
        field("Version: ").map(str::to_owned)
    }

    /// The path of an inside path as we reach it.
    fn outside(&self, inside: &Path) -> PathBuf {
        self.root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Follows links inside the system's own root, where absolute ones start again. `None` where something is missing.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == Path::new("..") {
                resolved.pop();
                continue;
            }
            let next = resolved.join(&part);
            let outside = self.outside(&next);
            if !outside.symlink_metadata().ok()?.is_symlink() {
                resolved = next;
                continue;
            }
            links += 1;
            // As the kernel's own limit (path_resolution(7)).
            if links > 40 {
                return None;
            }
            let target = outside.read_link().ok()?;
            if target.is_absolute() {
                resolved = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        }
        Some(resolved)
    }
}

/// The parts of a path, last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<PathBuf> = named.map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests;
