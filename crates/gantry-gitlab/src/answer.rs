//! What GitLab can answer, typed per call. These types say what was answered and never what to do
//! about it.

use std::time::Duration;

use gantry_core::Secret;
use gantry_core::job::JobSpec;
use gantry_http::TransportError;

/// A runner known to GitLab (answer to registration, verification and token reset).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The runner's number; 0 when an old server did not say.
    pub id: i64,
    /// The runner's authentication token; empty when an old server did not say.
    pub token: Secret,
    /// When the token ends, as GitLab wrote it (ISO 8601); absent means never.
    pub token_expires_at: Option<String>,
}

/// What `POST runners/verify` showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The token is good.
    Valid(Registered),
    /// GitLab refused the token (403).
    Invalid {
        /// GitLab's words.
        message: String,
    },
    /// Anything else, such as an outage: proves nothing about the token.
    Unsure {
        /// What was answered or what failed.
        message: String,
    },
}

/// One answered (or failed) `POST jobs/request`.
#[derive(Clone, Debug)]
pub struct Poll {
    /// What came back.
    pub answer: JobAnswer,
    /// The server answered at least one try with a status that asks for less: drives adaptive
    /// concurrency.
    pub pushed_back: bool,
    /// New value for `last_update` of the next request of the same runner; absent means keep the
    /// old one.
    pub last_update: Option<String>,
}

impl Poll {
    /// Whether the runner stays healthy: GitLab Runner 19.4 counts only a refused token (403)
    /// against it, not an outage.
    pub fn healthy(&self) -> bool {
        !matches!(self.answer, JobAnswer::Forbidden { .. })
    }
}

/// What came back on a request for a job.
#[derive(Clone, Debug)]
pub enum JobAnswer {
    /// A job.
    Job(Box<ReceivedJob>),
    /// No job for now (204).
    NoJob,
    /// A job that cannot be understood. With `id` and `token` the caller can report it failed;
    /// without, GitLab lets it fail by itself, minutes later.
    Undecodable {
        /// The job's id, if it could be read.
        id: Option<i64>,
        /// The job's token, if it could be read.
        token: Option<Secret>,
        /// What is wrong and where in the payload, without any value from it.
        message: String,
    },
    /// The runner's token is refused (403).
    Forbidden {
        /// GitLab's words.
        message: String,
    },
    /// GitLab is in maintenance or overloaded (503, after the inner tries).
    Unavailable {
        /// GitLab's words.
        message: String,
    },
    /// Everything else: other statuses and broken connections.
    Failed(CallError),
}

/// A job and what was learned beside its payload.
#[derive(Clone, Debug)]
pub struct ReceivedJob {
    /// The payload.
    pub spec: JobSpec,
    /// The server's `X-Request-Id` of the answer, sent by git as `X-Gitaly-Correlation-ID`.
    pub correlation_id: Option<String>,
    /// Content of `CI_SERVER_TLS_CA_FILE`: the configured CA, else the verified chain of the
    /// connection; absent for plain HTTP.
    pub tls_ca_chain_pem: Option<String>,
}

/// State of a job as GitLab sees it (header `Job-Status`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RemoteStatus {
    /// In progress.
    Running,
    /// Not acknowledged.
    Pending,
    /// A graceful cancel was asked for.
    Canceling,
    /// Over: canceled.
    Canceled,
    /// Over: failed.
    Failed,
    /// Over: succeeded.
    Success,
    /// A word that this version does not know.
    Other(String),
}

impl RemoteStatus {
    /// Reads the header's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "running" => Self::Running,
            "pending" => Self::Pending,
            "canceling" => Self::Canceling,
            "canceled" => Self::Canceled,
            "failed" => Self::Failed,
            "success" => Self::Success,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether GitLab takes nothing more about the job.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Canceled | Self::Failed | Self::Success)
    }

    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
            Self::Success => "success",
            Self::Other(word) => word,
        }
    }
}

/// What every answer about a running job says beside its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobHeaders {
    /// `Job-Status`, if present.
    pub job_status: Option<RemoteStatus>,
    /// `X-GitLab-Trace-Update-Interval`, if present and usable; at most
    /// [`crate::limits::MAX_UPDATE_INTERVAL`].
    pub update_interval: Option<Duration>,
    /// How long to wait before the next request, with a status that asks for less; a minute at
    /// most.
    pub asked_wait: Option<Duration>,
}

/// Answer to `PUT jobs/<id>`.
#[derive(Clone, Debug)]
pub struct UpdateAnswer {
    /// The status, by meaning.
    pub outcome: UpdateOutcome,
    /// The headers.
    pub headers: JobHeaders,
}

