use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
};

use greenroom_core::{Blame, RelativePath};
use rust_embed::Embed;

use crate::{
    debian::{self, DebianError, Elevation},
    definition::{Beside, Definition, DefinitionError},
    precompile::{self, PrecompileError},
    probe::{ProbeError, System},
    range::Range,
    runtime::Runtime,
};

#[derive(Embed)]
#[folder = "../../runtimes"]
struct Embedded;

/// What discovery looks at.
#[derive(Clone, Debug, Default)]
pub struct DiscoverOptions {
    /// A directory of further definitions, `<language>/runtime.toml`. One for a language that is built in replaces it.
    pub definitions: Option<PathBuf>,
    /// The system that programs see. `None`: the host's own.
    pub system_root: Option<PathBuf>,
    /// What installing and removing may do where we are not root.
    pub elevation: Elevation,
}

/// Why the catalogue cannot be made. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A definition is wrong.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

/// A language that is known, installed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageState {
    /// The name under which it is installed: the language's.
    pub language: String,
    /// Its version; where it is not installed, the one Debian 12 has.
    pub version: String,
    /// Whether it can run programs now.
    pub installed: bool,
    /// Whether it belongs to the set that a fresh installation gets.
    pub base: bool,
}

/// A language that is known but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Which.
    pub language: String,
    /// What is missing, for people.
    pub reason: String,
    /// The Debian packages that would bring it.
    pub packages: Vec<String>,
}

/// Why a language could not be installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No definition has this name.
    #[error("there is no language {0:?}")]
    Unknown(String),
    /// There is nothing to do.
    #[error("{0} is already installed")]
    AlreadyInstalled(String),
    /// There is nothing to remove.
    #[error("{0} is not installed")]
    NotInstalled(String),
    /// It is part of Greenroom, or of every system.
    #[error("{0} needs no package, so there is none to install or remove")]
    NoPackage(String),
    /// Its packages are also another language's.
    #[error("{language} cannot be removed alone: its packages are also those of {}", others.join(", "))]
    Shared {
        /// Which.
        language: String,
        /// The other languages.
        others: Vec<String>,
    },
    /// Its packages are gone, and it still works: what they had brought along stays.
    #[error(
        "the packages of {0} are removed, but not what they had brought along: `apt-get autoremove` removes what nothing needs"
    )]
    StillThere(String),
    /// Another tree's packages are changed with that tree's tools.
    #[error("programs see the system in {}: install languages there with its own tools", .0.display())]
    ForeignSystem(PathBuf),
    /// The package manager refused.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// The packages are there, and yet it does not work.
    #[error("the packages of {language} are installed, but {source}")]
    StillMissing {
        /// Which.
        language: String,
        /// Why.
        source: ProbeError,
    },
}

impl InstallError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            InstallError::Unknown(_)
            | InstallError::AlreadyInstalled(_)
            | InstallError::NotInstalled(_)
            | InstallError::NoPackage(_)
            | InstallError::Shared { .. }
            | InstallError::ForeignSystem(_) => Blame::Caller,
            InstallError::Debian(_) | InstallError::StillMissing { .. } | InstallError::StillThere(_) => Blame::Backend,
        }
    }
}

/// Every language that is known, and which of them are installed. Cheap to clone; all clones see the same state.
#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

struct Inner {
    options: DiscoverOptions,
    definitions: Vec<Arc<Definition>>,
    found: RwLock<Found>,
    /// Held while packages change: two package managers at once would wait for each other, and a refresh in between would
    /// see half of it.
    changing: Mutex<()>,
}

#[derive(Clone)]
struct Found {
    installed: Arc<[Arc<Runtime>]>,
    absent: Arc<[Absent]>,
}

impl Catalogue {
    /// Reads the definitions and looks for what is installed.
    ///
    /// # Errors
    /// [`CatalogueError`]: a definition is wrong. A language that does not work is no error: see [`Catalogue::absent`].
    pub fn discover(options: &DiscoverOptions) -> Result<Self, CatalogueError> {
        let mut definitions = embedded()?;
        if let Some(directory) = &options.definitions {
            let mut further = Definition::load_directory(directory)?;
            check_unique(&further)?;
            definitions.retain(|known| !further.iter().any(|other| other.language == known.language));
            definitions.append(&mut further);
        }
        // Piston's order: by package, and the languages of one package as it lists them.
        definitions.sort_by(|a, b| (order_key(a), &a.language).cmp(&(order_key(b), &b.language)));
        let definitions: Vec<Arc<Definition>> = definitions.into_iter().map(Arc::new).collect();
        let found = RwLock::new(probe(&definitions, options));
        Ok(Self(Arc::new(Inner { options: options.clone(), definitions, found, changing: Mutex::new(()) })))
    }

    /// What can run programs, in Piston's order: alphabetical by package.
    pub fn installed(&self) -> Arc<[Arc<Runtime>]> {
        self.found().installed
    }

