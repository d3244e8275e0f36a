//! The stored log of one job: raw bytes, only ever appended to, with a running checksum.

/// What became of a PATCH's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Append {
    /// Stored.
    Stored,
    /// The bytes are there already: the chunk ends exactly where the stored log ends. GitLab
    /// compares only this end (start from `Content-Range`, plus the body's length) with its own
    /// size, so such a repeat is answered 202.
    Repeated {
        /// The repeated bytes are not those stored before.
        differs: bool,
    },
    /// The chunk does not start where the log ends.
    WrongOffset,
    /// The log would grow beyond the size limit.
    TooLarge,
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    bytes: Vec<u8>,
    crc: crc32fast::Hasher,
}

impl Trace {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes from `offset` on; none if it lies beyond the end.
    pub(crate) fn from(&self, offset: u64) -> &[u8] {
        usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default()
    }

    /// Whether exactly these bytes are stored at `start`.
    pub(crate) fn has(&self, start: u64, body: &[u8]) -> bool {
        self.from(start).get(..body.len()) == Some(body)
    }

    /// The checksum in the protocol's form, `crc32:` and eight lower-case hex digits.
    pub(crate) fn checksum(&self) -> String {
        format!("crc32:{:08x}", self.crc.clone().finalize())
    }

    /// Stores what fits. Where the chunk would end is compared with the limit first, wherever it
    /// starts, as GitLab does.
    pub(crate) fn append(&mut self, start: u64, body: &[u8], limit: u64) -> Append {
        if start.saturating_add(body.len() as u64) > limit {
            return Append::TooLarge;
        }
        if start == self.len() {
            self.bytes.extend_from_slice(body);
            self.crc.update(body);
            return Append::Stored;
        }
        if start.checked_add(body.len() as u64) == Some(self.len()) {
            return Append::Repeated { differs: self.from(start) != body };
        }
        Append::WrongOffset
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100;

    #[test]
    fn appends_only_at_its_end_and_accepts_an_exact_repeat() {
        let mut trace = Trace::default();
        assert_eq!(trace.append(0, b"hello ", LIMIT), Append::Stored);
        assert_eq!(trace.append(6, b"world", LIMIT), Append::Stored);
        assert_eq!(trace.append(6, b"world", LIMIT), Append::Repeated { differs: false });
        assert_eq!(trace.append(6, b"WORLD", LIMIT), Append::Repeated { differs: true });
        assert_eq!(trace.append(5, b" ", LIMIT), Append::WrongOffset);
        assert_eq!(trace.append(12, b"!", LIMIT), Append::WrongOffset);
        assert_eq!(trace.append(99, b"!", LIMIT), Append::WrongOffset);
        assert_eq!(trace.append(u64::MAX, b"!", LIMIT), Append::TooLarge);
        assert_eq!(trace.append(11, &[b'!'; 90], LIMIT), Append::TooLarge);
        assert_eq!(trace.from(6), b"world");
        assert_eq!(trace.from(99), b"");
        assert!(trace.has(0, b"hello") && trace.has(6, b"world"));
        assert!(!trace.has(0, b"world") && !trace.has(6, b"worlds") && !trace.has(99, b"x"));
        assert_eq!(trace.len(), 11);
        trace.clear();
        assert_eq!((trace.len(), trace.checksum().as_str()), (0, "crc32:00000000"));
    }

    #[test]
    fn checksum_is_the_protocols_test_vector() {
        let mut trace = Trace::default();
        assert_eq!(trace.checksum(), "crc32:00000000");
        trace.append(0, b"12345", LIMIT);
        trace.append(5, b"6789", LIMIT);
        assert_eq!(trace.checksum(), "crc32:cbf43926");
    }
}
