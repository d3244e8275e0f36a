//! Decides what a relay sends next, and in `answers.rs` what an answer means. Pure: time comes in
//! as an argument, requests go out as values.
//!
//! Two rules carry everything: a byte is forgotten only when GitLab has confirmed it, and the
//! terminal state is made once and goes out only behind the last byte, except where there is proof
//! that the last byte cannot get there.

mod answers;
mod refusals;
mod schedule;

pub(crate) use answers::{gone, status_words};

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::{FailureReason, JobState, Verdict};
use gantry_gitlab::limits::patch_trace_timeout;
use gantry_gitlab::{JobUpdate, Output};
use tokio::time::Instant;

use crate::answer_timeout::AnswerTimeout;
use crate::limits;
use crate::machine::refusals::Refusals;
use crate::machine::schedule::Schedule;
use crate::outbox::Outbox;
use crate::report::{FinishedTrace, Input, RelayEnd, RelayJob, Report};
use crate::sum::Sum;
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
    job: Arc<RelayJob>,
    interval: Duration,
    window: Window,
    /// Of everything that has come in.
    sum: Sum,
    /// The first input has said where the relay starts.
    started: bool,
    /// GitLab has said how much of the trace it has.
    knows_place: bool,
    /// GitLab has bytes that are not ours.
    diverged: bool,
    must_acknowledge: bool,
    ending: Option<Ending>,
    inputs_gone: bool,
    sent: Option<Sent>,
    pace: Schedule,
    refusals: Refusals,
    /// Since when the window is full and nothing of it was taken.
    full_since: Option<Instant>,
    /// What came while the window was full is not kept: it is asked for when there is room.
    left_out: bool,
    answer_timeout: AnswerTimeout,
    /// The wait that GitLab has asked for with its last answer.
    asked_wait: Option<Duration>,
    outbox: Outbox,
    end: Option<RelayEnd>,
}

/// The end of the trace and the one terminal state.
#[derive(Debug)]
struct Ending {
    verdict: Verdict,
    /// Size and checksum of the whole trace; unknown where the rest of the trace is lost.
    trace: Option<(u64, Option<u32>)>,
    /// What is appended to a trace whose end nobody has.
    final_line: FinalLine,
    tries: u32,
    refusals: u32,
    /// The server refused the state as one that does not fit, and was told `running` once more.
    acknowledged_again: bool,
}

/// What is appended to a trace whose end nobody has.
#[derive(Debug, Default)]
struct FinalLine {
    /// Length of its line.
    line: usize,
    /// GitLab has not said yet how much of the trace it has. It takes a piece for one that it has
    /// already where its log ends as the piece does, and an earlier manager may have put as long a
    /// line there: a piece goes first that is shorter than any line.
    is_blind: bool,
    /// Size and checksum of the whole trace with it, if everything has come in here and GitLab has
    /// the same.
    sum: Option<(u64, u32)>,
}

/// The request under way.
#[derive(Debug)]
enum Sent {
    Patch { offset: u64, length: usize },
    Put { last: bool },
}