    /// What is known but not installed, and why.
    pub fn absent(&self) -> Arc<[Absent]> {
        self.found().absent
    }

    /// The runtime that `language` (exactly its name or one of its aliases) at a node-semver `range` means: the highest
    /// version that is in it, the first in order where two have the same.
    pub fn resolve(&self, language: &str, range: &str) -> Option<Arc<Runtime>> {
        let range = Range::parse(range)?;
        let installed = self.installed();
        let matching = installed.iter().filter(|runtime| {
            let named = runtime.language() == language || runtime.aliases().iter().any(|alias| alias == language);
            named && range.contains(runtime.semver())
        });
        // `max_by` would take the last of equals.
        matching.rev().max_by(|a, b| a.semver().cmp(b.semver())).cloned()
    }

    /// Every known language, in Piston's order.
    pub fn packages(&self) -> Vec<PackageState> {
        let installed = self.installed();
        let state = |definition: &Arc<Definition>| {
            let runtime = installed.iter().find(|runtime| runtime.language() == definition.language);
            PackageState {
                language: definition.language.clone(),
                version: runtime.map_or_else(|| definition.debian.version.clone(), |runtime| runtime.version().to_owned()),
                installed: runtime.is_some(),
                base: definition.base,
            }
        };
        self.0.definitions.iter().map(state).collect()
    }

    /// The Debian packages of a language.
    pub fn debian_packages(&self, language: &str) -> Option<&[String]> {
        let definition = self.0.definitions.iter().find(|definition| definition.language == language)?;
        Some(&definition.debian.packages)
    }

