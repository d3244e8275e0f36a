//! Decides what a relay sends next and what an answer means. Pure: time comes in as an argument, requests go out as values.
//!
//! Two rules carry everything: a byte is forgotten only when GitLab has confirmed it, and the terminal state is made once and goes out only
//! behind the last byte, except where there is proof that the last byte cannot get there.

use std::time::Duration;

use bytes::Bytes;
use gantry_core::{FailureReason, JobState, Verdict};
use gantry_gitlab::{
    CallError, JobUpdate, Output, PatchAnswer, PatchOutcome, RemoteStatus, Says, UpdateAnswer, UpdateOutcome,
};
use tokio::time::Instant;

use crate::limits;
use crate::outbox::Outbox;
use crate::report::{Closed, GoneReason, Input, RelayEnd, RelayJob, Report};
use crate::window::Window;

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send these bytes, then call [`Machine::patched`].
    Patch { offset: u64, bytes: Bytes },
    /// Send this state, then call [`Machine::updated`].
    Put(JobUpdate),
    /// Wait for an input, at most until then.
    Wait(Instant),
    /// Nothing is left to do.
    End(RelayEnd),
}

/// The state of a relay.
#[derive(Debug)]
pub(crate) struct Machine {
    job: RelayJob,
    interval: Duration,
    window: Window,
    /// The first input has said where the relay starts.
    started: bool,
    /// GitLab has taken a PATCH of ours, so its size and our offset agree from here on.
    synced: bool,
    /// GitLab has bytes that are not ours.
    diverged: bool,
    must_acknowledge: bool,
    ending: Option<Ending>,
    inputs_gone: bool,
    sent: Option<Sent>,
    pace: Schedule,
    outbox: Outbox,
    end: Option<RelayEnd>,
}

/// The end of the trace and the one terminal state.
#[derive(Debug)]
struct Ending {
    verdict: Verdict,
    /// Size and checksum of the whole trace; unknown for an epitaph.
    trace: Option<(u64, u32)>,
    /// Length of the epitaph's line.
    line: usize,
    tries: u32,
    refusals: u32,
    /// The server refused the state as one that does not fit, and was told `running` once more.
    acknowledged_again: bool,
}

/// The request under way.
#[derive(Debug)]
enum Sent {
    Patch { offset: u64, length: usize },
    Put { last: bool },
}

/// When things are due.
#[derive(Debug)]
struct Schedule {
    patch: Instant,
    keep_alive: Instant,
    /// The next try of the terminal state after "not yet".
    put: Option<Instant>,
    retry: Option<Instant>,
    /// What the caller was asked for, and when it is asked again.
    want: Option<(u64, Instant)>,
    failures: u32,
    mismatches: u32,
    /// The last request was a PATCH without success.
    patch_failed: bool,
}

impl Machine {
    pub(crate) fn new(job: RelayJob, now: Instant) -> Self {
        let interval = job.pace.interval;
        Self {
            interval,
            window: Window::default(),
            started: false,
            synced: false,
            diverged: false,
            must_acknowledge: !job.acknowledged,
            ending: None,
            inputs_gone: false,
            sent: None,
            pace: Schedule {
                patch: now,
                // The first silent tick says something, as in the reference.
                keep_alive: now + interval,
                put: None,
                retry: None,
                want: None,
                failures: 0,
                mismatches: 0,
                patch_failed: false,
            },
            outbox: Outbox::default(),
            end: None,
            job,
        }
    }

    pub(crate) fn reports(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether there is room for more.
    pub(crate) fn wants_input(&self) -> bool {
        !self.inputs_gone && self.end.is_none() && self.window.len() < limits::WINDOW
    }

    /// What to do now. A request that is returned counts as under way until its answer is told.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        self.ask_again(now);
        let step = self.decide(now);
        self.sent = match &step {
            Step::Patch { offset, bytes } => Some(Sent::Patch { offset: *offset, length: bytes.len() }),
            Step::Put(update) => Some(Sent::Put { last: update.state.is_final() }),
            Step::Wait(_) | Step::End(_) => None,
        };
        step
    }

