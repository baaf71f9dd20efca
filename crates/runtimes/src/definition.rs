use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use greenroom_core::RelativePath;
use serde::Deserialize;

use crate::{
    order::Order,
    precompile::Precompile,
    sources::Naming,
    template::{Template, TemplateError},
};

/// What `runtime.toml` says, checked, and the files beside it.
#[derive(Debug)]
pub(crate) struct Definition {
    pub language: String,
    pub aliases: Vec<String>,
    pub runtime: Option<String>,
    pub base: bool,
    pub etc: Vec<String>,
    pub programs: Vec<PathBuf>,
    pub version: VersionSource,
    pub debian: Debian,
    pub sources: Option<Sources>,
    pub compile: Option<Template>,
    pub run: Template,
    /// Whether what the compile stage makes may be kept, and used again for the same sources.
    pub cache: bool,
    /// Texts in a source by which what is made depends on the time: it is not kept then.
    pub clock: Vec<String>,
    /// What is made ahead for the compile stage.
    pub precompile: Option<Precompile>,
    /// The process that may stand by for its programs.
    pub standby: Option<Standby>,
    /// The program inside a session of the language.
    pub session: Option<Template>,
    /// The interpreter that `run` starts, where one can be kept warm and forked.
    pub zygote: Option<String>,
    /// The main file gets mode 0755.
    pub executable_main: bool,
    /// The interpreter ignores the main file's first line, whatever it says: an empty one is put before it, unless it is
    /// the `#!` that is expected there.
    pub skips_first_line: bool,
    pub environment: Vec<(String, String)>,
    pub limits: LimitOverrides,
    pub self_test: SelfTest,
    pub support: Vec<Support>,
    /// Files of the system outside of `/usr` that stand at `/opt/greenroom/<language>/<their name>` in a sandbox.
    pub copies: Vec<PathBuf>,
}

/// A file beside `runtime.toml`, as the embedding or a directory gives it.
pub(crate) struct Beside {
    /// Below the language's directory.
    pub path: String,
    pub content: Vec<u8>,
}

/// Where a version is read. The cheap ones come first: a start that asks every compiler takes seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionSource {
    /// Always this one: for a runtime that is no program.
    Fixed(String),
    /// The first number (after a text) in this file.
    File { path: PathBuf, after: String },
    /// The first number in the name that this symbolic link leads to.
    Link(PathBuf),
    /// The upstream part of the version of an installed Debian package.
    Package(String),
    /// The first number (after a text) that this command prints.
    Command { argv: Vec<String>, after: String },
}

/// How the runtime is installed on Debian.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    pub packages: Vec<String>,
    /// The version that Debian 12 ships: shown while it is not installed.
    pub version: String,
}

/// A process that is started before a program is known.
#[derive(Debug)]
pub(crate) struct Standby {
    pub argv: Template,
    pub compile: Option<Template>,
    pub run: Template,
    /// Names of files that it cannot do with.
    pub unless: Vec<String>,
}

/// Which of a program's code files are translation units, and what they must be called.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sources {
    /// Of translation units, without dot. A unit without one of them gets the first.
    pub extensions: Vec<String>,
    #[serde(default)]
    pub naming: Naming,
    #[serde(default)]
    pub order: Order,
}

#[derive(Debug)]
pub(crate) struct SelfTest {
    pub name: RelativePath,
    pub source: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Support {
    pub path: RelativePath,
    pub content: Vec<u8>,
    pub executable: bool,
}

/// Limits a runtime needs different from the configured ones (a JVM needs more threads than 64). `None`: as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverrides {
    /// Processes and threads alive at once.
    pub processes: Option<u32>,
    /// Open files of one process.
    pub open_files: Option<u32>,
    /// Size of one written file, bytes.
    pub file_size_bytes: Option<u64>,
    /// Bytes kept of each output stream.
    pub output_bytes: Option<u64>,
    /// Share of processors, thousandths of one.
    pub cpu_milli: Option<u32>,
    /// Wall-clock time of the compile stage, milliseconds.
    pub compile_wall_ms: Option<u64>,
    /// Wall-clock time of the run stage, milliseconds.
    pub run_wall_ms: Option<u64>,
    /// CPU time of the compile stage, milliseconds.
    pub compile_cpu_ms: Option<u64>,
    /// CPU time of the run stage, milliseconds.
    pub run_cpu_ms: Option<u64>,
    /// Memory of the compile stage, bytes.
    pub compile_memory_bytes: Option<u64>,
    /// Memory of the run stage, bytes.
    pub run_memory_bytes: Option<u64>,
}

