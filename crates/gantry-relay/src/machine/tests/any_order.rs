//! Whatever GitLab answers and in whatever order the caller gives the trace: no byte lost, none
//! twice, one terminal state, behind the last byte.

use proptest::prelude::*;

use super::*;

/// What happens to one request, before everything works again.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    FineWithoutRange,
    TakenButAnswerLost,
    Lost,
    Later,
    Conflict,
    Maintenance,
    NotFound,
    NotYet,
    Rejected,
    /// GitLab loses half of the log first.
    Shrinks,
    Canceling,
}

const FATES: [Fate; 14] = [
    Fate::Fine,
    Fate::Fine,
    Fate::FineWithoutRange,
    Fate::TakenButAnswerLost,
    Fate::TakenButAnswerLost,
    Fate::Lost,
    Fate::Later,
    Fate::Conflict,
    Fate::Maintenance,
    Fate::NotFound,
    Fate::NotYet,
    Fate::Rejected,
    Fate::Shrinks,
    Fate::Canceling,
];

/// What the caller does next, before it simply gives the rest and closes.
#[derive(Clone, Copy, Debug)]
enum Move {
    Give(usize),
    /// Comes back after a broken connection and starts earlier.
    Back(usize),
    /// Leaves a gap.
    Skip(usize),
    Nothing,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0_usize..400).prop_map(Move::Give),
        1 => (0_usize..300).prop_map(Move::Back),
        1 => (1_usize..100).prop_map(Move::Skip),
        2 => Just(Move::Nothing),
    ];
    prop::collection::vec(one, 0..40)
}

#[derive(Default)]
struct FakeGitLab {
    log: Vec<u8>,
    fates: Vec<Fate>,
    /// Refusals at the end are counted by the relay, so there must be fewer than it tolerates.
    refusals: u32,
    /// Whether a proxy refuses pieces of the log, and nothing else.
    closed: bool,
    over: bool,
    /// Every terminal state that was sent, and the log at that time.
    terminals: Vec<(JobUpdate, Vec<u8>)>,
}

impl FakeGitLab {
    fn fate(&mut self) -> Fate {
        match self.fates.pop().unwrap_or(Fate::Fine) {
            Fate::NotFound if self.refusals + 1 >= limits::FINAL_REFUSALS => Fate::Later,
            Fate::NotFound => {
                self.refusals += 1;
                Fate::NotFound
            }
            fate => fate,
        }
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) -> PatchAnswer {
        if self.closed {
            return patch(PatchOutcome::Forbidden, None);
        }
        let fate = self.fate();
        match fate {
            Fate::Lost => return patch(PatchOutcome::Unreachable(broken()), None),
            Fate::Later => return patch(PatchOutcome::Later(broken()), None),
            Fate::Conflict => return patch(PatchOutcome::Conflict, None),
            Fate::Maintenance => return patch(PatchOutcome::Forbidden, None),
            Fate::NotFound => return patch(PatchOutcome::NotFound, None),
            Fate::Shrinks => self.log.truncate(self.log.len() / 2),
            _ => {}
        }
        if self.over {
            return patch(PatchOutcome::Forbidden, Some("success"));
        }
        if offset != self.log.len() as u64 {
            return patch(PatchOutcome::RangeMismatch { size: self.log.len() as u64 }, Some("running"));
        }
        self.log.extend_from_slice(bytes);
        let size = Some(self.log.len() as u64);
        match fate {
            Fate::TakenButAnswerLost => patch(PatchOutcome::Unreachable(broken()), None),
            Fate::FineWithoutRange => patch(PatchOutcome::Accepted { size: None }, None),
            Fate::Canceling => patch(PatchOutcome::Accepted { size }, Some("canceling")),
            _ => patch(PatchOutcome::Accepted { size }, Some("running")),
        }
    }

