//! Frames between a manager and the agent.
//!
//! The manager speaks first by connecting; the agent answers every connection with
//! [`Frame::Hello`]. A manager that says [`Frame::Greet`] is in charge from [`Frame::Granted`] on,
//! and the connection of whoever was before is closed. One of version 1, which does not greet, is
//! in charge as soon as it connects, unless one that greets has been. Any side may send
//! [`Frame::Ping`] at any time.
//!
//! What a newer version has beyond this one is no error: unknown frames are skipped, an unknown
//! phase counts as running, an unknown way to end is taken in the words that come with it.

use bytes::{Bytes, BytesMut};
use gantry_core::{Ending, FailureReason, NoteLevel, Verdict};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::ObjectRequests;
use crate::codec::{Cutter, FrameError, put};
pub use crate::greeting::{Adoption, Claim, Granted, Greeting, Hello, Protocols, Refusal, Refused, RelayNow};
use crate::plan::PodPlan;
use crate::services::{EndedService, SilentService};
use crate::usage::Usage;

/// One message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// Agent: who it is and how far it is. First on every connection.
    Hello(Hello),
    /// Manager: who it is and what it claims. First on every connection.
    Greet(Greeting),
    /// Agent: this manager is in charge now.
    Granted(Granted),
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
    /// Manager: the container of a service has ended. An agent that does not know this waits for
    /// the service until its time is over.
    ServiceEnded(EndedService),
    /// Manager: requests that save caches, in place of those in the plan that end before the job
    /// has to. An agent that does not know this saves with what it has.
    CacheRequests(Vec<ObjectRequests>),
    /// Agent: how far it is, after every change.
    State(State),
    /// Asks for a [`Frame::Pong`].
    Ping,
    /// Answers [`Frame::Ping`].
    Pong,
    /// Manager: GitLab has the verdict; agent and shim may end.
    Reported,
    /// Manager: it lets go of the job; whoever finds it may take over at once.
    Release,
    /// Agent: what the manager asked for cannot be done.
    Refused(Refused),
    /// Made while reading, never sent: a plan that cannot be read, most likely of a newer version.
    /// It is to be refused; the stream goes on.
    UnreadablePlan(FrameError),
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
    /// GitLab has the verdict: only the pod is left to remove.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
    /// Services that have not answered in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent_services: Vec<SilentService>,
    /// For how long the agent lets the containers stay once the verdict is reported: the job has
    /// failed, and people may want to look into them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps_seconds: Option<u64>,
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
    /// The verdict is closed.
    Closed,
    /// Runs stages. What a newer agent says beyond these phases lies between `go` and the verdict.
    #[serde(other)]
    Running,
}

/// The closed record of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// What to tell GitLab.
    pub verdict: Verdict,
    /// Length of the whole trace.
    pub trace_bytes: u64,
    /// CRC-32 (IEEE) of the whole trace; absent if a part of it was lost in the pod, so that it is
    /// not what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_crc32: Option<u32>,
    /// What the build container has used, as far as that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A line for the job log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// How it looks.
    pub level: NoteLevel,
    /// Without line end.
    pub text: String,
    /// The service that has said it, by its place in the plan; absent for lines of the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<u8>,
}

impl Note {
    /// A line of the runner.
    pub fn new(level: NoteLevel, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), service: None }
    }
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
const GREET: u8 = 17;
const GRANTED: u8 = 18;
const RELEASE: u8 = 19;
const SERVICE_ENDED: u8 = 20;
const CACHE_REQUESTS: u8 = 21;

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
            Self::Fail(ending) => put_json(out, FAIL, &EndingWithVerdict::of(ending)),
            Self::ServicesStarted => put(out, SERVICES_STARTED, &[]),
            Self::ServiceEnded(service) => put_json(out, SERVICE_ENDED, service),
            Self::CacheRequests(requests) => put_json(out, CACHE_REQUESTS, requests),
            Self::State(state) => put_json(out, STATE, state),
            Self::Ping => put(out, PING, &[]),
            Self::Pong => put(out, PONG, &[]),
            Self::Reported => put(out, REPORTED, &[]),
            Self::Refused(refused) => put_json(out, REFUSED, refused),
            Self::Greet(greeting) => put_json(out, GREET, greeting),
            Self::Granted(granted) => put_json(out, GRANTED, granted),
            Self::Release => put(out, RELEASE, &[]),
            Self::UnreadablePlan(_) => {}
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
            PLAN => json("plan", payload).map_or_else(Self::UnreadablePlan, |plan| Self::Plan(Box::new(plan))),
            PLAN_ACCEPTED => Self::PlanAccepted,
            GO => Self::Go,
            NOTE => Self::Note(json("note", payload)?),
            FOLLOW => Self::Follow(json("follow", payload)?),
            TRACE => trace(payload)?,
            ACKED => Self::Acked(json("acked", payload)?),
            CANCEL => Self::Cancel(json("cancel", payload)?),
            FAIL => Self::Fail(ending(payload)?),
            SERVICES_STARTED => Self::ServicesStarted,
            SERVICE_ENDED => Self::ServiceEnded(json("service ended", payload)?),
            CACHE_REQUESTS => Self::CacheRequests(json("cache requests", payload)?),
            STATE => Self::State(json("state", payload)?),
            PING => Self::Ping,
            PONG => Self::Pong,
            REPORTED => Self::Reported,
            REFUSED => Self::Refused(json("refused", payload)?),
            GREET => Self::Greet(json("greet", payload)?),
            GRANTED => Self::Granted(json("granted", payload)?),
            RELEASE => Self::Release,
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

/// A way to end, with what it means beside it, for a peer that does not know it.
#[derive(Serialize)]
struct EndingWithVerdict<'a> {
    #[serde(flatten)]
    ending: &'a Ending,
    verdict: Verdict,
}

impl<'a> EndingWithVerdict<'a> {
    fn of(ending: &'a Ending) -> Self {
        Self { ending, verdict: ending.verdict() }
    }
}

/// The same as it is read.
#[derive(Deserialize)]
struct Meant {
    verdict: Verdict,
}

fn ending(payload: &[u8]) -> Result<Ending, FrameError> {
    let known: Result<Ending, FrameError> = json("fail", payload);
    known.or_else(|error| {
        let Ok(Meant { verdict }) = json("fail", payload) else { return Err(error) };
        // Nobody tells an agent that its job went well.
        let reason = verdict.reason.unwrap_or(FailureReason::UnknownFailure);
        Ok(Ending::Foreign { reason, exit_code: verdict.exit_code, message: verdict.message })
    })
}

fn trace(payload: &Bytes) -> Result<Frame, FrameError> {
    let Some(offset) = payload.first_chunk::<8>() else {
        return Err(FrameError::Payload { kind: "trace", problem: "shorter than its offset".to_owned() });
    };
    Ok(Frame::Trace { offset: u64::from_be_bytes(*offset), bytes: payload.slice(8..) })
}

pub(crate) fn put_json(out: &mut BytesMut, kind: u8, value: &impl Serialize) {
    // Serialising these types to memory cannot fail: string keys only, no custom errors. An empty
    // payload is refused by the reader.
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
