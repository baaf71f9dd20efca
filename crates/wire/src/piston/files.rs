use std::collections::HashMap;

use greenroom_core::{DiskLimits, RelativePath};
use serde_json::Value;

use super::encoding::Encoding;
use super::invalid::Invalid;
use super::javascript;

/// A submitted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it stands below the working directory.
    pub path: RelativePath,
    /// Its bytes, decoded.
    pub content: Vec<u8>,
    /// Whether it is handed to the compiler or interpreter by name: sent as utf8 (any file for the language `file`).
    pub code: bool,
}

/// An element of `files` as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawFile {
    name: Value,
    encoding: Value,
    content: String,
}

impl RawFile {
    pub(super) fn parse(index: usize, file: Value) -> Result<Self, Invalid> {
        let mut fields = match file {
            Value::Object(fields) => fields,
            Value::Null => return Err(Invalid::File(index)),
            _ => return Err(Invalid::Content(index)),
        };
        let mut take = |key: &str| fields.get_mut(key).map(Value::take).unwrap_or_default();
        let Value::String(content) = take("content") else { return Err(Invalid::Content(index)) };
        Ok(Self { name: take("name"), encoding: take("encoding"), content })
    }

    /// What check 6 wants: stricter than what is decoded as utf8.
    pub(super) fn is_declared_utf8(&self) -> bool {
        !javascript::is_truthy(&self.encoding) || self.encoding == "utf8"
    }

    fn encoding(&self) -> Encoding {
        match self.encoding.as_str() {
            Some("base64") => Encoding::Base64,
            Some("hex") => Encoding::Hex,
            _ => Encoding::Utf8,
        }
    }

    fn path(&self, index: usize) -> Result<RelativePath, Invalid> {
        let name = match &self.name {
            Value::String(name) if !name.is_empty() => name.clone(),
            name if javascript::is_truthy(name) => return Err(Invalid::NameType(index)),
            _ => format!("file{index}.code"),
        };
        RelativePath::new(&name).map_err(|reason| Invalid::Name { index, name, reason })
    }
}

/// Names, contents and conflicts of files (check 9). Of two files with one name the last one's content is written, where
/// the first stands in order; it is code if either is, because Piston names both to the compiler.
pub(super) fn place(raw: Vec<RawFile>, all_code: bool) -> Result<Vec<SourceFile>, Invalid> {
    let mut files: Vec<SourceFile> = Vec::with_capacity(raw.len());
    let mut sent: Vec<usize> = Vec::with_capacity(raw.len());
    let mut places: HashMap<RelativePath, usize> = HashMap::with_capacity(raw.len());
    for (index, file) in raw.into_iter().enumerate() {
        let path = file.path(index)?;
        let encoding = file.encoding();
        let code = all_code || encoding == Encoding::Utf8;
        let content = encoding.decode(file.content);
        if let Some(&place) = places.get(&path) {
            files[place].content = content;
            files[place].code |= code;
        } else {
            places.insert(path.clone(), files.len());
            files.push(SourceFile { path, content, code });
            sent.push(index);
        }
    }
    let order = in_tree_order(&files);
    for pair in order.windows(2) {
        let (above, below) = (files[pair[0]].path.as_str(), files[pair[1]].path.as_str());
        if below.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')) {
            return Err(Invalid::NameConflict { index: sent[pair[1]], other: sent[pair[0]] });
        }
    }
    Ok(files)
}

/// Indices of the files, a directory's files together and, were it a file itself, right behind it. Looking at neighbours is
/// enough then: a look at every directory of every path would let a body of a few megabytes cost minutes.
fn in_tree_order(files: &[SourceFile]) -> Vec<usize> {
    // No name contains NUL, so the separator can stand before every other byte.
    let key = |index: &usize| files[*index].path.as_str().bytes().map(|byte| if byte == b'/' { 0 } else { byte });
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by(|a, b| key(a).cmp(key(b)));
    order
}