/// What is wrong with a language's definition. Each says in which file.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The directory cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not UTF-8.
    #[error("{file}: is not UTF-8 text")]
    NotText {
        /// The file.
        file: String,
    },
    /// Not TOML, an unknown key, a missing key, a value of the wrong type. The parser's text names key and line.
    #[error("{file}: {source}")]
    Toml {
        /// The file.
        file: String,
        /// The parser's answer.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{file}: {key}: {problem}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A command with an unknown placeholder.
    #[error("{file}: {key}: {source}")]
    Template {
        /// The file.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// Two definitions claim one language.
    #[error("{file}: language {language:?} is defined twice")]
    Duplicate {
        /// The second file.
        file: String,
        /// The language.
        language: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    language: String,
    #[serde(default)]
    aliases: Vec<String>,
    runtime: Option<String>,
    #[serde(default)]
    base: bool,
    #[serde(default)]
    etc: Vec<String>,
    #[serde(default)]
    copies: Vec<PathBuf>,
    find: Find,
    debian: Debian,
    sources: Option<Sources>,
    compile: Option<Stage>,
    run: Stage,
    precompile: Option<Precompile>,
    session: Option<Session>,
    standby: Option<StandbyTable>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    limits: LimitOverrides,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Find {
    #[serde(default)]
    programs: Vec<PathBuf>,
    version: Version,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    fixed: Option<String>,
    file: Option<PathBuf>,
    link: Option<PathBuf>,
    package: Option<String>,
    command: Option<Vec<String>>,
    #[serde(default)]
    after: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    argv: Vec<String>,
    #[serde(default)]
    executable_main: bool,
    #[serde(default)]
    skips_first_line: bool,
    #[serde(default)]
    cache: bool,
    #[serde(default)]
    clock: Vec<String>,
    zygote: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    argv: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StandbyTable {
    argv: Vec<String>,
    compile: Option<Vec<String>>,
    run: Vec<String>,
    #[serde(default)]
    unless: Vec<String>,
}

impl Definition {
    /// Reads `text` of `file`; `beside` are the other files of its directory.
    pub fn parse(file: &str, text: &str, beside: Vec<Beside>) -> Result<Self, DefinitionError> {
        let document: Document =
            toml::from_str(text).map_err(|source| DefinitionError::Toml { file: file.to_owned(), source: Box::new(source) })?;
        let wrong = |key: &str, problem| DefinitionError::Value { file: file.to_owned(), key: key.to_owned(), problem };
        let template = |key, argv: &[String]| {
            Template::parse(argv).map_err(|source| DefinitionError::Template { file: file.to_owned(), key, source })
        };

        if RelativePath::new(&document.language).is_err() || document.language.contains('/') {
            return Err(wrong("language", "must be usable as a file name"));
        }
        if document.find.programs.iter().any(|path| !path.is_absolute()) {
            return Err(wrong("find.programs", "must be absolute paths"));
        }
        if document.run.zygote.as_ref().is_some_and(|program| document.run.argv.first() != Some(program)) {
            return Err(wrong("run.zygote", "must be the program that run.argv starts"));
        }
        if document.copies.iter().any(|path| !path.is_absolute() || path.file_name().is_none()) {
            return Err(wrong("copies", "must be absolute paths of files"));
        }
        if document.sources.as_ref().is_some_and(|sources| sources.extensions.is_empty()) {
            return Err(wrong("sources.extensions", "must name at least one"));
        }
        if let Some(name) = document.etc.iter().find(|name| RelativePath::new(name).is_err()) {
            return Err(wrong(&format!("etc: {name:?}"), "must be a name below /etc"));
        }
        let words = |key, words: &[String]| {
            Template::parse_words(words).map_err(|source| DefinitionError::Template { file: file.to_owned(), key, source })
        };
        let standby = match &document.standby {
            Some(table) => Some(Standby {
                argv: template("standby.argv", &table.argv)?,
                compile: table.compile.as_deref().map(|compile| words("standby.compile", compile)).transpose()?,
                run: words("standby.run", &table.run)?,
                unless: table.unless.clone(),
            }),
            None => None,
        };
        let version = document.find.version.into_source().ok_or_else(|| {
            wrong(
                "find.version",
                "must have exactly one of fixed, file, link, package and command (and `after` only with file or command)",
            )
        })?;
        if let Some((key, problem)) = document.precompile.as_ref().and_then(Precompile::problem) {
            return Err(wrong(key, problem));
        }
        if document.run.cache || !document.run.clock.is_empty() {
            return Err(wrong("run.cache", "only what a compile stage makes can be kept"));
        }
        if document.compile.as_ref().is_some_and(|stage| stage.clock.iter().any(String::is_empty)) {
            return Err(wrong("compile.clock", "must not have empty texts"));
        }
        let (self_test, support) = sort_beside(&document.language, beside);
        Ok(Self {
            self_test: self_test.ok_or_else(|| wrong("self-test", "a file test.<extension> must stand beside the runtime.toml"))?,
            support,
            version,
            compile: document.compile.as_ref().map(|stage| template("compile.argv", &stage.argv)).transpose()?,
            run: template("run.argv", &document.run.argv)?,
            precompile: document.precompile,
            standby,
            session: document.session.as_ref().map(|session| template("session.argv", &session.argv)).transpose()?,
            cache: document.compile.as_ref().is_some_and(|stage| stage.cache),
            clock: document.compile.map(|stage| stage.clock).unwrap_or_default(),
            executable_main: document.run.executable_main,
            skips_first_line: document.run.skips_first_line,
            zygote: document.run.zygote,
            language: document.language,
            aliases: document.aliases,
            runtime: document.runtime,
            base: document.base,
            etc: document.etc,
            copies: document.copies,
            programs: document.find.programs,
            debian: document.debian,
            sources: document.sources,
            environment: document.environment.into_iter().collect(),
            limits: document.limits,
        })
    }

    /// Every definition of `directory`: one sub-directory per language.
    pub fn load_directory(directory: &Path) -> Result<Vec<Self>, DefinitionError> {
        let mut languages = entries(directory)?;
        languages.retain(|path| path.join("runtime.toml").is_file());
        languages.iter().map(|path| Self::load(path)).collect()
    }

    fn load(directory: &Path) -> Result<Self, DefinitionError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| DefinitionError::Unreadable { path: path.into(), source });
        let toml = directory.join("runtime.toml");
        let file = toml.display().to_string();
        let text = String::from_utf8(read(&toml)?).map_err(|_| DefinitionError::NotText { file: file.clone() })?;
        let mut beside = Vec::new();
        for (prefix, below) in [("", directory.to_owned()), ("support/", directory.join("support"))] {
            if !below.is_dir() {
                continue;
            }
            for path in entries(&below)?.into_iter().filter(|path| path.is_file()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                beside.push(Beside { path: format!("{prefix}{name}"), content: read(&path)? });
            }
        }
        Self::parse(&file, &text, beside)
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, DefinitionError> {
    let listed =
        std::fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
    let mut paths = listed.map_err(|source| DefinitionError::Unreadable { path: directory.into(), source })?;
    paths.sort();
    Ok(paths)
}

fn sort_beside(language: &str, beside: Vec<Beside>) -> (Option<SelfTest>, Vec<Support>) {
    let (mut self_test, mut support) = (None, Vec::new());
    for Beside { path, content } in beside {
        if let Some(name) = path.strip_prefix("support/") {
            let Ok(path) = RelativePath::new(&format!("{language}/{name}")) else { continue };
            let executable = content.starts_with(b"#!");
            support.push(Support { path, content, executable });
        } else if path.starts_with("test.") {
            let Ok(name) = RelativePath::new(&path) else { continue };
            self_test = Some(SelfTest { name, source: content });
        }
    }
    (self_test, support)
}

impl Version {
    fn into_source(self) -> Option<VersionSource> {
        let after = self.after;
        match (self.fixed, self.file, self.link, self.package, self.command) {
            (Some(version), None, None, None, None) if after.is_empty() => Some(VersionSource::Fixed(version)),
            (None, Some(path), None, None, None) => Some(VersionSource::File { path, after }),
            (None, None, Some(path), None, None) if after.is_empty() => Some(VersionSource::Link(path)),
            (None, None, None, Some(name), None) if after.is_empty() => Some(VersionSource::Package(name)),
            (None, None, None, None, Some(argv)) if !argv.is_empty() => Some(VersionSource::Command { argv, after }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
