//! Faults at work: the middleware that lets requests of runners and git suffer them, and
//! `/sim/faults`. Which request is struck is decided in `state/faults.rs`; a connection that has to
//! end without an answer is ended by `connection.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use rand::RngExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::journal::Number;
use super::{admin_error, git_http, json_answer};
use crate::connection::Broken;
use crate::hub::{Hub, SharedHub};
use crate::limits;
use crate::state::faults::{Act, Call, ENDPOINTS, Odds, Strike, Target, endpoint};

/// Lets a request suffer what it has to.
pub(super) async fn strike(State(hub): State<SharedHub>, request: Request, next: Next) -> Response {
    let strikes = strikes(&hub, &request);
    let mut last = None;
    for strike in strikes {
        match strike.act {
            Act::Delay(delay) => tokio::time::sleep(delay).await,
            _ => last = Some(strike),
        }
    }
    match last {
        Some(strike) => suffer(&hub, strike, request, next).await,
        None => next.run(request).await,
    }
}

/// The faults that strike this request; the journal learns of them before anything is done.
fn strikes(hub: &SharedHub, request: &Request) -> Vec<Strike> {
    let path = request.uri().path();
    if !super::is_outside(path) {
        return Vec::new();
    }
    let method = request.method().as_str();
    let (endpoint, in_path) = endpoint(method, path);
    let mut world = hub.world();
    let job = in_path.or_else(|| git_http::job_of(&world, request.headers()));
    let strikes = world.faults.strike(&Call { method, path, endpoint, job });
    if let Some(Number(number)) = request.extensions().get::<Number>() {
        for strike in &strikes {
            let view = json!({"id": strike.id, "fault": strike.act.word()});
            world.journal.fault(*number, view);
        }
    }
    strikes
}

async fn suffer(hub: &SharedHub, strike: Strike, request: Request, next: Next) -> Response {
    match strike.act {
        Act::Delay(_) => next.run(request).await,
        Act::Cut { after } => cut(next.run(request).await, after, None),
        Act::Stall { after } => cut(next.run(request).await, after, Some(Arc::clone(hub))),
        Act::Drop { after: Some(bytes) } if !strike.processed => {
            read_some(request.into_body(), bytes).await;
            broken()
        }
        act => {
            if strike.processed {
                // What the request led to stays; only the answer is lost.
                drop(next.run(request).await);
            }
            match act {
                Act::Status { status, headers, body } => status_answer(status, &headers, body.as_ref()),
                Act::Hang => {
                    stopped(hub).await;
                    broken()
                }
                _ => broken(),
            }
        }
    }
}

/// An answer that must not be sent. Its body fails too, for those who use the router without a
/// connection.
fn broken() -> Response {
    let failing = futures::stream::once(std::future::ready(Err::<Bytes, _>(std::io::Error::other("a fault"))));
    let mut response = Body::from_stream(failing).into_response();
    response.extensions_mut().insert(Broken);
    response
}

async fn stopped(hub: &Hub) {
    // An error means that the hub is gone, which ends the wait as well.
    let _ = hub.stopping.subscribe().wait_for(|stopping| *stopping).await;
}

async fn read_some(body: Body, bytes: u64) {
    let mut stream = body.into_data_stream();
    let mut read = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        read += chunk.len() as u64;
        if read >= bytes {
            return;
        }
    }
}

/// Sends `after` bytes of the body under its full announced length; then the connection ends, or
/// nothing comes until the simulator stops.
fn cut(response: Response, after: u64, stalls: Option<SharedHub>) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let left = usize::try_from(after).unwrap_or(usize::MAX);
    let body =
        futures::stream::unfold((body.into_data_stream(), left, stalls), |(mut stream, left, stalls)| async move {
            if left == 0 {
                match &stalls {
                    Some(hub) => stopped(hub).await,
                    // What was sent before goes out first, while this waits.
                    None => tokio::task::yield_now().await,
                }
                return Some((Err(std::io::Error::other("cut by a fault")), (stream, 0, None)));
            }
            let sent = stream.next().await?.map(|chunk| chunk.slice(..chunk.len().min(left)));
            let left = left - sent.as_ref().map_or(0, Bytes::len);
            Some((sent.map_err(std::io::Error::other), (stream, left, stalls)))
        });
    Response::from_parts(parts, Body::from_stream(body))
}