    /// Looks again for what is installed.
    pub fn refresh(&self) {
        let found = probe(&self.0.definitions, &self.0.options);
        *self.0.found.write().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Installs a language with Debian's packages, only what is missing. `progress` gets what the package manager says, line
    /// by line. Blocks until done: minutes for the large ones.
    ///
    /// # Errors
    /// [`InstallError`]: see its variants.
    pub fn install(&self, package: &str, progress: &mut dyn FnMut(&str)) -> Result<Arc<Runtime>, InstallError> {
        let definition = self.changeable(package)?;
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.installed_as(package).is_some() {
            return Err(InstallError::AlreadyInstalled(package.to_owned()));
        }
        debian::install(&definition.debian.packages, self.0.options.elevation, progress)?;
        self.refresh();
        self.installed_as(package).map_or_else(
            || match System::new(None).probe(definition) {
                Ok(version) => Ok(Arc::new(Runtime::new(Arc::clone(definition), version))),
                Err(source) => Err(InstallError::StillMissing { language: package.to_owned(), source }),
            },
            Ok,
        )
    }

    /// Removes a language's packages, unless other things on the machine or other languages need them.
    ///
    /// # Errors
    /// [`InstallError`]: see its variants.
    pub fn remove(&self, package: &str, progress: &mut dyn FnMut(&str)) -> Result<PackageState, InstallError> {
        let definition = self.changeable(package)?;
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = self.installed_as(package).ok_or_else(|| InstallError::NotInstalled(package.to_owned()))?;
        let installed = self.installed();
        let wants =
            |other: &Runtime, name: &String| other.language() != package && other.definition().debian.packages.contains(name);
        let own: Vec<String> =
            definition.debian.packages.iter().filter(|name| !installed.iter().any(|other| wants(other, name))).cloned().collect();
        if own.is_empty() {
            let sharing = installed.iter().filter(|other| definition.debian.packages.iter().any(|name| wants(other, name)));
            let others = sharing.map(|other| other.language().to_owned()).collect();
            return Err(InstallError::Shared { language: package.to_owned(), others });
        }
        debian::remove(&own, self.0.options.elevation, progress)?;
        self.refresh();
        if self.installed_as(package).is_some() {
            return Err(InstallError::StillThere(package.to_owned()));
        }
        Ok(PackageState {
            language: package.to_owned(),
            version: runtime.version().to_owned(),
            installed: false,
            base: runtime.base(),
        })
    }

    /// Names below `/etc` that the installed languages need in a sandbox.
    pub fn etc_names(&self) -> Vec<String> {
        let installed = self.installed();
        let mut names: Vec<String> = installed.iter().flat_map(|runtime| runtime.definition().etc.iter().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Files that every sandbox has at `/opt/greenroom/<path>`: path, content, whether executable. They change when a
    /// language is installed or removed, as [`Catalogue::etc_names`] does.
    pub fn support_files(&self) -> Vec<(RelativePath, Vec<u8>, bool)> {
        let installed = self.installed();
        let shims = installed.iter().flat_map(|runtime| &runtime.definition().support);
        let mut files: Vec<_> = shims.map(|file| (file.path.clone(), file.content.clone(), file.executable)).collect();
        let system = System::new(self.0.options.system_root.as_deref());
        for runtime in installed.iter() {
            for path in &runtime.definition().copies {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                // One that is missing is missed by its language's self-test, which says what for.
                if let (Ok(name), Some(content)) = (RelativePath::new(&format!("{}/{name}", runtime.language())), system.read(path))
                {
                    files.push((name, content, false));
                }
            }
        }
        files
    }

    /// Makes what is worth making ahead for the installed languages (precompiled headers), as far as it is missing or out of date,
    /// in `directory`, which sandboxes must see at [`Catalogue::PRECOMPILED_AT`] below `/opt/greenroom`. Tells of each header made. Blocks
    /// until done, tens of seconds at first, or until `stopped`. Where programs see another system, there is nothing to do.
    ///
    /// # Errors
    /// [`PrecompileError`]. Programs compile without, only slower.
    pub fn precompile(
        &self,
        directory: &Path,
        stopped: &dyn Fn() -> bool,
        made: &mut dyn FnMut(&str),
    ) -> Result<(), PrecompileError> {
        if self.0.options.system_root.is_some() {
            return Ok(());
        }
        let installed = self.installed();
        let runtimes: Vec<&Runtime> = installed.iter().map(AsRef::as_ref).collect();
        precompile::make(&runtimes, directory, stopped, made)
    }

    /// Where a sandbox sees what is made ahead, below `/opt/greenroom`.
    pub const PRECOMPILED_AT: &str = "precompiled";

    fn found(&self) -> Found {
        self.0.found.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn installed_as(&self, language: &str) -> Option<Arc<Runtime>> {
        self.installed().iter().find(|runtime| runtime.language() == language).cloned()
    }

    fn changeable(&self, package: &str) -> Result<&Arc<Definition>, InstallError> {
        let definition = self.0.definitions.iter().find(|definition| definition.language == package);
        let definition = definition.ok_or_else(|| InstallError::Unknown(package.to_owned()))?;
        if let Some(root) = &self.0.options.system_root {
            return Err(InstallError::ForeignSystem(root.clone()));
        }
        if definition.debian.packages.is_empty() {
            return Err(InstallError::NoPackage(package.to_owned()));
        }
        Ok(definition)
    }
}

fn order_key(definition: &Definition) -> &str {
    definition.runtime.as_deref().unwrap_or(&definition.language)
}

/// The definitions in the binary.
pub(crate) fn embedded() -> Result<Vec<Definition>, DefinitionError> {
    let paths: Vec<String> = Embedded::iter().map(|path| path.into_owned()).collect();
    let content = |path: &str| Embedded::get(path).map(|file| file.data.into_owned()).unwrap_or_default();
    let mut definitions = Vec::new();
    for file in paths.iter().filter(|path| path.ends_with("/runtime.toml")) {
        let directory = &file[..file.len() - "runtime.toml".len()];
        let text = String::from_utf8(content(file)).map_err(|_| DefinitionError::NotText { file: file.clone() })?;
        let others = paths.iter().filter(|path| *path != file);
        let beside = others.filter_map(|path| {
            let below = path.strip_prefix(directory)?;
            Some(Beside { path: below.to_owned(), content: content(path) })
        });
        definitions.push(Definition::parse(&format!("runtimes/{file}"), &text, beside.collect())?);
    }
    check_unique(&definitions)?;
    Ok(definitions)
}

fn check_unique(definitions: &[Definition]) -> Result<(), DefinitionError> {
    for (i, definition) in definitions.iter().enumerate() {
        if definitions[..i].iter().any(|earlier| earlier.language == definition.language) {
            let language = definition.language.clone();
            return Err(DefinitionError::Duplicate { file: format!("{language}/runtime.toml"), language });
        }
    }
    Ok(())
}

/// Asks for all versions at once: most of the time is waiting for compilers to start.
fn probe(definitions: &[Arc<Definition>], options: &DiscoverOptions) -> Found {
    let system = System::new(options.system_root.as_deref());
    let answers: Vec<Result<Runtime, Absent>> = thread::scope(|scope| {
        let asking: Vec<_> = definitions
            .iter()
            .map(|definition| scope.spawn(|| system.probe(definition).map(|version| Runtime::new(Arc::clone(definition), version))))
            .collect();
        let absent = |definition: &Definition, reason: String| Absent {
            language: definition.language.clone(),
            reason,
            packages: definition.debian.packages.clone(),
        };
        let answered = asking.into_iter().zip(definitions);
        answered
            .map(|(asked, definition)| match asked.join() {
                Ok(answer) => answer.map_err(|error| absent(definition, error.to_string())),
                Err(_) => Err(absent(definition, "looking for it failed".to_owned())),
            })
            .collect()
    });
    let (mut installed, mut absent) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(runtime) => installed.push(Arc::new(runtime)),
            Err(reason) => absent.push(reason),
        }
    }
    Found { installed: installed.into(), absent: absent.into() }
}

#[cfg(test)]
mod tests;
