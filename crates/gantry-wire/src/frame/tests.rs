use std::fmt::Write as _;

use super::*;

fn every_frame() -> Vec<Frame> {
    let verdict = Ending::ScriptFailed { exit_code: 3 }.verdict();
    let state = State {
        phase: Phase::Closed,
        stage: Some("step_script".into()),
        shim: true,
        trace_bytes: 12,
        closed: Some(Closed { verdict, trace_bytes: 12, trace_crc32: Some(0xcbf4_3926) }),
    };
    vec![
        Frame::Hello(Hello { protocol: 1, version: "0.1.0".into(), epoch: 2, state: State::default() }),
        Frame::PlanAccepted,
        Frame::Go,
        Frame::Note(Note { level: NoteLevel::Warning, text: "waiting".into() }),
        Frame::Follow(Offset { offset: 7 }),
        Frame::Trace { offset: 0x0102, bytes: Bytes::from_static(b"abc") },
        Frame::Acked(Offset { offset: 10 }),
        Frame::Cancel(Cancel { force: false }),
        Frame::Fail(Ending::PodDeleted { pod: "p".into() }),
        Frame::ServicesStarted,
        Frame::State(state),
        Frame::Ping,
        Frame::Pong,
        Frame::Reported,
        Frame::Refused(Refused { message: "no".into() }),
    ]
}

/// The bytes of protocol 1. A change here is a change of the protocol: add fields, never alter.
#[test]
fn golden_bytes_of_protocol_1() {
    let mut text = String::new();
    for frame in every_frame() {
        let bytes = frame.to_bytes();
        writeln!(text, "{}", bytes.escape_ascii()).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn frames_survive_the_wire() {
    let mut bytes = BytesMut::new();
    for frame in every_frame() {
        frame.encode(&mut bytes);
    }
    let mut reader = FrameReader::default();
    reader.push(&bytes);
    let mut seen = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        seen.push(frame);
    }
    assert_eq!(seen, every_frame());
}

#[test]
fn unknown_frames_are_skipped() {
    let mut bytes = BytesMut::new();
    put(&mut bytes, 200, &[b"from the future"]);
    Frame::Go.encode(&mut bytes);
    let mut reader = FrameReader::default();
    reader.push(&bytes);
    assert_eq!(reader.next_frame().unwrap(), Some(Frame::Go));
}

#[test]
fn errors_do_not_quote_payloads() {
    let mut bytes = BytesMut::new();
    put(&mut bytes, PLAN, &[br#"{"job_id": "hunter2"}"#]);
    let mut reader = FrameReader::default();
    reader.push(&bytes);
    let error = reader.next_frame().unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}
