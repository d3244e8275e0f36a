//! What each answer of GitLab means for a relay (GitLab Runner 19.4, `network/gitlab.go`, and where
//! we differ: a 404, and a 403 that does not say that the job is over, end nothing).

use std::time::Duration;

use gantry_core::backoff;
use gantry_core::error_chain::chain;
use gantry_gitlab::{JobHeaders, PatchAnswer, PatchOutcome, RemoteStatus, UpdateAnswer, UpdateOutcome};
use tokio::time::Instant;

use super::{Ending, Machine, Sent, schedule};
use crate::limits;
use crate::report::{GoneReason, RelayEnd, Report};
use crate::window::Window;

const REFUSED_UNSAID: &str = "GitLab refuses updates (403) without saying that the job is over, as in maintenance mode";
const LOG_REFUSED: &str = "GitLab, or a proxy before it, refuses the log (403 to PATCH) and takes the job's state (PUT): let PATCH of /api/v4/jobs/ through";

impl Machine {
    /// Takes the answer to a PATCH.
    pub(crate) fn patched(&mut self, answer: PatchAnswer, now: Instant) {
        let Some(Sent::Patch { offset, length }) = self.sent.take() else { return };
        self.pace.patch_ends(now);
        self.pace.request_ends(now);
        if let PatchOutcome::Unreachable(error) = &answer.outcome {
            self.answer_timeout.failed(error);
        }
        let forbidden = matches!(answer.outcome, PatchOutcome::Forbidden);
        if self.read_headers(&answer.headers, forbidden) {
            return;
        }
        match answer.outcome {
            PatchOutcome::Forbidden => self.refusals.piece_refused(self.ending.is_some(), now),
            _ => self.refusals.begin_anew(),
        }
        match answer.outcome {
            PatchOutcome::Accepted { size } => {
                self.succeed(now);
                self.pace.patch_after(self.interval, now);
                if let Some(ending) = &mut self.ending {
                    ending.refusals = 0;
                }
                let expected = offset + length as u64;
                let size = size.unwrap_or(expected);
                // It took these bytes at the end of what it had: what is behind them is nobody's
                // that we know.
                if size > expected {
                    self.server_has(expected, expected, now);
                    self.diverge(size);
                } else {
                    self.server_has(size, size, now);
                }
                if size < expected {
                    self.fail("GitLab took a part of the log and has less of it than before".to_owned(), now);
                } else {
                    self.pace.mismatches = 0;
                }
            }
            PatchOutcome::RangeMismatch { size } => {
                self.succeed(now);
                self.pace.patch_after(self.interval, now);
                self.server_has(size, offset + length as u64, now);
                // The first is news, the next ones in a row would be a quarrel.
                self.pace.mismatches += 1;
                if self.pace.mismatches > 1 {
                    self.fail(format!("GitLab does not take the log at the place it asked for ({size})"), now);
                }
            }
            PatchOutcome::Conflict => self.fail("the log is locked by another request (409)".to_owned(), now),
            PatchOutcome::Forbidden if self.refusals.are_proof() => self.fail(LOG_REFUSED.to_owned(), now),
            PatchOutcome::Forbidden => self.fail(REFUSED_UNSAID.to_owned(), now),
            PatchOutcome::Later(error) | PatchOutcome::Unreachable(error) => self.fail(chain(&error), now),
            PatchOutcome::NotFound => self.refused("GitLab does not know the job (404)".to_owned(), now),
            PatchOutcome::Other(error) => self.refused(chain(&error), now),
        }
        self.pace.patch_failed = (self.pace.failures > 0).then_some(now);
    }

