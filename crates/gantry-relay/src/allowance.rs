//! How many requests of a kind may go out: some at once, and one more now and then.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and one more every so often. What is not used is saved up to the burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// At once.
    pub(crate) burst: u32,
    /// One more after each.
    pub(crate) every: Duration,
}

/// What is left of a [`Rate`].
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    /// When the whole burst is there again, if nothing is taken until then.
    whole: Instant,
}

impl Allowance {
    /// The whole burst.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, whole: now }
    }

    /// When the next one may be taken; a moment that has passed means now.
    pub(crate) fn next(&self) -> Instant {
        let before = self.rate.every * self.rate.burst.saturating_sub(1);
        self.whole.checked_sub(before).unwrap_or(self.whole)
    }

    /// Takes one, also if there is none: the next one comes later then.
    pub(crate) fn take(&mut self, now: Instant) {
        self.whole = self.whole.max(now) + self.rate.every;
    }

    /// Takes one if there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        let there = self.next() <= now;
        if there {
            self.take(now);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_now_and_then() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut allowance = Allowance::new(Rate { burst: 3, every: Duration::from_secs(10) }, start);
        let taken: Vec<u64> = (0..=60).filter(|second| allowance.try_take(at(*second))).collect();
        assert_eq!(taken, [0, 1, 2, 10, 20, 30, 40, 50, 60]);
        // What was not used is saved, up to the burst.
        let taken: Vec<u64> = (500..=519).filter(|second| allowance.try_take(at(*second))).collect();
        assert_eq!(taken, [500, 501, 502, 510]);
        allowance.take(at(519));
        assert_eq!(allowance.next(), at(530));
    }
}
