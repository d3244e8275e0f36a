//! One call from its request to its answer: redirects (`redirect.rs`), inner tries (`retry.rs`), limits, observation.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use gantry_core::chance;
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::Client;
use crate::answer::CallError;
use crate::limits;
use crate::observe::{Endpoint, RequestObservation};
use crate::redirect;
use crate::request::Built;
use crate::response::Answered;
use crate::retry::{self, Moment, Twice};
use crate::transport::{Body, ByteStream, Timeouts, TransportError, TransportFault};

/// A call to make.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) request: Built,
    /// Until the head of the answer, for each try.
    pub(super) timeout: Duration,
    pub(super) twice: Twice,
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
}

/// The last try of a call, with its body not yet read.
pub(super) struct Opened {
    pub(super) answer: Result<Response<ByteStream>, TransportError>,
    pub(super) tries: u32,
    pub(super) pushed_back: bool,
}

impl Client {
    /// Makes a call and reads its answer.
    pub(super) async fn exchange(&self, call: Call) -> Exchanged {
        let start = Instant::now();
        let request = match call.request {
            Ok(request) => request,
            Err(error) => return Exchanged { answer: Err(error), pushed_back: false },
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let timeouts = Timeouts { head: call.timeout, idle: limits::BODY_IDLE_TIMEOUT };
        let opened = self.open(request, timeouts, call.twice).await;
        let answer = match opened.answer {
            Ok(answer) => read(answer, call.decode, call.timeout).await,
            Err(error) => Err(error.into()),
        };
        let status = answer.as_ref().ok().map(Response::status);
        self.observe(call.endpoint, &method, &path, &Outcome { status, tries: opened.tries, start });
        Exchanged { answer, pushed_back: opened.pushed_back }
    }

    /// Sends until an answer stands.
    pub(super) async fn open(&self, request: Request<Bytes>, timeouts: Timeouts, twice: Twice) -> Opened {
        let mut pushed_back = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.follow(request.clone(), timeouts).await;
            let moment = Moment { tries, now: jiff::Timestamp::now(), random: chance::fraction() };
            let wait = match &answer {
                Ok(answer) => {
                    pushed_back |= retry::is_push_back(answer.status());
                    retry::after_answer(answer.status(), answer.headers(), moment)
                }
                Err(error) => retry::after_failure(error.fault(), twice, moment),
            };
            let Some(wait) = wait else { return Opened { answer, tries, pushed_back } };
            tracing::debug!(path = request.uri().path(), tries, ?wait, "waiting before the same request is sent again");
            if let Ok(answer) = answer {
                // The connection can be used again only once the body is read.
                let _ = read(answer, Decode::Nothing, limits::BODY_IDLE_TIMEOUT).await;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends once, and again to wherever the answer redirects.
    async fn follow(
        &self,
        mut request: Request<Bytes>,
        timeouts: Timeouts,
    ) -> Result<Response<ByteStream>, TransportError> {
        for _ in 0..limits::MAX_REDIRECTS {
            let answer = self.shared.transport.send(request.clone().map(Body::Bytes), timeouts).await?;
            match redirect::next(&request, answer.status(), answer.headers()) {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        Err(TransportError::new(TransportFault::Request, "too many redirects"))
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
    let (parts, mut pieces) = answer.into_parts();
    let is_job = decode == Decode::Job && parts.status == StatusCode::CREATED;
    let matters = is_job || decode == Decode::On(parts.status);
    let most = if is_job { limits::MAX_JOB_PAYLOAD } else { limits::MAX_SMALL_ANSWER };
    let mut body = BytesMut::new();
    let reading = async {
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(CallError::from)?;
            if body.len() + piece.len() > most {
                return Err(CallError::Malformed { what: format!("its body is larger than {most} bytes") });
            }
            body.extend_from_slice(&piece);
        }
        Ok(())
    };
    let limit = if matters { limit } else { limit.min(limits::DRAIN_TIMEOUT) };
    let whole = match tokio::time::timeout(limit, reading).await {
        Ok(whole) => whole,
        Err(elapsed) => Err(TransportError::new(TransportFault::Timeout, elapsed).into()),
    };
    match whole {
        Err(error) if matters => Err(error),
        _ => Ok(Response::from_parts(parts, body.freeze())),
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
