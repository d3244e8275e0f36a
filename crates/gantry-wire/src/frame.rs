//! Frames between a manager and the agent.
//!
//! The manager speaks first by connecting; the agent answers every connection with [`Frame::Hello`]. A new connection supersedes the older
//! one. Any side may send [`Frame::Ping`] at any time.

use bytes::{Bytes, BytesMut};
use gantry_core::{Ending, Verdict};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{Cutter, FrameError, put};
use crate::plan::PodPlan;

/// One message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// Agent: who it is and how far it is. First on every connection.
    Hello(Hello),
    /// Manager: what to do. Only the first one counts.
    Plan(Box<PodPlan>),
    /// Agent: the plan is understood and kept; nothing has run yet.
    PlanAccepted,
    /// Manager: GitLab knows that the job runs; start.
    Go,
    /// Manager: a line for the job log.
    Note(Note),
    /// Manager: send the trace from this offset on, and go on sending.
    Follow(Offset),
    /// Agent: bytes of the trace.
    Trace {
        /// Where they belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Manager: GitLab has the trace up to here.
    Acked(Offset),
    /// Manager: the job is canceled. A level: may be repeated, and grow from graceful to forced.
    Cancel(Cancel),
    /// Manager: proof that the job cannot go on although the agent can; ends the job this way.
    Fail(Ending),
    /// Manager: every service container has started.
    ServicesStarted,
    /// Agent: how far it is, after every change.
    State(State),
    /// Asks for a [`Frame::Pong`].
    Ping,
    /// Answers [`Frame::Ping`].
    Pong,
    /// Manager: GitLab has the verdict; agent and shim may end.
    Reported,
    /// Agent: what the manager asked for cannot be done.
    Refused(Refused),
}

/// Who the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of this contract.
    pub protocol: u32,
    /// Version of the helper, for people.
    pub version: String,
    /// Number of this connection, growing: the largest one is in charge.
    pub epoch: u64,
    /// How far the agent is.
    pub state: State,
}

/// How far the agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Coarse progress.
    pub phase: Phase,
    /// The stage that runs, if one does.
    #[serde(default)]
    pub stage: Option<String>,
    /// Whether the shim in the build container has said hello.
    #[serde(default)]
    pub shim: bool,
    /// Bytes of the trace so far.
    #[serde(default)]
    pub trace_bytes: u64,
    /// How the job ended. Nothing is appended to the trace once this is set.
    #[serde(default)]
    pub closed: Option<Closed>,
}

/// Coarse progress of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for a plan.
    #[default]
    Waiting,
    /// Has a plan, waits for [`Frame::Go`].
    Planned,
    /// Runs stages.
    Running,
    /// The verdict is closed.
    Closed,
}

/// The closed record of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// What to tell GitLab.
    pub verdict: Verdict,
    /// Length of the whole trace.
    pub trace_bytes: u64,
    /// CRC-32 (IEEE) of the whole trace; absent if a part of it was lost in the pod, so that it is not what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_crc32: Option<u32>,
}

/// A line for the job log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// How it looks.
    pub level: NoteLevel,
    /// Without line end.
    pub text: String,
}

/// How a line of the runner looks in the job log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteLevel {
    /// No colour.
    Plain,
    /// Green.
    Info,
    /// Yellow, with `WARNING: `.
    Warning,
    /// Red, with `ERROR: `.
    Error,
}

/// A place in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// Bytes from the start.
    pub offset: u64,
}

/// A cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Nothing more runs, not even `after_script`.
    pub force: bool,
}

/// Why a manager's wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong and what to do.
    pub message: String,
}

const HELLO: u8 = 1;
const PLAN: u8 = 2;
const PLAN_ACCEPTED: u8 = 3;
const GO: u8 = 4;
const NOTE: u8 = 5;
const FOLLOW: u8 = 6;
const TRACE: u8 = 7;
const ACKED: u8 = 8;
const CANCEL: u8 = 9;
const FAIL: u8 = 10;
const SERVICES_STARTED: u8 = 11;
const STATE: u8 = 12;
const PING: u8 = 13;
const PONG: u8 = 14;
const REPORTED: u8 = 15;
const REFUSED: u8 = 16;

