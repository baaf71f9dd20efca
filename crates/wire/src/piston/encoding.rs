//! How file contents are decoded: as Node's `Buffer.from(content, encoding)` does, which never fails.

/// How a file's content was sent. Any unknown name counts as utf8, as on Piston.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Base64,
    Hex,
}

impl Encoding {
    pub(super) fn decode(self, content: String) -> Vec<u8> {
        match self {
            Encoding::Utf8 => content.into_bytes(),
            Encoding::Base64 => base64(content.as_bytes()),
            Encoding::Hex => hex(content.as_bytes()),
        }
    }
}

/// Both alphabets, padding optional, other characters skipped; the first `=` ends the text, and a last lone
/// character (6 bits, no byte) is dropped. Observed on Node 20.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for &c in text.iter().take_while(|&&c| c != b'=') {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(six);
        count += 1;
        if count == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match count {
        2 => bytes.extend_from_slice(&(bits << 12).to_be_bytes()[1..2]),
        3 => bytes.extend_from_slice(&(bits << 6).to_be_bytes()[1..3]),
        _ => {}
    }
    bytes
}

/// Pairs of hexadecimal digits, up to the first that is none.
fn hex(text: &[u8]) -> Vec<u8> {
    fn digit(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            b'A'..=b'F' => Some(c - b'A' + 10),
            _ => None,
        }
    }
    text.chunks_exact(2).map_while(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row was observed on Node 20.
    #[test]
    fn base64_is_as_lenient_as_nodes() {
        for (text, bytes) in [
            ("", "".as_bytes()),
            ("YWJj", b"abc"),
            ("YWJ", b"ab"),
            ("YW", b"a"),
            ("Y", b""),
            ("YQ==", b"a"),
            ("YQ=", b"a"),
            ("YQ==YQ==", b"a"),
            ("=bad", b""),
            ("Y Q = =", b"a"),
            ("YWJj*ZGVm", b"abcdef"),
            ("YWJj\u{e9}ZGVm", b"abcdef"),
            ("YWJj-_", b"abc\xfb"),
            ("YWJj+/", b"abc\xfb"),
            ("YW=Jj", b"a"),
            ("YWJjZA==\n", b"abcd"),
            ("YWJjZ", b"abc"),
            ("YWJj====", b"abc"),
            ("YWJjZ=GVm", b"abc"),
            ("YW Jj\r\n ZA", b"abcd"),
        ] {
            assert_eq!(base64(text.as_bytes()), bytes, "{text:?}");
        }
    }

    #[test]
    fn base64_agrees_with_a_strict_decoder_where_that_decodes() {
        use ::base64::{Engine, engine::general_purpose::STANDARD};
        for len in 0..=64_u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(37)).collect();
            assert_eq!(base64(STANDARD.encode(&bytes).as_bytes()), bytes);
        }
    }

    #[test]
    fn hex_stops_at_the_first_bad_pair_or_odd_digit() {
        for (text, bytes) in [
            ("", "".as_bytes()),
            ("6A6b", b"jk"),
            ("616", b"a"),
            ("6162zz63", b"ab"),
            ("61 62", b"a"),
            ("zz", b""),
            ("6", b""),
            ("61\u{e9}62", b"a"),
        ] {
            assert_eq!(hex(text.as_bytes()), bytes, "{text:?}");
        }
    }
}
