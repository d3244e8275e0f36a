//! The machine against single answers, and against a GitLab and a caller that misbehave in any
//! order.

use std::collections::BTreeMap;

use gantry_gitlab::{
    CallError, JobCredentials, JobHeaders, PatchAnswer, PatchOutcome, RemoteStatus, RunnerInfo, TransportError,
    TransportFault, UpdateAnswer, UpdateOutcome,
};

use super::*;
use crate::report::{GoneReason, Pace};

mod any_order;
mod refused;

fn job(now: Instant) -> RelayJob {
    RelayJob {
        creds: JobCredentials { id: 42, token: "glcbt-1".into() },
        info: RunnerInfo::kubernetes("bash", BTreeMap::new()),
        debug_trace: false,
        failure_reasons: vec!["script_failure".into(), "unknown_failure".into()],
        acknowledged: true,
        final_tries: 10,
        deadline: now + Duration::from_secs(3900),
        pace: Pace::default(),
    }
}

fn success() -> Verdict {
    Verdict { success: true, reason: None, exit_code: None, message: "done".into() }
}

fn patch(outcome: PatchOutcome, status: Option<&str>) -> PatchAnswer {
    PatchAnswer { outcome, headers: headers(status) }
}

fn put(outcome: UpdateOutcome, status: Option<&str>) -> UpdateAnswer {
    UpdateAnswer { outcome, headers: headers(status) }
}

fn headers(status: Option<&str>) -> JobHeaders {
    JobHeaders { job_status: status.map(RemoteStatus::parse), ..JobHeaders::default() }
}

fn broken() -> CallError {
    CallError::Transport(TransportError::new(TransportFault::Broken, "cut"))
}

/// A machine and its clock.
struct Bench {
    machine: Machine,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(change: impl FnOnce(&mut RelayJob)) -> Self {
        let now = Instant::now();
        let mut job = job(now);
        change(&mut job);
        Self { machine: Machine::new(Arc::new(job), now), start: now, now }
    }

    fn give(&mut self, offset: u64, text: &'static str) {
        self.machine.input(Some(Input::Trace { offset, bytes: Bytes::from_static(text.as_bytes()) }), self.now);
    }

    fn close(&mut self, bytes: u64) {
        let closed = FinishedTrace { verdict: success(), trace_bytes: bytes, trace_crc32: Some(7) };
        self.machine.input(Some(Input::Closed(Box::new(closed))), self.now);
    }

    fn step(&mut self) -> Step {
        self.machine.step(self.now)
    }

    /// The next step that is not waiting, with the second it comes at.
    fn act(&mut self) -> (u64, Step) {
        loop {
            match self.step() {
                Step::Wait(until) => self.now = until,
                step => return ((self.now - self.start).as_secs(), step),
            }
        }
    }