    /// A status that waiting may not change: tolerated for ever while the job runs, for a while at
    /// the end.
    fn refused(&mut self, message: String, now: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.refusals += 1;
        }
        self.fail(message, now);
    }

    /// GitLab has said how much of the trace it has, after a piece that ends at `sent`.
    fn server_has(&mut self, size: u64, sent: u64, now: Instant) {
        self.knows_place = true;
        let (base, end) = (self.window.base(), self.window.end());
        // Behind what is ours, as far as that is held, is what another has sent: the agent by
        // itself, or another manager. Only where the log ends as the piece does it may be the
        // piece, sent before and not answered, unless a piece that short was sent to tell the two
        // apart.
        let is_foreign = self.ending.as_mut().is_some_and(|Ending { final_line, trace, .. }| {
            let ours = end.saturating_sub(final_line.line as u64);
            if std::mem::take(&mut final_line.is_blind) {
                size > ours.max(base + limits::FEELER as u64)
            } else {
                trace.is_none() && size > ours && size != sent
            }
        });
        let final_line =
            self.ending.as_mut().filter(|ending| ending.trace.is_none()).map(|ending| &mut ending.final_line);
        if (base..=end).contains(&size) && !is_foreign {
            self.window.forget_until(size);
            if size > base {
                self.full_since = (self.window.len() >= limits::WINDOW).then_some(now);
            }
            self.outbox.put(Report::Acked(size));
        } else if let Some(final_line) = final_line {
            // Nobody can give other bytes. Beyond our end GitLab has ours from another relay, so
            // only the line is new.
            final_line.sum = None;
            if size > end || is_foreign {
                self.window.forget_until(end.saturating_sub(final_line.line as u64));
            }
            self.window.move_to(size);
        } else if size < self.window.base() {
            self.restart(size, now);
        } else if self.ending.as_ref().is_some_and(|ending| ending.trace.is_some_and(|(bytes, _)| size > bytes)) {
            self.diverge(size);
        } else {
            // Another relay sent more than we were given so far, before us or while our caller was
            // cut off from the trace: go on from there once the caller gets there. Should the bytes
            // be foreign, the length or the checksum of the whole trace shows it.
            self.outbox.put(Report::Ahead { server: size, ours: self.window.end() });
            self.window = Window::at(size);
        }
    }

    fn restart(&mut self, size: u64, now: Instant) {
        self.window = Window::at(size);
        self.pace.want = None;
        self.want(now);
    }

    pub(super) fn diverge(&mut self, size: u64) {
        let ours = self.ending.as_ref().and_then(|ending| ending.trace).map_or(self.window.end(), |(bytes, _)| bytes);
        self.diverged = true;
        self.window = Window::at(size);
        self.outbox.put(Report::Diverged { server: size, ours });
    }

    /// Takes the answer to a PUT.
    pub(crate) fn updated(&mut self, answer: UpdateAnswer, now: Instant) {
        let Some(Sent::Put { last }) = self.sent.take() else { return };
        self.pace.patch_failed = None;
        self.pace.request_ends(now);
        if let UpdateOutcome::Unreachable(error) = &answer.outcome {
            self.answer_timeout.failed(error);
        }
        let forbidden = matches!(answer.outcome, UpdateOutcome::Forbidden);
        if self.read_headers(&answer.headers, forbidden) {
            return;
        }
        match answer.outcome {
            UpdateOutcome::Accepted | UpdateOutcome::NotYet => self.refusals.state_taken(),
            _ => self.refusals.begin_anew(),
        }
        if last {
            self.reported(answer.outcome, now);
        } else {
            self.kept_alive(answer.outcome, now);
        }
    }

    fn kept_alive(&mut self, outcome: UpdateOutcome, now: Instant) {
        match outcome {
            UpdateOutcome::Accepted | UpdateOutcome::NotYet | UpdateOutcome::TraceRejected => {
                self.must_acknowledge = false;
                if self.refusals.are_proof() {
                    self.hears_us(now);
                } else {
                    self.succeed(now);
                }
            }
            UpdateOutcome::Forbidden => self.fail(REFUSED_UNSAID.to_owned(), now),
            UpdateOutcome::Later(error) | UpdateOutcome::Unreachable(error) => self.fail(chain(&error), now),
            // Not an answer to an acknowledgement that helps; whether the job is ours shows with
            // the next request.
            UpdateOutcome::BadRequest | UpdateOutcome::NotFound | UpdateOutcome::Conflict | UpdateOutcome::Other(_)
                if self.must_acknowledge =>
            {
                self.must_acknowledge = false;
            }
            other => self.fail(status_words(&other), now),
        }
    }

    fn reported(&mut self, outcome: UpdateOutcome, now: Instant) {
        match outcome {
            UpdateOutcome::Accepted => self.end = Some(RelayEnd::Delivered),
            UpdateOutcome::NotYet => {
                self.succeed(now);
                self.pace.put = Some(now + self.interval);
                self.tried(status_words(&UpdateOutcome::NotYet), now);
            }
            UpdateOutcome::TraceRejected => {
                self.fail("GitLab has thrown the log away and gets it again (412)".to_owned(), now);
                self.diverged = false;
                self.restart(0, now);
            }
            UpdateOutcome::BadRequest if self.may_acknowledge_again() => self.must_acknowledge = true,
            UpdateOutcome::Forbidden => self.fail(REFUSED_UNSAID.to_owned(), now),
            UpdateOutcome::Later(error) | UpdateOutcome::Unreachable(error) => self.fail(chain(&error), now),
            other => self.fail(status_words(&other), now),
        }
    }

    /// A terminal state before the acknowledgement is a bad request: once, `running` is said again
    /// before it.
    fn may_acknowledge_again(&mut self) -> bool {
        self.ending.as_mut().is_some_and(|ending| !std::mem::replace(&mut ending.acknowledged_again, true))
    }

    /// What the headers say; true if that ends the relay.
    fn read_headers(&mut self, headers: &JobHeaders, forbidden: bool) -> bool {
        if let Some(interval) = headers.update_interval {
            self.interval = interval;
        }
        self.asked_wait = headers.asked_wait;
        if let Some(reason) = gone(headers.job_status.as_ref(), forbidden) {
            // With the verdict at hand, a job that is over is a job that is reported.
            let over = matches!(reason, GoneReason::Over(_)) && self.ending.is_some();
            self.end = Some(if over { RelayEnd::Delivered } else { RelayEnd::Aborted(reason) });
            return true;
        }
        if headers.job_status == Some(RemoteStatus::Canceling) && self.ending.is_none() {
            self.outbox.put(Report::CancelRequested);
        }
        false
    }

    fn succeed(&mut self, now: Instant) {
        if self.pace.failures > 0 {
            self.outbox.put(Report::Trouble(None));
        }
        self.pace.failures = 0;
        self.pace.patch_failed = None;
        self.pace.retry = None;
        self.hears_us(now);
    }

    /// GitLab has heard that we live; of what it does not take nothing is known.
    fn hears_us(&mut self, now: Instant) {
        self.answer_timeout.succeeded();
        self.pace.asked_at_waking = false;
        self.pace.keep_alive = now + schedule::keep_alive(self.job.pace.keep_alive, self.interval);
    }

    fn fail(&mut self, message: String, now: Instant) {
        self.pace.failures = self.pace.failures.saturating_add(1);
        let pause = self.pause();
        let asked = self.asked_wait.unwrap_or_default();
        let last_chance = self.last_chance();
        self.pace.retry = Some(if now < last_chance { (now + pause.max(asked)).min(last_chance) } else { now + pause });
        if let Some(message) = self.tried(message, now) {
            self.outbox.put(Report::Trouble(Some(message)));
        }
    }

    /// Counts a try of the end that has not brought it, and gives up with the last one; else gives
    /// `message` back.
    fn tried(&mut self, message: String, now: Instant) -> Option<String> {
        let Some(ending) = &mut self.ending else { return Some(message) };
        ending.tries += 1;
        if ending.tries < self.job.final_tries || now < self.job.deadline {
            return Some(message);
        }
        self.end = Some(RelayEnd::GaveUp { message });
        None
    }

    /// Doubles with every failure in a row. Between half and all of it, by job, so that a GitLab
    /// that comes back is not hit at once by all.
    fn pause(&self) -> Duration {
        let hash = self
            .job
            .creds
            .id
            .unsigned_abs()
            .wrapping_add(u64::from(self.pace.failures))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let pause = backoff::doubled(self.job.pace.retry_min, self.job.pace.retry_max, self.pace.failures);
        backoff::spread(pause, f64::from((hash >> 48) as u16) / f64::from(u16::MAX))
    }
}

