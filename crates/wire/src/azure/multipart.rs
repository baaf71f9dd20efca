//! Uploads as clients really send them: what a multipart library has to be told beside the body.

use super::percent;

/// Longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_CHARS: usize = 70;

/// The boundary of a multipart body: what the body begins with, or else what the header says. Some clients send a header of
/// another type, or without a boundary, so that the body is believed first.
pub fn boundary(content_type: Option<&str>, start: &[u8]) -> Option<String> {
    let is_allowed =
        |text: &str| (1..=BOUNDARY_CHARS).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let first_line = || {
        let line = start.split(|&byte| byte == b'\n').next()?;
        let line = std::str::from_utf8(line.strip_suffix(b"\r")?).ok()?;
        let boundary = line.strip_prefix("--")?.trim_end();
        is_allowed(boundary).then(|| boundary.to_owned())
    };
    let in_header = || {
        let boundary = parameter(content_type?, "boundary")?;
        is_allowed(&boundary).then_some(boundary)
    };
    first_line().or_else(in_header)
}

/// What a part's Content-Disposition says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartName {
    /// The field.
    pub field: String,
    /// The file, if it is one.
    pub file: Option<String>,
}

impl PartName {
    /// Reads the header's value. A name in the extended notation (RFC 5987) wins over the plain one.
    pub fn parse(disposition: &[u8]) -> Self {
        let text = String::from_utf8_lossy(disposition);
        let extended = parameter(&text, "filename*").and_then(|value| {
            let (charset, rest) = value.split_once('\'')?;
            let (_, name) = rest.split_once('\'')?;
            if charset.eq_ignore_ascii_case("utf-8") { percent::decode(name) } else { None }
        });
        // Browsers escape what would end the quotes, and nothing else.
        let plain = || parameter(&text, "filename").map(|name| name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"));
        Self { field: parameter(&text, "name").unwrap_or_default(), file: extended.or_else(plain) }
    }
}

/// A parameter of a header's value, as `name=value` or `name="value"`.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header;
    while let Some(at) = next_semicolon(rest) {
        rest = &rest[at + 1..];
        let (name, value) = rest.split_once('=')?;
        // Whatever stands before the equals sign and holds a semicolon is not one parameter.
        let name = name.rsplit(';').next().unwrap_or(name);
        if !name.trim().eq_ignore_ascii_case(wanted) {
            continue;
        }
        let value = value.trim_start();
        return Some(match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => value.split(';').next().unwrap_or(value).trim().to_owned(),
        });
    }
    None
}

/// The next semicolon that is not within quotes.
fn next_semicolon(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.bytes().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => return true,
            _ => {}
        }
        false
    })
}

/// Up to the closing quote; a backslash escapes only a quote or a backslash: some clients send paths with bare ones.
fn unquote(quoted: &str) -> String {
    let mut text = String::new();
    let mut chars = quoted.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next_if(|next| matches!(next, '"' | '\\')) {
                Some(escaped) => text.push(escaped),
                None => text.push('\\'),
            },
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_body_is_believed_before_the_header() {
        let start = b"--abc-123\r\nContent-Disposition: form-data\r\n";
        for header in [None, Some("application/json"), Some("multipart/form-data"), Some("multipart/form-data; boundary=other")] {
            assert_eq!(boundary(header, start).as_deref(), Some("abc-123"), "{header:?}");
        }
        assert_eq!(boundary(Some("multipart/form-data; boundary=\"a b\""), b"preamble\r\n--a b\r\n").as_deref(), Some("a b"));
        assert_eq!(boundary(Some("multipart/form-data; charset=x; Boundary=ab"), b"").as_deref(), Some("ab"));
        for (header, start) in
            [(Some("application/json"), b"{}".as_slice()), (None, b"--\r\n"), (Some("multipart/form-data; boundary="), b"")]
        {
            assert_eq!(boundary(header, start), None, "{header:?}");
        }
        let long = [b"--".as_slice(), &b"a".repeat(71), b"\r\n"].concat();
        assert_eq!(boundary(None, &long), None);
    }

    #[test]
    fn names_of_parts_are_read_as_clients_write_them() {
        let part = |field: &str, file: Option<&str>| PartName { field: field.into(), file: file.map(str::to_owned) };
        for (disposition, expected) in [
            (r#"form-data; name="file"; filename="/mnt/data/a b.txt""#, part("file", Some("/mnt/data/a b.txt"))),
            ("form-data; name=file; filename=a.txt", part("file", Some("a.txt"))),
            (r#"form-data; name="file"; filename="x"; filename*=utf-8''na%C3%AFve.csv"#, part("file", Some("naïve.csv"))),
            (r#"form-data; name="file"; filename="=?utf-8?B?w6Q=?="; filename*=UTF-8''%C3%A4"#, part("file", Some("ä"))),
            (r#"form-data; name="file"; filename="naïve.csv""#, part("file", Some("naïve.csv"))),
            (r#"form-data; name="a;b=c"; filename="d\"e;f.txt""#, part("a;b=c", Some("d\"e;f.txt"))),
            (r#"form-data; filename="C:\dir\a.txt"; name="file""#, part("file", Some("C:\\dir\\a.txt"))),
            (r#"form-data; name="identifier""#, part("identifier", None)),
            ("form-data", part("", None)),
            (r#"form-data; name="file"; filename*=latin1''%E4; filename="x""#, part("file", Some("x"))),
            ("", part("", None)),
        ] {
            assert_eq!(PartName::parse(disposition.as_bytes()), expected, "{disposition}");
        }
    }

    proptest! {
        #[test]
        fn any_header_can_be_read(header in "(; ?|name|filename\\*?|[=\"\\\\a'%])*", start in proptest::collection::vec(any::<u8>(), 0..100)) {
            PartName::parse(header.as_bytes());
            boundary(Some(&header), &start);
        }
    }
}