    fn put(&mut self, update: &JobUpdate) -> UpdateAnswer {
        let fate = self.fate();
        if update.state.is_final() {
            self.terminals.push((update.clone(), self.log.clone()));
        }
        match fate {
            Fate::Lost => return put(UpdateOutcome::Unreachable(broken()), None),
            Fate::Later => return put(UpdateOutcome::Later(broken()), None),
            Fate::Conflict => return put(UpdateOutcome::Conflict, None),
            Fate::Maintenance => return put(UpdateOutcome::Forbidden, None),
            Fate::NotFound => return put(UpdateOutcome::NotFound, None),
            _ => {}
        }
        if self.over {
            return put(UpdateOutcome::Forbidden, Some("success"));
        }
        if !update.state.is_final() {
            return put(UpdateOutcome::Accepted, Some("running"));
        }
        match fate {
            Fate::NotYet => put(UpdateOutcome::NotYet, Some("running")),
            Fate::Rejected => {
                self.log.clear();
                put(UpdateOutcome::TraceRejected, Some("running"))
            }
            Fate::TakenButAnswerLost => {
                self.over = true;
                put(UpdateOutcome::Unreachable(broken()), None)
            }
            _ => {
                self.over = true;
                put(UpdateOutcome::Accepted, Some("success"))
            }
        }
    }
}

struct Caller {
    trace: Vec<u8>,
    cursor: usize,
    moves: Vec<Move>,
    closed: bool,
}

impl Caller {
    fn piece(&mut self, length: usize) -> Input {
        let end = (self.cursor + length).min(self.trace.len());
        let bytes = Bytes::copy_from_slice(&self.trace[self.cursor..end]);
        let offset = self.cursor as u64;
        self.cursor = end;
        Input::Trace { offset, bytes }
    }

    /// Nothing once everything was said.
    fn next(&mut self) -> Option<Input> {
        match self.moves.pop() {
            Some(Move::Give(length)) => Some(self.piece(length)),
            Some(Move::Back(length)) => {
                self.cursor = self.cursor.saturating_sub(length);
                Some(self.piece(50))
            }
            Some(Move::Skip(length)) => {
                self.cursor = (self.cursor + length).min(self.trace.len());
                Some(self.piece(50))
            }
            None if self.cursor < self.trace.len() => Some(self.piece(700)),
            None if !self.closed => {
                self.closed = true;
                let (trace_bytes, trace_crc32) = (self.trace.len() as u64, Some(crc32fast::hash(&self.trace)));
                Some(Input::Closed(Box::new(FinishedTrace { verdict: success(), trace_bytes, trace_crc32 })))
            }
            Some(Move::Nothing) | None => None,
        }
    }
}

/// When a proxy refuses pieces: seconds in which it lets them through, and seconds in which it does
/// not, in turns.
type Doors = Vec<(u64, u64)>;

fn is_closed(doors: &Doors, at: Duration) -> bool {
    let mut from = 0;
    doors.iter().any(|(open, closed)| {
        let begins = from + open;
        from = begins + closed;
        (begins..from).contains(&at.as_secs())
    })
}

/// The longest that is never taken for a proxy that refuses them for good.
fn short_doors() -> impl Strategy<Value = Doors> {
    let open = limits::RETRY_MAX.as_secs() + 1;
    let one = (open..3 * open, 0..limits::REFUSED_TIME.as_secs());
    // The first may be closed from the beginning.
    (prop::collection::vec(one, 0..4), any::<bool>()).prop_map(|(mut doors, at_once)| {
        if let Some((open, _)) = doors.first_mut().filter(|_| at_once) {
            *open = 0;
        }
        doors
    })
}

