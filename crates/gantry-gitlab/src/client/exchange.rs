//! One call from its request to its answer: how long it may take, how much of an answer is read,
//! who is told.

use std::time::Duration;

use bytes::Bytes;
use gantry_http::limits::DRAIN_TIMEOUT;
use gantry_http::retry::Idempotency;
use gantry_http::{ByteStream, ReadError, Sent, Timeouts};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::Client;
use crate::answer::CallError;
use crate::limits;
use crate::observe::{Endpoint, RequestObservation};
use crate::request::{Built, TOKENS};
use crate::response::Answered;

/// A call to make.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) request: Built,
    /// Until the head of the answer, for each try.
    pub(super) timeout: Duration,
    /// The time-out is that of all tries together, with the waits between them and the body.
    pub(super) in_all: bool,
    pub(super) idempotency: Idempotency,
    pub(super) decode: Decode,
}

/// Whether the body matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decode {
    /// It is read with this status; a body that breaks off is then a failure.
    On(StatusCode),
    /// The same with 201, and it may be as large as a job.
    Job,
    /// Only the head counts. The body is read for words in errors and to keep the connection.
    Nothing,
}

/// A call that was made.
pub(super) struct Exchanged {
    pub(super) answer: Answered,
    pub(super) pushed_back: bool,
    pub(super) asked_wait: Option<Duration>,
}

impl Client {
    /// Makes a call and reads its answer.
    pub(super) async fn exchange(&self, call: Call) -> Exchanged {
        let start = Instant::now();
        let request = match call.request {
            Ok(request) => request,
            Err(error) => return Exchanged { answer: Err(error), pushed_back: false, asked_wait: None },
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let timeouts = Timeouts { head: call.timeout, idle: limits::BODY_IDLE_TIMEOUT };
        let until = call.in_all.then(|| start + call.timeout);
        let sent = self.open(request, timeouts, (call.idempotency, until)).await;
        let answer = match sent.answer {
            Ok(answer) => {
                let limit = until.map_or(call.timeout, |until| until - Instant::now());
                read(answer, call.decode, limit).await
            }
            Err(error) => Err(error.into()),
        };
        let status = answer.as_ref().ok().map(Response::status);
        self.observe(call.endpoint, &method, &path, &Outcome { status, tries: sent.tries, start });
        Exchanged { answer, pushed_back: sent.pushed_back, asked_wait: sent.asked_wait }
    }

    /// Sends until an answer stands, whose body is not yet read.
    pub(super) async fn open(
        &self,
        request: Request<Bytes>,
        timeouts: Timeouts,
        tries: (Idempotency, Option<Instant>),
    ) -> Sent {
        let sending = gantry_http::send_until(self.shared.transport.as_ref(), request, &TOKENS, timeouts, tries);
        // On the heap, because the futures of all calls would hold it otherwise, and those of jobs
        // hold several calls.
        Box::pin(sending).await
    }

    pub(super) fn observe(&self, endpoint: Endpoint, method: &http::Method, path: &str, outcome: &Outcome) {
        let Some(observer) = &self.shared.on_request else { return };
        observer(&RequestObservation {
            endpoint,
            method: lower_case(method),
            path: without_numbers(path),
            status: outcome.status.map_or(-1, |status| i32::from(status.as_u16())),
            duration: outcome.start.elapsed(),
            attempts: outcome.tries,
        });
    }
}

/// What an observer is told about the end of a call.
pub(super) struct Outcome {
    pub(super) status: Option<StatusCode>,
    pub(super) tries: u32,
    pub(super) start: Instant,
}

/// Reads the body, bounded in size and time. Where the body does not matter, neither does its end.
pub(super) async fn read(answer: Response<ByteStream>, decode: Decode, limit: Duration) -> Answered {
    let (parts, body) = answer.into_parts();
    let is_job = decode == Decode::Job && parts.status == StatusCode::CREATED;
    let matters = is_job || decode == Decode::On(parts.status);
    let most = if is_job { limits::MAX_JOB_PAYLOAD } else { limits::MAX_SMALL_ANSWER };
    let limit = if matters { limit } else { limit.min(DRAIN_TIMEOUT) };
    let content = gantry_http::read(body, most, limit).await;
    match content.end {
        Err(ReadError::Transport(error)) if matters => Err(error.into()),
        Err(error @ ReadError::TooLarge { .. }) if matters => Err(CallError::Malformed { what: error.to_string() }),
        _ => Ok(Response::from_parts(parts, content.bytes)),
    }
}

fn lower_case(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "get",
        http::Method::POST => "post",
        http::Method::PUT => "put",
        http::Method::PATCH => "patch",
        http::Method::DELETE => "delete",
        _ => "other",
    }
}

/// The path with numbers as `{id}`, so that it can be a metric label.
fn without_numbers(path: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    path.split('/').map(|part| if is_number(part) { "{id}" } else { part }).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
