//! When the next piece of the trace goes to a manager. Each piece wakes a process that has hundreds
//! of jobs, and little of it is for a single line: what a job goes on printing goes out bundled.
//! What comes after a pause goes out at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BUNDLE_AT_FIRST, BUNDLE_BYTES, BUNDLE_OVER, BUNDLE_TIME};

/// The pieces of one connection.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    /// When the last piece went out; none since the bundle was let go.
    sent: Option<Instant>,
    /// How long the next one waits after that.
    time: Duration,
}

impl Bundle {
    /// What is there goes out at once, and what follows as if the job had been silent.
    pub(crate) fn let_go(&mut self) {
        self.sent = None;
    }

    /// When so many bytes that wait are to go out.
    pub(crate) fn due(&self, waiting: u64, now: Instant) -> Instant {
        match self.sent {
            Some(sent) if waiting < BUNDLE_BYTES => sent + self.time,
            _ => now,
        }
    }

    /// A piece goes out. What is printed soon after is mostly meant to be read with it, so that
    /// bundles grow only while a job goes on printing.
    pub(crate) fn goes(&mut self, now: Instant) {
        let goes_on = self.sent.replace(now).is_some_and(|sent| now - sent < BUNDLE_OVER);
        self.time = if goes_on { BUNDLE_TIME.min(self.time * 2) } else { BUNDLE_AT_FIRST };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When pieces go out of a job that prints ten bytes every so often, for so long, in
    /// milliseconds.
    fn pieces(every: u64, length: u64) -> Vec<u64> {
        let (begun, mut bundle, mut waiting, mut pieces) = (Instant::now(), Bundle::default(), 0, Vec::new());
        for time in 0..length {
            let now = begun + Duration::from_millis(time);
            waiting += if time % every == 0 { 10 } else { 0 };
            if waiting > 0 && bundle.due(waiting, now) <= now {
                bundle.goes(now);
                waiting = 0;
                pieces.push(time);
            }
        }
        pieces
    }

    #[test]
    fn what_a_job_goes_on_printing_is_bundled() {
        let pieces = pieces(10, 10_000);
        assert_eq!(pieces[..7], [0, 20, 60, 140, 300, 550, 800]);
        assert_eq!(pieces.len(), 5 + (10_000 - 300) / 250);
    }

    #[test]
    fn what_comes_now_and_then_waits_for_nothing() {
        assert_eq!(pieces(300, 3000), (0..10).map(|number| 300 * number).collect::<Vec<_>>());
        assert_eq!(pieces(5000, 20_000), [0, 5000, 10_000, 15_000]);
    }

    #[test]
    fn much_does_not_wait_and_neither_does_what_is_let_go() {
        let (now, mut bundle) = (Instant::now(), Bundle::default());
        for _ in 0..10 {
            bundle.goes(now);
        }
        assert_eq!(bundle.due(BUNDLE_BYTES, now), now);
        assert_eq!(bundle.due(BUNDLE_BYTES - 1, now), now + BUNDLE_TIME);
        bundle.let_go();
        assert_eq!(bundle.due(1, now), now);
        bundle.goes(now);
        assert_eq!(bundle.due(1, now), now + BUNDLE_AT_FIRST);
    }
}
