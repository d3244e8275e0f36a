//! Something before GitLab that refuses pieces of the log (403) and lets everything else through.

use super::*;

/// What was sent meanwhile.
#[derive(Debug, Default)]
struct Counted {
    pieces: u32,
    states: u32,
    /// The last thing that was said to the caller.
    trouble: Option<String>,
}

impl Bench {
    /// Refuses one piece, or takes one state; the terminal one is returned.
    fn refuse_one(&mut self, counted: &mut Counted) -> Option<JobUpdate> {
        match self.act().1 {
            Step::Patch { .. } => {
                counted.pieces += 1;
                self.patched(PatchOutcome::Forbidden, None);
            }
            Step::Put(update) if update.state.is_final() => return Some(update),
            Step::Put(_) => {
                counted.states += 1;
                self.updated(UpdateOutcome::Accepted, None);
            }
            other => panic!("{other:?}"),
        }
        for report in self.reports() {
            let Report::Trouble(why) = report else { panic!("{report:?}") };
            counted.trouble = why;
        }
        None
    }

    /// Refuses all pieces for so long.
    fn refuse_for(&mut self, time: Duration) -> Counted {
        let (mut counted, until) = (Counted::default(), self.now + time);
        while self.now < until {
            assert_eq!(self.refuse_one(&mut counted), None);
        }
        counted
    }

    /// Refuses all pieces until that is proof; the seconds that it took.
    fn refuse_until_proof(&mut self) -> u64 {
        let (mut counted, begin) = (Counted::default(), self.now);
        while !self.machine.refusals.are_proof() {
            assert_eq!(self.refuse_one(&mut counted), None);
            assert!(self.now - begin < Duration::from_mins(30), "never: {counted:?}");
        }
        assert!(counted.trouble.as_ref().is_some_and(|why| why.contains("PATCH")), "{counted:?}");
        (self.now - begin).as_secs()
    }
}

#[test]
fn a_log_that_is_refused_for_good_is_tried_once_a_minute_and_keep_alives_go_on() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    let took = bench.refuse_until_proof();
    assert!((300..=310).contains(&took), "{took} s");

    let counted = bench.refuse_for(Duration::from_mins(10));
    assert!((145..=151).contains(&counted.states), "a cancel is heard of within 4 s: {counted:?}");
    assert!((10..=25).contains(&counted.pieces), "the pauses of the log grow to a minute: {counted:?}");
    let why = counted.trouble.expect("a trouble that lasts");
    assert!(why.contains("403") && why.contains("PATCH of /api/v4/jobs/") && why.contains("proxy"), "{why}");

    // The news of a cancel come with what is taken.
    while !matches!(bench.act().1, Step::Put(_)) {
        bench.patched(PatchOutcome::Forbidden, None);
    }
    bench.updated(UpdateOutcome::Accepted, Some("canceling"));
    assert!(bench.reports().contains(&Report::CancelRequested));

    // The end comes without the log, after as many tries as with any other refusal that waiting
    // does not change.
    bench.close(3);
    let (mut counted, begin) = (Counted::default(), bench.now);
    let terminal = loop {
        if let Some(update) = bench.refuse_one(&mut counted) {
            break update;
        }
    };
    assert_eq!(counted.pieces, limits::FINAL_REFUSALS);
    assert!(bench.now - begin < Duration::from_secs(20), "{:?}", bench.now - begin);
    assert_eq!(terminal, JobUpdate::of(JobState::Success), "without a checksum");
    bench.updated(UpdateOutcome::Accepted, Some("success"));
    assert_eq!(bench.end(), RelayEnd::Delivered);
}

#[test]
fn a_short_job_waits_for_the_proof_and_not_for_its_deadline() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.close(3);
    let mut counted = Counted::default();
    while bench.refuse_one(&mut counted).is_none() {}
    let took = bench.now - bench.start;
    let least = limits::REFUSED_TIME;
    assert!((least..least + Duration::from_mins(1)).contains(&took), "{took:?}");
}

#[test]
fn neither_number_nor_time_alone_is_proof() {
    // Where a state goes out each minute at most, the number takes longer than the time.
    let mut bench = Bench::new(|job| (job.pace.interval, job.pace.keep_alive) = (KEPT, KEPT));
    bench.give(0, "abc");
    let took = bench.refuse_until_proof();
    assert!((600..=900).contains(&took), "{took} s");
}

/// An interval of jobs that nobody watches.
const KEPT: Duration = Duration::from_mins(1);

#[test]
fn any_other_answer_begins_the_evidence_anew() {
    let pieces: [fn() -> PatchOutcome; 7] = [
        ok,
        || PatchOutcome::RangeMismatch { size: 1 },
        || PatchOutcome::Conflict,
        || PatchOutcome::Later(broken()),
        || PatchOutcome::Unreachable(broken()),
        || PatchOutcome::NotFound,
        || PatchOutcome::Other(broken()),
    ];
    for other in pieces {
        anew(|bench| {
            let is_piece = matches!(bench.act().1, Step::Patch { .. });
            if is_piece {
                bench.patched(other(), None);
            } else {
                bench.updated(UpdateOutcome::Accepted, None);
            }
            is_piece
        });
    }
    let states: [fn() -> UpdateOutcome; 8] = [
        || UpdateOutcome::TraceRejected,
        || UpdateOutcome::BadRequest,
        || UpdateOutcome::NotFound,
        || UpdateOutcome::Conflict,
        || UpdateOutcome::Forbidden,
        || UpdateOutcome::Later(broken()),
        || UpdateOutcome::Unreachable(broken()),
        || UpdateOutcome::Other(broken()),
    ];
    for other in states {
        anew(|bench| {
            let is_state = matches!(bench.act().1, Step::Put(_));
            if is_state {
                bench.updated(other(), None);
            } else {
                bench.patched(PatchOutcome::Forbidden, None);
            }
            is_state
        });
    }
}