/// Runs one job to its end, and has `check` look at what GitLab has then.
fn relay(
    (length, fates, moves): (usize, Vec<Fate>, Vec<Move>),
    doors: &Doors,
    check: impl Fn(&FakeGitLab, &[u8]) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let trace: Vec<u8> = (0_u8..=250).cycle().take(length).collect();
    let mut bench = Bench::new(|job| job.deadline += Duration::from_secs(1_000_000));
    let mut gitlab = FakeGitLab { fates, ..FakeGitLab::default() };
    let mut caller = Caller { trace: trace.clone(), cursor: 0, moves, closed: false };
    // The relay starts where the caller starts, and that is the beginning.
    bench.give(0, "");
    for _ in 0..20_000 {
        for report in bench.reports() {
            match report {
                Report::WantFrom(place) => caller.cursor = usize::try_from(place).unwrap(),
                Report::Acked(place) => prop_assert!(place <= trace.len() as u64),
                Report::Ahead { .. } | Report::Diverged { .. } => prop_assert!(false, "nobody else writes"),
                Report::CancelRequested | Report::Trouble(_) => {}
            }
        }
        if bench.machine.wants_input(bench.now)
            && let Some(input) = caller.next()
        {
            bench.machine.input(Some(input), bench.now);
        }
        gitlab.closed = is_closed(doors, bench.now - bench.start);
        match bench.step() {
            Step::Patch { offset, bytes } => {
                let answer = gitlab.patch(offset, &bytes);
                bench.machine.patched(answer, bench.now);
            }
            Step::Put(update) => {
                let answer = gitlab.put(&update);
                bench.machine.updated(answer, bench.now);
            }
            Step::Wait(until) => bench.now = until.min(bench.now + Duration::from_secs(1)),
            Step::End(end) => {
                prop_assert_eq!(end, RelayEnd::Delivered);
                return check(&gitlab, &trace);
            }
        }
    }
    Err(TestCaseError::fail(format!("no end: {:?}", bench.machine)))
}

fn delivered(gitlab: &FakeGitLab, trace: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(&gitlab.log, trace);
    let output = Output { crc32: crc32fast::hash(trace), bytesize: trace.len() as u64 };
    let expected = JobUpdate { output: Some(output), ..JobUpdate::of(JobState::Success) };
    prop_assert!(!gitlab.terminals.is_empty());
    for (update, log) in &gitlab.terminals {
        prop_assert_eq!(update, &expected, "the same state every time");
        prop_assert_eq!(log, trace, "behind the last byte");
    }
    Ok(())
}

/// What may be missing of the log is its end. A checksum is said only of a whole one.
fn reported(gitlab: &FakeGitLab, trace: &[u8]) -> Result<(), TestCaseError> {
    prop_assert!(trace.starts_with(&gitlab.log));
    prop_assert!(!gitlab.terminals.is_empty());
    let output = Output { crc32: crc32fast::hash(trace), bytesize: trace.len() as u64 };
    for (update, log) in &gitlab.terminals {
        let output = update.output.is_some().then_some(output);
        prop_assert_eq!(update, &JobUpdate { output, ..JobUpdate::of(JobState::Success) });
        prop_assert!(output.is_none() || log == trace, "a checksum of what is not there");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn the_log_arrives_whole_and_once_and_then_the_state(
        length in 0_usize..4_000,
        fates in prop::collection::vec(prop::sample::select(FATES.to_vec()), 0..40),
        moves in moves(),
    ) {
        relay((length, fates, moves), &Doors::new(), delivered)?;
    }

    #[test]
    fn a_proxy_that_refuses_pieces_for_some_minutes_costs_nothing_of_the_log(
        length in 0_usize..4_000,
        fates in prop::collection::vec(prop::sample::select(FATES.to_vec()), 0..40),
        moves in moves(),
        doors in short_doors(),
    ) {
        relay((length, fates, moves), &doors, delivered)?;
    }

    #[test]
    fn a_proxy_that_refuses_pieces_for_good_holds_up_no_state(
        length in 0_usize..4_000,
        fates in prop::collection::vec(prop::sample::select(FATES.to_vec()), 0..40),
        moves in moves(),
        open in 0_u64..20,
    ) {
        relay((length, fates, moves), &vec![(open, u64::MAX / 2)], reported)?;
    }
}
