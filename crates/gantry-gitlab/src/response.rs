//! Reads every answer, headers and body, into the types of `answer.rs`. Pure. Never fails on
//! strange data: it says what is strange, and never repeats a body that could hold a token.

use std::time::Duration;

use bytes::Bytes;
use gantry_core::Secret;
use gantry_http::{TransportError, retry};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{
    CallError, DownloadError, JobAnswer, JobHeaders, PatchAnswer, PatchOutcome, ReceivedJob, Registered, RemoteStatus,
    UpdateAnswer, UpdateOutcome,
};
use crate::limits;
use crate::payload::{self, Undecodable};
use crate::request::REQUEST_ID;

/// An answer, or why there is none.
pub(crate) type Answered = Result<Response<Bytes>, CallError>;

/// A runner as GitLab describes it; `success` is the one status with such a body.
pub(crate) fn registered(answer: Answered, success: StatusCode) -> Result<Registered, CallError> {
    #[derive(Deserialize)]
    struct Payload {
        id: Option<i64>,
        token: Option<Secret>,
        token_expires_at: Option<String>,
    }
    let answer = expect(answer, success)?;
    let payload: Payload = json(&answer)?;
    Ok(Registered {
        id: payload.id.unwrap_or_default(),
        token: payload.token.unwrap_or_default(),
        token_expires_at: payload.token_expires_at.filter(|time| !time.is_empty()),
    })
}

/// An answer that is only a status.
pub(crate) fn done(answer: Answered, success: StatusCode) -> Result<(), CallError> {
    expect(answer, success).map(drop)
}

fn expect(answer: Answered, success: StatusCode) -> Answered {
    let answer = answer?;
    if answer.status() == success { Ok(answer) } else { Err(status_error(&answer)) }
}

/// What a request for a job brought. The TLS chain is added by the caller, who knows the
/// connection.
pub(crate) fn job(answer: Answered) -> JobAnswer {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return JobAnswer::Failed(error),
    };
    match answer.status() {
        StatusCode::CREATED => received(&answer),
        StatusCode::NO_CONTENT => JobAnswer::NoJob,
        StatusCode::FORBIDDEN => match message(&answer) {
            message if refuses_token(&message) => JobAnswer::Forbidden { message },
            message => JobAnswer::Failed(CallError::Status { status: 403, message }),
        },
        StatusCode::SERVICE_UNAVAILABLE => JobAnswer::Unavailable { message: message(&answer) },
        _ => JobAnswer::Failed(status_error(&answer)),
    }
}

fn received(answer: &Response<Bytes>) -> JobAnswer {
    if !is_json(answer.headers()) {
        return JobAnswer::Failed(not_json(answer));
    }
    match payload::decode(answer.body()) {
        Ok(spec) => JobAnswer::Job(Box::new(ReceivedJob {
            spec,
            correlation_id: text(answer.headers(), REQUEST_ID.as_str()),
            tls_ca_chain_pem: None,
        })),
        Err(Undecodable { id, token, message }) => JobAnswer::Undecodable { id, token, message },
    }
}

/// The value to echo in the next request for a job; only if the server gave one.
pub(crate) fn last_update(headers: &HeaderMap) -> Option<String> {
    text(headers, "x-gitlab-last-update")
}

/// What was answered to `PUT jobs/<id>`.
pub(crate) fn update(answer: Answered) -> UpdateAnswer {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return UpdateAnswer { outcome: UpdateOutcome::Unreachable(error), headers: JobHeaders::default() };
        }
    };
    let outcome = match answer.status().as_u16() {
        200 => UpdateOutcome::Accepted,
        202 => UpdateOutcome::NotYet,
        400 => UpdateOutcome::BadRequest,
        403 => UpdateOutcome::Forbidden,
        404 => UpdateOutcome::NotFound,
        409 => UpdateOutcome::Conflict,
        412 => UpdateOutcome::TraceRejected,
        status if is_later(status) => UpdateOutcome::Later(status_error(&answer)),
        _ => UpdateOutcome::Other(status_error(&answer)),
    };
    UpdateAnswer { outcome, headers: job_headers(answer.headers()) }
}

