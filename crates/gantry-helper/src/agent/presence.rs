//! Whether a manager is there, and how far it has brought the trace: what decides whether the agent must relay by itself.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// What is known about managers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// One is connected. A silent one is disconnected soon.
    pub(crate) connected: bool,
    /// Since when that is so.
    pub(crate) since: Instant,
    /// GitLab has the trace up to here, as far as managers have said.
    pub(crate) acked: u64,
}

/// The side that knows.
#[derive(Clone)]
pub(crate) struct Presence {
    seen: Arc<watch::Sender<Seen>>,
}

impl Presence {
    pub(crate) fn new() -> (Self, watch::Receiver<Seen>) {
        let (seen, reader) = watch::channel(Seen { connected: false, since: Instant::now(), acked: 0 });
        (Self { seen: Arc::new(seen) }, reader)
    }

    pub(crate) fn arrived(&self) {
        self.seen.send_modify(|seen| *seen = Seen { connected: true, since: Instant::now(), ..*seen });
    }

    pub(crate) fn left(&self) {
        self.seen.send_modify(|seen| *seen = Seen { connected: false, since: Instant::now(), ..*seen });
    }

    pub(crate) fn acked(&self, offset: u64) {
        self.seen.send_modify(|seen| seen.acked = seen.acked.max(offset));
    }
}