    fn act_patch(&mut self) -> (u64, u64, String) {
        match self.act() {
            (at, Step::Patch { offset, bytes }) => (at, offset, String::from_utf8(bytes.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn act_put(&mut self) -> (u64, JobUpdate) {
        match self.act() {
            (at, Step::Put(update)) => (at, update),
            other => panic!("{other:?}"),
        }
    }

    fn patched(&mut self, outcome: PatchOutcome, status: Option<&str>) {
        self.machine.patched(patch(outcome, status), self.now);
    }

    fn updated(&mut self, outcome: UpdateOutcome, status: Option<&str>) {
        self.machine.updated(put(outcome, status), self.now);
    }

    fn reports(&mut self) -> Vec<Report> {
        std::iter::from_fn(|| self.machine.reports().take()).collect()
    }

    fn end(&mut self) -> RelayEnd {
        match self.step() {
            Step::End(end) => end,
            other => panic!("{other:?}"),
        }
    }
}

fn ok() -> PatchOutcome {
    PatchOutcome::Accepted { size: None }
}

#[test]
fn a_place_that_no_trace_has_is_passed_over() {
    for offset in [limits::MOST_TRACE - 2, u64::MAX - 3, u64::MAX - 2, u64::MAX] {
        let mut bench = Bench::new(|_| {});
        bench.give(offset, "xyz");
        bench.give(0, "abc");
        bench.give(offset, "xyz");
        assert_eq!(bench.act_patch(), (0, 0, "abc".into()), "{offset}");
        bench.patched(ok(), None);
        assert_eq!(bench.reports(), [Report::Acked(3)], "{offset}");
    }
}

#[test]
fn the_first_bytes_go_at_once_and_the_next_at_the_interval() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    assert_eq!(bench.act_patch(), (0, 0, "abc".into()));
    bench.patched(ok(), Some("running"));
    bench.give(3, "de");
    bench.give(5, "f");
    assert_eq!(bench.act_patch(), (3, 3, "def".into()));
    let mut answer = patch(PatchOutcome::Accepted { size: Some(6) }, None);
    answer.headers.update_interval = Some(Duration::from_secs(60));
    bench.machine.patched(answer, bench.now);
    assert_eq!(bench.reports(), [Report::Acked(6)]);
    bench.give(6, "g");
    assert_eq!(bench.act_patch(), (3, 6, "g".into()), "after 3 s of silence");
    bench.patched(ok(), None);
    bench.give(7, "h");
    // 15 s without a word to GitLab come before the 60 s it asked for.
    for at in [18, 33, 48] {
        assert_eq!(bench.act_put(), (at, JobUpdate::of(JobState::Running)));
        bench.updated(UpdateOutcome::Accepted, Some("running"));
    }
    assert_eq!(bench.act_patch(), (63, 7, "h".into()));
}

/// A silent job learns from the answers that it was canceled.
#[test]
fn a_silent_job_says_something_every_15_s_and_every_4_s_while_somebody_watches() {
    let mut bench = Bench::new(|_| {});
    for at in [3, 7, 11] {
        assert_eq!(bench.act_put(), (at, JobUpdate::of(JobState::Running)));
        bench.updated(UpdateOutcome::Accepted, Some("running"));
    }
    let mut unwatched = put(UpdateOutcome::Accepted, Some("running"));
    unwatched.headers.update_interval = Some(UNWATCHED);
    assert_eq!(bench.act_put().0, 15);
    bench.machine.updated(unwatched, bench.now);
    for at in [30, 45] {
        assert_eq!(bench.act_put(), (at, JobUpdate::of(JobState::Running)));
        bench.updated(UpdateOutcome::Accepted, Some("running"));
    }
}

/// What GitLab asks for while nobody watches.
const UNWATCHED: Duration = Duration::from_mins(1);

/// A job of which GitLab has the first line, at this interval.
fn at_interval(interval: Duration) -> Bench {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "-");
    bench.act_patch();
    let mut answer = patch(ok(), Some("running"));
    answer.headers.update_interval = Some(interval);
    bench.machine.patched(answer, bench.now);
    bench
}

/// When the pieces of a job go out that prints `text` each `every`, in milliseconds from the first
/// print on.
fn paced(bench: &mut Bench, every: Duration, prints: u64, text: &'static str) -> Vec<u128> {
    let begun = bench.now + every;
    let mut sent = Vec::new();
    for print in 0..prints {
        let moment = begun + every * u32::try_from(print).unwrap();
        while bench.now < moment {
            match bench.step() {
                Step::Wait(until) => bench.now = until.min(moment),
                Step::Patch { .. } => {
                    sent.push((bench.now - begun).as_millis());
                    bench.patched(ok(), None);
                }
                Step::Put(_) => bench.updated(UpdateOutcome::Accepted, None),
                Step::End(end) => panic!("{end:?}"),
            }
        }
        bench.give(1 + print * text.len() as u64, text);
    }
    sent
}

#[test]
fn output_after_a_silence_goes_at_once_and_then_the_interval_holds() {
    let mut bench = at_interval(UNWATCHED);
    bench.now += limits::SILENCE;
    // A line every tenth of a second: the first is seen, the rest is bundled.
    assert_eq!(paced(&mut bench, Duration::from_millis(100), 1300, "x"), [60, 60_060, 120_060]);

    // Lines with a silence before each: ten at once, then no more than the keep-alives would be.
    let mut bench = at_interval(UNWATCHED);
    let sent = paced(&mut bench, Duration::from_secs(1), 180, "x");
    assert_eq!(sent[..10], std::array::from_fn::<u128, 10, _>(|line| 1000 * line as u128 + 60));
    let later: Vec<u128> = sent[10..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(later.iter().all(|pause| (15_000..=60_000).contains(pause)), "{sent:?}");
}

#[test]
fn a_section_that_begins_is_seen_within_a_second() {
    for (interval, at) in [(UNWATCHED, 400), (limits::UPDATE_INTERVAL, 60)] {
        let mut bench = at_interval(interval);
        bench.give(1, "-");
        bench.give(2, "section_start:1:step_script\r");
        let Step::Wait(until) = bench.step() else { panic!("at once") };
        assert_eq!((until - bench.now).as_millis(), at);
        bench.now = until;
        bench.act_patch();
        bench.patched(ok(), None);
        bench.give(30, "what follows waits for the interval");
        bench.act();
        assert!(bench.now - until > Duration::from_secs(2));
    }
    // A script that begins sections for ever gets one a minute.
    let mut bench = at_interval(Duration::from_mins(15));
    let sent = paced(&mut bench, Duration::from_millis(400), 1500, "section_start:");
    assert!((12..=12 + 10 + 2).contains(&sent.len()), "{sent:?}");
}

/// What comes while a piece is on its way is not in it, and counts like what comes before or after.
#[test]
fn output_after_a_silence_goes_at_once_also_behind_a_slow_answer() {
    let mut bench = at_interval(UNWATCHED);
    bench.now += limits::SILENCE;
    bench.give(1, "a");
    bench.act_patch();
    bench.now += limits::SILENCE;
    bench.give(2, "b");
    bench.now += limits::SILENCE;
    bench.patched(ok(), None);
    let answered = bench.now;
    assert_eq!(bench.act_patch().2, "b");
    assert_eq!(bench.now, answered);
}

/// The verdict overtakes the end of a log: what is missing comes in small pieces, and they are
/// gathered.
#[test]
fn the_end_of_a_long_log_goes_in_full_pieces() {
    let mut bench = at_interval(UNWATCHED);
    let (piece, pieces) = (64 * 1024, 50_u64);
    bench.close(1 + pieces * piece);
    let mut sizes = Vec::new();
    for number in 0..pieces {
        let bytes = Bytes::from(vec![b'x'; usize::try_from(piece).unwrap()]);
        bench.machine.input(Some(Input::Trace { offset: 1 + number * piece, bytes }), bench.now);
        if let Step::Patch { bytes, .. } = bench.step() {
            sizes.push(bytes.len());
            bench.patched(ok(), None);
        }
    }
    assert_eq!(sizes, [limits::MAX_PATCH, limits::MAX_PATCH, limits::MAX_PATCH, 2 * 64 * 1024]);
    assert!(bench.act_put().1.output.is_some());

    // What does not come holds nothing back for long.
    let mut bench = at_interval(UNWATCHED);
    bench.give(1, "ab");
    bench.close(9);
    assert_eq!(bench.act_patch(), (3, 1, "ab".into()));
}

#[test]
fn a_full_piece_goes_at_once_within_the_rate_that_gitlab_allows() {
    let mut bench = at_interval(UNWATCHED);
    let mebibyte = Bytes::from(vec![b'x'; limits::MAX_PATCH]);
    let mut sent = Vec::new();
    for piece in 0..130 {
        let offset = 1 + piece * mebibyte.len() as u64;
        bench.machine.input(Some(Input::Trace { offset, bytes: mebibyte.clone() }), bench.now);
        loop {
            match bench.act().1 {
                Step::Patch { bytes, .. } => {
                    assert_eq!(bytes.len(), mebibyte.len());
                    break;
                }
                Step::Put(_) => bench.updated(UpdateOutcome::Accepted, None),
                other => panic!("{other:?}"),
            }
        }
        sent.push((bench.now - bench.start).as_secs());
        bench.patched(ok(), None);
    }
    // One piece was sent before.
    assert_eq!(sent[98], 0);
    assert_eq!(sent[99..], std::array::from_fn::<u64, 31, _>(|more| more as u64 + 1));
    // The end of a log goes at once as well, and no faster than that.
    bench.give(1 + 130 * mebibyte.len() as u64, "end");
    bench.close(1 + 130 * mebibyte.len() as u64 + 3);
    assert_eq!(bench.act_patch().0, 32);
}

#[test]
fn the_end_waits_for_nothing_and_comes_behind_the_last_byte() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.act_patch();
    bench.patched(ok(), None);
    bench.give(3, "de");
    bench.close(5);
    assert_eq!(bench.act_patch(), (0, 3, "de".into()));
    bench.patched(ok(), None);
    let (at, update) = bench.act_put();
    assert_eq!((at, update.state, update.output), (0, JobState::Success, Some(Output { crc32: 7, bytesize: 5 })));
    bench.updated(UpdateOutcome::NotYet, None);
    assert_eq!(bench.act_put(), (3, update.clone()));
    bench.updated(UpdateOutcome::Later(broken()), None);
    assert_eq!(bench.act_put().1, update);
    bench.updated(UpdateOutcome::Accepted, Some("success"));
    assert_eq!(bench.end(), RelayEnd::Delivered);
}

#[test]
fn a_failed_verdict_in_words_the_server_knows() {
    let mut bench = Bench::new(|_| {});
    let reason = Some(FailureReason::RunnerConfigurationError);
    let verdict = Verdict { success: false, reason, exit_code: Some(3), message: String::new() };
    bench.machine.input(
        Some(Input::Closed(Box::new(FinishedTrace { verdict, trace_bytes: 0, trace_crc32: Some(0) }))),
        bench.now,
    );
    let (_, update) = bench.act_put();
    assert_eq!(
        (update.state, update.failure_reason, update.exit_code),
        (JobState::Failed, Some(FailureReason::ScriptFailure), Some(3))
    );
}

/// What ends a relay and what does not, while the job runs and once it has ended.
#[test]
fn answers_that_end_and_answers_that_do_not() {
    let over = |word| RelayEnd::Aborted(GoneReason::Over(RemoteStatus::parse(word)));
    let expired = RelayEnd::Aborted(GoneReason::TokenExpired(RemoteStatus::Running));
    let forbidden = || UpdateOutcome::Forbidden;
    let cases = [
        (forbidden(), Some("canceled"), Some(over("canceled")), Some(RelayEnd::Delivered)),
        (forbidden(), Some("success"), Some(over("success")), Some(RelayEnd::Delivered)),
        (forbidden(), Some("running"), Some(expired.clone()), Some(expired)),
        (
            forbidden(),
            Some("pending"),
            Some(RelayEnd::Aborted(GoneReason::TakenBack)),
            Some(RelayEnd::Aborted(GoneReason::TakenBack)),
        ),
        (forbidden(), None, None, None),
        (UpdateOutcome::Accepted, Some("canceled"), Some(over("canceled")), Some(RelayEnd::Delivered)),
        (UpdateOutcome::Accepted, Some("canceling"), None, Some(RelayEnd::Delivered)),
        (UpdateOutcome::NotFound, None, None, None),
        (UpdateOutcome::Conflict, None, None, None),
        (UpdateOutcome::Later(broken()), None, None, None),
        (UpdateOutcome::Unreachable(broken()), None, None, None),
    ];
    for (outcome, status, running, last) in cases {
        for (closed, expected) in [(false, running), (true, last)] {
            let mut bench = Bench::new(|_| {});
            if closed {
                bench.close(0);
            }
            bench.act_put();
            bench.updated(outcome.clone(), status);
            let end = match bench.step() {
                Step::End(end) => Some(end),
                _ => None,
            };
            assert_eq!(end, expected, "{outcome:?} {status:?} closed: {closed}");
        }
    }
}

#[test]
fn a_cancel_is_told_as_often_as_it_is_heard() {
    let mut bench = Bench::new(|_| {});
    for offset in 0..2 {
        bench.give(offset, "x");
        bench.act_patch();
        bench.patched(ok(), Some("canceling"));
        assert_eq!(bench.reports(), [Report::CancelRequested, Report::Acked(offset + 1)]);
    }
}

#[test]
fn bytes_of_a_patch_that_says_canceled_are_not_confirmed() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.act_patch();
    bench.patched(ok(), Some("canceled"));
    assert_eq!(bench.reports(), []);
    assert_eq!(bench.end(), RelayEnd::Aborted(GoneReason::Over(RemoteStatus::Canceled)));
}

#[test]
fn failures_wait_longer_and_longer_and_keep_everything() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    let mut kept_alive = 0;
    for failure in 0..12 {
        match bench.act().1 {
            Step::Patch { offset, .. } => {
                assert_eq!(offset, 0);
                bench.patched(PatchOutcome::Forbidden, None);
            }
            Step::Put(_) => {
                kept_alive += 1;
                bench.updated(UpdateOutcome::Unreachable(broken()), None);
            }
            other => panic!("{other:?}"),
        }
        let Step::Wait(until) = bench.step() else { panic!("no wait") };
        let wait = (until - bench.now).as_millis();
        let longest = (1_000 << failure).min(60_000);
        assert!((longest / 2..=longest).contains(&wait), "{failure}: {wait}");
    }
    assert_eq!(kept_alive, 5, "every second one, once 3 s have passed");
    assert_eq!(bench.act_patch().2, "abc");
    bench.reports();
    bench.patched(ok(), None);
    assert_eq!(bench.reports(), [Report::Acked(3), Report::Trouble(None)]);
}

