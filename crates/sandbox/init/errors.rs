//! What the C library says of an error, as far as it can be met here.

/// In English, as everywhere.
pub fn text_of(errno: i32) -> &'static str {
    TEXTS.iter().find(|(number, _)| *number == errno).map_or("Unknown error", |(_, text)| text)
}

/// A test of the runner compares them (src/plan.rs).
pub const TEXTS: [(i32, &str); 21] = [
    (1, "Operation not permitted"),
    (2, "No such file or directory"),
    (5, "Input/output error"),
    (7, "Argument list too long"),
    (8, "Exec format error"),
    (12, "Cannot allocate memory"),
    (13, "Permission denied"),
    (17, "File exists"),
    (18, "Invalid cross-device link"),
    (20, "Not a directory"),
    (21, "Is a directory"),
    (22, "Invalid argument"),
    (24, "Too many open files"),
    (26, "Text file busy"),
    (27, "File too large"),
    (28, "No space left on device"),
    (30, "Read-only file system"),
    (32, "Broken pipe"),
    (36, "File name too long"),
    (40, "Too many levels of symbolic links"),
    (122, "Disk quota exceeded"),
];
