//! The wall clock of the cluster. It is anchored once and then advances with tokio's clock, so that
//! a paused test clock moves time stamps, token expiry and deadlines together.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A wall clock that follows tokio's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Timestamp,
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { base: Timestamp::now(), start: Instant::now() }
    }

    /// The current time.
    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::ZERO);
        self.base.checked_add(elapsed).unwrap_or(self.base)
    }

    /// The current time as Kubernetes writes it in objects: whole seconds, UTC.
    pub(crate) fn stamp(&self) -> String {
        stamp(self.now())
    }
}

/// `metav1.Time`: RFC 3339 with whole seconds.
pub(crate) fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`.
pub(crate) fn stamp_micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The precision of log lines.
pub(crate) fn stamp_nanos(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}