#[test]
fn the_server_is_right_about_its_size() {
    // Behind us, inside of what is held: from there.
    let mut bench = Bench::new(|_| {});
    bench.give(10, "abcdef");
    bench.act_patch();
    bench.patched(PatchOutcome::RangeMismatch { size: 13 }, None);
    assert_eq!(bench.reports(), [Report::Acked(13)]);
    assert_eq!(bench.act_patch(), (3, 13, "def".into()));
    // Before what is held: the caller must help.
    bench.patched(PatchOutcome::RangeMismatch { size: 4 }, None);
    assert_eq!(bench.reports()[0], Report::WantFrom(4));
    bench.give(16, "gh");
    assert_eq!(bench.reports(), [], "asked a moment ago");
    bench.now += limits::WANT_REPEAT;
    bench.step();
    assert_eq!(bench.reports(), [Report::WantFrom(4)]);
    bench.give(4, "456789abcdef");
    bench.act_put();
    bench.updated(UpdateOutcome::Accepted, None);
    assert_eq!(bench.act_patch().1, 4);
}

#[test]
fn a_relay_before_us_may_have_sent_more_than_we_were_given() {
    let mut bench = Bench::new(|_| {});
    bench.give(10, "abc");
    bench.act_patch();
    bench.patched(PatchOutcome::RangeMismatch { size: 15 }, None);
    assert_eq!(bench.reports(), [Report::Ahead { server: 15, ours: 13 }]);
    bench.give(13, "defg");
    bench.close(17);
    assert_eq!(bench.act_patch().1, 15);
    bench.patched(PatchOutcome::Accepted { size: Some(17) }, None);
    assert_eq!(bench.act_put().1.output, Some(Output { crc32: 7, bytesize: 17 }));
}