impl Machine {
    pub(crate) fn new(job: Arc<RelayJob>, now: Instant) -> Self {
        let interval = job.pace.interval;
        Self {
            interval,
            window: Window::default(),
            sum: Sum::default(),
            started: false,
            knows_place: false,
            diverged: false,
            must_acknowledge: !job.acknowledged,
            ending: None,
            inputs_gone: false,
            sent: None,
            pace: Schedule::new(interval, now),
            refusals: Refusals::default(),
            full_since: None,
            left_out: false,
            answer_timeout: AnswerTimeout::default(),
            asked_wait: None,
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

    /// Whether there is room for more. Where nothing is taken nobody waits for room: the verdict is
    /// behind the log.
    pub(crate) fn wants_input(&self, now: Instant) -> bool {
        let is_stuck = self.full_since.is_some_and(|since| now >= since + limits::STUCK);
        let has_room = self.window.len() < limits::WINDOW || self.refusals.are_proof() || is_stuck;
        !self.inputs_gone && self.end.is_none() && has_room
    }

    /// When the answer to the request under way is given up.
    pub(crate) fn answer_by(&self) -> Instant {
        self.pace.answer_by
    }

    /// How long the answer to a request may take that begins now. Once the verdict is known, each
    /// that does not bring it leaves it a part of the last chance.
    fn answer_time(&self, step: &Step, now: Instant) -> Duration {
        let usual = self.answer_timeout.answer_time();
        let (time, is_final) = match step {
            Step::Patch { bytes, .. } => (patch_trace_timeout(bytes.len(), usual), false),
            Step::Put(update) => (usual, update.state.is_final()),
            Step::Wait(_) | Step::End(_) => (usual, false),
        };
        let most = self.last_chance().max(now) + limits::LAST_CHANCE / 2 - now;
        if self.ending.is_some() && !is_final { time.min(most) } else { time }
    }

    /// What to do now. A request that is returned counts as under way until its answer is told.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        self.ask_again(now);
        let step = self.decide(now);
        self.pace.answer_by = now + self.answer_time(&step, now);
        self.sent = match &step {
            Step::Patch { offset, bytes } => {
                self.pace.patch_begins(self.interval, now);
                Some(Sent::Patch { offset: *offset, length: bytes.len() })
            }
            Step::Put(update) => {
                self.pace.asked_at_waking = true;
                Some(Sent::Put { last: update.state.is_final() })
            }
            Step::Wait(_) | Step::End(_) => None,
        };
        step
    }

    fn decide(&self, now: Instant) -> Step {
        if let Some(end) = &self.end {
            return Step::End(end.clone());
        }
        if let Some(retry) = self.pace.retry.filter(|retry| now < *retry)
            && !self.is_states_turn()
            && !self.refusals.are_final()
        {
            // What says that we live, and brings news of a cancel, does not wait for a log that is
            // refused for good.
            let keep_alive = self.pace.keep_alive;
            return match self.refusals.are_proof() {
                true if now >= keep_alive => Step::Put(JobUpdate::of(JobState::Running)),
                true => Step::Wait(retry.min(keep_alive)),
                false => Step::Wait(retry),
            };
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
        // Where only pieces of the trace fail, a keep-alive comes between two of them: it says that
        // we live, and brings news of a cancel.
        let last_chance = flushing && now >= self.last_chance();
        let puts_turn = self.pace.patch_failed.is_some() && now >= self.pace.keep_alive || self.pace.wakes(now);
        let others_turn = puts_turn && !last_chance;
        let patch = self.pace.patch_due(last_chance || self.is_piece_ready());
        if unsent && !others_turn && now >= patch {
            let is_blind = self.ending.as_ref().is_some_and(|ending| ending.final_line.is_blind);
            let most = if is_blind { limits::FEELER } else { limits::MAX_PATCH };
            return Step::Patch { offset: self.window.base(), bytes: self.window.slice(most) };
        }
        if now >= self.pace.keep_alive {
            return Step::Put(JobUpdate::of(JobState::Running));
        }
        let mut until = self.pace.keep_alive;
        if unsent {
            until = until.min(patch);
        }
        if let Some((_, again)) = self.pace.want {
            until = until.min(again);
        }
        if flushing {
            until = until.min(self.last_chance().max(now + self.job.pace.retry_min));
        }
        Step::Wait(until)
    }

    /// Whether what is held goes out whatever the interval: a full piece, or the last one. The
    /// verdict often comes before the end of the log, and small pieces until then would use up what
    /// GitLab allows.
    fn is_piece_ready(&self) -> bool {
        let is_last =
            |ending: &Ending| self.inputs_gone || ending.trace.is_none_or(|(bytes, _)| self.window.end() >= bytes);
        self.window.len() >= limits::MAX_PATCH || self.ending.as_ref().is_some_and(is_last)
    }

    /// Whether the terminal state may go out: everything is there, or it is proven or too late that
    /// it can be.
    fn may_report(&self, ending: &Ending, now: Instant) -> bool {
        let complete = self.window.is_empty() && ending.trace.is_none_or(|(bytes, _)| self.window.base() >= bytes);
        let missing = ending.trace.is_some_and(|(bytes, _)| self.window.end() < bytes);
        let orphaned = self.inputs_gone && missing && self.window.is_empty();
        let refused = ending.refusals >= limits::FINAL_REFUSALS || self.refusals.are_final();
        let too_late = now >= self.last_chance() && missing;
        complete || self.diverged || orphaned || refused || too_late || self.is_states_turn()
    }

    /// From the last chance on, log and state take turns: the state goes out directly behind a
    /// piece that failed then. After a pause GitLab might be back for the piece.
    fn is_states_turn(&self) -> bool {
        self.ending.is_some() && self.pace.patch_failed.is_some_and(|failed| failed >= self.last_chance())
    }

    fn last_chance(&self) -> Instant {
        self.job.deadline.checked_sub(limits::LAST_CHANCE).unwrap_or(self.job.deadline)
    }

    /// The one terminal state. It carries a checksum only if GitLab can have exactly our bytes.
    fn terminal(&self, ending: &Ending) -> JobUpdate {
        let verdict = &ending.verdict;
        let trace = ending.trace.or_else(|| ending.final_line.sum.map(|(bytes, crc32)| (bytes, Some(crc32))));
        let whole =
            |(bytes, _): &(u64, Option<u32>)| !self.diverged && self.window.is_empty() && self.window.base() == *bytes;
        let reason = || verdict.reason.unwrap_or(FailureReason::UnknownFailure).accepted_by(&self.job.failure_reasons);
        JobUpdate {
            state: verdict.state(),
            failure_reason: (!verdict.success).then(reason),
            output: trace.filter(whole).and_then(|(bytesize, crc32)| Some(Output { crc32: crc32?, bytesize })),
            exit_code: verdict.exit_code,
        }
    }

    /// Takes what the caller says; `None` when it has gone.
    pub(crate) fn input(&mut self, input: Option<Input>, now: Instant) {
        match input {
            Some(Input::Trace { offset, bytes }) => self.trace(offset, bytes, now),
            Some(Input::Closed(closed)) => {
                let FinishedTrace { verdict, trace_bytes, trace_crc32 } = *closed;
                self.finish(verdict, Some((trace_bytes, trace_crc32)), Bytes::new(), now);
            }
            Some(Input::FinalLine { line, verdict }) => self.finish(*verdict, None, line, now),
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
        let end = offset.saturating_add(bytes.len() as u64);
        if end > limits::MOST_TRACE {
            return;
        }
        self.sum.count(offset, &bytes);
        if self.diverged || self.ending.as_ref().is_some_and(|ending| ending.trace.is_none()) {
            return;
        }
        if !self.started {
            self.started = true;
            self.window = Window::at(offset);
        }
        let known = self.window.end();
        if self.window.len() >= limits::WINDOW && end > known {
            self.left_out = true;
            return;
        }
        let section = schedule::begins_section(&bytes);
        if !self.window.push(offset, bytes) {
            self.want(now);
        } else if end <= self.window.base() {
            // All of it is known: the caller may go on from there.
            self.outbox.put(Report::Acked(end));
        }
        if self.pace.want.is_some_and(|(place, _)| place < self.window.end()) {
            self.pace.want = None;
        }
        self.full_since = (self.window.len() >= limits::WINDOW).then(|| self.full_since.unwrap_or(now));
        if self.window.end() > known {
            self.pace.output_came(section, self.interval, now);
        }
    }

    /// Asks for the trace from the end of the window on: at once, and then now and again until it
    /// comes.
    fn want(&mut self, now: Instant) {
        let place = self.window.end();
        if self.pace.want.is_none_or(|(asked, _)| asked != place) {
            self.pace.want = Some((place, now + limits::WANT_REPEAT));
            self.outbox.put(Report::WantFrom(place));
        }
    }

    fn ask_again(&mut self, now: Instant) {
        if self.left_out && self.window.len() < limits::WINDOW {
            self.left_out = false;
            self.want(now);
        }
        if let Some((place, again)) = &mut self.pace.want
            && now >= *again
        {
            *again = now + limits::WANT_REPEAT;
            self.outbox.put(Report::WantFrom(*place));
        }
    }

    /// The first verdict counts; a later one is the same again after a broken connection.
    fn finish(&mut self, verdict: Verdict, trace: Option<(u64, Option<u32>)>, line: Bytes, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            // Nothing is left to send, says a caller who closes before it sends: a relay before us
            // has sent it all.
            self.window = Window::at(trace.map_or(0, |(bytes, _)| bytes));
        }
        let final_line = match trace {
            None => FinalLine { is_blind: !self.knows_place, ..self.append(line) },
            Some(_) => FinalLine::default(),
        };
        self.ending = Some(Ending { verdict, trace, final_line, tries: 0, refusals: 0, acknowledged_again: false });
        if trace.is_some_and(|(bytes, _)| self.window.base() > bytes) {
            self.diverge(self.window.base());
        }
        // The end waits for nothing that was only the pace of a running job.
        self.interval = self.job.pace.interval;
        self.pace.end_begins(self.interval, now);
        self.pace.retry = None;
        self.pace.failures = 0;
    }

    /// Puts the last line behind everything that is held. What was asked for will not come any
    /// more.
    fn append(&mut self, line: Bytes) -> FinalLine {
        self.pace.want = None;
        self.left_out = false;
        let length = line.len();
        let is_whole = self.sum.bytes() == self.window.end();
        if !self.diverged {
            self.sum.count(self.window.end(), &line);
            self.window.append(line);
        }
        let sum = is_whole.then(|| (self.sum.bytes(), self.sum.crc32()));
        FinalLine { line: length, is_blind: false, sum }
    }
}

#[cfg(test)]
mod tests;
