use std::fmt::Write as _;

use gantry_core::{FailureReason, NoteLevel};

use super::*;
use crate::cache::SignedRequest;
use crate::plan::{Coordinator, TracePlan};
use crate::services::{EndedService, ServicesPlan};

fn closed_state(reported: bool) -> State {
    State {
        phase: Phase::Closed,
        stage: Some("step_script".into()),
        shim: true,
        trace_bytes: 12,
        closed: Some(Closed {
            verdict: Ending::ScriptFailed { exit_code: 3 }.verdict(),
            trace_bytes: 12,
            trace_crc32: Some(0xcbf4_3926),
            usage: None,
        }),
        reported,
        silent_services: Vec::new(),
        keeps_seconds: None,
    }
}

fn bare_hello(protocol: u32) -> Hello {
    let (version, state) = ("0.1.0".to_owned(), State::default());
    Hello { protocol, protocols: None, version, epoch: 2, state, relay: None, adoption: None }
}

fn refused(cause: Refusal, retry_after_ms: Option<u64>) -> Frame {
    Frame::Refused(Refused { message: "no".into(), cause, retry_after_ms })
}

/// Every frame as the first version had it.
fn frames_of_protocol_1() -> Vec<Frame> {
    vec![
        Frame::Hello(bare_hello(1)),
        Frame::PlanAccepted,
        Frame::Go,
        Frame::Note(Note::new(NoteLevel::Warning, "waiting")),
        Frame::Follow(Offset { offset: 7 }),
        Frame::Trace { offset: 0x0102, bytes: Bytes::from_static(b"abc") },
        Frame::Acked(Offset { offset: 10 }),
        Frame::Cancel(Cancel { force: false }),
        Frame::Fail(Ending::PodDeleted { pod: "p".into() }),
        Frame::ServicesStarted,
        Frame::State(closed_state(false)),
        Frame::Ping,
        Frame::Pong,
        Frame::Reported,
        refused(Refusal::Other, None),
    ]
}

/// Every frame that the second version added or added to.
fn frames_of_protocol_2() -> Vec<Frame> {
    let coordinator = Coordinator {
        url: "https://gitlab.example.com".into(),
        ca_pem: None,
        identity: None,
        proxies: None,
        upload_timeout_ms: 1,
        response_header_timeout_ms: 2,
    };
    let trace = TracePlan {
        head: String::new(),
        masks: vec!["hunter2".into()],
        token_prefixes: vec!["glpat-".into()],
        timestamps: true,
        sections: true,
        limit_bytes: 3,
        debug_trace: false,
    };
    let adoption = Adoption {
        job_id: 42,
        job_token: "t0k3n".into(),
        project_id: 7,
        coordinator,
        failure_reasons: vec!["script_failure".into()],
        timeout_seconds: 3600,
        remaining_ms: 1_800_000,
        start: None,
        trace,
        wait_for_services: true,
        services_started: true,
        started: true,
        acknowledged: true,
        canceled: false,
        acked: 9,
        services: ServicesPlan::default(),
    };
    let relay = RelayNow { manager: Some("m-1".into()), connected: false, silent_ms: 5000, alone: true };
    let hello = Hello {
        protocols: Some(Protocols { oldest: 1, newest: 2 }),
        relay: Some(relay),
        adoption: Some(Box::new(adoption)),
        ..bare_hello(2)
    };
    let greeting = |claim| {
        let protocols = Protocols { oldest: 1, newest: 2 };
        Frame::Greet(Greeting { protocols, version: "0.2.0".into(), manager: "m-2".into(), claim })
    };
    vec![
        Frame::Hello(hello),
        greeting(Claim::Resume),
        greeting(Claim::Adopt),
        greeting(Claim::Replace),
        Frame::Granted(Granted { epoch: 3 }),
        Frame::Release,
        Frame::State(closed_state(true)),
        Frame::Fail(Ending::PodDeleted { pod: "p".into() }),
        refused(Refusal::Superseded, None),
        refused(Refusal::RelayLives, Some(3000)),
    ]
}

/// Frames that the second version got later; who does not know them skips them.
fn frames_added_since() -> Vec<Frame> {
    let request = |url: &str| SignedRequest { url: url.into(), ..SignedRequest::default() };
    let requests =
        ObjectRequests { object: "ci/k".into(), put: request("https://s/k?p"), now: request("https://s/k?g") };
    vec![
        Frame::ServiceEnded(EndedService { container: "db".into(), how: "exit code 7".into() }),
        Frame::CacheRequests(vec![requests]),
    ]
}

fn shown(frames: &[Frame]) -> String {
    frames.iter().fold(String::new(), |mut text, frame| {
        let _ = writeln!(text, "{}", frame.to_bytes().escape_ascii());
        text
    })
}

