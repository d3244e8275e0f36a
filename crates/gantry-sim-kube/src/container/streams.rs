//! The standard streams of a command as the runtime's user reads and writes them: pipes, or one
//! terminal.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd},
    net::unix::pipe,
};

/// What a command reads. Dropping it is the end of its input, except on a terminal.
pub type Input = Pin<Box<dyn AsyncWrite + Send + Sync>>;

/// What a command writes. It ends when all processes that have it are gone.
pub type Output = Pin<Box<dyn AsyncRead + Send + Sync>>;

/// The runtime's side of the streams.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    /// Absent on a terminal, where errors are output.
    pub(super) stderr: Option<Output>,
    pub(super) terminal: Option<Terminal>,
}

impl Streams {
    /// Makes three pipes (or `/dev/null` for input). Returns the command's side, in the order of
    /// descriptors.
    pub(super) fn pipes(stdin: bool) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (input, theirs) = if stdin {
            let (theirs, ours): (PipeReader, PipeWriter) = io::pipe()?;
            let ours: Input = Box::pin(pipe::Sender::from_owned_fd(ours.into())?);
            (Some(ours), OwnedFd::from(theirs))
        } else {
            (None, std::fs::File::open("/dev/null")?.into())
        };
        let output = || -> io::Result<(Output, OwnedFd)> {
            let (ours, theirs) = io::pipe()?;
            Ok((Box::pin(pipe::Receiver::from_owned_fd(ours.into())?), theirs.into()))
        };
        let (stdout, their_stdout) = output()?;
        let (stderr, their_stderr) = output()?;
        let ours = Self { stdin: input, stdout: Some(stdout), stderr: Some(stderr), terminal: None };
        Ok((ours, vec![theirs, their_stdout, their_stderr]))
    }

    /// The streams of a terminal, given its controlling side.
    pub(super) fn terminal(controller: OwnedFd, stdin: bool) -> io::Result<Self> {
        let terminal = Terminal::new(controller)?;
        Ok(Self {
            stdin: if stdin { Some(Box::pin(terminal.clone())) } else { None },
            stdout: Some(Box::pin(terminal.clone())),
            stderr: None,
            terminal: Some(terminal),
        })
    }
}

/// The controlling side of a terminal.
#[derive(Clone, Debug)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, and this crate forbids that; what the successor asks for (a descriptor that \
                  stays open and the same) holds for an OwnedFd that is never replaced"
    )]
    fn new(controller: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&controller, true)?;
        Ok(Self(Arc::new(AsyncFd::new(controller)?)))
    }

    /// Tells the programs on the terminal its size in characters.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.get_ref(), size)?)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // So Linux says that no process has the terminal open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(done) = ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                return Poll::Ready(done);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