/// Meaning of a status of `PUT jobs/<id>` (GitLab Runner 19.4, `network/gitlab.go`).
#[derive(Clone, Debug)]
pub enum UpdateOutcome {
    /// 200: taken.
    Accepted,
    /// 202: a final state is taken once GitLab has put the trace together; ask again.
    NotYet,
    /// 412: GitLab threw the trace away; send all of it again.
    TraceRejected,
    /// 403. What it means depends on [`JobHeaders::job_status`].
    Forbidden,
    /// 400: a state that does not fit (an older server, or already running).
    BadRequest,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 408, 425, 429 and 5xx: later.
    Later(CallError),
    /// No answer at all.
    Unreachable(CallError),
    /// Any other status.
    Other(CallError),
}

/// Answer to `PATCH jobs/<id>/trace`.
#[derive(Clone, Debug)]
pub struct PatchAnswer {
    /// The status, by meaning.
    pub outcome: PatchOutcome,
    /// The headers.
    pub headers: JobHeaders,
}

/// Meaning of a status of `PATCH jobs/<id>/trace` (GitLab Runner 19.4, `network/gitlab.go`).
#[derive(Clone, Debug)]
pub enum PatchOutcome {
    /// 202: appended.
    Accepted {
        /// How much GitLab has now (header `Range`), if it said so.
        size: Option<u64>,
    },
    /// 416: GitLab has another amount than the offset sent.
    RangeMismatch {
        /// How much it has; 0 when the header is missing or unreadable (the reference's rule).
        size: u64,
    },
    /// 403. What it means depends on [`JobHeaders::job_status`].
    Forbidden,
    /// 404.
    NotFound,
    /// 409: another request holds the lock of this trace.
    Conflict,
    /// 408, 425, 429 and 5xx: later.
    Later(CallError),
    /// No answer at all: GitLab may or may not have the bytes.
    Unreachable(CallError),
    /// Any other status.
    Other(CallError),
}

/// How the upload of one artifact ended, after all its tries.
#[derive(Clone, Debug)]
pub enum UploadAnswer {
    /// GitLab has it (201).
    Uploaded,
    /// Refused (403): the job has ended, or its token.
    Forbidden {
        /// GitLab's words.
        message: String,
    },
    /// Larger than the instance or project allows (413).
    TooLarge {
        /// GitLab's words.
        message: String,
    },
    /// Refused for another reason that stands, such as a report that cannot be read (400). Trying
    /// again does not help.
    Refused {
        /// The status.
        status: u16,
        /// GitLab's words.
        message: String,
    },
    /// All tries failed.
    Failed {
        /// How many there were.
        tries: u32,
        /// The last failure.
        error: CallError,
    },
}

/// Why an artifact cannot be downloaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DownloadError {
    /// There is none (404). Trying again does not help.
    #[error("the job has no artifacts, or they have expired or been erased")]
    NotFound,
    /// Refused (401, 403), by GitLab or by its object storage. The same request would be refused
    /// again.
    #[error("access to the artifacts was refused (status {status}): {message}")]
    Forbidden {
        /// The status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// Refused with another status that stands (4xx), by GitLab or by its object storage. The same
    /// request would be refused again.
    #[error("the artifacts were refused (status {status}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// Everything else; worth another try.
    #[error("the artifacts could not be downloaded")]
    Failed(#[source] CallError),
}

/// A call that did not get the answer it exists for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error("no answer from GitLab")]
    Transport(#[source] TransportError),
    /// Another status than hoped for.
    #[error("GitLab answered with status {status}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// GitLab's words, shortened, on one line.
        message: String,
    },
    /// The right status with a body that cannot be used.
    #[error("GitLab's answer cannot be used: {what}")]
    Malformed {
        /// What is wrong with it, without any value from it.
        what: String,
    },
}

impl CallError {
    /// The HTTP status, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Transport(_) | Self::Malformed { .. } => None,
        }
    }
}

/// An answer that shows that there is somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// HTTP status; 401 is what GitLab says to a stranger.
    pub status: u16,
    /// It is a page for browsers, and so nothing that GitLab's API has sent.
    pub is_page: bool,
    /// `Date` of the answer, as it was sent.
    pub date: Option<String>,
    /// From the request to the head of the answer.
    pub took: std::time::Duration,
    /// Whether the server's certificate will be good for [`crate::limits::CERTIFICATE_LOOKAHEAD`];
    /// nothing without TLS.
    pub certificate_is_good_for: Option<bool>,
}
