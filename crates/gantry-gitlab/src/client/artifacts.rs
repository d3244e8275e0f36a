//! Artifacts up and down. Bodies are streams and are never held in memory.

use std::time::Duration;

use gantry_core::Secret;

use super::Client;
use crate::answer::{DownloadError, UploadAnswer};
use crate::request::{JobCredentials, UploadQuery};
use crate::transport::ByteStream;

/// Makes the content of an upload; called once for each try.
pub type UploadBody<'a> = &'a (dyn Fn() -> ByteStream + Send + Sync);

/// Limits of an upload (`[runners.artifact]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadTimeouts {
    /// One whole try.
    pub total: Duration,
    /// From the end of the body to the answer.
    pub response_header: Duration,
}

impl Default for UploadTimeouts {
    fn default() -> Self {
        Self { total: crate::limits::UPLOAD_TIMEOUT, response_header: crate::limits::UPLOAD_HEADER_TIMEOUT }
    }
}

/// An open download.
pub struct Download {
    /// Its length, if the server said.
    pub content_length: Option<u64>,
    /// The content. An error in the middle means: start over.
    pub content: ByteStream,
}

impl Client {
    /// Uploads one artifact, with all tries the reference makes (3, or 6 while GitLab answers 503, 1 to 5 s apart).
    pub async fn upload_artifact(
        &self,
        _job: &JobCredentials,
        _query: &UploadQuery,
        _body: UploadBody<'_>,
        _timeouts: UploadTimeouts,
    ) -> UploadAnswer {
        todo!()
    }

    /// Opens the artifacts of job `id`; `token` is that job's (`dependencies[].token`). With `direct` GitLab may send us to its object
    /// storage, which never sees the token. One try: the caller makes the others, since the stream can break half-way.
    pub async fn download_artifact(&self, _id: i64, _token: &Secret, _direct: bool) -> Result<Download, DownloadError> {
        todo!()
    }
}