/// Answers otherwise with `answer` until it says that it has: a moment before the evidence would be
/// proof, and once more when it is.
fn anew(answer: impl Fn(&mut Bench) -> bool) {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.refuse_for(limits::REFUSED_TIME.mul_f64(0.95));
    for _ in 0..2 {
        while !answer(&mut bench) {}
        assert!(!bench.machine.refusals.are_proof());
        bench.reports();
        let offset = bench.machine.window.end();
        bench.machine.input(Some(Input::Trace { offset, bytes: Bytes::from_static(b"more") }), bench.now);
        let took = bench.refuse_until_proof();
        assert!(took >= limits::REFUSED_TIME.as_secs(), "{took} s");
    }
}

#[test]
fn maintenance_mode_refuses_both_and_is_waited_for() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.close(3);
    while bench.now - bench.start < Duration::from_mins(60) {
        match bench.act().1 {
            Step::Patch { .. } => bench.patched(PatchOutcome::Forbidden, None),
            Step::Put(update) if update.state.is_final() => panic!("the log is not there"),
            Step::Put(_) => bench.updated(UpdateOutcome::Forbidden, None),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.act_patch().2, "abc");
    bench.patched(ok(), None);
    assert_eq!(bench.act_put().1.output, Some(Output { crc32: 7, bytesize: 3 }));
}

#[test]
fn a_log_that_gitlab_takes_again_is_sent_whole() {
    // While the job runs, and with the last try at its end.
    for refused_at_end in [None, Some(limits::FINAL_REFUSALS - 1)] {
        let mut bench = Bench::new(|_| {});
        bench.give(0, "abc");
        bench.refuse_until_proof();
        bench.give(3, "def");
        if let Some(refused) = refused_at_end {
            bench.close(6);
            let mut counted = Counted::default();
            while counted.pieces < refused {
                assert_eq!(bench.refuse_one(&mut counted), None);
            }
        }
        while !matches!(bench.act().1, Step::Patch { .. }) {
            bench.updated(UpdateOutcome::Accepted, None);
        }
        bench.patched(ok(), Some("running"));
        assert_eq!(bench.reports(), [Report::Acked(6), Report::Trouble(None)]);
        if refused_at_end.is_none() {
            bench.close(6);
        }
        assert_eq!(bench.act_put().1.output, Some(Output { crc32: 7, bytesize: 6 }));
    }
}

#[test]
fn a_state_that_fails_then_begins_anew_with_the_log() {
    let mut bench = Bench::new(|_| {});
    bench.give(0, "abc");
    bench.refuse_until_proof();
    bench.close(3);
    let mut counted = Counted::default();
    while bench.refuse_one(&mut counted).is_none() {}
    bench.updated(UpdateOutcome::Unreachable(broken()), None);
    assert_eq!(bench.act_patch().2, "abc", "GitLab might be another one when it is back");
    bench.patched(ok(), None);
    assert_eq!(bench.act_put().1.output, Some(Output { crc32: 7, bytesize: 3 }));
}

#[test]
fn the_verdict_behind_a_log_that_does_not_fit_is_heard() {
    let piece: &'static [u8] = Box::leak(vec![b'x'; limits::MAX_PATCH].into_boxed_slice());
    let pieces = (limits::WINDOW / limits::MAX_PATCH) as u64 + 2;
    let whole = pieces * piece.len() as u64;
    let refused = |bench: &mut Bench| {
        let mut given = 0;
        while bench.machine.wants_input(bench.now) {
            let bytes = Bytes::from_static(piece);
            bench.machine.input(Some(Input::Trace { offset: given, bytes }), bench.now);
            given += piece.len() as u64;
        }
        assert_eq!(given, limits::WINDOW as u64, "GitLab may be back");
        bench.refuse_until_proof();
        assert!(bench.machine.wants_input(bench.now), "the verdict may be behind what has no room");
        while given < whole {
            let bytes = Bytes::from_static(piece);
            bench.machine.input(Some(Input::Trace { offset: given, bytes }), bench.now);
            given += piece.len() as u64;
        }
        bench.close(whole);
        assert_eq!(bench.machine.window.len(), limits::WINDOW, "no more is kept");
    };

    let mut bench = Bench::new(|_| {});
    refused(&mut bench);
    let mut counted = Counted::default();
    while bench.refuse_one(&mut counted).is_none() {}
    assert_eq!(counted.pieces, limits::FINAL_REFUSALS);

    // What has been left out is asked for where GitLab takes the log after all.
    let mut bench = Bench::new(|_| {});
    refused(&mut bench);
    let mut place = 0;
    let update = loop {
        match bench.act().1 {
            Step::Patch { offset, bytes } => {
                assert_eq!(offset, place);
                place += bytes.len() as u64;
                bench.patched(ok(), None);
            }
            Step::Put(update) if update.state.is_final() => break update,
            Step::Put(_) => bench.updated(UpdateOutcome::Accepted, None),
            other => panic!("{other:?}"),
        }
        for report in bench.reports() {
            if let Report::WantFrom(from) = report {
                assert_eq!(from, limits::WINDOW as u64);
                for number in from / piece.len() as u64..pieces {
                    let (offset, bytes) = (number * piece.len() as u64, Bytes::from_static(piece));
                    bench.machine.input(Some(Input::Trace { offset, bytes }), bench.now);
                }
            }
        }
    };
    assert_eq!((place, update.output), (whole, Some(Output { crc32: 7, bytesize: whole })));
}
