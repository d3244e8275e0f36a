//! What the engine shows to relays: its state, and how much of the trace can be read where.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use gantry_core::limits::TRACE_CHUNK;
use gantry_wire::frame::State;
use tokio::sync::watch;

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// How far the job is.
    pub(crate) state: State,
    /// GitLab knows that the job runs: it must be told how it ends.
    pub(crate) started: bool,
    /// The cluster is ending the pod.
    pub(crate) disrupted: bool,
    /// Bytes of the trace that are in its file.
    pub(crate) in_file: u64,
    /// The bytes after those, which could not be written; usually none.
    pub(crate) in_memory: Bytes,
}

impl Published {
    /// Bytes of the trace altogether.
    pub(crate) fn trace_bytes(&self) -> u64 {
        self.in_file + self.in_memory.len() as u64
    }

    /// Whether a manager should be told: the length alone grows all the time and is seen from the trace itself.
    pub(crate) fn differs(&self, other: &State) -> bool {
        let own = &self.state;
        own.phase != other.phase || own.stage != other.stage || own.shim != other.shim || own.closed != other.closed
    }
}

/// Reads the trace, wherever it is, at the reader's own pace.
pub(crate) struct TraceReader {
    path: PathBuf,
    file: Option<File>,
    published: watch::Receiver<Published>,
}

impl TraceReader {
    pub(crate) fn new(path: PathBuf, published: watch::Receiver<Published>) -> Self {
        Self { path, file: None, published }
    }

    /// The bytes at `offset`, as many as are there and fit into one piece; nothing if the trace does not reach that far yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn piece(&mut self, offset: u64) -> io::Result<Option<Bytes>> {
        let published = self.published.borrow();
        if offset >= published.trace_bytes() {
            return Ok(None);
        }
        if let Some(at) = offset.checked_sub(published.in_file) {
            let at = usize::try_from(at).map_err(io::Error::other)?;
            let end = published.in_memory.len().min(at + TRACE_CHUNK);
            return Ok(Some(published.in_memory.slice(at..end)));
        }
        let wanted = usize::try_from(published.in_file - offset).unwrap_or(TRACE_CHUNK).min(TRACE_CHUNK);
        drop(published);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        let mut bytes = vec![0; wanted];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(Some(bytes.into()))
    }
}
