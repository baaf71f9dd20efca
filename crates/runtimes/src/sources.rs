//! Which of a program's files are translation units, and under which names a compiler takes them.

use std::collections::HashSet;

use greenroom_core::RelativePath;
use serde::Deserialize;

use crate::{
    definition::Sources,
    entry::{self, Dialect},
    plan::ProgramFile,
};

/// The rule for names of translation units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Naming {
    /// A unit without one of the language's extensions gets the first of them.
    #[default]
    Extension,
    /// Also: the file is named after its public class, as javac demands.
    Java,
    /// Also: the class that has the entry point is derived from the file's name or read from it.
    Kotlin,
    /// Also: the object that has the entry point is read from the file.
    Scala,
    /// Also: the class that has the entry point, or the script's own class, which wants an identifier for a name.
    Groovy,
    /// Also: packages need a module, so a `go.mod` is made where none is given.
    Go,
}

/// The place of a translation unit in the files of a program, and the name it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub file: usize,
    pub path: RelativePath,
}

/// The translation units in the order given, the main file first if it is one.
///
/// Code files with one of the language's extensions; and those with none or with `.code` (what Piston calls a file without
/// a name), for they can be nothing else. Headers and data are neither, whatever their encoding. A program that has none at
/// all by this rule means its main file.
pub(crate) fn units(files: &[ProgramFile], main: usize, rule: &Sources) -> Vec<Unit> {
    let mut chosen: Vec<usize> = (0..files.len()).filter(|&i| files[i].code && is_unit(&files[i].path, rule)).collect();
    if chosen.is_empty() {
        chosen.push(main);
    }
    if let Some(place) = chosen.iter().position(|&i| i == main) {
        chosen[..=place].rotate_right(1);
    }
    let mut taken: HashSet<RelativePath> = files.iter().map(|file| file.path.clone()).collect();
    let mut units = Vec::with_capacity(chosen.len());
    for file in chosen {
        let wanted = name(&files[file], rule);
        // A name that another file has already is not taken from it: the compiler's complaint is clearer than a lost file.
        let free = wanted == files[file].path || taken.insert(wanted.clone());
        let path = if free { wanted } else { files[file].path.clone() };
        units.push(Unit { file, path });
    }
    units
}

fn extension(path: &RelativePath) -> Option<&str> {
    path.file_name().rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension)
}

fn is_unit(path: &RelativePath, rule: &Sources) -> bool {
    match extension(path) {
        None | Some("code") => !path.file_name().starts_with('.'),
        Some(extension) => has_extension(extension, rule),
    }
}

/// `.F90` is Fortran too, but only C and C++ tell `.c` from `.C`, which both stand in their lists.
fn has_extension(extension: &str, rule: &Sources) -> bool {
    rule.extensions.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

fn name(file: &ProgramFile, rule: &Sources) -> RelativePath {
    let path = with_extension(&file.path, rule);
    let wanted = match rule.naming {
        Naming::Java => {
            let text = String::from_utf8_lossy(&file.content);
            entry::java_file_stem(&text, is_named(&file.path, rule))
        }
        Naming::Groovy => Some(identifier(stem(path.file_name()))),
        Naming::Extension | Naming::Kotlin | Naming::Scala | Naming::Go => None,
    };
    let Some(wanted) = wanted else { return path };
    let extension = extension(&path).unwrap_or(&rule.extensions[0]);
    beside(&path, &format!("{wanted}.{extension}")).unwrap_or(path)
}

fn is_named(path: &RelativePath, rule: &Sources) -> bool {
    extension(path).is_some_and(|extension| has_extension(extension, rule))
}

fn with_extension(path: &RelativePath, rule: &Sources) -> RelativePath {
    if is_named(path, rule) {
        return path.clone();
    }
    let name = path.file_name().strip_suffix(".code").unwrap_or(path.file_name());
    beside(path, &format!("{name}.{}", rule.extensions[0])).unwrap_or_else(|| path.clone())
}

/// Another name in the same directory. `None` where it would be too long.
fn beside(path: &RelativePath, name: &str) -> Option<RelativePath> {
    let path = if path.parent().is_empty() { name.to_owned() } else { format!("{}/{name}", path.parent()) };
    RelativePath::new(&path).ok()
}

pub(crate) fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn identifier(text: &str) -> String {
    let mut name: String = text.chars().map(|c| if c.is_alphanumeric() || c == '_' || c == '$' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_numeric()) {
        name.insert(0, '_');
    }
    name
}

/// The class that a virtual machine is started with.
pub(crate) fn main_class(files: &[ProgramFile], units: &[Unit], naming: Naming) -> Option<String> {
    let dialect = match naming {
        Naming::Java => Dialect::Java,
        Naming::Kotlin => Dialect::Kotlin,
        Naming::Scala => Dialect::Scala,
        Naming::Groovy => Dialect::Groovy,
        Naming::Extension | Naming::Go => return None,
    };
    let mut fallback = None;
    for unit in units {
        let text = String::from_utf8_lossy(&files[unit.file].content);
        let found = entry::find(&text, stem(unit.path.file_name()), dialect);
        if found.has_entry {
            return Some(found.class);
        }
        // Without any entry point the virtual machine's own message names the class it looked at: the main file's.
        fallback.get_or_insert(found.class);
    }
    fallback
}

/// The `go.mod` for a program that brings none: without one, the packages in its sub-directories cannot be imported. Its
/// module is called what the imports say.
pub(crate) fn go_module(files: &[ProgramFile], version: &str) -> Option<(RelativePath, Vec<u8>)> {
    let path = RelativePath::new("go.mod").ok()?;
    if files.iter().any(|file| file.path == path) {
        return None;
    }
    let directories: HashSet<&str> = files.iter().map(|file| file.path.parent()).filter(|parent| !parent.is_empty()).collect();
    // Of an import `example.com/app/tools` where there is a directory `tools`, the module is what stands before.
    let module = |import: &str| {
        let mut slashes = import.match_indices('/');
        slashes.find_map(|(slash, _)| directories.contains(&import[slash + 1..]).then(|| import[..slash].to_owned()))
    };
    let name = files
        .iter()
        .filter(|file| file.code)
        .find_map(|file| {
            let text = String::from_utf8_lossy(&file.content);
            // An import path has no blanks; a string as long as a file is none.
            text.split('"').skip(1).step_by(2).filter(|import| import.len() < 200).find_map(module)
        })
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._~/".contains(c)))
        .unwrap_or_else(|| "main".to_owned());
    // The directive decides which language is accepted: without it, that of Go 1.16.
    let language: Vec<&str> = version.splitn(3, '.').take(2).collect();
    Some((path, format!("module {name}\n\ngo {}\n", language.join(".")).into_bytes()))
}
