//! An archive as a stream: it is packed on other threads while it is sent, and never lies on the
//! disk.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use gantry_gitlab::{ByteStream, TransportError, TransportFault};
use tokio::sync::mpsc;

use super::pack::{PackError, Style, pack};
use super::root::Root;
use crate::limits::{ARCHIVE_PIECE, ARCHIVE_PIECES};
use crate::tasks;

/// What is packed, as often as it is sent.
pub(super) struct Packing {
    shared: Arc<Shared>,
}

struct Shared {
    style: Style,
    root: Arc<Root>,
    paths: Arc<BTreeSet<PathBuf>>,
    failure: mpsc::Sender<PackError>,
}

impl Packing {
    /// Also gives where it is said that a file cannot be packed.
    pub(super) fn new(
        style: Style,
        root: impl Into<Arc<Root>>,
        paths: impl Into<Arc<BTreeSet<PathBuf>>>,
    ) -> (Self, mpsc::Receiver<PackError>) {
        let (failure, failures) = mpsc::channel(1);
        (Self { shared: Arc::new(Shared { style, root: root.into(), paths: paths.into(), failure }) }, failures)
    }

    /// The archive from its beginning. Dropping the stream ends the packing. A failure is told
    /// before the stream breaks.
    pub(super) fn stream(&self) -> ByteStream {
        let shared = Arc::clone(&self.shared);
        let failure = self.shared.failure.clone();
        written(move |out| pack(shared.style, &shared.root, &shared.paths, out), failure)
    }
}

/// What `write` writes on another thread, as a stream. Dropping that ends the writing. A failure is
/// told before the stream breaks.
pub(super) fn written(
    write: impl FnOnce(&mut Pieces) -> Result<(), PackError> + Send + 'static,
    failure: mpsc::Sender<PackError>,
) -> ByteStream {
    let (pieces, receiver) = mpsc::channel(ARCHIVE_PIECES);
    let work = move || {
        let mut out = Pieces { buffer: BytesMut::with_capacity(ARCHIVE_PIECE), pieces };
        let done = write(&mut out).and_then(|()| out.flush().map_err(PackError::Out));
        // Whoever does not take the archive any more knows why.
        if let Err(error) = done
            && !matches!(error, PackError::Out(_))
        {
            let words = error.to_string();
            let _ = failure.try_send(error);
            let _ = out.pieces.blocking_send(Err(TransportError::new(TransportFault::Request, words)));
        }
    };
    tasks::detach(async move {
        let _ = tasks::blocking(work).await;
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }))
}

/// Gathers what is written into pieces of a size that is worth sending.
pub(super) struct Pieces {
    buffer: BytesMut,
    pieces: mpsc::Sender<Result<Bytes, TransportError>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A buffer that grows is copied.
        if self.buffer.len() + bytes.len() > ARCHIVE_PIECE {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= ARCHIVE_PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(ARCHIVE_PIECE)).freeze();
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
