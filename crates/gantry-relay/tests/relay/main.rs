//! The relay over real connections to a coordinator that cuts, locks, forgets and refuses.
#![expect(clippy::unwrap_used, reason = "a test whose surroundings fail has failed")]

mod away;
mod coordinator;
mod refused;
mod simulator;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coordinator::{Coordinator, Fault};
use gantry_core::{FailureReason, Verdict};
use gantry_gitlab::{Client, ClientOptions, JobCredentials, RunnerInfo};
use gantry_relay::{
    AckOutcome, FinishedTrace, GoneReason, Input, Pace, RelayEnd, RelayJob, Report, acknowledge, keep_pending,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Far more than any of these tests needs.
const TIMEOUT: Duration = Duration::from_secs(60);

fn client(coordinator: &Coordinator) -> Client {
    Client::new(ClientOptions::new(coordinator.url())).unwrap()
}

fn info() -> RunnerInfo {
    RunnerInfo::kubernetes("bash", BTreeMap::new())
}

fn creds() -> JobCredentials {
    JobCredentials { id: 42, token: coordinator::TOKEN.into() }
}

fn job() -> RelayJob {
    RelayJob {
        creds: creds(),
        info: info(),
        debug_trace: false,
        failure_reasons: Vec::new(),
        acknowledged: true,
        final_tries: 10,
        deadline: Instant::now() + Duration::from_secs(3900),
        pace: Pace {
            interval: Duration::from_millis(5),
            keep_alive: Duration::from_millis(100),
            retry_min: Duration::from_millis(5),
            retry_max: Duration::from_millis(50),
        },
    }
}

fn closed(trace: &[u8]) -> Input {
    let verdict = Verdict {
        success: false,
        reason: Some(FailureReason::ScriptFailure),
        exit_code: Some(3),
        message: String::new(),
    };
    let (trace_bytes, trace_crc32) = (trace.len() as u64, Some(crc32fast::hash(trace)));
    Input::Closed(Box::new(FinishedTrace { verdict, trace_bytes, trace_crc32 }))
}

/// Gives `trace` in pieces of `step` bytes from `from` on and closes; goes back to wherever the
/// relay asks for.
async fn give(
    trace: &[u8],
    from: usize,
    step: usize,
    inputs: mpsc::Sender<Input>,
    mut reports: mpsc::Receiver<Report>,
) -> Vec<Report> {
    let mut seen = Vec::new();
    let mut cursor = from;
    let mut said_closed = false;
    loop {
        let next = if cursor < trace.len() {
            let end = (cursor + step).min(trace.len());
            Some(Input::Trace { offset: cursor as u64, bytes: Bytes::copy_from_slice(&trace[cursor..end]) })
        } else {
            (!said_closed).then(|| closed(trace))
        };
        let something = next.is_some();
        tokio::select! {
            biased;
            report = reports.recv() => match report {
                Some(Report::WantFrom(place)) => {
                    cursor = usize::try_from(place).unwrap();
                    seen.push(Report::WantFrom(place));
                }
                Some(report) => seen.push(report),
                None => return seen,
            },
            permit = inputs.reserve(), if something => match (permit, next) {
                (Ok(permit), Some(input)) => {
                    match &input {
                        Input::Trace { offset, bytes } => cursor = usize::try_from(*offset).unwrap() + bytes.len(),
                        _ => said_closed = true,
                    }
                    permit.send(input);
                }
                _ => return seen,
            },
        }
    }
}

async fn relay(coordinator: &Coordinator, trace: &[u8], from: usize) -> (RelayEnd, Vec<Report>) {
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, reports) = mpsc::channel(8);
    let running = gantry_relay::run(client(coordinator), job(), inbox, outbox);
    let both = async { tokio::join!(running, give(trace, from, 7_000, inputs, reports)) };
    timeout(TIMEOUT, both).await.expect("the relay ends")
}

fn trace(length: usize) -> Vec<u8> {
    (0_u8..=250).cycle().take(length).collect()
}

#[tokio::test]
async fn a_log_and_a_verdict_arrive() {
    let coordinator = Coordinator::start([]).await;
    let trace = trace(3_000_000);
    let (end, reports) = relay(&coordinator, &trace, 0).await;
    assert_eq!(end, RelayEnd::Delivered);
    assert_eq!(reports.last(), Some(&Report::Acked(3_000_000)));
    let state = coordinator.state();
    assert!(state.log == trace);
    assert_eq!(state.terminal, [("failed".to_owned(), format!("crc32:{:08x}", crc32fast::hash(&trace)))]);
    assert!(state.largest_patch <= 1024 * 1024, "{}", state.largest_patch);
}

