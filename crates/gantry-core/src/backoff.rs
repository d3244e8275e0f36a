//! Pauses between tries that double from a first one to a longest one: the one place that knows how
//! they grow, and how they are spread so that many clients do not come back together.

use std::time::Duration;

use crate::chance;

/// The pause after `failures` in a row, 1 or more: `first`, doubled with each further failure, and
/// at most `most`.
pub fn doubled(first: Duration, most: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(most)
}

/// `pause`, shortened by up to half: `share` is 0 for half of it and 1 for all.
pub fn spread(pause: Duration, share: f64) -> Duration {
    let half = pause / 2;
    half.saturating_add(half.mul_f64(share.clamp(0.0, 1.0)))
}

/// The pauses of one loop of tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Begins with `first`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        doubled(self.first, self.most, self.failures)
    }

    /// The same, spread by chance.
    pub fn next_spread_pause(&mut self) -> Duration {
        spread(self.next_pause(), chance::fraction())
    }

    /// Something has succeeded: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(500);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), MOST);
        let pauses: Vec<_> = std::iter::repeat_with(|| backoff.next_pause().as_millis()).take(5).collect();
        assert_eq!(pauses, [100, 200, 400, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next_pause().as_millis(), 100);
        assert_eq!(doubled(Duration::from_secs(1), Duration::MAX, u32::MAX), Duration::from_secs(u32::MAX.into()));
    }

    #[test]
    fn spread_pauses_are_between_half_and_all() {
        assert_eq!(spread(MOST, 0.0), MOST / 2);
        assert_eq!(spread(MOST, 1.0), MOST);
        assert!(spread(Duration::MAX, 1.0) >= Duration::MAX / 2);
        let mut backoff = Backoff::new(MOST, MOST);
        let pauses: Vec<_> = std::iter::repeat_with(|| backoff.next_spread_pause()).take(100).collect();
        assert!(pauses.iter().all(|pause| (MOST / 2..=MOST).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