    fn decide(&self, now: Instant) -> Step {
        if let Some(end) = &self.end {
            return Step::End(end.clone());
        }
        if let Some(retry) = self.pace.retry.filter(|retry| now < *retry) {
            return Step::Wait(retry);
        }
        if self.must_acknowledge {
            return Step::Put(JobUpdate::of(JobState::Running));
        }
        let flushing = self.ending.is_some();
        if let Some(ending) = &self.ending
            && self.may_report(ending, now)
        {
            return match self.pace.put.filter(|put| now < *put) {
                Some(put) => Step::Wait(put),
                None => Step::Put(self.terminal(ending)),
            };
        }
        let unsent = !self.window.is_empty() && !self.diverged;
        // Where only pieces of the trace fail, a keep-alive comes between two of them: it says that we live, and brings news of a cancel.
        let others_turn = self.pace.patch_failed && now >= self.pace.keep_alive;
        if unsent && !others_turn && (flushing || now >= self.pace.patch) {
            return Step::Patch { offset: self.window.base(), bytes: self.window.slice(limits::MAX_PATCH) };
        }
        if now >= self.pace.keep_alive {
            return Step::Put(JobUpdate::of(JobState::Running));
        }
        let mut until = self.pace.keep_alive;
        if unsent {
            until = until.min(self.pace.patch);
        }
        if let Some((_, again)) = self.pace.want {
            until = until.min(again);
        }
        if flushing {
            until = until.min(self.last_chance().max(now + self.job.pace.retry_min));
        }
        Step::Wait(until)
    }

    /// Whether the terminal state may go out: everything is there, or it is proven or too late that it can be.
    fn may_report(&self, ending: &Ending, now: Instant) -> bool {
        let complete = self.window.is_empty() && ending.trace.is_none_or(|(bytes, _)| self.window.base() >= bytes);
        let missing = ending.trace.is_some_and(|(bytes, _)| self.window.end() < bytes);
        let orphaned = self.inputs_gone && missing && self.window.is_empty();
        let refused = ending.refusals >= limits::FINAL_REFUSALS;
        let too_late = now >= self.last_chance() && (self.pace.failures > 0 || missing);
        complete || self.diverged || orphaned || refused || too_late
    }

    fn last_chance(&self) -> Instant {
        self.job.deadline.checked_sub(limits::LAST_CHANCE).unwrap_or(self.job.deadline)
    }

    /// The one terminal state. It carries a checksum only if GitLab can have exactly our bytes.
    fn terminal(&self, ending: &Ending) -> JobUpdate {
        let verdict = &ending.verdict;
        let whole = |(bytes, _): &(u64, u32)| !self.diverged && self.window.is_empty() && self.window.base() == *bytes;
        let reason = || verdict.reason.unwrap_or(FailureReason::UnknownFailure).accepted_by(&self.job.failure_reasons);
        JobUpdate {
            state: verdict.state(),
            failure_reason: (!verdict.success).then(reason),
            output: ending.trace.filter(whole).map(|(bytesize, crc32)| Output { crc32, bytesize }),
            exit_code: verdict.exit_code,
        }
    }

    /// Takes what the caller says; `None` when it has gone.
    pub(crate) fn input(&mut self, input: Option<Input>, now: Instant) {
        match input {
            Some(Input::Trace { offset, bytes }) => self.trace(offset, bytes, now),
            Some(Input::Closed(Closed { verdict, trace_bytes, trace_crc32 })) => {
                self.finish(verdict, Some((trace_bytes, trace_crc32)), Bytes::new());
            }
            Some(Input::Epitaph { line, verdict }) => self.finish(verdict, None, line),
            Some(Input::StopWithoutVerdict) => self.end = Some(RelayEnd::Stopped),
            None => {
                self.inputs_gone = true;
                if self.ending.is_none() {
                    self.end = Some(RelayEnd::Stopped);
                }
            }
        }
    }

    fn trace(&mut self, offset: u64, bytes: Bytes, now: Instant) {
        if self.diverged || self.ending.as_ref().is_some_and(|ending| ending.trace.is_none()) {
            return;
        }
        if !self.started {
            self.started = true;
            self.window = Window::at(offset);
        }
        let end = offset + bytes.len() as u64;
        if !self.window.push(offset, bytes) {
            self.want(now);
        } else if end <= self.window.base() {
            // All of it is known: the caller may go on from there.
            self.outbox.put(Report::Acked(end));
        }
        if self.pace.want.is_some_and(|(place, _)| place < self.window.end()) {
            self.pace.want = None;
        }
    }

    /// Asks for the trace from the end of the window on: at once, and then now and again until it comes.
    fn want(&mut self, now: Instant) {
        let place = self.window.end();
        if self.pace.want.is_none_or(|(asked, _)| asked != place) {
            self.pace.want = Some((place, now + limits::WANT_REPEAT));
            self.outbox.put(Report::WantFrom(place));
        }
    }

    fn ask_again(&mut self, now: Instant) {
        if let Some((place, again)) = &mut self.pace.want
            && now >= *again
        {
            *again = now + limits::WANT_REPEAT;
            self.outbox.put(Report::WantFrom(*place));
        }
    }