/// What was answered to `PATCH jobs/<id>/trace`.
pub(crate) fn patch(answer: Answered) -> PatchAnswer {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return PatchAnswer { outcome: PatchOutcome::Unreachable(error), headers: JobHeaders::default() },
    };
    let outcome = match answer.status().as_u16() {
        202 => PatchOutcome::Accepted { size: range_end(answer.headers()) },
        403 => PatchOutcome::Forbidden,
        404 => PatchOutcome::NotFound,
        409 => PatchOutcome::Conflict,
        416 => PatchOutcome::RangeMismatch { size: range_end(answer.headers()).unwrap_or(0) },
        status if is_later(status) => PatchOutcome::Later(status_error(&answer)),
        _ => PatchOutcome::Other(status_error(&answer)),
    };
    PatchAnswer { outcome, headers: job_headers(answer.headers()) }
}

/// Statuses that ask to come back later.
fn is_later(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// Why a download's answer is not its content.
pub(crate) fn download_error(answer: &Response<Bytes>) -> DownloadError {
    match answer.status().as_u16() {
        404 => DownloadError::NotFound,
        status @ (401 | 403) => DownloadError::Forbidden { status, message: message(answer) },
        status if retry::is_final(answer.status()) => DownloadError::Refused { status, message: message(answer) },
        _ => DownloadError::Failed(status_error(answer)),
    }
}

/// What the headers say about the job.
fn job_headers(headers: &HeaderMap) -> JobHeaders {
    JobHeaders {
        job_status: text(headers, "job-status").map(|word| RemoteStatus::parse(&word)),
        update_interval: text(headers, "x-gitlab-trace-update-interval").and_then(|word| update_interval(&word)),
        // Only who has sent the request knows when the answer came.
        asked_wait: None,
    }
}

/// Whole seconds; what is not a positive number changes nothing, and more than the maximum is the
/// maximum.
fn update_interval(word: &str) -> Option<Duration> {
    let seconds = word.trim().parse::<i64>().ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.unsigned_abs()).min(limits::MAX_UPDATE_INTERVAL))
}

/// `Range: 0-<n>`, where `n` is the stored size, so an exclusive end: not symmetrical to the
/// `Content-Range` we send.
fn range_end(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, "range")?;
    let (_, end) = range.split_once('-')?;
    // Twice as much can still be counted with.
    end.trim().parse().ok().filter(|end| *end <= u64::MAX / 2)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    Some(headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim())
}

/// Whether this is something for a browser. No answer of GitLab's API is: who stands before it says
/// so, or who has its address.
pub(crate) fn is_page(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media_type| media_type.eq_ignore_ascii_case("text/html"))
}

fn json<'a, T: Deserialize<'a>>(answer: &'a Response<Bytes>) -> Result<T, CallError> {
    if is_page(answer.headers()) {
        return Err(status_error(answer));
    }
    if !is_json(answer.headers()) {
        return Err(not_json(answer));
    }
    // The library's words can quote values, and these bodies are tokens.
    serde_json::from_slice(answer.body()).map_err(|error| CallError::Malformed {
        what: format!(
            "the JSON of the body does not have the expected form (line {}, column {})",
            error.line(),
            error.column()
        ),
    })
}

fn not_json(answer: &Response<Bytes>) -> CallError {
    let kind = text(answer.headers(), CONTENT_TYPE.as_str()).unwrap_or_else(|| "no content type".to_owned());
    CallError::Malformed {
        what: format!(
            "status {} came with {:?} where JSON was expected; is the URL that of a GitLab instance?",
            answer.status().as_u16(),
            shortened(&kind)
        ),
    }
}

/// What a page means where GitLab's API should be.
const PAGE: &str = "a page for browsers, which GitLab's API never sends: a proxy or a page to sign in stands before it, \
                        or the URL is not that of a GitLab instance";