#[test]
fn a_relay_beside_us_may_send_more_than_we_were_given() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.act_patch();
    bench.patched(PatchOutcome::Accepted { size: Some(3) }, None);
    // Our caller was cut off meanwhile; the agent has sent ten bytes more by itself.
    bench.give(3, "defg");
    bench.act_patch();
    bench.patched(PatchOutcome::RangeMismatch { size: 13 }, None);
    bench.give(7, "hijklmno");
    bench.close(15);
    assert_eq!(bench.act_patch().1, 13);
    bench.patched(PatchOutcome::Accepted { size: Some(15) }, None);
    assert_eq!(bench.act_put().1.output, Some(Output { crc32: 7, bytesize: 15 }));
}

#[test]
fn a_log_that_somebody_else_wrote_to_is_left_alone() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.act_patch();
    bench.patched(PatchOutcome::Accepted { size: Some(3) }, None);
    bench.give(3, "def");
    bench.act_patch();
    bench.reports();
    bench.patched(PatchOutcome::RangeMismatch { size: 100 }, None);
    bench.give(6, "ghi");
    assert_eq!(bench.act_put().1.state, JobState::Running);
    bench.updated(UpdateOutcome::Accepted, None);
    bench.close(9);
    assert!(bench.reports().contains(&Report::Diverged { server: 100, ours: 9 }));
    let (_, update) = bench.act_put();
    assert_eq!((update.state, update.output), (JobState::Success, None));

    // Also when it shows only at the end, to a relay that has sent nothing itself.
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.close(3);
    bench.act_patch();
    bench.patched(PatchOutcome::RangeMismatch { size: 4 }, None);
    assert_eq!(bench.reports(), [Report::Diverged { server: 4, ours: 3 }]);
    assert_eq!(bench.act_put().1.output, None);
}

