//! The byte stream of one exec, straight over its WebSocket: no task and no buffer between, so that
//! dropping it closes the connection at once and reading and writing cannot block each other.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;

use super::websocket::{WebSocket, binary};
use crate::{error::shorten, limits};

// First byte of each message, and of what it closes (Kubernetes remote command protocol, v4 and
// v5).
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;

/// How an exec ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// The process ended with this code.
    Exited(i32),
    /// The process could not be run, or the kubelet lost it; its words.
    Failed(String),
    /// The connection ended without a word about the process.
    Broken(String),
}

impl std::fmt::Display for ExecEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "the command ended with exit code {code}"),
            Self::Failed(message) => write!(f, "the command could not be run: {message}"),
            Self::Broken(message) => write!(f, "the connection broke: {message}"),
        }
    }
}

/// What is known of an exec beside its output. Stays usable after the stream is split or dropped.
/// It explains; it never proves how a job ended, because an exec in a killed container ends with
/// 137 like any other.
#[derive(Clone, Debug, Default)]
pub struct ExecOutcome {
    inner: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    end: Option<ExecEnd>,
    stderr: Vec<u8>,
}

impl ExecOutcome {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended; `None` while it runs, as far as the reader of the stream has read.
    pub fn end(&self) -> Option<ExecEnd> {
        self.lock().end.clone()
    }

    /// The first [`limits::STDERR`] bytes of standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.lock().stderr).trim().to_owned()
    }

    /// Both, in one line for an error text.
    pub(crate) fn explain(&self) -> String {
        let end = self.end().map_or_else(|| "the command said nothing".to_owned(), |end| end.to_string());
        let stderr = self.stderr();
        if stderr.is_empty() { end } else { format!("{end}: {stderr}") }
    }

    fn set_end(&self, end: ExecEnd) {
        self.lock().end.get_or_insert(end);
    }

    fn add_stderr(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        let room = limits::STDERR.saturating_sub(inner.stderr.len());
        inner.stderr.extend(bytes.iter().take(room));
    }
}

/// Standard input and output of the exec'd bridge. Flush after each frame: like any writer it may
/// hold bytes back until then. Reading ends with EOF when the process has ended;
/// [`AgentStream::outcome`] then says how. Dropping it closes the connection.
pub struct AgentStream {
    socket: WebSocket<TokioIo<hyper::upgrade::Upgraded>>,
    /// Of standard output, received and not yet read.
    unread: Bytes,
    ended: bool,
    /// Protocol v5: standard input can be closed alone.
    half_close: bool,
    stdin_closed: bool,
    outcome: ExecOutcome,
}

impl AgentStream {
    pub(crate) fn new(connection: kube::client::Connection) -> Self {
        let half_close = connection.supports_stream_close();
        Self {
            // Nothing has been read yet, so that nothing is lost with the library's own buffers.
            socket: WebSocket::new(connection.into_stream().into_inner()),
            unread: Bytes::new(),
            ended: false,
            half_close,
            stdin_closed: false,
            outcome: ExecOutcome::default(),
        }
    }

    /// What is known beside the output; keep it before the stream is split.
    pub fn outcome(&self) -> ExecOutcome {
        self.outcome.clone()
    }

    /// Takes in one message of the server.
    fn take(&mut self, mut message: Bytes) {
        if message.len() < 2 {
            // The server opens every channel with an empty message.
            return;
        }
        match message.get_u8() {
            STDOUT => self.unread = message,
            STDERR => self.outcome.add_stderr(&message),
            STATUS => {
                self.outcome.set_end(read_status(&message));
                self.ended = true;
            }
            _ => {}
        }
    }

    fn broken(&mut self, error: &dyn std::fmt::Display) -> io::Error {
        self.ended = true;
        let message = shorten(&error.to_string(), limits::MESSAGE);
        self.outcome.set_end(ExecEnd::Broken(message.clone()));
        io::Error::new(io::ErrorKind::ConnectionReset, message)
    }
}

/// The last message: success, or why not (Kubernetes API: reason `NonZeroExitCode` with a cause
/// `ExitCode`).
fn read_status(bytes: &[u8]) -> ExecEnd {
    let status: Status = match serde_json::from_slice(bytes) {
        Ok(status) => status,
        Err(error) => return ExecEnd::Failed(format!("its status cannot be understood: {error}")),
    };
    if status.status.as_deref() == Some("Success") {
        return ExecEnd::Exited(0);
    }
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_deref()?.parse().ok());
    match code {
        Some(code) => ExecEnd::Exited(code),
        None => ExecEnd::Failed(shorten(&status.message.or(status.reason).unwrap_or_default(), limits::MESSAGE)),
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.unread.is_empty() && !this.ended {
            match ready!(this.socket.poll_message(context)) {
                Some(Ok(message)) => this.take(message),
                Some(Err(error)) => return Poll::Ready(Err(this.broken(&error))),
                None => {
                    this.ended = true;
                    this.outcome.set_end(ExecEnd::Broken("it was closed before the command had ended".to_owned()));
                }
            }
        }
        let length = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.stdin_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let chunk = bytes.get(..bytes.len().min(limits::STDIN_MESSAGE)).unwrap_or_default();
        match ready!(this.socket.poll_send(context, || binary([&[STDIN], chunk].concat()))) {
            Ok(()) => Poll::Ready(Ok(chunk.len())),
            Err(error) => Poll::Ready(Err(this.broken(&error))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.socket.poll_flush(context).map_err(|error| this.broken(&error))
    }

    /// Ends standard input. Before v5 of the protocol that cannot be said without ending the whole
    /// connection.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.stdin_closed {
            let end = if this.half_close { binary(vec![CLOSE, STDIN]) } else { Frame::close(None) };
            if let Err(error) = ready!(this.socket.poll_send(context, || end)) {
                return Poll::Ready(Err(this.broken(&error)));
            }
            this.stdin_closed = true;
        }
        self.poll_flush(context)
    }
}

impl std::fmt::Debug for AgentStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}
