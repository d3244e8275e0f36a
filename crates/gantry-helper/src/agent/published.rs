//! What the engine shows to manager connections: its state, and how much of the trace can be read where.

use bytes::Bytes;
use gantry_wire::frame::State;

/// A snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// How far the job is.
    pub(crate) state: State,
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