/// The answer as an error, with the server's words.
pub(crate) fn status_error(answer: &Response<Bytes>) -> CallError {
    CallError::Status { status: answer.status().as_u16(), message: message(answer) }
}

/// Words for a log: `message` (or `error`) of a JSON body, an object storage's XML, else the status
/// line. Redirects that are not followed name their target, because that is the URL to configure.
fn message(answer: &Response<Bytes>) -> String {
    let status = answer.status();
    if status.is_redirection()
        && let Some(target) = text(answer.headers(), "location")
    {
        let target =
            url::Url::parse(&target).map_or(String::from("elsewhere"), |url| url.origin().ascii_serialization());
        return format!("redirected to {target}; configure the final URL of this GitLab instance");
    }
    if status == StatusCode::BAD_REQUEST && wants_tls(answer.body()) {
        return "this port speaks TLS: write https:// in the URL".to_owned();
    }
    // Other errors are also those of GitLab's own web server.
    if is_page(answer.headers()) && (status.is_success() || status == StatusCode::NOT_FOUND) {
        return format!("{}, with {PAGE}", status.canonical_reason().unwrap_or("no explanation"));
    }
    let said = if is_json(answer.headers()) { json_message(answer.body()) } else { xml_message(answer) };
    let said = said.filter(|words| !words.trim().is_empty());
    let has_no_words = said.as_deref().is_none_or(|words| Some(words) == status.canonical_reason());
    if has_no_words && status == StatusCode::FORBIDDEN && !answer.body().trim_ascii().is_empty() {
        return "Forbidden, in words that GitLab's API never uses: a proxy or a firewall stands before it".to_owned();
    }
    shortened(&said.unwrap_or_else(|| status.canonical_reason().unwrap_or("no explanation").to_owned()))
}

/// Whether a 403 with these words says that GitLab does not know a runner's token: in GitLab's own
/// words, or in none. Who stands before GitLab has others, and so has an instance that takes no
/// changes for a while.
pub(crate) fn refuses_token(message: &str) -> bool {
    let is_of_gitlab =
        message.starts_with("403 Forbidden") || Some(message) == StatusCode::FORBIDDEN.canonical_reason();
    is_of_gitlab && !message.contains("read-only")
}

/// What nginx, Go and Apache answer to plain HTTP on a port for TLS.
fn wants_tls(body: &[u8]) -> bool {
    let words = String::from_utf8_lossy(body);
    ["sent to HTTPS port", "to an HTTPS server", "SSL-enabled server port"].iter().any(|known| words.contains(known))
}

fn json_message(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    match value.get("message").or_else(|| value.get("error"))? {
        Value::String(words) => Some(words.clone()),
        Value::Object(fields) => {
            let parts: Vec<String> =
                fields.iter().map(|(field, values)| format!("{field}: {}", listed(values))).collect();
            Some(parts.join(", "))
        }
        _ => None,
    }
}

fn listed(values: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match values {
        Value::Array(values) => values.iter().map(word).collect::<Vec<_>>().join("; "),
        other => word(other),
    }
}

/// `<Error><Code>…</Code><Message>…</Message></Error>`, as object storage answers.
fn xml_message(answer: &Response<Bytes>) -> Option<String> {
    let media_type = text(answer.headers(), CONTENT_TYPE.as_str())?;
    if !media_type.contains("xml") {
        return None;
    }
    let body = String::from_utf8_lossy(answer.body());
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(content, _)| content.to_owned())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (code, message) => message.or(code),
    }
}

/// One line of at most [`limits::MAX_MESSAGE_CHARS`] characters without control characters.
fn shortened(words: &str) -> String {
    let clean = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = clean.clone().take(limits::MAX_MESSAGE_CHARS).collect();
    if clean.count() > limits::MAX_MESSAGE_CHARS {
        short.push('…');
    }
    short
}

impl From<TransportError> for CallError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
