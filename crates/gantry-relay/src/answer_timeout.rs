//! How long an answer about a job is waited for. A connection may be dead without a word, so that
//! waiting long is in vain; or GitLab is slow, and what is cut off early is sent again for ever.
//! Nobody can tell the two apart by one answer that does not come: the next gets twice the time.

use std::time::Duration;

use gantry_core::backoff;
use gantry_gitlab::limits::{ANSWER_TIMEOUT, ANSWER_TIMEOUT_MAX};
use gantry_gitlab::{CallError, TransportFault};

/// Of one job with one GitLab.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AnswerTimeout {
    /// Answers in a row that did not come in time.
    timeouts: u32,
}

impl AnswerTimeout {
    /// The time that the next answer gets.
    pub(crate) fn answer_time(self) -> Duration {
        backoff::doubled(ANSWER_TIMEOUT, ANSWER_TIMEOUT_MAX, self.timeouts.saturating_add(1))
    }

    /// There is no answer. Other failures than its lateness say nothing about the time it takes.
    pub(crate) fn failed(&mut self, error: &CallError) {
        if matches!(error, CallError::Transport(error) if error.fault() == TransportFault::Timeout) {
            self.timeouts = self.timeouts.saturating_add(1);
        }
    }

    /// GitLab has taken something.
    pub(crate) fn succeeded(&mut self) {
        self.timeouts = 0;
    }
}

#[cfg(test)]
mod tests {
    use gantry_gitlab::TransportError;

    use super::*;

    #[test]
    fn each_answer_that_is_late_gives_the_next_one_twice_the_time() {
        let error = |fault| CallError::Transport(TransportError::new(fault, "late"));
        let mut answer_timeout = AnswerTimeout::default();
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(answer_timeout.answer_time().as_secs());
            answer_timeout.failed(&error(TransportFault::Timeout));
            answer_timeout.failed(&error(TransportFault::Connect));
        }
        assert_eq!(times, [20, 40, 80, 120, 120]);
        answer_timeout.succeeded();
        assert_eq!(answer_timeout.answer_time().as_secs(), 20);
    }
}
