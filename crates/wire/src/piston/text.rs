//! Bytes of programs as text.

/// Decodes UTF-8 that arrives in pieces. What is no UTF-8 becomes U+FFFD, exactly as
/// [`String::from_utf8_lossy`] of the whole would have it; a character split over two pieces is joined
/// (Piston decodes every piece on its own, and makes two U+FFFD of it).
#[derive(Clone, Debug, Default)]
pub struct Utf8Decoder {
    /// The first bytes of a character whose rest has not come: at most three.
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// The text of these bytes and of what was held back, as far as it is complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.pending.is_empty() {
            bytes
        } else {
            self.pending.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.pending);
            &joined
        };
        let mut text = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(len) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[len..];
                        }
                        None => {
                            self.pending = after.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }

    /// At the end of the stream: U+FFFD if it ended within a character, else nothing.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending).is_empty() { "" } else { "\u{fffd}" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_split_over_pieces_is_joined() {
        let mut decoder = Utf8Decoder::default();
        let pieces: Vec<String> = "a€😀".as_bytes().iter().map(|b| decoder.push(&[*b])).collect();
        assert_eq!(pieces, ["a", "", "", "€", "", "", "", "😀"]);
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn a_character_cut_off_at_the_end_becomes_one_replacement() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.push(b"a\xf0\x9f\x98"), "a");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn a_split_that_is_not_continued_is_replaced_and_the_next_byte_kept() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.push(b"\xe2\x82"), "");
        assert_eq!(decoder.push(b"x\0"), "\u{fffd}x\0");
    }

    proptest! {
        #[test]
        fn pieces_decode_to_what_the_whole_decodes_to(pieces in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(0xe2_u8), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f), Just(b'a'), any::<u8>()], 0..6), 0..12)) {
            let mut decoder = Utf8Decoder::default();
            let mut text: String = pieces.iter().map(|piece| decoder.push(piece)).collect();
            text.push_str(decoder.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&pieces.concat()).into_owned());
        }
    }
}
