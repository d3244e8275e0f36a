//! What a reader of one log sees of it, and for how long nothing new.

use std::time::Duration;

use tokio::time::Instant;

/// One log, from its job's first line to its end.
pub(crate) struct Watch {
    /// How long the text was, and since when.
    length: usize,
    since: Instant,
    longest: Duration,
    is_over: bool,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Self {
        Self { length: 0, since: now, longest: Duration::ZERO, is_over: false }
    }

    /// Takes the text as it is now. `is_last`: nothing more will come.
    pub(crate) fn look(&mut self, text: &str, is_last: bool, now: Instant) {
        if self.is_over {
            return;
        }
        let prints = text.contains("\nline 1\n");
        // Another try of the job begins with another log.
        if self.length == 0 || text.len() < self.length {
            (self.length, self.since) = (if prints { text.len() } else { 0 }, now);
        }
        // What has not come yet counts as well, however it ends.
        if self.length > 0 {
            self.longest = self.longest.max(now.duration_since(self.since));
        }
        if text.len() > self.length {
            (self.length, self.since) = (if prints { text.len() } else { 0 }, now);
        }
        self.is_over = is_last || text.contains("\nthe end\n");
    }

    /// Whether the log has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The longest time without anything new.
    pub(crate) fn gap(&self) -> Duration {
        self.longest
    }
}
