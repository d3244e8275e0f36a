//! The shim's side of its connection to the agent.

use bytes::BytesMut;
use gantry_wire::codec::FrameError;
use gantry_wire::shim::{Ended, ShimFrame, ShimFrameReader};
use gantry_wire::usage::Usage;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::limits::OUTPUT_CHUNK;
use crate::ports::Exit;

/// Why the connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("the agent is gone")]
    Closed,
    #[error("the agent cannot be reached")]
    Broken(#[from] std::io::Error),
    #[error("the agent sent something that is no message")]
    Frame(#[from] FrameError),
    #[error("the agent wanted two scripts at once")]
    TwoScripts,
}

/// A connection to the agent.
pub(super) struct Connection<C> {
    stream: C,
    reader: ShimFrameReader,
    buffer: BytesMut,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Connection<C> {
    pub(super) fn new(stream: C) -> Self {
        Self { stream, reader: ShimFrameReader::default(), buffer: BytesMut::new() }
    }

    /// Sends `frame`; waits while the agent is busy, which is what slows down a script that floods.
    pub(super) async fn send(&mut self, frame: &ShimFrame) -> Result<(), ConnectionError> {
        Ok(self.stream.write_all(&frame.to_bytes()).await?)
    }

    /// The next frame. Safe to be dropped and called again.
    pub(super) async fn receive(&mut self) -> Result<ShimFrame, ConnectionError> {
        loop {
            if let Some(frame) = self.reader.next_frame()? {
                return Ok(frame);
            }
            self.buffer.reserve(OUTPUT_CHUNK);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ConnectionError::Closed);
            }
            self.reader.push(&self.buffer);
            self.buffer.clear();
        }
    }
}

/// Says how a script ended.
pub(super) fn ended(exit: Exit, oom_kills: u64, usage: Option<Usage>) -> ShimFrame {
    ShimFrame::Ended(Ended { exit_code: exit.code, signal: exit.signal, oom_kills, start_failure: None, usage })
}

/// Says that a script could not be started.
pub(super) fn not_started(problem: String) -> ShimFrame {
    ShimFrame::Ended(Ended { exit_code: 127, signal: None, oom_kills: 0, start_failure: Some(problem), usage: None })
}
