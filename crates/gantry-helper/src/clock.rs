//! Deadlines of a job. In a pod they are kept on a clock that goes on while the machine is
//! suspended, unlike the one of timers: a laptop or a VM that sleeps must not stretch a job's
//! time-out. A simulation keeps them on tokio's clock, which it can pause.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The clock that deadlines are kept on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time since boot, suspension included.
    Boot,
    /// That of tokio's timers.
    Timers,
}

impl Clock {
    /// A moment `wait` from now.
    pub(crate) fn after(self, wait: Duration) -> Deadline {
        match self {
            Self::Boot => Deadline::Boot(since_boot().saturating_add(wait)),
            // Farther than this clock reaches means never: a century is as good.
            Self::Timers => {
                let now = Instant::now();
                Deadline::Timers(now.checked_add(wait).unwrap_or(now + CENTURY))
            }
        }
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A moment on one of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    Boot(Duration),
    Timers(Instant),
}

impl Deadline {
    /// Time until then; zero once it has passed.
    pub(crate) fn remaining(self) -> Duration {
        match self {
            Self::Boot(at) => at.saturating_sub(since_boot()),
            Self::Timers(at) => at.saturating_duration_since(Instant::now()),
        }
    }

    /// Whether it has passed.
    pub(crate) fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// Linux has had this clock since 2.6.39 and reading it cannot fail.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_pass() {
        for clock in [Clock::Boot, Clock::Timers] {
            assert!(clock.after(Duration::ZERO).has_passed());
            assert!(clock.after(Duration::from_secs(60)).remaining() > Duration::from_secs(59));
            assert!(!clock.after(Duration::MAX).has_passed());
        }
    }
}
