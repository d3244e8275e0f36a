//! Artifacts up and down. Bodies are streams and are never held in memory.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gantry_core::{Secret, backoff};
use gantry_http::limits::MAX_REDIRECTS;
use gantry_http::retry::{self, Idempotency, Moment};
use gantry_http::{Body, ByteStream, ContentRange, Timeouts, TransportError, TransportFault, redirect};
use http::header::{CONTENT_LENGTH, RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::exchange::{Decode, Outcome, read};
use super::{Client, request_id};
use crate::answer::{CallError, DownloadError, UploadAnswer};
use crate::limits;
use crate::observe::Endpoint;
use crate::request::{JobCredentials, TOKENS, UploadQuery};
use crate::response;

/// Makes the content of an upload; called once for each try.
pub type UploadBody<'a> = &'a (dyn Fn() -> ByteStream + Send + Sync);

/// Is told of every try of an upload that failed and is followed by another.
pub type OnRetry<'a> = &'a (dyn Fn(&CallError) + Send + Sync);

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
        Self { total: limits::UPLOAD_TIMEOUT, response_header: limits::UPLOAD_HEADER_TIMEOUT }
    }
}

/// An open download.
pub struct Download {
    /// Its length, if the server said.
    pub content_length: Option<u64>,
    /// The content. An error in the middle means: start over.
    pub content: ByteStream,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("content_length", &self.content_length).finish_non_exhaustive()
    }
}

/// A part of a download, or all of it.
pub struct Part {
    /// The length of all, where this is a part; nothing where this is all.
    pub whole_length: Option<u64>,
    /// The length of this, if the server said.
    pub content_length: Option<u64>,
    /// The content. An error in the middle means: start over.
    pub content: ByteStream,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("whole_length", &self.whole_length).finish_non_exhaustive()
    }
}

