//! The simulator's only clock. Wall-clock times are the start time plus what tokio's clock has
//! counted since, so that a test on a paused clock sees both move together. Nothing else in the
//! crate may read the time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use tokio::time::Instant;

/// One moment, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) at: Instant,
    /// For people and payloads.
    pub(crate) wall: Timestamp,
}

impl Now {
    /// The moment so much later.
    pub(crate) fn after(self, passed: Duration) -> Self {
        let wall = SignedDuration::try_from(passed).ok().and_then(|passed| self.wall.checked_add(passed).ok());
        Self { at: self.at + passed, wall: wall.unwrap_or(Timestamp::MAX) }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Now,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Now { at: Instant::now(), wall: Timestamp::now() } }
    }

    pub(crate) fn now(&self) -> Now {
        let at = Instant::now();
        let passed = SignedDuration::try_from(at.duration_since(self.start.at)).unwrap_or(SignedDuration::MAX);
        let wall = self.start.wall.saturating_add(passed).unwrap_or(Timestamp::MAX);
        let wall = wall.round(Unit::Millisecond).unwrap_or(wall);
        Now { at, wall }
    }
}
