//! Builds every request as a value. Pure: no IO, no clock, no random numbers (the caller gives the request id and the boundary).

use std::fmt::Write as _;

use bytes::Bytes;
use gantry_core::{FailureReason, JobState, Secret};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request};
use serde::Serialize;
use url::Url;

use crate::info::RunnerInfo;
use crate::observe::Endpoint;

/// Job id and job token: what every call about a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCredentials {
    /// The job's id.
    pub id: i64,
    /// The job token.
    pub token: Secret,
}

/// One request for a job.
#[derive(Clone, Debug)]
pub struct JobRequest<'a> {
    /// The runner's authentication token.
    pub token: &'a Secret,
    /// The manager's id, see [`crate::system_id`].
    pub system_id: &'a str,
    /// Who asks.
    pub info: &'a RunnerInfo,
    /// What the last answer to this runner gave; needed for long polling.
    pub last_update: Option<&'a str>,
}

/// A state to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobUpdate {
    /// The state.
    pub state: JobState,
    /// Only with [`JobState::Failed`], and already one that the server accepts (see [`FailureReason::accepted_by`]).
    pub failure_reason: Option<FailureReason>,
    /// Checksum and size of the whole trace.
    pub output: Option<Output>,
    /// Omitted on the wire when 0.
    pub exit_code: Option<i32>,
}

impl JobUpdate {
    /// A state without anything beside it: `pending` and `running`.
    pub fn of(state: JobState) -> Self {
        Self { state, failure_reason: None, output: None, exit_code: None }
    }
}

/// Checksum and size of a whole trace, over exactly the bytes that are PATCHed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// CRC-32 (IEEE); sent as `crc32:` and 8 lower-case hex digits.
    pub crc32: u32,
    /// Bytes.
    pub bytesize: u64,
}

/// Attributes of a runner to be registered with a registration token (the old way).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// Name of the runner.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Free text for administrators.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_list: String,
    /// Sent as true when there are no tags.
    pub run_untagged: bool,
    /// Only for the project it is registered for.
    pub locked: bool,
    /// `not_protected` or `ref_protected`; empty for the server's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    /// Seconds; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_timeout: i64,
    /// Takes no jobs.
    pub paused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What an artifact is, as far as GitLab wants to know. Empty fields are not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadQuery {
    /// `archive` or the type of a report.
    pub artifact_type: String,
    /// `zip`, `gzip` or `raw`.
    pub artifact_format: String,
    /// Such as `1 week`.
    pub expire_in: String,
    /// Name of the file in the upload; must not be empty.
    pub filename: String,
}