impl Client {
    /// Uploads one artifact, with the tries that the reference makes (3, or 6 while GitLab answers
    /// 503, 1 to 5 s apart), unless GitLab's answer stands: the reference tries those again too.
    pub async fn upload_artifact(
        &self,
        job: &JobCredentials,
        query: &UploadQuery,
        (body, on_retry): (UploadBody<'_>, OnRetry<'_>),
        timeouts: UploadTimeouts,
    ) -> UploadAnswer {
        let start = Instant::now();
        let boundary = request_id();
        let request = match self.shared.instance.upload_artifact(job, query, &boundary).with_id(&request_id()) {
            Ok(request) => request,
            Err(error) => return UploadAnswer::Failed { tries: 0, error },
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let parts = MultipartFile::new(&boundary, &query.filename);
        let mut tries = 0;
        let (answer, status) = loop {
            tries += 1;
            let tried = self.upload_once(&request, &|| parts.around(body()), timeouts).await;
            let status = tried.as_ref().ok().map(Response::status);
            let unavailable = status == Some(StatusCode::SERVICE_UNAVAILABLE);
            let most = if unavailable { limits::UPLOAD_TRIES_UNAVAILABLE } else { limits::UPLOAD_TRIES };
            let wait = wait_before_upload(tries, tried.as_ref().ok());
            match judge(tried, tries) {
                UploadAnswer::Failed { error, .. } if tries < most => {
                    tracing::warn!(tries, most, ?wait, %error, "the upload of an artifact failed and is tried again");
                    on_retry(&error);
                    tokio::time::sleep(wait).await;
                }
                answer => break (answer, status),
            }
        };
        self.observe(Endpoint::Artifacts, &method, &path, &Outcome { status, tries, start });
        answer
    }

    /// One upload, and again to wherever the same instance redirects (307, 308).
    async fn upload_once(
        &self,
        request: &Request<Bytes>,
        body: &(dyn Fn() -> ByteStream + Send + Sync),
        limit: UploadTimeouts,
    ) -> response::Answered {
        let mut request = request.clone();
        let timeouts = Timeouts { head: limit.total, idle: limits::BODY_IDLE_TIMEOUT };
        for _ in 0..MAX_REDIRECTS {
            let sent = Arc::new(Notify::new());
            let body = notifying(body(), Arc::clone(&sent));
            let sending = self.shared.transport.send(request.clone().map(|_| Body::Stream(body)), timeouts);
            let silence = async {
                sent.notified().await;
                tokio::time::sleep(limit.response_header).await;
            };
            let answer = tokio::select! {
                answer = sending => answer?,
                () = silence => return Err(TransportError::new(TransportFault::Timeout, "no answer after the upload").into()),
            };
            let answer = read(answer, Decode::Nothing, limits::BODY_IDLE_TIMEOUT).await?;
            match redirect::next(&request, &TOKENS, answer.status(), answer.headers()) {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        Err(TransportError::new(TransportFault::Request, "too many redirects").into())
    }

    /// Opens the artifacts of job `id`; `token` is that job's (`dependencies[].token`). With
    /// `direct` GitLab may send us to its object storage, which never sees the token. One try: the
    /// caller makes the others, since the stream can break half-way.
    pub async fn download_artifact(&self, id: i64, token: &Secret, direct: bool) -> Result<Download, DownloadError> {
        let answer = self.get_artifact(id, token, direct, None).await?;
        Ok(Download { content_length: length(answer.headers()), content: answer.into_body() })
    }

    /// The same for a range of bytes, where whoever has the artifacts gives ranges:
    /// [`Part::whole_length`] says whether that was so. A part is the one that was asked for, at
    /// least at its start.
    pub async fn download_part(
        &self,
        id: i64,
        token: &Secret,
        direct: bool,
        range: Range<u64>,
    ) -> Result<Part, DownloadError> {
        let start = range.start;
        let answer = self.get_artifact(id, token, direct, Some(range)).await?;
        let whole_length = if answer.status() == StatusCode::PARTIAL_CONTENT {
            let what = match ContentRange::of(answer.headers()) {
                Some(range) if range.start == start => Ok(range.whole_length),
                Some(range) => Err(format!("a part of the artifacts begins at {}, not at {start}", range.start)),
                None => Err("a part of the artifacts does not say of how many bytes".to_owned()),
            };
            Some(what.map_err(|what| DownloadError::Failed(CallError::Malformed { what }))?)
        } else {
            None
        };
        Ok(Part { whole_length, content_length: length(answer.headers()), content: answer.into_body() })
    }

    async fn get_artifact(
        &self,
        id: i64,
        token: &Secret,
        direct: bool,
        range: Option<Range<u64>>,
    ) -> Result<Response<ByteStream>, DownloadError> {
        let start = Instant::now();
        let request = self.shared.instance.download_artifact(id, token, direct).with_id(&request_id());
        let mut request = request.map_err(DownloadError::Failed)?;
        let is_part = range.is_some();
        if let Some(Range { start, end }) = range {
            let value = HeaderValue::try_from(format!("bytes={start}-{}", end.saturating_sub(1)));
            request.headers_mut().extend(value.map(|value| (RANGE, value)));
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let timeouts = Timeouts { head: limits::DOWNLOAD_HEAD_TIMEOUT, idle: limits::BODY_IDLE_TIMEOUT };
        let sent = self.open(request, timeouts, (Idempotency::Idempotent, None)).await;
        let status = sent.answer.as_ref().ok().map(Response::status);
        self.observe(Endpoint::Artifacts, &method, &path, &Outcome { status, tries: sent.tries, start });
        let answer = sent.answer.map_err(|error| DownloadError::Failed(error.into()))?;
        if answer.status() == StatusCode::OK || (is_part && answer.status() == StatusCode::PARTIAL_CONTENT) {
            return Ok(answer);
        }
        let answer = read(answer, Decode::Nothing, limits::BODY_IDLE_TIMEOUT).await.map_err(DownloadError::Failed)?;
        Err(response::download_error(&answer))
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    match headers.get(TRANSFER_ENCODING) {
        Some(_) => None,
        None => headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
    }
}

/// What an answer to an upload means; a failure may be worth another try.
fn judge(answer: response::Answered, tries: u32) -> UploadAnswer {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return UploadAnswer::Failed { tries, error },
    };
    match (answer.status().as_u16(), response::status_error(&answer)) {
        (201, _) => UploadAnswer::Uploaded,
        (403, CallError::Status { message, .. }) => UploadAnswer::Forbidden { message },
        (413, CallError::Status { message, .. }) => UploadAnswer::TooLarge { message },
        (_, CallError::Status { status, message }) if retry::is_final(answer.status()) => {
            UploadAnswer::Refused { status, message }
        }
        (_, error) => UploadAnswer::Failed { tries, error },
    }
}

/// 1 s, 2 s, 4 s, then 5 s; longer if the server asks for it. The inner layer of other calls is not
/// used here: tries inside of tries would make and send an archive 30 times, as the reference does.
fn wait_before_upload<B>(tries: u32, answer: Option<&Response<B>>) -> Duration {
    let usual = backoff::doubled(Duration::from_secs(1), limits::UPLOAD_BACKOFF_MAX, tries);
    let moment = Moment { tries: 1, now: jiff::Timestamp::now(), random: 0.0 };
    let asked = answer.and_then(|answer| retry::after_answer(answer.status(), answer.headers(), moment));
    asked.map_or(usual, |asked| asked.max(usual))
}

/// What stands before and after the file in a body of type `multipart/form-data`.
struct MultipartFile {
    before: Bytes,
    after: Bytes,
}

impl MultipartFile {
    fn new(boundary: &str, filename: &str) -> Self {
        // What HTML forms do with characters that would end the quoted name.
        let name = filename.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        let before = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        Self { before: before.into(), after: format!("\r\n--{boundary}--\r\n").into() }
    }

    fn around(&self, content: ByteStream) -> ByteStream {
        let piece = |bytes: &Bytes| stream::iter([Ok(bytes.clone())]);
        Box::pin(piece(&self.before).chain(content).chain(piece(&self.after)))
    }
}

/// The same stream; `end` is told when it was read to its end.
fn notifying(content: ByteStream, end: Arc<Notify>) -> ByteStream {
    let last = stream::once(async move { end.notify_one() }).filter_map(|()| async { None });
    Box::pin(content.chain(last))
}
