use greenroom_core::DATA_TOO;

use super::{error::AzureError, request::PoolType};

/// Where a session's files are.
pub const MOUNT: &str = "/mnt/data";

/// The punctuation of a file name that may be uploaded; letters and digits of any script may, too.
const PUNCTUATION: &str = "-_ .@$&=;,#%^()";
/// Longest name of one file or directory, bytes (ext4's and tmpfs').
const NAME_BYTES: usize = 255;

/// A directory below `/mnt/data`; empty for that itself. Never absolute, never with `.` or `..`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Directory(String);

/// A file below `/mnt/data`, as `a/b.txt`. Never absolute, never with `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePath(String);

impl Directory {
    /// Reads the parameter `path`: relative to `/mnt/data`, or that with it in front, or in a Shell pool with its other name. It may hold
    /// no dot.
    ///
    /// # Errors
    /// [`AzureError::FilePath`].
    pub fn parse(path: Option<&str>, pool: PoolType) -> Result<Self, AzureError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let invalid = |reason| AzureError::FilePath { path: format!("/{}", path.trim_start_matches('/')), reason };
        if path.contains(['.', '\\']) || path.chars().any(char::is_control) {
            return Err(invalid("path cannot contain any reserved file path characters"));
        }
        let other =
            path.strip_prefix(DATA_TOO).filter(|rest| pool == PoolType::Shell && (rest.is_empty() || rest.starts_with('/')));
        let parts = segments(other.unwrap_or(path));
        if parts.iter().any(|part| part.len() > NAME_BYTES) {
            return Err(invalid("a name in it is longer than 255 bytes"));
        }
        Ok(Self(parts.join("/")))
    }

    /// As `a/b`; empty for `/mnt/data` itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FilePath {
    /// The name of an uploaded file, put into this directory. Clients may send it with `/mnt/data/` in front. Directories
    /// in the name are kept.
    ///
    /// # Errors
    /// [`AzureError::FilePath`]: characters that the service does not take, or steps that lead elsewhere.
    pub fn to_write(directory: &Directory, name: &str) -> Result<Self, AzureError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() && !c.is_control() || PUNCTUATION.contains(c);
        if !name.chars().all(|c| is_allowed(c) || c == '/') {
            let reason = "file name can only contain letters, digits, unicode characters, blanks and any of -_.@$&=;,#%^()";
            return Err(AzureError::FilePath { path: name.to_owned(), reason });
        }
        // An absolute name that is not below the mount, or a directory, is not what anybody meant.
        let is_below = !name.starts_with('/') || name == MOUNT || name.starts_with("/mnt/data/");
        if !is_below || name.ends_with('/') || name.trim_start_matches('/').contains("//") {
            return Err(AzureError::FilePath { path: name.to_owned(), reason: "it is not a file below /mnt/data" });
        }
        Self::to_read(directory, name)
    }

    /// The name of a file that may exist: whatever a program can have called it.
    ///
    /// # Errors
    /// [`AzureError::FilePath`]: no name at all, or steps that lead elsewhere.
    pub fn to_read(directory: &Directory, name: &str) -> Result<Self, AzureError> {
        let invalid = |reason| Err(AzureError::FilePath { path: name.to_owned(), reason });
        let parts = segments(name);
        if parts.is_empty() {
            return invalid("it names no file");
        }
        if parts.iter().any(|part| matches!(*part, "." | "..")) || name.contains('\0') {
            return invalid("path cannot contain any reserved file path characters");
        }
        if parts.iter().any(|part| part.len() > NAME_BYTES) {
            return invalid("a name in it is longer than 255 bytes");
        }
        let below = parts.join("/");
        Ok(Self(if directory.0.is_empty() { below } else { format!("{}/{below}", directory.0) }))
    }

    /// As `a/b.txt`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The steps of a path without the mount in front.