/// Whether an answer says that GitLab wants nothing more about the job. Judged before the status; a
/// 403 without a state proves nothing.
pub(crate) fn gone(status: Option<&RemoteStatus>, forbidden: bool) -> Option<GoneReason> {
    match (status?, forbidden) {
        (status, _) if status.is_final() => Some(GoneReason::Over(status.clone())),
        (RemoteStatus::Pending, true) => Some(GoneReason::TakenBack),
        (status @ (RemoteStatus::Running | RemoteStatus::Canceling), true) => {
            Some(GoneReason::TokenExpired(status.clone()))
        }
        (status, true) => Some(GoneReason::Over(status.clone())),
        (_, false) => None,
    }
}

/// An outcome that carries no error, for a log.
pub(crate) fn status_words(outcome: &UpdateOutcome) -> String {
    match outcome {
        UpdateOutcome::BadRequest => "GitLab says that the state does not fit (400)".to_owned(),
        UpdateOutcome::NotFound => "GitLab does not know the job (404)".to_owned(),
        UpdateOutcome::Conflict => "GitLab says that the job is in conflict (409)".to_owned(),
        UpdateOutcome::Forbidden => REFUSED_UNSAID.to_owned(),
        UpdateOutcome::Later(error) | UpdateOutcome::Unreachable(error) | UpdateOutcome::Other(error) => chain(error),
        UpdateOutcome::Accepted => "accepted".to_owned(),
        UpdateOutcome::NotYet => "not yet complete (202)".to_owned(),
        UpdateOutcome::TraceRejected => "GitLab rejected the log (412)".to_owned(),
    }
}