/// GitLab takes a piece at the end of what it has, so that it cannot have more afterwards. Whatever
/// is there is not ours, and nothing is thought to have arrived that was not sent.
#[test]
fn a_size_beyond_what_was_sent_is_no_reason_to_leave_lines_out() {
    for size in [5, 7, u64::MAX / 2] {
        let mut bench = Bench::new(|_| {});
        bench.give(0, "abc");
        bench.act_patch();
        bench.give(3, "def");
        bench.patched(PatchOutcome::Accepted { size: Some(size) }, Some("running"));
        assert_eq!(bench.reports(), [Report::Diverged { server: size, ours: 6 }, Report::Acked(3)]);
        bench.give(6, "ghi");
        assert_eq!(bench.act_put().1.state, JobState::Running, "no piece is sent any more");
        bench.updated(UpdateOutcome::Accepted, None);
        bench.close(9);
        let (_, update) = bench.act_put();
        assert_eq!((update.state, update.output), (JobState::Success, None));
        bench.updated(UpdateOutcome::Accepted, None);
        assert_eq!(bench.end(), RelayEnd::Delivered);
    }
}

#[test]
fn a_rejected_log_is_sent_again_from_its_start() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.close(3);
    bench.act_patch();
    bench.patched(ok(), None);
    bench.act_put();
    bench.updated(UpdateOutcome::TraceRejected, None);
    assert!(bench.reports().contains(&Report::WantFrom(0)));
    bench.give(0, "abc");
    assert_eq!(bench.act_patch().1, 0);
    bench.patched(ok(), None);
    assert!(bench.act_put().1.output.is_some());
}

#[test]
fn everything_sent_before_us_leaves_only_the_verdict() {
    let mut bench = Bench::new(|_| {});
    bench.close(5);
    assert_eq!(bench.act_put().1.output, Some(Output { crc32: 7, bytesize: 5 }));
}

