//! Framing: four bytes of length (big endian, of kind and payload together), one byte of kind, the
//! payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gantry_core::limits::MAX_FRAME;

/// What cannot be a stream of frames.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// A length that no frame has; the other side speaks something else or is broken.
    #[error("a frame of {0} bytes, which is more than this stream may carry, or none at all")]
    Length(usize),
    /// A frame of a known kind whose payload does not parse.
    #[error("a {kind} frame that cannot be read: {problem}")]
    Payload {
        /// Name of the kind.
        kind: &'static str,
        /// What is wrong; never the payload itself, which may hold secrets.
        problem: String,
    },
}

/// Appends one frame to `out`.
pub fn put(out: &mut BytesMut, kind: u8, payload: &[&[u8]]) {
    let length = 1 + payload.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(4 + length);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_u8(kind);
    for part in payload {
        out.put_slice(part);
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct Cutter {
    buffer: BytesMut,
    /// Largest frame that is taken, in bytes.
    limit: usize,
}

impl Default for Cutter {
    fn default() -> Self {
        Self::limited(MAX_FRAME)
    }
}

impl Cutter {
    /// A cutter that takes no frame of more than `limit` bytes: for streams from somebody who is
    /// not trusted with our memory.
    pub fn limited(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame as kind and payload, if there is one.
    ///
    /// # Errors
    /// A length that no frame has. The stream is of no use after that.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Bytes)>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > self.limit {
            return Err(FrameError::Length(length));
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        let kind = self.buffer.get_u8();
        let payload = self.buffer.split_to(length - 1).freeze();
        if self.buffer.is_empty() {
            // Room of which the payload is a part: a stream that is silent for hours must not keep
            // what its largest frame took.
            self.buffer = BytesMut::new();
        }
        Ok(Some((kind, payload)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..8), cut in 1_usize..50) {
            let mut bytes = BytesMut::new();
            for (kind, payload) in &frames {
                put(&mut bytes, *kind, &[payload]);
            }
            let mut cutter = Cutter::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                cutter.push(part);
                while let Some((kind, payload)) = cutter.next_frame().unwrap() {
                    seen.push((kind, payload.to_vec()));
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut cutter = Cutter::default();
            cutter.push(&bytes);
            while let Ok(Some(_)) = cutter.next_frame() {}
        }
    }

    #[test]
    fn nothing_is_kept_between_frames() {
        let (mut bytes, mut cutter) = (BytesMut::new(), Cutter::default());
        put(&mut bytes, 1, &[&[0; 10_000]]);
        for part in bytes.chunks(1000) {
            cutter.push(part);
        }
        assert_eq!(cutter.next_frame().unwrap().unwrap().1.len(), 10_000);
        assert_eq!(cutter.buffer.capacity(), 0);
    }

    #[test]
    fn a_limited_cutter_refuses_what_others_take() {
        let mut bytes = BytesMut::new();
        put(&mut bytes, 1, &[&[0; 100]]);
        let mut cutter = Cutter::limited(100);
        cutter.push(&bytes);
        assert_eq!(cutter.next_frame(), Err(FrameError::Length(101)));
    }

    #[test]
    fn absurd_lengths_are_refused() {
        let mut cutter = Cutter::default();
        cutter.push(&[0xff; 4]);
        assert_eq!(cutter.next_frame(), Err(FrameError::Length(0xffff_ffff)));
    }
}
