//! Length and checksum of everything that has entered a relay: what the end of a job needs that no
//! agent has closed.

/// Everything from the first byte on, without a gap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Sum {
    /// Counts what is new of `bytes` at `offset`; what was counted before is skipped, what lies
    /// beyond a gap too.
    pub(crate) fn count(&mut self, offset: u64, bytes: &[u8]) {
        let Some(known) = self.bytes.checked_sub(offset) else { return };
        let Some(new) = usize::try_from(known).ok().and_then(|known| bytes.get(known..)) else { return };
        self.crc.update(new);
        self.bytes += new.len() as u64;
    }

    /// Bytes counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC-32 (IEEE) of them.
    pub(crate) fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_count_once_and_gaps_not_at_all() {
        let mut sum = Sum::default();
        sum.count(0, b"1234");
        sum.count(2, b"3456");
        sum.count(0, b"12");
        sum.count(7, b"lost");
        sum.count(6, b"789");
        assert_eq!((sum.bytes(), sum.crc32()), (9, 0xcbf4_3926));
    }
}
