//! A clock that goes on while the machine is suspended: GitLab's does too.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment on the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    /// The moment that is `wait` away from now.
    pub(crate) fn after(wait: Duration) -> Self {
        Self(now().saturating_add(wait))
    }

    /// What is left until then; zero once it has passed.
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_sub(now())
    }

    /// Whether it has passed.
    pub(crate) fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// Time since boot. Linux has had this clock since 2.6.39 and reading it cannot fail.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_pass() {
        assert!(Deadline::after(Duration::ZERO).has_passed());
        assert!(Deadline::after(Duration::from_secs(60)).remaining() > Duration::from_secs(59));
    }
}
