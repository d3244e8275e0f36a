//! The agent's two sockets as pipes in memory: managers come in through an exec, the shim from the
//! build container.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use gantry_helper::ports::{Accepted, Listener, User};
use tokio::io::{AsyncWrite, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

/// A manager's connection.
#[derive(Debug)]
pub(crate) struct FromManager {
    pub(crate) stdin: BufReader<DuplexStream>,
    pub(crate) stdout: DuplexStream,
    /// Dropped with the rest: the exec ends then.
    pub(crate) left: oneshot::Sender<()>,
}

/// Where managers come in.
pub(crate) struct ManagerPipes(pub(crate) mpsc::Receiver<FromManager>);

/// The writing side of a manager's connection, and what ends the exec.
pub(crate) struct ToManager {
    stdout: DuplexStream,
    _left: oneshot::Sender<()>,
}

impl Listener for ManagerPipes {
    type Read = BufReader<DuplexStream>;
    type Write = ToManager;

    async fn accept(&mut self) -> io::Result<Accepted<Self::Read, ToManager>> {
        match self.0.recv().await {
            Some(FromManager { stdin, stdout, left }) => {
                Ok(Accepted { read: stdin, write: ToManager { stdout, _left: left }, user: None })
            }
            None => std::future::pending().await,
        }
    }
}

impl AsyncWrite for ToManager {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdout).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_shutdown(cx)
    }
}

/// Where the shim comes in.
pub(crate) struct ShimPipes(pub(crate) mpsc::Receiver<DuplexStream>);

impl Listener for ShimPipes {
    type Read = ReadHalf<DuplexStream>;
    type Write = WriteHalf<DuplexStream>;

    async fn accept(&mut self) -> io::Result<Accepted<Self::Read, Self::Write>> {
        match self.0.recv().await {
            Some(stream) => {
                let (read, write) = tokio::io::split(stream);
                Ok(Accepted { read, write, user: Some(User { uid: 0, gid: 0 }) })
            }
            None => std::future::pending().await,
        }
    }
}