fn segments(path: &str) -> Vec<&str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["mnt", "data", rest @ ..] => rest.to_vec(),
        _ => parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(name: &str) -> Result<String, AzureError> {
        FilePath::to_write(&Directory::default(), name).map(|path| path.0)
    }

    #[test]
    fn the_mount_in_front_of_a_name_is_taken_off() {
        for name in ["x.txt", "/mnt/data/x.txt", "mnt/data/x.txt"] {
            assert_eq!(write(name), Ok("x.txt".to_owned()), "{name}");
        }
        assert_eq!(write("/mnt/data/a/x.txt"), Ok("a/x.txt".to_owned()));
    }

    #[test]
    fn names_of_the_documented_characters_are_taken() {
        for name in
            ["..foo", "a..b", "...txt", ".env", "run.sh", "Az09-_ .@$&=;,#%^().txt", "naïve 数据.csv", "%2e%2e", "\u{2024}\u{ff0e}"]
        {
            assert_eq!(write(name).as_deref(), Ok(name));
        }
    }

    /// The rows of the hostile catalogue about names.
    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "../../etc/cron.d/x", "a/../../b", "..\\x", "/etc/passwd", "//x", "C:\\x", "a\0b", "", ".", "..", "a/", "a//b",
            "a/./b", "/mnt/data", "/mnt/data/", "/mnt/data/..", "/mnt/data/../x", "/mnt/database", "a\nb", "a\u{85}b", "a:b",
            "a\"b", "<a>",
        ] {
            assert!(matches!(write(name), Err(AzureError::FilePath { .. })), "{name:?}");
        }
        assert!(write(&"a".repeat(256)).is_err());
    }

    #[test]
    fn what_a_program_named_can_be_read() {
        for name in ["a\nb", "a:b", "x\u{1b}[0m", "a*?"] {
            assert_eq!(FilePath::to_read(&Directory::default(), name).map(|path| path.0).as_deref(), Ok(name));
        }
        for name in ["..", "a/../b", ".", "", "a\0"] {
            assert!(FilePath::to_read(&Directory::default(), name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_directory_is_relative_to_the_mount_and_has_no_dots() {
        for (path, directory) in [
            (None, ""),
            (Some(""), ""),
            (Some("/"), ""),
            (Some("/mnt/data"), ""),
            (Some("/mnt/data/a/b/"), "a/b"),
            (Some("a b/c"), "a b/c"),
        ] {
            assert_eq!(
                Directory::parse(path, PoolType::CodeInterpreter).map(|directory| directory.0).as_deref(),
                Ok(directory),
                "{path:?}"
            );
        }
        for (path, directory) in
            [("/app/ade/bin", "ade/bin"), ("/app", ""), ("ade/bin", "ade/bin"), ("app/x", "app/x"), ("/mnt/data/app", "app")]
        {
            assert_eq!(
                Directory::parse(Some(path), PoolType::Shell).map(|directory| directory.0).as_deref(),
                Ok(directory),
                "{path}"
            );
        }
        assert_eq!(Directory::parse(Some("/app/x"), PoolType::CodeInterpreter).unwrap().as_str(), "app/x");
        let refused = Directory::parse(Some(".ade/bin"), PoolType::CodeInterpreter).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "File Path '/.ade/bin' is invalid because 'path cannot contain any reserved file path characters'."
        );
        assert!(
            Directory::parse(Some("../x"), PoolType::CodeInterpreter).is_err()
                && Directory::parse(Some("a\0b"), PoolType::CodeInterpreter).is_err()
        );
        let below = FilePath::to_write(&Directory::parse(Some("a"), PoolType::CodeInterpreter).unwrap(), "x.txt");
        assert_eq!(below.map(|path| path.0), Ok("a/x.txt".to_owned()));
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_mount(path in "[a./%\\\\]{0,12}", name in "[a./%\\\\]{0,12}") {
            if let Ok(directory) = Directory::parse(Some(&path), PoolType::CodeInterpreter) {
                for file in [FilePath::to_write(&directory, &name), FilePath::to_read(&directory, &name)].into_iter().flatten() {
                    prop_assert!(file.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")));
                }
            }
        }
    }
}
