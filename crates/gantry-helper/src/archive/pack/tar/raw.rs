//! A frame of zstd whose bytes are as they were (RFC 8878): for what nothing makes smaller, and of
//! a length that is known before anything is read. Every reader of zstd reads it.

use std::hash::Hasher as _;
use std::io::{self, Write};

use twox_hash::XxHash64;

/// A block: with what stands before it, the most that the format takes (128 KiB), so that two of
/// them are a piece that is worth sending.
const BLOCK: usize = 128 * 1024 - BLOCK_HEAD;

/// What a frame begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The length of the content in eight bytes, no single segment, a checksum.
const DESCRIPTOR: u8 = 0b1100_0100;

/// A window of a block: 2^(10 + 7) bytes.
const WINDOW: u8 = 7 << 3;

/// What stands before the blocks, before each of them, and behind them.
const FRAME_HEAD: u64 = 4 + 1 + 1 + 8;
const BLOCK_HEAD: usize = 3;
const CHECKSUM: u64 = 4;

/// The length of a frame with so much content.
pub(super) fn length(content: u64) -> u64 {
    let around = FRAME_HEAD + content.div_ceil(BLOCK as u64) * BLOCK_HEAD as u64 + CHECKSUM;
    content.saturating_add(around)
}

/// A frame that is written.
pub(super) struct Frame<'a, W: Write> {
    out: &'a mut W,
    /// A block with what stands before it.
    block: Vec<u8>,
    /// How much of that there is.
    filled: usize,
    /// Content that is in no block yet.
    left: u64,
    checksum: XxHash64,
}

impl<'a, W: Write> Frame<'a, W> {
    /// Begins a frame of exactly so much content, which is not nothing.
    pub(super) fn begin(out: &'a mut W, content: u64) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&[DESCRIPTOR, WINDOW])?;
        out.write_all(&content.to_le_bytes())?;
        let block = vec![0; BLOCK_HEAD + BLOCK];
        Ok(Self { out, block, filled: BLOCK_HEAD, left: content, checksum: XxHash64::with_seed(0) })
    }

    /// Where content goes next. Nothing is room for more than the frame holds.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let end = self.filled.saturating_add(left).min(self.block.len());
        self.block.get_mut(self.filled..end).unwrap_or_default()
    }

    /// So much has been put there.
    pub(super) fn advance(&mut self, count: usize) -> io::Result<()> {
        self.filled += count;
        self.left = self.left.saturating_sub(count as u64);
        let is_last = self.left == 0;
        if self.filled < self.block.len() && !is_last {
            return Ok(());
        }
        let length = u32::try_from(self.filled - BLOCK_HEAD).unwrap_or_default();
        let head = (length << 3) | u32::from(is_last);
        for (place, byte) in self.block.iter_mut().zip(head.to_le_bytes().into_iter().take(BLOCK_HEAD)) {
            *place = byte;
        }
        let block = self.block.get(..self.filled).unwrap_or_default();
        self.checksum.write(block.get(BLOCK_HEAD..).unwrap_or_default());
        self.out.write_all(block)?;
        self.filled = BLOCK_HEAD;
        Ok(())
    }

    /// Puts these bytes there.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            if count == 0 {
                return Err(io::Error::other("there is more content than was said"));
            }
            let (now, later) = bytes.split_at(count);
            room.iter_mut().zip(now).for_each(|(place, byte)| *place = *byte);
            bytes = later;
            self.advance(count)?;
        }
        Ok(())
    }

    pub(super) fn end(self) -> io::Result<()> {
        let checksum = self.checksum.finish().to_le_bytes();
        self.out.write_all(checksum.get(..4).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_reads_it() {
        for length in [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7] {
            let content: Vec<u8> = (0..length).map(|number| u8::try_from(number % 251).unwrap()).collect();
            let mut out = Vec::new();
            let mut frame = Frame::begin(&mut out, length as u64).unwrap();
            for piece in content.chunks(100_001) {
                frame.put(piece).unwrap();
            }
            assert!(frame.room().is_empty() && frame.put(b"x").is_err());
            frame.end().unwrap();
            assert_eq!(out.len() as u64, super::length(length as u64));
            assert!(zstd::decode_all(out.as_slice()).unwrap() == content, "{length}");
            // The checksum is looked at.
            *out.last_mut().unwrap() ^= 1;
            assert!(zstd::decode_all(out.as_slice()).is_err());
        }
    }
}
