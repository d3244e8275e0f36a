//! What the engine shows to relays: its state, and how much of the trace can be read where.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

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
    /// GitLab has canceled the job.
    pub(crate) canceled: bool,
    /// A manager has seen all services started.
    pub(crate) services_started: bool,
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

    /// Whether a manager should be told: the length alone grows all the time and is seen from the
    /// trace itself.
    pub(crate) fn differs(&self, other: &State) -> bool {
        let own = &self.state;
        let is_further = own.phase != other.phase || own.stage != other.stage || own.shim != other.shim;
        let is_worse = own.silent_services != other.silent_services;
        is_further || is_worse || own.closed != other.closed || own.reported != other.reported
    }
}

/// The file of the trace: made once, by its writer, and shared with all readers.
#[derive(Clone, Debug)]
pub struct TraceFile {
    path: PathBuf,
    has_name: bool,
    open: Arc<OnceLock<File>>,
}

impl TraceFile {
    /// A file that loses its name as soon as it is open. Hooks and git's own programs run in the
    /// same container, as the same user: what has no name they cannot open, cut or overwrite.
    pub fn nameless(path: PathBuf) -> Self {
        Self { path, has_name: false, open: Arc::default() }
    }

    /// A file that keeps its name, for whoever looks at it afterwards.
    pub fn named(path: PathBuf) -> Self {
        Self { path, has_name: true, open: Arc::default() }
    }

    /// Makes the file, empty, and opens it for appending.
    pub(crate) fn create(&self) -> io::Result<File> {
        let file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(&self.path)?;
        // Offsets count from the first byte of this trace. What cannot be cut was empty.
        let _ = file.set_len(0);
        if !self.has_name {
            // What cannot be removed is no worse than a name, and what happens to it is noticed.
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.open.set(file.try_clone()?);
        Ok(file)
    }
}

/// Stands for bytes of the trace that somebody has cut off or that cannot be read. Whoever waits
/// for them must not wait for ever.
const LOST: u8 = b' ';

/// Reads the trace, wherever it is, at the reader's own pace.
pub(crate) struct TraceReader {
    file: TraceFile,
    published: watch::Receiver<Published>,
}

impl TraceReader {
    pub(crate) fn new(file: TraceFile, published: watch::Receiver<Published>) -> Self {
        Self { file, published }
    }

    /// The bytes at `offset`, as many as are there and fit into one piece; nothing if the trace
    /// does not reach that far yet. What was cut off the file is replaced by blanks.
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
        let file = self.file.open.get().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![LOST; wanted];
        match file.read_exact_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let there = usize::try_from(file.metadata()?.len().saturating_sub(offset)).unwrap_or(0).min(wanted);
                bytes.truncate(there);
                file.read_exact_at(&mut bytes, offset)?;
                bytes.resize(wanted, LOST);
            }
            read => read?,
        }
        Ok(Some(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_trace_that_was_cut_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let trace = TraceFile::named(path.clone());
        let mut file = trace.create().unwrap();
        file.write_all(b"0123456789").unwrap();
        let published = Published { in_file: 10, in_memory: "ab".into(), ..Published::default() };
        let (_sender, receiver) = watch::channel(published);
        let mut reader = TraceReader::new(trace, receiver);
        assert_eq!(reader.piece(0).unwrap().unwrap(), "0123456789");
        for (length, rest) in [(4, "23      "), (2, "        "), (0, "        ")] {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            assert_eq!(reader.piece(2).unwrap().unwrap(), rest);
        }
        assert_eq!(reader.piece(10).unwrap().unwrap(), "ab");
        assert!(reader.piece(12).unwrap().is_none());
    }

    #[test]
    fn a_trace_without_a_name_is_found_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let trace = TraceFile::nameless(directory.path().join("trace"));
        trace.create().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