/// What was escaped by `escape_ascii`.
fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let mut next = || rest.next().unwrap();
        bytes.push(match next() {
            b'x' => {
                let digits = [next(), next()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            other => other,
        });
    }
    bytes
}

fn read(bytes: &[u8]) -> Vec<Frame> {
    let mut reader = FrameReader::default();
    reader.push(bytes);
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

/// The bytes of protocol 2. A change here is a change of the protocol: add fields, never alter.
#[test]
fn golden_bytes_of_protocol_2() {
    insta::assert_snapshot!(shown(&frames_of_protocol_2()));
}

/// The same of what was added to it since.
#[test]
fn golden_bytes_of_frames_added_since() {
    insta::assert_snapshot!(shown(&frames_added_since()));
}

/// What peers of the first version send is understood, and what they are sent is what they know, or
/// more of it.
#[test]
fn recorded_bytes_of_protocol_1_are_read() {
    let recorded = include_str!("protocol_1.txt");
    let bytes: Vec<u8> = recorded.lines().flat_map(unescaped).collect();
    assert_eq!(read(&bytes), frames_of_protocol_1());
    // Endings and refusals have got more; every other byte is the same.
    let grown = [8, 14];
    for (index, (ours, theirs)) in shown(&frames_of_protocol_1()).lines().zip(recorded.lines()).enumerate() {
        assert!(ours == theirs || grown.contains(&index), "{ours}\n{theirs}");
    }
}

#[test]
fn frames_survive_the_wire() {
    for frames in [frames_of_protocol_1(), frames_of_protocol_2(), frames_added_since()] {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut bytes);
        }
        assert_eq!(read(&bytes), frames);
    }
}

#[test]
fn unknown_frames_are_skipped() {
    let mut bytes = BytesMut::new();
    put(&mut bytes, 200, &[b"from the future"]);
    Frame::Go.encode(&mut bytes);
    assert_eq!(read(&bytes), [Frame::Go]);
}

/// A newer peer has words that this version does not know. None of them may cost the connection.
#[test]
fn what_a_newer_peer_has_is_taken_as_the_nearest_known() {
    let send = |kind: u8, payload: &str| {
        let mut bytes = BytesMut::new();
        put(&mut bytes, kind, &[payload.as_bytes()]);
        Frame::Go.encode(&mut bytes);
        let mut frames = read(&bytes);
        assert_eq!(frames.pop(), Some(Frame::Go), "{payload}");
        frames.pop()
    };
    let verdict = r#""verdict":{"success":false,"reason":"of_the_future","exit_code":7,"message":"the sun went out"}"#;
    let ending = Ending::Foreign {
        reason: FailureReason::UnknownFailure,
        exit_code: Some(7),
        message: "the sun went out".into(),
    };
    assert_eq!(send(FAIL, &format!(r#"{{"kind":"sun_went_out","star":1,{verdict}}}"#)), Some(Frame::Fail(ending)));
    let state = send(STATE, &format!(r#"{{"phase":"dreaming","more":[],"closed":{{{verdict},"trace_bytes":5}}}}"#));
    let Some(Frame::State(state)) = state else { panic!("{state:?}") };
    assert_eq!(state.phase, Phase::Running);
    assert_eq!(state.closed.unwrap().verdict.reason, Some(FailureReason::UnknownFailure));
    let note = send(NOTE, r#"{"level":"whisper","text":"x"}"#);
    assert_eq!(note, Some(Frame::Note(Note::new(NoteLevel::Plain, "x"))));
    let greeting = r#"{"protocols":{"oldest":2,"newest":9},"version":"9","manager":"m","claim":"beg"}"#;
    assert!(matches!(send(GREET, greeting), Some(Frame::Greet(Greeting { claim: Claim::Adopt, .. }))));
    let refused = send(REFUSED, r#"{"message":"m","cause":"mood"}"#);
    assert!(matches!(refused, Some(Frame::Refused(Refused { cause: Refusal::Other, .. }))));
    assert!(matches!(send(PLAN, r#"{"stages":[{"action":"fly"}]}"#), Some(Frame::UnreadablePlan(_))));
}

#[test]
fn errors_and_debug_output_do_not_quote_payloads() {
    let mut bytes = BytesMut::new();
    put(&mut bytes, PLAN, &[br#"{"job_id": "hunter2"}"#]);
    let shown = format!("{:?} {:?}", read(&bytes), frames_of_protocol_2());
    assert!(!shown.contains("hunter2") && !shown.contains("t0k3n"), "{shown}");
    let mut reader = FrameReader::default();
    let mut bytes = BytesMut::new();
    put(&mut bytes, NOTE, &[br#"{"level": "hunter2"}"#]);
    reader.push(&bytes);
    let error = reader.next_frame().unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}
