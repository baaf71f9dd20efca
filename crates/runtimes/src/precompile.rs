//! Standard headers compiled ahead, and a faster linker where one is installed: made once, in the background, from the
//! system's own headers only, and seen read-only by every sandbox.
//!
//! ```text
//! <directory>/c++-12.2.0-1f00dcafe0/       one per runtime, version and way of making: Runtime::precompiled
//!     cc1plus                              stands before the compiler proper (compiler.sh); the driver finds it by COMPILER_PATH
//!     ld                                   a link to a faster linker
//!     headers/iostream/iostream.gch        what the compiler loads instead of reading the text
//!     headers/iostream/iostream            the text, for who includes it a second time; no link: gcc would look where that leads
//!     headers/iostream/{system,depends}    where the text stands; what it was made from
//!   java-17.0.15-5a0dcafe01/
//!     made/                                what the definition's commands made, all of it (precompile/commands.rs)
//! ```
//!
//! The compiler checks by itself whether a precompiled header fits: made by itself (a checksum), with these flags, and with no
//! macro in force that would change it. What it does not check is whether the text has changed since: that is done here.

mod commands;

use std::{
    fs::{self, Permissions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::runtime::Runtime;

/// Where sandboxes see the directory.
pub(crate) const SEEN_AT: &str = "/opt/greenroom/precompiled";
/// The script that stands before the compiler.
const SCRIPT: &str = include_str!("precompile/compiler.sh");
/// What the file is called that includes a header when it is compiled ahead; the script puts the source's name in its place.
const INCLUDER: &str = "precompiled-header";
/// A compiler that is not done by then hangs, seconds.
const TIMEOUT_S: &str = "600";
const POLL: Duration = Duration::from_millis(20);

/// What is worth making ahead for a language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Precompile {
    /// Headers that sources begin with: only the first that a source includes can be a precompiled one.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Makes one, with the compile stage's flags; with others the compiler would not take it. `{source}` includes it.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The program of the compiler that reads headers.
    #[serde(default)]
    pub compiler: String,
    /// Faster linkers, the fastest first.
    #[serde(default)]
    pub linkers: Vec<PathBuf>,
    /// What makes everything else, one after the other. `{output}` is the directory to make it in, `{support}` has the runtime's support
    /// files, `{empty}` has nothing.
    #[serde(default)]
    pub commands: Vec<Vec<String>>,
    /// What the commands make is made again when one of these files has changed.
    #[serde(default)]
    pub depends: Vec<String>,
}

/// Why headers could not be compiled ahead. Programs compile without, only slower.
#[derive(Debug, thiserror::Error)]
pub enum PrecompileError {
    /// A file or directory of it cannot be made.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The compiler cannot be started.
    #[error("{program} cannot be started: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The compiler does not want to.
    #[error("{what} cannot be compiled ahead: {status}: {last_line}")]
    Failed {
        /// Which header, or whose command.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The last that it said.
        last_line: String,
    },
}

fn of(path: &Path) -> impl Fn(io::Error) -> PrecompileError + '_ {
    |source| PrecompileError::File { path: path.to_owned(), source }
}

impl Precompile {
    /// Whether there is something in it that a compiler looks for.
    pub fn is_found_by_compiler(&self) -> bool {
        !self.headers.is_empty() || !self.linkers.is_empty()
    }

    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let plain = |header: &String| {
            let fine = |c: char| c.is_ascii_alphanumeric() || "._+-/".contains(c);
            !header.is_empty()
                && header.chars().all(fine)
                && !header.starts_with('/')
                && !header.split('/').any(|part| part == "..")
        };
        let absolute = |argv: &Vec<String>| argv.first().is_some_and(|program| program.starts_with('/'));
        let named = |name: &str| self.argv.iter().any(|word| word == name);
        if !self.commands.iter().all(absolute) {
            Some(("precompile.commands", "must begin with absolute paths"))
        } else if !self.headers.iter().all(plain) {
            Some(("precompile.headers", "must be names of headers"))
        } else if self.headers.is_empty() {
            None
        } else if !absolute(&self.argv) || !["{source}", "{output}", "{depends}"].into_iter().all(named) {
            Some(("precompile.argv", "must be an absolute path, and have the words {source}, {output} and {depends}"))
        } else if self.compiler.is_empty() || self.compiler.contains('/') {
            Some(("precompile.compiler", "must be the name of a program of the compiler"))
        } else {
            None
        }
    }
}