/// What the files take of a quota: whole pages of a tmpfs, and an inode for each file and directory.
pub(super) fn fits(files: &[SourceFile], disk: &DiskLimits) -> Result<(), Invalid> {
    const PAGE: u64 = 4096;
    let bytes = files.iter().map(|file| (file.content.len() as u64).next_multiple_of(PAGE)).fold(0, u64::saturating_add);
    if bytes > disk.bytes {
        return Err(Invalid::FilesTooLarge { available: disk.bytes });
    }
    let mut inodes = files.len() as u64;
    let mut before = "";
    for index in in_tree_order(files) {
        let parent = files[index].path.parent();
        if parent.is_empty() {
            before = parent;
            continue;
        }
        let parts = parent.split('/').count();
        let shared = before.split('/').zip(parent.split('/')).take_while(|(a, b)| a == b).count();
        inodes += (parts - shared) as u64;
        before = parent;
    }
    if inodes > disk.inodes {
        return Err(Invalid::TooManyFiles { available: disk.inodes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn files(names: &[&str]) -> Vec<SourceFile> {
        let file = |name: &&str| SourceFile { path: RelativePath::new(name).unwrap(), content: vec![0; 10], code: true };
        names.iter().map(file).collect()
    }

    fn raw(name: &str) -> RawFile {
        RawFile { name: name.into(), encoding: Value::Null, content: String::new() }
    }

    #[test]
    fn files_take_whole_pages_and_an_inode_for_each_file_and_directory() {
        let fits =
            |names: &[&str], bytes, inodes| super::fits(&files(names), &DiskLimits { bytes, inodes }).map_err(|e| e.to_string());
        assert_eq!(fits(&["a", "b"], 8192, 2), Ok(()));
        assert_eq!(fits(&["a", "b"], 8191, 2), Err("files must not need more than 8191 bytes together".to_owned()));
        assert_eq!(fits(&["a", "b"], 8192, 1), Err("files must not be more than 1, directories included".to_owned()));
        // d, d/e, d/e/1, d/e/2, d/f, d/f/1, top
        assert!(fits(&["d/e/1", "top", "d/f/1", "d/e/2"], 1 << 20, 7).is_ok());
        assert!(fits(&["d/e/1", "top", "d/f/1", "d/e/2"], 1 << 20, 6).is_err());
    }

    #[test]
    fn long_paths_in_great_number_are_placed_quickly() {
        // A look at every directory of every path would hash some gigabytes.
        let deep = "d/".repeat(1700);
        let raw: Vec<RawFile> = (0..800).map(|i| raw(&format!("{deep}{i}"))).collect();
        let files = place(raw, false).unwrap();
        assert!(super::fits(&files, &DiskLimits { bytes: 1 << 30, inodes: 2500 }).is_ok());
        assert!(super::fits(&files, &DiskLimits { bytes: 1 << 30, inodes: 2499 }).is_err());
    }

    proptest! {
        #[test]
        fn conflicts_and_inodes_are_those_of_a_real_tree(names in proptest::collection::vec("[ab.-]x?(/[ab!]x?){0,3}", 1..8)) {
            let names: Vec<&String> = names.iter().filter(|name| RelativePath::new(name).is_ok()).collect();
            let paths: HashSet<String> = names.iter().map(|name| RelativePath::new(name).unwrap().to_string()).collect();
            let ancestors: HashSet<String> = paths.iter().flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned())).collect();
            match place(names.iter().map(|name| raw(name)).collect(), false) {
                Ok(files) => {
                    prop_assert!(paths.is_disjoint(&ancestors));
                    let inodes = (paths.len() + ancestors.len()) as u64;
                    let fits = |inodes| super::fits(&files, &DiskLimits { bytes: 0, inodes }).is_ok();
                    prop_assert!(fits(inodes));
                    prop_assert!(inodes == 0 || !fits(inodes - 1));
                }
                Err(_) => prop_assert!(!paths.is_disjoint(&ancestors)),
            }
        }
    }
}