    /// The first verdict counts; a later one is the same again after a broken connection.
    fn finish(&mut self, verdict: Verdict, trace: Option<(u64, u32)>, line: Bytes) {
        if self.ending.is_some() {
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            // Nothing is left to send, says a caller who closes before it sends: a relay before us has sent it all.
            self.window = Window::at(trace.map_or(0, |(bytes, _)| bytes));
        }
        let length = line.len();
        if !self.diverged {
            self.window.append(line);
        }
        self.ending = Some(Ending { verdict, trace, line: length, tries: 0, refusals: 0, acknowledged_again: false });
        if trace.is_some_and(|(bytes, _)| self.window.base() > bytes) {
            self.diverge(self.window.base());
        }
        // The end waits for nothing that was only the pace of a running job.
        self.interval = self.job.pace.interval;
        self.pace.retry = None;
        self.pace.failures = 0;
    }

    /// Takes the answer to a PATCH.
    pub(crate) fn patched(&mut self, answer: PatchAnswer, now: Instant) {
        let Some(Sent::Patch { offset, length }) = self.sent.take() else { return };
        let forbidden = matches!(answer.outcome, PatchOutcome::Forbidden);
        if self.heed(&answer.says, forbidden) {
            return;
        }
        self.pace.patch_failed = true;
        match answer.outcome {
            PatchOutcome::Accepted { size } => {
                self.succeed(now);
                self.pace.patch = now + self.interval;
                self.synced = true;
                if let Some(ending) = &mut self.ending {
                    ending.refusals = 0;
                }
                let expected = offset + length as u64;
                let size = size.unwrap_or(expected);
                self.server_has(size, now);
                if size < expected {
                    self.fail("GitLab took a part of the log and has less of it than before".to_owned(), now);
                } else {
                    self.pace.mismatches = 0;
                }
            }
            PatchOutcome::RangeMismatch { size } => {
                self.succeed(now);
                self.pace.patch = now + self.interval;
                self.server_has(size, now);
                // The first is news, the next ones in a row would be a quarrel.
                self.pace.mismatches += 1;
                if self.pace.mismatches > 1 {
                    self.fail(format!("GitLab does not take the log at the place it asked for ({size})"), now);
                }
            }
            PatchOutcome::Conflict => self.fail("the log is locked by another request (409)".to_owned(), now),
            PatchOutcome::Forbidden => self.fail(REFUSED_UNSAID.to_owned(), now),
            PatchOutcome::Later(error) | PatchOutcome::Unreachable(error) => self.fail(words(&error), now),
            PatchOutcome::NotFound => self.refused("GitLab does not know the job (404)".to_owned(), now),
            PatchOutcome::Other(error) => self.refused(words(&error), now),
        }
    }

