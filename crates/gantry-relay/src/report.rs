//! What goes into a relay and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use gantry_core::Verdict;
use gantry_gitlab::{JobCredentials, RemoteStatus, RunnerInfo};
use tokio::time::Instant;

use crate::limits;

/// A job to relay.
#[derive(Clone, Debug)]
pub struct RelayJob {
    /// Id and token.
    pub creds: JobCredentials,
    /// Sent with every state.
    pub info: RunnerInfo,
    /// Whether `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES` is on: GitLab then shows the trace to fewer
    /// people.
    pub debug_trace: bool,
    /// `features.failure_reasons` of the job: reasons this GitLab knows.
    pub failure_reasons: Vec<String>,
    /// Whether `PUT running` was answered. If not, the relay sends it before anything else.
    pub acknowledged: bool,
    /// Tries of the final state that are made in any case, even when `deadline` has passed
    /// (`job_status_final_update_retry_limit`).
    pub final_tries: u32,
    /// End of the job token's life: the job's time-out and 5 minutes, counted from the 201, or
    /// `exp` of the token. The final state is tried at least until then.
    pub deadline: Instant,
    /// The pace of updates; [`Pace::default`] outside of tests.
    pub pace: Pace,
}

/// How fast a relay talks. The server's interval overrides `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two pieces of the trace, until the server asks for another interval.
    pub interval: Duration,
    /// Silence after which `PUT running` is sent.
    pub keep_alive: Duration,
    /// First wait after a failure; doubles.
    pub retry_min: Duration,
    /// Longest wait after a failure.
    pub retry_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: limits::UPDATE_INTERVAL,
            keep_alive: limits::KEEP_ALIVE,
            retry_min: limits::RETRY_MIN,
            retry_max: limits::RETRY_MAX,
        }
    }
}

/// What the caller tells a relay. Small: a channel has room for 32 whatever its bound, and every
/// running job has one.
#[derive(Clone, Debug)]
pub enum Input {
    /// Bytes of the trace. The first input says where the relay starts (it may be empty for that).
    /// Bytes it has already are skipped; bytes beyond a gap are dropped and answered with
    /// [`Report::WantFrom`].
    Trace {
        /// Place of the first byte in the whole trace.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The trace is closed and the verdict is known. Bytes may still follow, up to `trace_bytes`.
    /// As the first input of all it says that GitLab has the whole trace already.
    Closed(Box<FinishedTrace>),
    /// Somebody without the rest of the trace (its pod is gone) ends the job: what the relay still
    /// holds and then `line` is appended to whatever GitLab has, then the verdict is sent, with a
    /// checksum if all of the trace has come through this relay.
    FinalLine {
        /// Text to append, ending in a newline, already in the trace's own format.
        line: Bytes,
        /// How the job ended.
        verdict: Box<Verdict>,
    },
    /// End at once, without a verdict: another relay goes on.
    StopWithoutVerdict,
}

/// The end of a trace, and how the job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedTrace {
    /// How the job ended.
    pub verdict: Verdict,
    /// Bytes of the whole trace.
    pub trace_bytes: u64,
    /// CRC-32 (IEEE) of the whole trace; if it is not known, GitLab is told none.
    pub trace_crc32: Option<u32>,
}

/// What a relay tells the caller while it runs. These are levels: a newer one replaces an older one
/// that was not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// GitLab has the trace up to here. Everything before may be forgotten.
    Acked(u64),
    /// GitLab asks for a graceful cancel. Repeated with every answer that says so.
    CancelRequested,
    /// The relay needs the trace from here on: send it again, without a gap.
    WantFrom(u64),
    /// GitLab holds more of the trace than this relay was given so far: another relay sent it, and
    /// this one goes on behind it.
    Ahead {
        /// Bytes that GitLab has.
        server: u64,
        /// Bytes that we were given.
        ours: u64,
    },
    /// GitLab holds more of the trace than there is: somebody else wrote to it. No more is sent;
    /// the verdict goes without a checksum.
    Diverged {
        /// Bytes that GitLab has.
        server: u64,
        /// Bytes that we know of.
        ours: u64,
    },
    /// GitLab does not take our updates at present; everything is kept and tried again. `None` when
    /// it takes them again.
    Trouble(Option<String>),
}

/// How a relay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// GitLab has the verdict, or had a final state before.
    Delivered,
    /// GitLab wants nothing more about this job: stop it.
    Aborted(GoneReason),
    /// The caller asked for it, or dropped its end of the inputs before the verdict.
    Stopped,
    /// The verdict could not be delivered until the deadline.
    GaveUp {
        /// What was tried last and how it failed.
        message: String,
    },
}

/// Why GitLab wants nothing more about a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GoneReason {
    /// It is over there: canceled, failed (also: dropped for silence, or over the trace size limit)
    /// or erased.
    #[error("GitLab says the job is over: {}", .0.as_str())]
    Over(RemoteStatus),
    /// Refused although the job runs: the job token's life has ended.
    #[error("the job token has expired, or was revoked, while GitLab shows the job as {}", .0.as_str())]
    TokenExpired(RemoteStatus),
    /// GitLab takes nothing about it, because it was not acknowledged (`acknowledge.rs`).
    #[error(
        "GitLab shows the job as pending and takes nothing about it, because it was not acknowledged; it lets such a job fail and \
         begins it anew"
    )]
    TakenBack,
}
