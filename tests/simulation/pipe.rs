//! A connection that can be cut or stalled at any moment: what a network does to a stream that
//! somebody holds for an hour.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Both are worse than 0, which is whole.
const STALLED: u8 = 1;
const CUT: u8 = 2;

/// Decides about one connection.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    state: AtomicU8,
    reader: AtomicWaker,
}

impl Switch {
    /// Both sides see a broken connection.
    pub(crate) fn cut(&self) {
        self.set(CUT);
    }

    /// Nothing arrives any more, and nobody is told.
    pub(crate) fn stall(&self) {
        self.set(STALLED);
    }

    fn set(&self, state: u8) {
        self.state.fetch_max(state, Ordering::Relaxed);
        self.reader.wake();
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }
}

/// The client's end of a connection in memory.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Gone once the connection is cut, which is how the server notices.
    stream: Option<DuplexStream>,
    switch: Arc<Switch>,
}

impl Pipe {
    pub(crate) fn new(stream: DuplexStream, switch: Arc<Switch>) -> Self {
        Self { stream: Some(stream), switch }
    }

    /// The stream, if bytes may pass.
    fn open(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        if self.switch.state() == CUT {
            self.stream = None;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.switch.reader.register(cx.waker());
        if self.switch.state() == STALLED {
            return Poll::Pending;
        }
        self.open()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.switch.state() == STALLED {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.open()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.switch.state() == STALLED {
            return Poll::Ready(Ok(()));
        }
        self.open()?.poll_shutdown(cx)
    }
}