#[tokio::test]
async fn every_fault_in_every_place() {
    use Fault::{CutAfter, CutBefore, Lock, Maintenance, None as Fine, Reject, Shrink, Unavailable};
    let scripts: [&[Fault]; 6] = [
        &[CutAfter, Fine, CutBefore, CutAfter, CutBefore, CutBefore, CutBefore, CutBefore, CutBefore],
        &[Lock, Lock, Fine, Lock],
        &[Unavailable, Fine, Unavailable],
        &[Maintenance, Maintenance, Fine, Fine, Maintenance],
        &[Fine, Shrink, CutAfter, Shrink],
        &[Fine, Reject, CutAfter, Reject, Reject],
    ];
    for script in scripts {
        let coordinator = Coordinator::start(script.iter().copied()).await;
        let trace = trace(200_000);
        let (end, _) = relay(&coordinator, &trace, 0).await;
        assert_eq!(end, RelayEnd::Delivered, "{script:?}");
        let state = coordinator.state();
        assert!(state.log == trace, "{script:?}: {} of {} bytes", state.log.len(), trace.len());
        assert!(state.terminal.iter().all(|state| *state == state_of(&trace)), "{script:?}: {:?}", state.terminal);
    }
}

fn state_of(trace: &[u8]) -> (String, String) {
    ("failed".to_owned(), format!("crc32:{:08x}", crc32fast::hash(trace)))
}

#[tokio::test]
async fn a_new_relay_goes_on_where_gitlab_is_and_not_where_it_was_told() {
    let trace = trace(50_000);
    for (stored, from) in [(20_000, 10_000), (20_000, 20_000), (20_000, 30_000), (50_000, 45_000), (0, 0)] {
        let coordinator = Coordinator::start([]).await;
        coordinator.with(|state| state.log = trace[..stored].to_vec());
        let (end, _) = relay(&coordinator, &trace, from).await;
        assert_eq!(end, RelayEnd::Delivered);
        let state = coordinator.state();
        assert!(state.log == trace, "stored {stored}, given from {from}: {}", state.log.len());
        assert_eq!(state.terminal, [state_of(&trace)]);
    }
}

#[tokio::test]
async fn a_job_that_is_over_ends_the_relay() {
    let coordinator = Coordinator::start([]).await;
    coordinator.with(|state| state.status = "canceled");
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, _reports) = mpsc::channel::<Report>(8);
    inputs.send(Input::Trace { offset: 0, bytes: Bytes::from_static(b"x") }).await.unwrap();
    let end = timeout(TIMEOUT, gantry_relay::run(client(&coordinator), job(), inbox, outbox)).await.unwrap();
    assert!(matches!(end, RelayEnd::Aborted(GoneReason::Over(_))), "{end:?}");
    assert!(coordinator.state().log.is_empty());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer() {
    let coordinator = Coordinator::start([Fault::Hang]).await;
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, _reports) = mpsc::channel::<Report>(8);
    inputs.send(Input::Trace { offset: 0, bytes: Bytes::from_static(b"x") }).await.unwrap();
    let stop = async {
        coordinator.until(|state| state.requests == 1).await;
        inputs.send(Input::StopWithoutVerdict).await.unwrap();
    };
    let both = async { tokio::join!(gantry_relay::run(client(&coordinator), job(), inbox, outbox), stop) };
    assert_eq!(timeout(TIMEOUT, both).await.unwrap().0, RelayEnd::Stopped);
}

#[tokio::test]
async fn cancel_is_reported_and_a_deaf_caller_does_not_stop_the_relay() {
    let coordinator = Coordinator::start([]).await;
    coordinator.with(|state| state.status = "canceling");
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, mut reports) = mpsc::channel(1);
    let trace = trace(30);
    let giving = async {
        for (offset, byte) in trace.chunks(1).enumerate() {
            inputs.send(Input::Trace { offset: offset as u64, bytes: Bytes::copy_from_slice(byte) }).await.unwrap();
            coordinator.until(|state| state.log.len() > offset).await;
        }
        inputs.send(closed(&trace)).await.unwrap();
    };
    let both = async { tokio::join!(gantry_relay::run(client(&coordinator), job(), inbox, outbox), giving) };
    assert_eq!(timeout(TIMEOUT, both).await.unwrap().0, RelayEnd::Delivered);
    assert_eq!(reports.recv().await, Some(Report::CancelRequested));
}

#[tokio::test]
async fn acknowledgement() {
    let outcome = |status: &'static str, fault| async move {
        let coordinator = Coordinator::start([fault]).await;
        coordinator.with(|state| state.status = status);
        timeout(TIMEOUT, acknowledge(&client(&coordinator), &creds(), &info(), |_| {})).await.unwrap()
    };
    assert_eq!(outcome("running", Fault::None).await, AckOutcome::Running);
    assert_eq!(outcome("running", Fault::Lock).await, AckOutcome::Running);
    assert_eq!(outcome("running", Fault::Maintenance).await, AckOutcome::Running, "after one more try");
    assert_eq!(outcome("canceling", Fault::None).await, AckOutcome::Canceling);
    assert!(matches!(outcome("canceled", Fault::None).await, AckOutcome::Gone(GoneReason::Over(_))));
    assert!(matches!(outcome("pending", Fault::None).await, AckOutcome::Gone(GoneReason::TakenBack)));
}

#[tokio::test]
async fn a_job_being_prepared_is_quiet_at_first() {
    let coordinator = Coordinator::start([]).await;
    let client = client(&coordinator);
    let (creds, info) = (creds(), info());
    let keeping = keep_pending(&client, &creds, &info);
    assert!(timeout(Duration::from_millis(50), keeping).await.is_err());
    assert_eq!(coordinator.state().requests, 0);
}