impl Runtime {
    /// The directory, below the one of all, with what is made ahead for this runtime: another version, or another way of making
    /// it, is another directory.
    pub(crate) fn precompiled(&self) -> Option<String> {
        let precompile = self.definition().precompile.as_ref()?;
        let mut hash = Sha256::new();
        let words = precompile.argv.iter().chain(precompile.commands.iter().flatten()).map(String::as_bytes);
        let support = self.definition().support.iter().map(|file| file.content.as_slice());
        // A definition with headers makes nothing of its support files.
        let support = support.filter(|_| !precompile.commands.is_empty());
        [SCRIPT, self.version()].map(str::as_bytes).into_iter().chain(words).chain(support).for_each(|text| {
            hash.update(text);
            hash.update([0]);
        });
        let hash: String = hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{}-{}-{hash}", self.language(), self.version()))
    }
}

/// Makes what is missing or out of date for these runtimes, removes what belongs to none, and tells of each header that it made.
/// Ends early when `stopped` says so. Does nothing where another server is at it.
pub(crate) fn make(
    runtimes: &[&Runtime],
    directory: &Path,
    stopped: &dyn Fn() -> bool,
    made: &mut dyn FnMut(&str),
) -> Result<(), PrecompileError> {
    make_directory(directory)?;
    let lock = fs::File::open(directory).map_err(of(directory))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(source)) => return Err(of(directory)(source)),
    }
    let mut wanted: Vec<(String, &Runtime)> =
        runtimes.iter().filter_map(|runtime| Some((runtime.precompiled()?, *runtime))).collect();
    for entry in fs::read_dir(directory).map_err(of(directory))? {
        let path = entry.map_err(of(directory))?.path();
        // What another version made, and what one left that was killed.
        if path.is_dir() && !wanted.iter().any(|(name, _)| path.ends_with(name)) {
            fs::remove_dir_all(&path).map_err(of(&path))?;
        }
    }
    // What is made in seconds comes first.
    wanted.sort_by_key(|(_, runtime)| {
        runtime.definition().precompile.as_ref().is_none_or(|precompile| precompile.commands.is_empty())
    });
    for (name, runtime) in wanted {
        let Some(precompile) = &runtime.definition().precompile else { continue };
        let scratch = directory.join(format!("{name}.making"));
        Workshop { directory: directory.join(&name), scratch, precompile, runtime }.make(stopped, made)?;
    }
    Ok(())
}

/// Where one runtime's things are made.
struct Workshop<'a> {
    directory: PathBuf,
    /// On the same file system: what is complete is renamed into place, so that nobody sees half of anything.
    scratch: PathBuf,
    precompile: &'a Precompile,
    runtime: &'a Runtime,
}

