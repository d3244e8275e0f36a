//! A view of every finished call, for metrics. The observer is called once per call, after its
//! inner tries, and must not block.

use std::sync::Arc;
use std::time::Duration;

/// What a call is for; the words are those of the metric label `endpoint` (GitLab Runner 19.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST jobs/request`.
    RequestJob,
    /// `PUT jobs/<id>`.
    UpdateJob,
    /// `PATCH jobs/<id>/trace`.
    PatchTrace,
    /// `POST runners/reset_authentication_token` and its variant with a personal access token.
    ResetToken,
    /// Registration, verification, removal. The reference has no series for it.
    Runner,
    /// Artifacts up and down. The reference has no series for it.
    Artifacts,
}

impl Endpoint {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestJob => "request_job",
            Self::UpdateJob => "update_job",
            Self::PatchTrace => "patch_trace",
            Self::ResetToken => "reset_token",
            Self::Runner => "runner",
            Self::Artifacts => "artifacts",
        }
    }

    /// Whether the reference counts it in its request status and duration metrics.
    pub fn has_series(self) -> bool {
        matches!(self, Self::RequestJob | Self::UpdateJob | Self::PatchTrace | Self::ResetToken)
    }
}

/// One finished call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestObservation {
    /// What it was for.
    pub endpoint: Endpoint,
    /// Lower case, as in the metric label.
    pub method: &'static str,
    /// Path of the URL with every number replaced by `{id}`.
    pub path: String,
    /// Status of the last try; −1 without an answer.
    pub status: i32,
    /// From the first try to the last answer, waits included.
    pub duration: Duration,
    /// Tries, 1 or more (the reference's "retries" metric counts these).
    pub attempts: u32,
}

/// Called once for each finished call.
pub type ObserveRequests = Arc<dyn Fn(&RequestObservation) + Send + Sync>;