#[test]
fn the_state_goes_out_without_the_log_when_that_cannot_arrive() {
    // Refused for ever.
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.close(3);
    let mut refusals = 0;
    let update = loop {
        match bench.act().1 {
            Step::Patch { .. } => {
                refusals += 1;
                bench.patched(PatchOutcome::NotFound, None);
            }
            Step::Put(update) if update.state.is_final() => break update,
            Step::Put(_) => bench.updated(UpdateOutcome::Accepted, None),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((refusals, update.output), (limits::FINAL_REFUSALS, None));

    // Nobody has it.
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.act_patch();
    bench.patched(ok(), None);
    bench.close(9);
    bench.machine.input(None, bench.now);
    assert_eq!(bench.act_put(), (0, JobUpdate::of(JobState::Success)));

    // Nobody gives it until shortly before the token ends.
    let mut bench = Bench::new(|_| {});
    bench.give(0, "");
    bench.close(9);
    let at = loop {
        match bench.act_put() {
            (_, update) if update.state == JobState::Running => bench.updated(UpdateOutcome::Accepted, None),
            (at, _) => break at,
        }
    };
    assert_eq!(at, 3900 - limits::LAST_CHANCE.as_secs());
}

#[test]
fn a_piece_of_the_log_leaves_the_state_a_part_of_the_last_chance() {
    const PIECE: u64 = limits::MAX_PATCH as u64;
    let piece = Bytes::from(vec![b'x'; limits::MAX_PATCH]);
    // How long a piece may take that begins so many seconds before the token ends.
    let time = |before: u64, is_over: bool| {
        let mut bench = Bench::new(|_| {});
        bench.now = bench.start + Duration::from_secs(3900 - before);
        bench.machine.input(Some(Input::Trace { offset: 0, bytes: piece.clone() }), bench.now);
        if is_over {
            bench.close(PIECE);
        }
        loop {
            match bench.step() {
                Step::Put(update) => {
                    assert_eq!(update.state, JobState::Running, "this process has slept");
                    bench.updated(UpdateOutcome::Accepted, None);
                }
                Step::Patch { .. } => return (bench.machine.answer_by() - bench.now).as_secs(),
                other => panic!("{other:?}"),
            }
        }
    };
    let times = [200, 122, 100, 61, 60, 45].map(|before| (time(before, false), time(before, true)));
    assert_eq!(times, [(122, 122), (122, 92), (122, 70), (122, 31), (122, 30), (122, 30)]);
}

#[test]
fn a_wait_that_gitlab_asks_for_is_kept_until_the_last_chance() {
    let asks = |bench: &mut Bench| {
        let headers = JobHeaders { asked_wait: Some(Duration::from_mins(1)), ..JobHeaders::default() };
        bench.machine.patched(PatchAnswer { outcome: PatchOutcome::Later(broken()), headers }, bench.now);
    };
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    assert_eq!(bench.act_patch().0, 0);
    asks(&mut bench);
    assert_eq!(bench.act_put().0, 60, "the state's turn");
    bench.updated(UpdateOutcome::Accepted, None);
    assert_eq!(bench.act_patch().0, 60);
    bench.patched(PatchOutcome::Later(broken()), None);
    assert!(bench.act_patch().0 <= 62, "what was asked for once is not asked for ever");
    bench.now = bench.start + Duration::from_secs(3900 - 80);
    bench.close(3);
    assert_eq!(bench.act_put().0, 3820, "this process has slept");
    bench.updated(UpdateOutcome::Accepted, None);
    assert_eq!(bench.act_patch().0, 3820);
    asks(&mut bench);
    assert_eq!(bench.act_patch().0, 3840, "the last chance");
    asks(&mut bench);
    assert_eq!(bench.act_put().0, 3840);
}

#[test]
fn a_log_that_could_not_be_sent_is_tried_once_more_before_the_last_chance_is_taken() {
    for gitlab_is_back in [true, false] {
        let mut bench = Bench::new(|_| {});
        bench.give(0, "abc");
        bench.close(3);
        let last_chance = 3900 - limits::LAST_CHANCE.as_secs();
        let at = loop {
            match bench.act() {
                (at, Step::Patch { .. }) if at >= last_chance => break at,
                (_, Step::Patch { .. }) => bench.patched(PatchOutcome::Unreachable(broken()), None),
                (_, Step::Put(_)) => bench.updated(UpdateOutcome::Unreachable(broken()), None),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(at, last_chance, "no pause leads past it");
        if gitlab_is_back {
            bench.patched(ok(), None);
            assert!(bench.act_put().1.output.is_some());
        } else {
            // The state does not wait behind the failure: after a pause the piece might have gone.
            bench.patched(PatchOutcome::Unreachable(broken()), None);
            assert_eq!(bench.act_put(), (at, JobUpdate::of(JobState::Success)));
            bench.updated(UpdateOutcome::Unreachable(broken()), None);
            assert!(bench.act_patch().0 > at, "and the next turn is the log's");
            bench.patched(ok(), None);
            assert!(bench.act_put().1.output.is_some());
        }
    }
}

#[test]
fn a_final_line_is_appended_to_whatever_gitlab_has() {
    let final_line =
        || Input::FinalLine { line: Bytes::from_static(b"the pod is gone\n"), verdict: Box::new(success()) };
    let mut bench = Bench::new(|_| {});
    bench.machine.input(Some(final_line()), bench.now);
    assert_eq!(bench.act_patch().1, 0);
    bench.patched(PatchOutcome::RangeMismatch { size: 70 }, None);
    assert_eq!(bench.act_patch(), (0, 70, "the pod is gone\n".into()));
    bench.patched(PatchOutcome::Accepted { size: Some(86) }, None);
    assert_eq!(bench.act_put().1.output, None);

    // A log of another manager that is as long as the line is not taken for the line.
    let mut bench = Bench::new(|_| {});
    bench.machine.input(Some(final_line()), bench.now);
    assert_eq!(bench.act_patch(), (0, 0, "t".into()));
    bench.patched(PatchOutcome::RangeMismatch { size: 16 }, None);
    assert_eq!(bench.act_patch(), (0, 16, "the pod is gone\n".into()));

    // There is none yet.
    let mut bench = Bench::new(|_| {});
    bench.machine.input(Some(final_line()), bench.now);
    bench.act_patch();
    bench.patched(PatchOutcome::Accepted { size: Some(1) }, None);
    assert_eq!(bench.act_patch(), (0, 1, "he pod is gone\n".into()));
    bench.patched(PatchOutcome::Accepted { size: Some(16) }, None);
    assert_eq!(bench.act_put().1.output.map(|output| output.bytesize), Some(16));

    // Where all of the trace has come through here, GitLab can check it.
    let mut bench = Bench::new(|_| {});
    bench.give(0, "1234");
    bench.give(2, "3456");
    bench
        .machine
        .input(Some(Input::FinalLine { line: Bytes::from_static(b"789"), verdict: Box::new(success()) }), bench.now);
    assert_eq!(bench.act_patch(), (0, 0, "1".into()));
    bench.patched(ok(), None);
    assert_eq!(bench.act_patch(), (0, 1, "23456789".into()));
    bench.patched(ok(), None);
    assert_eq!(bench.act_put().1.output, Some(Output { crc32: 0xcbf4_3926, bytesize: 9 }));

    // What is still held goes before it, unless GitLab has it already.
    for (answer, offset, sent) in [
        (ok(), 12, "cthe pod is gone\n"),
        (PatchOutcome::RangeMismatch { size: 13 }, 13, "the pod is gone\n"),
        (PatchOutcome::RangeMismatch { size: 14 }, 14, "the pod is gone\n"),
        // As long as ours and the line would be: another manager has put one there.
        (PatchOutcome::RangeMismatch { size: 29 }, 29, "the pod is gone\n"),
        (PatchOutcome::RangeMismatch { size: 99 }, 99, "the pod is gone\n"),
    ] {
        let mut bench = Bench::new(|_| {});
        bench.give(11, "bc");
        bench.machine.input(Some(final_line()), bench.now);
        assert_eq!(bench.act_patch(), (0, 11, "b".into()));
        bench.patched(answer, None);
        assert_eq!(bench.act_patch(), (0, offset, sent.into()));
    }

    // Where GitLab has said before how much it has, what it has more is the line, if it is as much.
    let told = || {
        let mut bench = Bench::new(|_| {});
        bench.give(0, "ab");
        bench.act_patch();
        bench.patched(ok(), None);
        bench.machine.input(Some(final_line()), bench.now);
        assert_eq!(bench.act_patch().2, "the pod is gone\n");
        bench
    };
    let mut bench = told();
    bench.patched(PatchOutcome::RangeMismatch { size: 18 }, None);
    assert!(matches!(bench.act().1, Step::Put(_)));

    // Else its agent has gone on by itself while this manager slept, and nobody here knows how.
    let mut bench = told();
    bench.patched(PatchOutcome::RangeMismatch { size: 9 }, None);
    assert_eq!(bench.act_patch(), (0, 9, "the pod is gone\n".into()));
    bench.patched(ok(), None);
    assert_eq!(bench.act_put().1.output, None);
}

#[test]
fn a_relay_that_slept_asks_before_it_sends_more() {
    let slept = || {
        let mut bench = Bench::new(|_| {});
        bench.give(0, "ab");
        bench.act_patch();
        bench.patched(ok(), None);
        bench.now += Duration::from_mins(3);
        bench.machine.input(
            Some(Input::FinalLine { line: Bytes::from_static(b"the pod is gone\n"), verdict: Box::new(success()) }),
            bench.now,
        );
        let asked = bench.act_put();
        assert_eq!(asked.1, JobUpdate::of(JobState::Running));
        bench
    };
    let mut bench = slept();
    bench.updated(UpdateOutcome::Forbidden, Some("failed"));
    assert!(matches!(bench.act().1, Step::End(RelayEnd::Delivered)));

    // It slept over this request too.
    let mut bench = slept();
    bench.now += Duration::from_mins(3);
    bench.updated(UpdateOutcome::Unreachable(broken()), None);
    assert_eq!(bench.act_put().1, JobUpdate::of(JobState::Running));

    // Once, whatever the answer: the log must not wait for an answer to something else.
    let mut bench = slept();
    bench.updated(UpdateOutcome::Unreachable(broken()), None);
    assert_eq!(bench.act_patch().2, "the pod is gone\n");
}

#[test]
fn an_unacknowledged_job_is_acknowledged_first() {
    let mut bench = Bench::new(|job| job.acknowledged = false);
    bench.give(0, "abc");
    assert_eq!(bench.act_put(), (0, JobUpdate::of(JobState::Running)));
    bench.updated(UpdateOutcome::Accepted, None);
    assert_eq!(bench.act_patch().0, 0);

    // A final state refused as one that does not fit is tried again after one more acknowledgement.
    let mut bench = Bench::new(|_| {});
    bench.close(0);
    for state in [JobState::Success, JobState::Running, JobState::Success] {
        assert_eq!(bench.act_put().1.state, state);
        bench.updated(UpdateOutcome::BadRequest, None);
    }
}

#[test]
fn gives_up_only_after_the_deadline_and_all_tries() {
    let mut bench = Bench::new(|_| {});
    bench.close(0);
    let mut tries = 0;
    let end = loop {
        match bench.act() {
            (_, Step::Put(_)) => {
                tries += 1;
                bench.updated(UpdateOutcome::Unreachable(broken()), None);
            }
            (_, Step::End(end)) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(end, RelayEnd::GaveUp { .. }) && bench.now - bench.start >= Duration::from_secs(3900) && tries > 10
    );

    for outcome in [|| UpdateOutcome::Unreachable(broken()), || UpdateOutcome::NotYet] {
        let mut bench = Bench::new(|job| job.deadline = Instant::now());
        bench.close(0);
        for _ in 0..10 {
            bench.act_put();
            bench.updated(outcome(), None);
        }
        assert!(matches!(bench.end(), RelayEnd::GaveUp { .. }));
    }
}

#[test]
fn a_state_that_is_never_complete_is_given_up_with_its_token() {
    let mut bench = Bench::new(|_| {});
    bench.close(0);
    let message = loop {
        match bench.act() {
            (_, Step::Put(_)) => bench.updated(UpdateOutcome::NotYet, Some("running")),
            (_, Step::End(RelayEnd::GaveUp { message })) => break message,
            other => panic!("{other:?}"),
        }
    };
    let after = (bench.now - bench.start).as_secs();
    assert!((3900..3910).contains(&after) && message.contains("202"), "{after}: {message}");
}

#[test]
fn a_full_window_reads_no_more() {
    let mut bench = Bench::new(|_| {});
    let bytes = Bytes::from(vec![b'x'; limits::WINDOW]);
    bench.machine.input(Some(Input::Trace { offset: 0, bytes }), bench.now);
    assert!(!bench.machine.wants_input(bench.now));
    let Step::Patch { bytes, .. } = bench.step() else { panic!("no patch") };
    assert_eq!(bytes.len(), limits::MAX_PATCH);
    bench.patched(ok(), None);
    assert!(bench.machine.wants_input(bench.now));
}

#[test]
fn a_verdict_behind_a_log_that_nobody_takes_is_heard() {
    let whole = limits::WINDOW as u64 + 3;
    // Refused for good, what is held is given up after some tries; what may only be late is not,
    // until the deadline is near.
    for (outcome, in_time) in [
        (PatchOutcome::Other(broken()), Duration::from_mins(30)),
        (PatchOutcome::Later(broken()), Duration::from_secs(3900)),
    ] {
        let mut bench = Bench::new(|_| {});
        let bytes = Bytes::from(vec![b'x'; limits::WINDOW]);
        bench.machine.input(Some(Input::Trace { offset: 0, bytes }), bench.now);
        let mut is_closed = false;
        let update = loop {
            if !is_closed && bench.machine.wants_input(bench.now) {
                bench.give(limits::WINDOW as u64, "end");
                bench.close(whole);
                is_closed = true;
            }
            match bench.act().1 {
                Step::Patch { .. } => bench.patched(outcome.clone(), None),
                Step::Put(update) if update.state.is_final() => break update,
                Step::Put(_) => bench.updated(UpdateOutcome::Accepted, None),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((update.state, update.output), (JobState::Success, None));
        assert!(bench.now - bench.start < in_time, "{:?}", bench.now - bench.start);
    }
}

#[test]
fn a_log_that_is_taken_slowly_is_read_as_slowly() {
    let nearly = limits::STUCK.saturating_sub(Duration::from_secs(1));
    let mut bench = Bench::new(|_| {});
    let bytes = Bytes::from(vec![b'x'; limits::WINDOW + limits::MAX_PATCH]);
    bench.machine.input(Some(Input::Trace { offset: 0, bytes }), bench.now);
    bench.now += nearly;
    assert!(!bench.machine.wants_input(bench.now));
    while !matches!(bench.act().1, Step::Patch { .. }) {
        bench.updated(UpdateOutcome::Accepted, None);
    }
    bench.patched(ok(), None);
    bench.now += nearly;
    assert!(!bench.machine.wants_input(bench.now), "it was taken a moment ago");
    bench.now += Duration::from_secs(1);
    assert!(bench.machine.wants_input(bench.now));
}