impl Workshop<'_> {
    fn make(&self, stopped: &dyn Fn() -> bool, made: &mut dyn FnMut(&str)) -> Result<(), PrecompileError> {
        make_directory(&self.directory)?;
        make_directory(&self.scratch)?;
        let result = self.make_all(stopped, made);
        fs::remove_dir_all(&self.scratch).map_err(of(&self.scratch))?;
        result
    }

    fn make_all(&self, stopped: &dyn Fn() -> bool, made: &mut dyn FnMut(&str)) -> Result<(), PrecompileError> {
        self.run_commands(stopped, made)?;
        self.link_linker()?;
        let missing: Vec<&String> = self.precompile.headers.iter().filter(|header| !self.is_current(header)).collect();
        for header in &missing {
            // Before anything else: what is out of date must not be used.
            remove(&self.place(header).join(format!("{header}.gch")))?;
        }
        for header in missing {
            if stopped() {
                return Ok(());
            }
            if self.compile(header, stopped)? {
                made(header);
            }
        }
        Ok(())
    }

    fn place(&self, header: &str) -> PathBuf {
        self.directory.join("headers").join(header)
    }

    /// Whether a header's precompiled form is there, and nothing that it was made from has changed since.
    fn is_current(&self, header: &str) -> bool {
        let place = self.place(header);
        let Ok(made) = fs::metadata(place.join(format!("{header}.gch"))) else { return false };
        let Ok(depends) = fs::read_to_string(place.join("depends")) else { return false };
        // The time of the last change of the file itself: packages bring their own time of modification along.
        let older = |path: &str| {
            fs::metadata(path).is_ok_and(|file| (file.ctime(), file.ctime_nsec()) <= (made.mtime(), made.mtime_nsec()))
        };
        depends.lines().all(older)
    }

    /// Compiles one header ahead and puts it in its place. `false` where it was stopped.
    fn compile(&self, header: &str, stopped: &dyn Fn() -> bool) -> Result<bool, PrecompileError> {
        let compiler = self.compiler()?;
        let source = self.scratch.join(INCLUDER);
        fs::write(&source, format!("#include <{header}>\n")).map_err(of(&source))?;
        let (output, rule) = (self.scratch.join("output.gch"), self.scratch.join("rule"));
        let argv = self.precompile.argv.iter().map(|word| match word.as_str() {
            "{source}" => INCLUDER.to_owned(),
            "{output}" => output.display().to_string(),
            "{depends}" => rule.display().to_string(),
            word => word.to_owned(),
        });
        let Some(status) = self.run(argv.collect(), stopped)? else { return Ok(false) };
        if !status.success() {
            let last_line = self.last_line();
            return Err(PrecompileError::Failed { what: format!("<{header}>"), status, last_line });
        }
        let rule = fs::read_to_string(&rule).map_err(of(&rule))?;
        // `output.gch: source /usr/include/… \`, with line ends that are escaped.
        let depends: Vec<&str> = rule.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).collect();
        let suffix = format!("/{header}");
        let Some(text) = depends.iter().find(|path| path.ends_with(&suffix)) else { return Ok(false) };
        let system = &text[..text.len() - suffix.len()];
        let place = self.place(header);
        let (precompiled, copy) = (place.join(format!("{header}.gch")), place.join(header));
        make_directory(copy.parent().unwrap_or(&place))?;
        self.put("system", format!("{system}\n").as_bytes(), &place.join("system"), 0o644)?;
        let depended = format!("{}\n{}\n", compiler.display(), depends.join("\n"));
        self.put("depends", depended.as_bytes(), &place.join("depends"), 0o644)?;
        let content = fs::read(text).map_err(of(Path::new(text)))?;
        self.put("text", &content, &copy, 0o644)?;
        let script = SCRIPT.replace("@COMPILER@", &compiler.display().to_string()).replace("@INCLUDER@", INCLUDER);
        self.put("script", script.as_bytes(), &self.directory.join(&self.precompile.compiler), 0o755)?;
        fs::set_permissions(&output, Permissions::from_mode(0o644)).map_err(of(&output))?;
        fs::rename(&output, &precompiled).map_err(of(&precompiled))?;
        Ok(true)
    }

    /// The last that the last command said.
    fn last_line(&self) -> String {
        let said = fs::read(self.scratch.join("said")).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().last().unwrap_or_default().to_owned()
    }

    /// Where the compiler proper stands.
    fn compiler(&self) -> Result<PathBuf, PrecompileError> {
        let driver = &self.precompile.argv[0];
        let spawn = |source| PrecompileError::Spawn { program: driver.clone(), source };
        let asked = Command::new(driver).arg(format!("-print-prog-name={}", self.precompile.compiler)).env_clear().output();
        Ok(PathBuf::from(String::from_utf8_lossy(&asked.map_err(spawn)?.stdout).trim_end()))
    }

    /// Runs a command when nothing else wants the processor. It ends when we do (`timeout` passes the signal on to all of its
    /// group). `None` where it was stopped.
    fn run(&self, argv: Vec<String>, stopped: &dyn Fn() -> bool) -> Result<Option<ExitStatus>, PrecompileError> {
        let said = self.scratch.join("said");
        let said = fs::File::create(&said).map_err(of(&said))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "timeout", TIMEOUT_S, "nice", "-n", "19"]).args(&argv);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("TMPDIR", &self.scratch);
        command.current_dir(&self.scratch).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let spawn = |source| PrecompileError::Spawn { program: argv[0].clone(), source };
        let mut child = command.spawn().map_err(spawn)?;
        loop {
            if let Some(status) = child.try_wait().map_err(spawn)? {
                return Ok(Some(status));
            }
            if stopped() {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| spawn(error.into()))?;
                child.wait().map_err(spawn)?;
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }

    /// Makes the driver find the fastest linker that is installed.
    fn link_linker(&self) -> Result<(), PrecompileError> {
        let link = self.directory.join("ld");
        let fastest = self.precompile.linkers.iter().find(|path| path.exists());
        if fs::read_link(&link).ok().as_ref() == fastest {
            return Ok(());
        }
        remove(&link)?;
        fastest.map_or(Ok(()), |linker| self.link(linker, &link))
    }

    /// Writes a file completely, then puts it in its place.
    fn put(&self, name: &str, content: &[u8], to: &Path, mode: u32) -> Result<(), PrecompileError> {
        let made = self.scratch.join(name);
        fs::write(&made, content).map_err(of(&made))?;
        fs::set_permissions(&made, Permissions::from_mode(mode)).map_err(of(&made))?;
        fs::rename(&made, to).map_err(of(to))
    }

    fn link(&self, target: &Path, to: &Path) -> Result<(), PrecompileError> {
        let made = self.scratch.join("link");
        symlink(target, &made).map_err(of(&made))?;
        fs::rename(&made, to).map_err(of(to))
    }
}

/// Makes a directory that all may read, and those above it.
fn make_directory(path: &Path) -> Result<(), PrecompileError> {
    if !path.is_dir() {
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        fs::create_dir(path).map_err(of(path))?;
        fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(of(path))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), PrecompileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
