//! The part of a trace that GitLab has not confirmed, kept byte for byte until it has. Never holds
//! a gap.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::limits;

/// Consecutive bytes of a trace, from `base` on.
#[derive(Debug, Default)]
pub(crate) struct Window {
    base: u64,
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Window {
    /// Nothing, from `base` on.
    pub(crate) fn at(base: u64) -> Self {
        Self { base, ..Self::default() }
    }

    /// Place of the first byte held; GitLab has everything before.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Place behind the last byte held.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.length as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the part of `bytes` (placed at `offset`) that is new. False, and nothing taken, if
    /// there is a gap before it.
    pub(crate) fn push(&mut self, offset: u64, mut bytes: Bytes) -> bool {
        let Some(known) = self.end().checked_sub(offset) else { return false };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if known < bytes.len() {
            bytes.advance(known);
            self.append(bytes);
        }
        true
    }

    /// Takes `bytes` behind everything held. Small pieces are joined, so that a log of single
    /// characters costs no more than its bytes.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        match self.pieces.back_mut() {
            _ if bytes.is_empty() => {}
            Some(last) if last.len() + bytes.len() <= limits::JOINED_PIECES => {
                *last = [last.as_ref(), bytes.as_ref()].concat().into();
            }
            _ => self.pieces.push_back(bytes),
        }
    }

    /// Forgets everything before `place`, which must not lie beyond the end.
    pub(crate) fn forget_until(&mut self, place: u64) {
        while self.base < place {
            let Some(piece) = self.pieces.front_mut() else { return };
            let part = usize::try_from(place - self.base).map_or(piece.len(), |rest| rest.min(piece.len()));
            piece.advance(part);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.base += part as u64;
            self.length -= part;
        }
    }

    /// The same bytes, placed elsewhere.
    pub(crate) fn move_to(&mut self, base: u64) {
        self.base = base;
    }

    /// Up to `most` bytes from the base on. Copies only where several pieces are joined.
    pub(crate) fn slice(&self, most: usize) -> Bytes {
        let wanted = self.length.min(most);
        match self.pieces.front() {
            Some(first) if first.len() >= wanted => first.slice(..wanted),
            _ => {
                let mut joined = BytesMut::with_capacity(wanted);
                for piece in &self.pieces {
                    let part = piece.len().min(wanted - joined.len());
                    joined.extend_from_slice(&piece.slice(..part));
                }
                joined.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(window: &Window, most: usize) -> String {
        String::from_utf8(window.slice(most).to_vec()).unwrap()
    }

    #[test]
    fn keeps_what_is_not_confirmed() {
        let mut window = Window::at(10);
        assert!(window.push(10, Bytes::from_static(b"abc")));
        assert!(window.push(11, Bytes::from_static(b"bcdef")), "an overlap");
        assert!(window.push(10, Bytes::from_static(b"ab")), "a duplicate");
        assert!(window.push(3, Bytes::from_static(b"x")), "long confirmed");
        assert!(!window.push(17, Bytes::from_static(b"x")), "a gap");
        assert_eq!((window.base(), window.end(), text(&window, 99).as_str()), (10, 16, "abcdef"));
        assert_eq!((text(&window, 2), text(&window, 4)), ("ab".into(), "abcd".into()));
        window.forget_until(14);
        assert_eq!((window.base(), window.len(), text(&window, 99).as_str()), (14, 2, "ef"));
        window.forget_until(16);
        assert!(window.is_empty() && window.pieces.is_empty());
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_are_not_copied() {
        let mut window = Window::at(0);
        for _ in 0..10_000 {
            window.append(Bytes::from_static(b"x"));
        }
        assert!(window.pieces.len() <= 2 * 10_000 / limits::JOINED_PIECES + 1, "{}", window.pieces.len());
        let large = Bytes::from(vec![b'y'; 2 * limits::JOINED_PIECES]);
        window.forget_until(10_000);
        window.append(large.clone());
        assert_eq!(window.slice(usize::MAX).as_ptr(), large.as_ptr());
        window.append(Bytes::from_static(b"z"));
        assert_eq!(window.slice(usize::MAX).len(), large.len() + 1);
    }
}
