use std::{collections::BTreeMap, path::PathBuf};

use greenroom_core::{
    DATA, DiskLimits, ExecutionId, Job, JobFile, Limits, RelativePath, Reuse, StageKind, StageSpec, Standby, Stdin, WORKSPACE,
};

use crate::{
    order,
    precompile::{Precompile, SEEN_AT},
    runtime::Runtime,
    sources::{self, Naming, Unit},
    template::{Template, Values},
};

/// What somebody wants to run: the request after its wire format is gone and its limits are decided.
#[derive(Clone, Debug)]
pub struct Program {
    /// Server-made.
    pub id: ExecutionId,
    /// In the caller's order.
    pub files: Vec<ProgramFile>,
    /// Which of `files` the program starts with.
    pub main: usize,
    /// For the run stage.
    pub args: Vec<String>,
    /// Of the run stage; a compile stage has none.
    pub stdin: Stdin,
    /// Of the compile stage, if the runtime has one.
    pub compile: Limits,
    /// Of the run stage.
    pub run: Limits,
    /// Of both together.
    pub disk: DiskLimits,
}

/// A file of a [`Program`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFile {
    /// Where the caller wants it.
    pub path: RelativePath,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Sent as text: it may be a translation unit. Others (base64, hex) are data and only lie beside.
    pub code: bool,
}

/// The program inside a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCommand {
    /// Program and arguments; exec'ed directly.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
}

/// Why a program cannot be planned. The caller's fault, all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `main` is not the place of a file.
    #[error("the program has no file number {main}: it has {files}")]
    NoMainFile {
        /// As asked.
        main: usize,
        /// How many there are.
        files: usize,
    },
    /// One file's name is the directory of another.
    #[error("the file {file} stands where the file {other} needs a directory")]
    FileIsDirectory {
        /// The file.
        file: RelativePath,
        /// The one below it.
        other: RelativePath,
    },
}

impl Runtime {
    /// The commands that compile and run `program` in this runtime.
    ///
    /// # Errors
    /// [`PlanError`]: what is wrong with the program's files.
    pub fn plan(&self, program: Program) -> Result<Job, PlanError> {
        let definition = self.definition();
        let Program { id, files, main, args, stdin, compile, run, disk } = program;
        let name = files.get(main).map(|file| file.path.clone()).ok_or(PlanError::NoMainFile { main, files: files.len() })?;
        let mut files = last_of_each_name(files);
        let main = files.iter().position(|file| file.path == name).unwrap_or_default();
        let mut units = definition.sources.as_ref().map(|rule| sources::units(&files, main, rule)).unwrap_or_default();
        let naming = definition.sources.as_ref().map(|rule| rule.naming).unwrap_or_default();
        let wants_class = |stage: &Template| stage.wants_main_class();
        let main_class = match wants_class(&definition.run) || definition.compile.as_ref().is_some_and(wants_class) {
            true => sources::main_class(&files, &units, naming),
            false => None,
        };
        if let Some(rule) = &definition.sources {
            units = in_order(&files, &units, rule.order);
        }
        if naming == Naming::Go
            && let Some((path, content)) = sources::go_module(&files, self.version())
        {
            files.push(ProgramFile { path, content, code: false });
        }
        for unit in &units {
            files[unit.file].path = unit.path.clone();
        }
        if definition.skips_first_line && !files[main].content.starts_with(b"#!") {
            files[main].content.insert(0, b'\n');
        }
        check_paths(&files)?;

        let operands: Vec<RelativePath> = units.into_iter().map(|unit| unit.path).collect();
        let main_path = files[main].path.clone();
        let stage = |kind, template: &Template, limits: Limits, stdin| StageSpec {
            kind,
            argv: template.expand(&Values {
                main: &main_path,
                main_class: main_class.as_deref(),
                sources: &operands,
                args: if kind == StageKind::Run { &args } else { &[] },
                limits: &limits,
            }),
            env: self.environment(WORKSPACE),
            limits,
            stdin,
            // A compiler's output is a program of its own.
            warm: (kind == StageKind::Run && definition.compile.is_none() && definition.zygote.is_some())
                .then(|| definition.language.clone()),
        };
        let mut stages = Vec::with_capacity(2);
        if let Some(template) = &definition.compile {
            let mut stage = stage(StageKind::Compile, template, compile, Stdin::Bytes(Vec::new()));
            // Where gcc's driver looks first for its programs; it goes on where there is nothing.
            let is_found = definition.precompile.as_ref().is_some_and(Precompile::is_found_by_compiler);
            let ahead =
                self.precompiled().filter(|_| is_found).map(|name| ("COMPILER_PATH".to_owned(), format!("{SEEN_AT}/{name}")));
            stage.env.extend(ahead);
            stages.push(stage);
        }
        stages.push(stage(StageKind::Run, &definition.run, run, stdin));
        let executable = |place: usize| definition.executable_main && place == main;
        let files = files.into_iter().enumerate();
        let files: Vec<JobFile> =
            files.map(|(i, file)| JobFile { path: file.path, content: file.content, executable: executable(i) }).collect();
        let reuse = self.reuse(&files);
        let unusual = |file: &JobFile| {
            definition.standby.iter().any(|standby| standby.unless.iter().any(|name| file.path.file_name() == name))
        };
        let standby = definition.standby.as_ref().filter(|_| !files.iter().any(unusual));
        let standby = standby.map(|standby| {
            let values =
                Values { main: &main_path, main_class: main_class.as_deref(), sources: &operands, args: &args, limits: &run };
            let run = standby.run.expand(&values);
            Standby {
                argv: standby.argv.expand(&values),
                compile: standby.compile.as_ref().map(|words| words.expand(&values)),
                run,
            }
        });
        Ok(Job { id, files, stages, disk, reuse, standby })
    }