fn status_answer(status: u16, headers: &Map<String, Value>, body: Option<&Value>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match body {
        None => super::refuse(status),
        Some(Value::String(text)) => super::text_answer(status, text),
        Some(body) => json_answer(status, body),
    };
    for (name, value) in headers {
        if let (Ok(name), Some(Ok(value))) =
            (HeaderName::from_bytes(name.as_bytes()), value.as_str().map(HeaderValue::from_str))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The body of `POST /sim/faults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    endpoint: Option<String>,
    method: Option<String>,
    path: Option<String>,
    job: Option<u64>,
    fault: String,
    status: Option<u16>,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<Value>,
    seconds: Option<f64>,
    bytes: Option<u64>,
    #[serde(default)]
    processed: bool,
    #[serde(default)]
    skip: u64,
    count: Option<u64>,
    probability: Option<f64>,
    seed: Option<u64>,
}

impl FaultRequest {
    fn target(&self) -> Result<Target, String> {
        if let Some(name) = &self.endpoint {
            let known =
                |known: &&str| known.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !ENDPOINTS.iter().any(known) {
                return Err(format!("no endpoint {name:?}; there are: {}", ENDPOINTS.join(", ")));
            }
        }
        let path = self.path.as_ref().map(|text| {
            let glob = globset::GlobBuilder::new(text).literal_separator(true).build();
            glob.map(|glob| (text.clone(), glob.compile_matcher())).map_err(|error| format!("`path`: {error}"))
        });
        let (endpoint, method) = (self.endpoint.clone(), self.method.clone());
        Ok(Target { endpoint, method, path: path.transpose()?, job: self.job })
    }

    fn act(&self) -> Result<Act, String> {
        let bytes = || self.bytes.ok_or_else(|| format!("a fault {:?} needs `bytes`", self.fault));
        Ok(match self.fault.as_str() {
            "delay" => {
                let delay = self.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let delay = delay.filter(|delay| *delay <= limits::FAULT_DELAY);
                Act::Delay(delay.ok_or_else(|| {
                    format!("a delay needs `seconds` between 0 and {}", limits::FAULT_DELAY.as_secs())
                })?)
            }
            "status" => {
                let status = self.status.filter(|status| (200..600).contains(status));
                let status = status.ok_or("a fault \"status\" needs a `status` between 200 and 599")?;
                if let Some((name, _)) = self.headers.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!("the value of header {name:?} must be a text"));
                }
                Act::Status { status, headers: self.headers.clone(), body: self.body.clone() }
            }
            "drop" => Act::Drop { after: self.bytes },
            "hang" => Act::Hang,
            "cut" => Act::Cut { after: bytes()? },
            "stall" => Act::Stall { after: bytes()? },
            other => {
                return Err(format!("no fault {other:?}; there are: status, delay, drop, hang, cut, stall"));
            }
        })
    }

    fn odds(&self) -> Result<Odds, String> {
        let probability = self.probability.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&probability) {
            return Err("`probability` must be between 0 and 1".to_owned());
        }
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::rng().random::<u32>()));
        Ok(Odds { skip: self.skip, count: self.count, probability, seed })
    }
}

/// `POST /sim/faults`.
pub(super) async fn set(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let wanted: FaultRequest = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return admin_error(StatusCode::BAD_REQUEST, format!("the body does not fit: {error}")),
    };
    let read = || Ok::<_, String>((wanted.target()?, wanted.act()?, wanted.odds()?));
    let (target, act, odds) = match read() {
        Ok(read) => read,
        Err(what) => return admin_error(StatusCode::BAD_REQUEST, what),
    };
    let mut world = hub.world();
    match world.faults.add(target, act, wanted.processed, odds) {
        Some(fault) => json_answer(StatusCode::CREATED, &fault.view()),
        None => admin_error(StatusCode::CONFLICT, format!("there are {} faults already", limits::FAULTS)),
    }
}

/// `GET /sim/faults`.
pub(super) async fn list(State(hub): State<SharedHub>) -> Response {
    let view = hub.world().faults.view();
    json_answer(StatusCode::OK, &view)
}

/// `DELETE /sim/faults`.
pub(super) async fn remove_all(State(hub): State<SharedHub>) -> Response {
    let removed = hub.world().faults.remove(None);
    json_answer(StatusCode::OK, &json!({"removed": removed}))
}

/// `DELETE /sim/faults/<id>`.
pub(super) async fn remove(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().faults.remove(Some(id)) {
        0 => admin_error(StatusCode::NOT_FOUND, format!("no fault {id}")),
        removed => json_answer(StatusCode::OK, &json!({"removed": removed})),
    }
}
