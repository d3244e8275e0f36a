//! The first process of a container as `attach` sees it: what it writes goes to the log and to
//! everybody who is attached, and they share its input. A client that does not read stops the
//! container, as with a real runtime.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::stream;
use tokio::{io::AsyncWrite, sync::mpsc};
use tokio_util::io::StreamReader;

use crate::container::{Container, Input, Output};

/// Pieces of output that wait for one client; then the container waits, as it would for a full
/// pipe.
const OUTBOX: usize = 8;

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// Who listens to one stream of a container.
#[derive(Debug, Default)]
pub(crate) struct Taps(Mutex<Vec<Sender>>);

impl Taps {
    fn lock(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) -> Output {
        let (sender, mut receiver) = mpsc::channel(OUTBOX);
        self.lock().push(sender);
        Box::pin(StreamReader::new(stream::poll_fn(move |cx| receiver.poll_recv(cx))))
    }

    /// Gives a piece to everybody who listens.
    pub(crate) async fn pass(&self, piece: &[u8]) {
        let listeners: Vec<Sender> = self.lock().clone();
        if listeners.is_empty() {
            return;
        }
        let piece = Bytes::copy_from_slice(piece);
        for listener in &listeners {
            let _ = listener.send(Ok(piece.clone())).await;
        }
        self.lock().retain(|listener| !listener.is_closed());
    }

    /// There will be no more output.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }
}

/// The streams of one run of a container.
pub(crate) struct Console {
    pub(crate) container: Container,
    pub(crate) stdout: Taps,
    pub(crate) stderr: Taps,
    stdin: Arc<Mutex<Option<Input>>>,
    /// The input ends with the first client that closes it.
    once: bool,
    tty: bool,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("container", &self.container).finish_non_exhaustive()
    }
}

/// The streams of one client.
pub(crate) struct Attachment {
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Option<Output>,
}

impl Console {
    /// Standard input stays open as long as the container runs: a shell that reads from it must not
    /// see its end.
    pub(crate) fn new(container: Container, (once, tty): (bool, bool)) -> Self {
        let stdin = Arc::new(Mutex::new(container.take_stdin()));
        Self { container, stdout: Taps::default(), stderr: Taps::default(), stdin, once, tty }
    }

    /// The streams for one more client. With a terminal there is no separate error stream.
    pub(crate) fn attach(&self) -> Attachment {
        let stdin = {
            let open = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            open.then(|| Box::pin(Shared { stdin: Arc::clone(&self.stdin), once: self.once }) as Input)
        };
        Attachment { stdin, stdout: self.stdout.add(), stderr: (!self.tty).then(|| self.stderr.add()) }
    }

    /// The container has ended.
    pub(crate) fn close(&self) {
        self.stdout.close();
        self.stderr.close();
        drop(self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// One client's share of a container's input.
struct Shared {
    stdin: Arc<Mutex<Option<Input>>>,
    once: bool,
}

impl Shared {
    fn with<T>(
        &self,
        act: impl FnOnce(Pin<&mut (dyn AsyncWrite + Send + Sync)>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.stdin.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(stdin) => act(stdin.as_mut()),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stdin| stdin.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stdin| stdin.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.once {
            drop(self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn everybody_who_listens_hears_all_of_it() {
        let taps = Taps::default();
        taps.pass(b"before").await;
        let (mut one, mut other) = (taps.add(), taps.add());
        taps.pass(b"a").await;
        drop(taps.add());
        taps.pass(b"b").await;
        taps.close();
        let (mut first, mut second) = (String::new(), String::new());
        one.read_to_string(&mut first).await.unwrap();
        other.read_to_string(&mut second).await.unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("ab", "ab"));
    }
}
