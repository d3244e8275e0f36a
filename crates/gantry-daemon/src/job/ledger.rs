//! How much of a job's trace this manager has passed on, and its checksum: what a verdict of the manager's own needs.

use bytes::Bytes;

/// Everything from the first byte on, without a gap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Ledger {
    /// Counts what is new of `bytes` at `offset`; what was counted before is skipped, what lies beyond a gap too.
    pub(crate) fn count(&mut self, offset: u64, bytes: &[u8]) {
        let Some(known) = self.bytes.checked_sub(offset) else { return };
        let Some(new) = usize::try_from(known).ok().and_then(|known| bytes.get(known..)) else { return };
        self.crc.update(new);
        self.bytes += new.len() as u64;
    }

    /// Bytes passed on.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC-32 (IEEE) of them.
    pub(crate) fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }
}

/// The part of `text` from `offset` on.
pub(crate) fn rest(text: &str, offset: u64) -> Bytes {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    Bytes::copy_from_slice(&text.as_bytes()[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_count_once_and_gaps_not_at_all() {
        let mut ledger = Ledger::default();
        ledger.count(0, b"1234");
        ledger.count(2, b"3456");
        ledger.count(0, b"12");
        ledger.count(7, b"lost");
        ledger.count(6, b"789");
        assert_eq!((ledger.bytes(), ledger.crc32()), (9, 0xcbf4_3926));
    }
}
