//! The end of all streams: counts and sums what is emitted, and stops at the limit with a notice
//! (GitLab Runner 19.4, `helpers/trace/buffer.go`). Nothing reaches a trace except through here, so
//! offset and checksum are always those of the bytes emitted.

use crc32fast::Hasher;
use gantry_core::limits::DEFAULT_OUTPUT_LIMIT;

use crate::stamping::char_boundary;

/// What the runner's own lines may use beyond the limit: enough for the markers and titles of the
/// remaining stages and for the one sentence that says how the job ended. GitLab Runner 19.4 drops
/// them, and with them the reason of a failure.
pub(crate) const RUNNER_ALLOWANCE: u64 = 16 * 1024;

/// Count, sum and limit of one trace.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: u64,
    len: u64,
    crc: Hasher,
    /// What is left of [`RUNNER_ALLOWANCE`], once the limit is reached.
    truncated: Option<u64>,
    closed: bool,
}

impl Ledger {
    /// An empty trace that may hold `limit` bytes; 0 means the default.
    pub(crate) fn new(limit: u64) -> Self {
        let limit = if limit == 0 { DEFAULT_OUTPUT_LIMIT } else { limit };
        Self { limit, len: 0, crc: Hasher::new(), truncated: None, closed: false }
    }

    /// Takes bytes that already stand in the trace. They are never cut: they may have been sent.
    pub(crate) fn head(&mut self, head: &str, out: &mut Vec<u8>) {
        self.put(head.as_bytes(), out);
        if self.len >= self.limit && !head.is_empty() {
            self.truncate(out);
        }
    }

    /// Appends valid UTF-8, as far as the limit allows.
    pub(crate) fn append(&mut self, runner: bool, bytes: &[u8], out: &mut Vec<u8>) {
        if self.closed || bytes.is_empty() {
            return;
        }
        let size = bytes.len() as u64;
        if let Some(left) = &mut self.truncated {
            if runner && size <= *left {
                *left -= size;
                self.put(bytes, out);
            }
            return;
        }
        let room = self.limit.saturating_sub(self.len);
        if size < room {
            return self.put(bytes, out);
        }
        let cut = char_boundary(bytes, usize::try_from(room).unwrap_or(usize::MAX));
        self.put(&bytes[..cut], out);
        self.truncate(out);
    }

    /// Whatever comes later is dropped.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Bytes emitted.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// CRC-32 (IEEE) of all bytes emitted.
    pub(crate) fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }

    fn truncate(&mut self, out: &mut Vec<u8>) {
        self.truncated = Some(RUNNER_ALLOWANCE);
        let notice = format!(
            "\n\x1b[33;1mJob's log exceeded limit of {} bytes.\nJob execution will continue but no more output will be \
             collected.\x1b[0;m\n",
            self.limit
        );
        self.put(notice.as_bytes(), out);
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.len += bytes.len() as u64;
        self.crc.update(bytes);
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, RUNNER_ALLOWANCE};

    fn notice(limit: u64) -> String {
        format!(
            "\n\x1b[33;1mJob's log exceeded limit of {limit} bytes.\nJob execution will continue but no more output will be collected.\
             \x1b[0;m\n"
        )
    }

    fn run(limit: u64, writes: &[(bool, &str)]) -> String {
        let (mut ledger, mut out) = (Ledger::new(limit), Vec::new());
        for (runner, text) in writes {
            ledger.append(*runner, text.as_bytes(), &mut out);
        }
        assert_eq!(ledger.len(), out.len() as u64);
        assert_eq!(ledger.crc32(), crc32fast::hash(&out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn stops_at_the_limit_and_says_so_once() {
        assert_eq!(run(5, &[(false, "1234")]), "1234");
        assert_eq!(run(5, &[(false, "12345"), (false, "x")]), format!("12345{}", notice(5)));
        assert_eq!(run(5, &[(false, "12"), (false, "345678"), (false, "9")]), format!("12345{}", notice(5)));
        assert_eq!(run(5, &[(false, "123ü€")]), format!("123ü{}", notice(5)));
        assert_eq!(run(5, &[(false, "1234€")]), format!("1234{}", notice(5)));
    }

    #[test]
    fn the_runner_has_the_last_word() {
        let shown = run(3, &[(false, "abcdef"), (true, "ERROR: why\n"), (false, "g"), (true, "end\n")]);
        assert_eq!(shown, format!("abc{}ERROR: why\nend\n", notice(3)));
        let much = "x".repeat(usize::try_from(RUNNER_ALLOWANCE).unwrap() + 1);
        assert_eq!(run(3, &[(false, "abcdef"), (true, &much)]), format!("abc{}", notice(3)));
    }

    #[test]
    fn sums_are_those_of_gitlab() {
        for (text, sum, size) in [
            ("", 0, 0),
            ("123456789", 0xcbf4_3926, 9),
            ("This is a basic log line", 0x367d_feeb, 24),
            ("Build trace with secret and multi-byte ü character", 0x0d7c_f601, 51),
        ] {
            let (mut ledger, mut out) = (Ledger::new(0), Vec::new());
            ledger.append(false, text.as_bytes(), &mut out);
            assert_eq!((ledger.crc32(), ledger.len()), (sum, size), "{text}");
        }
    }
}