impl Frame {
    /// Appends the bytes of this frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => put_json(out, HELLO, hello),
            Self::Plan(plan) => put_json(out, PLAN, plan),
            Self::PlanAccepted => put(out, PLAN_ACCEPTED, &[]),
            Self::Go => put(out, GO, &[]),
            Self::Note(note) => put_json(out, NOTE, note),
            Self::Follow(offset) => put_json(out, FOLLOW, offset),
            Self::Trace { offset, bytes } => put(out, TRACE, &[&offset.to_be_bytes(), bytes]),
            Self::Acked(offset) => put_json(out, ACKED, offset),
            Self::Cancel(cancel) => put_json(out, CANCEL, cancel),
            Self::Fail(ending) => put_json(out, FAIL, ending),
            Self::ServicesStarted => put(out, SERVICES_STARTED, &[]),
            Self::State(state) => put_json(out, STATE, state),
            Self::Ping => put(out, PING, &[]),
            Self::Pong => put(out, PONG, &[]),
            Self::Reported => put(out, REPORTED, &[]),
            Self::Refused(refused) => put_json(out, REFUSED, refused),
        }
    }

    /// The bytes of this frame alone.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    fn decode(kind: u8, payload: &Bytes) -> Result<Option<Self>, FrameError> {
        Ok(Some(match kind {
            HELLO => Self::Hello(json("hello", payload)?),
            PLAN => Self::Plan(Box::new(json("plan", payload)?)),
            PLAN_ACCEPTED => Self::PlanAccepted,
            GO => Self::Go,
            NOTE => Self::Note(json("note", payload)?),
            FOLLOW => Self::Follow(json("follow", payload)?),
            TRACE => trace(payload)?,
            ACKED => Self::Acked(json("acked", payload)?),
            CANCEL => Self::Cancel(json("cancel", payload)?),
            FAIL => Self::Fail(json("fail", payload)?),
            SERVICES_STARTED => Self::ServicesStarted,
            STATE => Self::State(json("state", payload)?),
            PING => Self::Ping,
            PONG => Self::Pong,
            REPORTED => Self::Reported,
            REFUSED => Self::Refused(json("refused", payload)?),
            _ => return Ok(None),
        }))
    }
}

/// Turns a stream of bytes into frames; unknown ones are skipped.
#[derive(Debug, Default)]
pub struct FrameReader {
    cutter: Cutter,
}

impl FrameReader {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.cutter.push(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The other side speaks something else. The stream is of no use after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        while let Some((kind, payload)) = self.cutter.next_frame()? {
            if let Some(frame) = Frame::decode(kind, &payload)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

fn trace(payload: &Bytes) -> Result<Frame, FrameError> {
    let Some(offset) = payload.first_chunk::<8>() else {
        return Err(FrameError::Payload { kind: "trace", problem: "shorter than its offset".to_owned() });
    };
    Ok(Frame::Trace { offset: u64::from_be_bytes(*offset), bytes: payload.slice(8..) })
}

pub(crate) fn put_json(out: &mut BytesMut, kind: u8, value: &impl Serialize) {
    // Serialising these types to memory cannot fail: string keys only, no custom errors. An empty payload is refused by the reader.
    let payload = serde_json::to_vec(value).unwrap_or_default();
    put(out, kind, &[&payload]);
}

pub(crate) fn json<T: DeserializeOwned>(kind: &'static str, payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|error| FrameError::Payload {
        kind,
        problem: format!("{} at column {}", describe(&error), error.column()),
    })
}

/// The category only: serde's own words quote the offending value, which may be a secret.
fn describe(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "an unexpected type or a missing field",
        serde_json::error::Category::Eof => "cut short",
    }
}

#[cfg(test)]
mod tests;
