//! The moments that a job waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::job::events::Timer;

/// Those that are armed.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<Timer, Instant>,
}

impl Timers {
    pub(super) fn arm(&mut self, timer: Timer, after: Duration) {
        self.due.insert(timer, Instant::now() + after);
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        self.due.remove(&timer);
    }

    /// Moves all of them: time has passed that nobody has lived through.
    pub(super) fn postpone(&mut self, by: Duration) {
        self.due.values_mut().for_each(|due| *due += by);
    }

    /// Waits for the next one, and says by how much it is late; it is not armed any more then.
    pub(super) async fn next(&mut self) -> (Timer, Duration) {
        let next = self.due.iter().min_by_key(|(_, due)| **due).map(|(timer, due)| (*timer, *due));
        match next {
            Some((timer, due)) => {
                sleep_until(due).await;
                self.due.remove(&timer);
                (timer, due.elapsed())
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earliest_comes_first_and_says_how_late_it_is() {
        let mut timers = Timers::default();
        timers.arm(Timer::Slow, Duration::from_secs(9));
        timers.arm(Timer::Drain, Duration::from_secs(2));
        timers.arm(Timer::Start, Duration::from_secs(1));
        timers.disarm(Timer::Start);
        assert_eq!(timers.next().await, (Timer::Drain, Duration::ZERO));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(timers.next().await, (Timer::Slow, Duration::from_secs(53)));
        timers.arm(Timer::Slow, Duration::from_secs(1));
        timers.postpone(Duration::from_secs(4));
        let begun = Instant::now();
        assert_eq!(timers.next().await, (Timer::Slow, Duration::ZERO));
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}