    /// What the result of compiling these files may be kept by. The list of packages changes whenever any is upgraded: the
    /// linker and the libraries are other packages than the compiler.
    fn reuse(&self, files: &[JobFile]) -> Option<Reuse> {
        let definition = self.definition();
        let tells_time = |file: &JobFile| definition.clock.iter().any(|word| contains(&file.content, word.as_bytes()));
        if !definition.cache || files.iter().any(tells_time) {
            return None;
        }
        let packages = PathBuf::from("/var/lib/dpkg/status");
        Some(Reuse {
            tenant: Reuse::NOBODY.to_owned(),
            toolchain: format!("{} {}", self.language(), self.version()),
            made_with: definition.programs.iter().cloned().chain([packages]).collect(),
        })
    }

    /// The program inside a session of this runtime under `limits`. `None` where the language has no sessions.
    pub fn session(&self, limits: &Limits) -> Option<SessionCommand> {
        let template = self.definition().session.as_ref()?;
        let (main, _) = self.self_test();
        let argv = template.expand(&Values { main, main_class: None, sources: &[], args: &[], limits });
        let mut environment = self.environment(DATA);
        // That is Piston's, of which a session knows nothing.
        environment.retain(|(name, _)| name != "PISTON_LANGUAGE");
        Some(SessionCommand { argv, environment })
    }

    /// The interpreter to keep warm for its programs, and the environment that they have.
    pub fn zygote(&self) -> Option<(&str, Vec<(String, String)>)> {
        Some((self.definition().zygote.as_deref()?, self.environment(WORKSPACE)))
    }

    /// The whole environment of a program that starts in `directory`. `PWD` too: without it a shell asks the kernel, and
    /// prints what it finds.
    fn environment(&self, directory: &str) -> Vec<(String, String)> {
        let own = self.definition().environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let common = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/tmp"),
            ("PISTON_LANGUAGE", self.language()),
            ("PWD", directory),
            ("LANG", "C.UTF-8"),
        ];
        common.into_iter().chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn in_order(files: &[ProgramFile], units: &[Unit], order: order::Order) -> Vec<Unit> {
    let sources: Vec<_> = units.iter().map(|unit| String::from_utf8_lossy(&files[unit.file].content)).collect();
    let texts: Vec<_> = units.iter().zip(&sources).map(|(unit, source)| order::Text { path: &unit.path, source }).collect();
    order::sort(&texts, order).into_iter().map(|place| units[place].clone()).collect()
}

/// A later file replaces an earlier one of the same path: compiling both would define everything twice.
fn last_of_each_name(files: Vec<ProgramFile>) -> Vec<ProgramFile> {
    let mut kept: Vec<ProgramFile> = Vec::with_capacity(files.len());
    let mut places: BTreeMap<RelativePath, usize> = BTreeMap::new();
    for file in files {
        match places.get(&file.path) {
            Some(&place) => kept[place] = file,
            None => {
                places.insert(file.path.clone(), kept.len());
                kept.push(file);
            }
        }
    }
    kept
}

/// No file can be a directory for another.
fn check_paths(files: &[ProgramFile]) -> Result<(), PlanError> {
    let paths: BTreeMap<&str, &RelativePath> = files.iter().map(|file| (file.path.as_str(), &file.path)).collect();
    for file in files {
        let mut parent = file.path.parent();
        while !parent.is_empty() {
            if let Some(&blocking) = paths.get(parent) {
                return Err(PlanError::FileIsDirectory { file: blocking.clone(), other: file.path.clone() });
            }
            parent = parent.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
