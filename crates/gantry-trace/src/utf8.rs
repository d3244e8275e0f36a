//! Makes any bytes valid UTF-8. Each invalid byte becomes one U+FFFD (GitLab Runner 19.4), which is
//! not what most libraries do: they join the bytes of a broken character.

/// What stands for an invalid byte.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// A character has at most four bytes, so at most three can be waiting.
const MAX_HELD: usize = 3;

/// Where a stream stands.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The beginning of a character.
    held: [u8; MAX_HELD + 1],
    len: usize,
}

impl Utf8 {
    /// Takes bytes and appends the result to `out`; a character that is not complete yet is held
    /// back.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while self.len > 0 {
            let Some((byte, tail)) = rest.split_first() else { return };
            rest = tail;
            self.held[self.len] = *byte;
            self.len += 1;
            let held = self.held;
            let len = self.len;
            self.len = 0;
            self.repair(&held[..len], out);
        }
        self.repair(rest, out);
    }

    /// Gives up on a character that is not complete.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        for _ in 0..self.len {
            out.extend_from_slice(REPLACEMENT);
        }
        self.len = 0;
    }

    fn repair(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            let Err(error) = std::str::from_utf8(rest) else { return out.extend_from_slice(rest) };
            let (valid, broken) = rest.split_at(error.valid_up_to());
            out.extend_from_slice(valid);
            let Some(len) = error.error_len() else {
                // At most three bytes: four make a character or an error.
                let len = broken.len().min(MAX_HELD);
                self.held[..len].copy_from_slice(&broken[..len]);
                self.len = len;
                return;
            };
            for _ in 0..len {
                out.extend_from_slice(REPLACEMENT);
            }
            rest = &broken[len..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8;

    #[test]
    fn one_replacement_for_each_invalid_byte() {
        for (bytes, expected) in [
            (b"a\xfeb".as_slice(), "a\u{fffd}b"),
            (b"\xe2\x82A", "\u{fffd}\u{fffd}A"),
            ("aü€😀z".as_bytes(), "aü€😀z"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf0\x9f\x98\xf0\x9f\x98\x80", "\u{fffd}\u{fffd}\u{fffd}😀"),
            (b"\xe2\x82", "\u{fffd}\u{fffd}"),
            (b"\xf0\x9f\x98", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xe2\xc3\xbc", "\u{fffd}ü"),
            (b"\x80\xc0\xaf", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            for piece in 1..=bytes.len() {
                let (mut stage, mut out) = (Utf8::default(), Vec::new());
                for part in bytes.chunks(piece) {
                    stage.push(part, &mut out);
                }
                stage.flush(&mut out);
                assert_eq!(String::from_utf8(out).as_deref(), Ok(expected), "{bytes:?} by {piece}");
            }
        }
    }
}
