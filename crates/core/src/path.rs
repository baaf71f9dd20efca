use std::fmt;

/// A path below a workspace that cannot leave it: no root, no `..`, no `.`, no empty part, no NUL.
///
/// It is text only; the sandbox opens it beneath a directory it holds, without following links
/// (`openat2`), so a program's own symlinks do not matter either.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(String);

/// Why a file name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// "".
    #[error("must not be empty")]
    Empty,
    /// NUL cannot be part of a file name.
    #[error("must not contain a NUL character")]
    Nul,
    /// Starts with `/`.
    #[error("must be relative")]
    Absolute,
    /// Has a part `..`.
    #[error("must not leave the working directory")]
    Escapes,
    /// Ends with `/` or is `.`.
    #[error("must name a file, not a directory")]
    NotAFile,
    /// NAME_MAX of Linux's file systems is 255 bytes.
    #[error("has a part of more than 255 bytes")]
    PartTooLong,
    /// PATH_MAX is 4096 bytes; what stands before the workspace counts.
    #[error("has more than 3500 bytes")]
    TooLong,
}

impl RelativePath {
    /// Checks `name`. Redundant `./` and `//` and `a/../` are resolved as text, as POSIX clients expect
    /// of a name that stays inside.
    ///
    /// # Errors
    /// Every [`PathError`]: see its variants.
    pub fn new(name: &str) -> Result<Self, PathError> {
        if name.is_empty() {
            return Err(PathError::Empty);
        }
        if name.contains('\0') {
            return Err(PathError::Nul);
        }
        if name.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if name.len() > 3500 {
            return Err(PathError::TooLong);
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop().ok_or(PathError::Escapes)?;
                }
                part if part.len() > 255 => return Err(PathError::PartTooLong),
                part => parts.push(part),
            }
        }
        let last = name.rsplit('/').next().unwrap_or_default();
        if parts.is_empty() || matches!(last, "" | "." | "..") {
            return Err(PathError::NotAFile);
        }
        Ok(Self(parts.join("/")))
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// What stands before the last part: "" for a file at the top.
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stay_inside_are_accepted_and_normalised() {
        for (name, path) in [
            ("m.py", "m.py"),
            ("a/b.py", "a/b.py"),
            ("..x.py", "..x.py"),
            ("...txt", "...txt"),
            ("a/../m.py", "m.py"),
            ("./m", "m"),
        ] {
            assert_eq!(RelativePath::new(name).map(|p| p.to_string()), Ok(path.to_owned()), "{name:?}");
        }
    }

    #[test]
    fn names_that_leave_or_name_no_file_are_refused() {
        for (name, error) in [
            ("", PathError::Empty),
            ("a\0b", PathError::Nul),
            ("/m.py", PathError::Absolute),
            ("//x", PathError::Absolute),
            ("../m.py", PathError::Escapes),
            ("a/../../b", PathError::Escapes),
            (".", PathError::NotAFile),
            ("a/", PathError::NotAFile),
            ("a/..", PathError::NotAFile),
        ] {
            assert_eq!(RelativePath::new(name), Err(error), "{name:?}");
        }
        assert_eq!(RelativePath::new(&"x".repeat(256)), Err(PathError::PartTooLong));
        assert_eq!(RelativePath::new(&"x/".repeat(2000)), Err(PathError::TooLong));
    }
}
