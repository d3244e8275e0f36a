//! What a process and its children write, in pieces.

use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::limits::OUTPUT_CHUNK;

/// Standard output and error in one pipe, as long as anybody may write to it.
#[derive(Debug)]
pub(crate) struct Output(Option<pipe::Receiver>);

impl Output {
    /// What comes out of a pipe.
    pub(crate) fn of(reader: PipeReader) -> io::Result<Self> {
        Ok(Self(Some(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?)))
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// For somebody else. Nothing more comes here.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// The next piece; nothing at the end. Safe to be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::with_capacity(OUTPUT_CHUNK);
        match self.0.as_mut()?.read_buf(&mut piece).await {
            Ok(count) if count > 0 => Some(piece.freeze()),
            _ => {
                self.0 = None;
                None
            }
        }
    }

    /// A piece of what is there now, as long as so many bytes are `owed`; what else is there may be
    /// of others, who never stop.
    pub(crate) fn owed(&mut self, owed: &mut usize) -> Option<Bytes> {
        let pipe = self.0.as_ref().filter(|_| *owed > 0)?;
        let mut piece = BytesMut::with_capacity(OUTPUT_CHUNK);
        match pipe.try_read_buf(&mut piece) {
            Ok(0) => self.0 = None,
            Ok(count) => {
                *owed = owed.saturating_sub(count);
                return Some(piece.freeze());
            }
            Err(_) => *owed = 0,
        }
        None
    }
}