    /// A status that waiting may not change: tolerated for ever while the job runs, for a while at the end.
    fn refused(&mut self, message: String, now: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.refusals += 1;
        }
        self.fail(message, now);
    }

    /// GitLab has said how much of the trace it has.
    fn server_has(&mut self, size: u64, now: Instant) {
        let epitaph = self.ending.as_ref().filter(|ending| ending.trace.is_none()).map(|ending| ending.line);
        if (self.window.base()..=self.window.end()).contains(&size) {
            self.window.forget_until(size);
            self.outbox.put(Report::Acked(size));
        } else if let Some(line) = epitaph {
            // Nobody can give other bytes. Beyond our end GitLab has ours from another relay, so only the line is new.
            if size > self.window.end() {
                self.window.forget_until(self.window.end() - line as u64);
            }
            self.window.move_to(size);
        } else if size < self.window.base() {
            self.restart(size, now);
        } else if self.synced
            || self.ending.as_ref().is_some_and(|ending| ending.trace.is_some_and(|(bytes, _)| size > bytes))
        {
            self.diverge(size);
        } else {
            // A relay before us sent more than we were given so far: go on from there once the caller gets there.
            self.window = Window::at(size);
        }
    }

    fn restart(&mut self, size: u64, now: Instant) {
        self.window = Window::at(size);
        self.pace.want = None;
        self.want(now);
    }

    fn diverge(&mut self, size: u64) {
        let ours = self.ending.as_ref().and_then(|ending| ending.trace).map_or(self.window.end(), |(bytes, _)| bytes);
        self.diverged = true;
        self.window = Window::at(size);
        self.outbox.put(Report::Diverged { server: size, ours });
    }

    /// Takes the answer to a PUT.
    pub(crate) fn updated(&mut self, answer: UpdateAnswer, now: Instant) {
        let Some(Sent::Put { last }) = self.sent.take() else { return };
        self.pace.patch_failed = false;
        let forbidden = matches!(answer.outcome, UpdateOutcome::Forbidden);
        if self.heed(&answer.says, forbidden) {
            return;
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
                self.succeed(now);
            }
            UpdateOutcome::Forbidden => self.fail(REFUSED_UNSAID.to_owned(), now),
            UpdateOutcome::Later(error) | UpdateOutcome::Unreachable(error) => self.fail(words(&error), now),
            // Not an answer to an acknowledgement that helps; whether the job is ours shows with the next request.
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
            }
            UpdateOutcome::TraceRejected => {
                self.fail("GitLab has thrown the log away and gets it again (412)".to_owned(), now);
                self.synced = false;
                self.diverged = false;
                self.restart(0, now);
            }
            UpdateOutcome::BadRequest if self.may_acknowledge_again() => self.must_acknowledge = true,
            UpdateOutcome::Forbidden => self.fail(REFUSED_UNSAID.to_owned(), now),
            UpdateOutcome::Later(error) | UpdateOutcome::Unreachable(error) => self.fail(words(&error), now),
            other => self.fail(status_words(&other), now),
        }
    }

    /// A terminal state before the acknowledgement is a bad request: once, `running` is said again before it.
    fn may_acknowledge_again(&mut self) -> bool {
        self.ending.as_mut().is_some_and(|ending| !std::mem::replace(&mut ending.acknowledged_again, true))
    }

    /// What the headers say; true if that ends the relay.
    fn heed(&mut self, says: &Says, forbidden: bool) -> bool {
        if let Some(interval) = says.update_interval {
            self.interval = interval;
        }
        if let Some(reason) = gone(says.job_status.as_ref(), forbidden) {
            // With the verdict at hand, a job that is over is a job that is reported.
            let over = matches!(reason, GoneReason::Over(_)) && self.ending.is_some();
            self.end = Some(if over { RelayEnd::Delivered } else { RelayEnd::Aborted(reason) });
            return true;
        }
        if says.job_status == Some(RemoteStatus::Canceling) && self.ending.is_none() {
            self.outbox.put(Report::CancelRequested);
        }
        false
    }

    fn succeed(&mut self, now: Instant) {
        if self.pace.failures > 0 {
            self.outbox.put(Report::Trouble(None));
        }
        self.pace.failures = 0;
        self.pace.patch_failed = false;
        self.pace.retry = None;
        self.pace.keep_alive = now + self.job.pace.keep_alive;
    }

    fn fail(&mut self, message: String, now: Instant) {
        self.pace.failures = self.pace.failures.saturating_add(1);
        self.pace.retry = Some(now + self.backoff());
        if let Some(ending) = &mut self.ending {
            ending.tries += 1;
            if ending.tries >= self.job.final_tries && now >= self.job.deadline {
                self.end = Some(RelayEnd::GaveUp { message });
                return;
            }
        }
        self.outbox.put(Report::Trouble(Some(message)));
    }

    /// Doubles with every failure in a row. Between half and all of it, by job, so that a GitLab that comes back is not hit at once by all.
    fn backoff(&self) -> Duration {
        let doubled =
            self.job.pace.retry_min.saturating_mul(2_u32.saturating_pow(self.pace.failures.saturating_sub(1)));
        let spread = self
            .job
            .creds
            .id
            .unsigned_abs()
            .wrapping_add(u64::from(self.pace.failures))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let half = doubled.min(self.job.pace.retry_max) / 2;
        half + half.mul_f64(f64::from((spread >> 48) as u16) / f64::from(u16::MAX))
    }
}

const REFUSED_UNSAID: &str = "GitLab refuses updates (403) without saying that the job is over, as in maintenance mode";

/// Whether an answer says that GitLab wants nothing more about the job. Judged before the status; a 403 without a state proves nothing.
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

/// An error and its causes on one line.
pub(crate) fn words(error: &CallError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// An outcome that carries no error, for a log.
pub(crate) fn status_words(outcome: &UpdateOutcome) -> String {
    match outcome {
        UpdateOutcome::BadRequest => "GitLab says that the state does not fit (400)".to_owned(),
        UpdateOutcome::NotFound => "GitLab does not know the job (404)".to_owned(),
        UpdateOutcome::Conflict => "GitLab says that the job is in conflict (409)".to_owned(),
        UpdateOutcome::Forbidden => REFUSED_UNSAID.to_owned(),
        UpdateOutcome::Later(error) | UpdateOutcome::Unreachable(error) | UpdateOutcome::Other(error) => words(error),
        UpdateOutcome::Accepted => "accepted".to_owned(),
        UpdateOutcome::NotYet => "not yet complete (202)".to_owned(),
        UpdateOutcome::TraceRejected => "GitLab rejected the log (412)".to_owned(),
    }
}

#[cfg(test)]
mod tests;
