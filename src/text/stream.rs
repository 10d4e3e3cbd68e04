//! Streaming UTF-8 decoding: token bytes in, whole characters out.

/// Collects token bytes and returns text as soon as characters are complete.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    pending: Vec<u8>,
}

impl TextStream {
    /// Adds bytes; gives the characters that are now complete. An invalid sequence becomes U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut at = 0;
        loop {
            match std::str::from_utf8(&self.pending[at..]) {
                Ok(rest) => {
                    text += rest;
                    at = self.pending.len();
                    break;
                }
                Err(error) => {
                    let valid = at + error.valid_up_to();
                    text += &String::from_utf8_lossy(&self.pending[at..valid]);
                    at = valid;
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    at += bad;
                }
            }
        }
        self.pending.drain(..at);
        text
    }

    /// A stream that continues with these bytes of an incomplete character.
    pub fn after(pending: Vec<u8>) -> Self {
        TextStream { pending }
    }

    /// Bytes of the incomplete character.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Ends the stream; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_out_whole_for_any_split_of_their_bytes() {
        let text = "a🚀é\u{200d}我z";
        for cut in 1..text.len() {
            let mut stream = TextStream::default();
            let pieces: Vec<String> = text.as_bytes().chunks(cut).map(|bytes| stream.push(bytes)).collect();
            assert_eq!(pieces.concat(), text, "in pieces of {cut}");
            assert_eq!(stream.finish(), "");
        }
    }

    #[test]
    fn invalid_bytes_become_replacement_characters() {
        let mut stream = TextStream::default();
        assert_eq!(stream.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(stream.push(&[0xf0, 0x9f]), "");
        assert_eq!(stream.push(b"x"), "\u{fffd}x");
        assert_eq!(stream.push(&[0xe6]), "");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
    }
}
