//! Asking for jobs, and reporting on them: `POST jobs/request`, `PUT jobs/<id>`, `PATCH
//! jobs/<id>/trace`.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{json_answer, object, refuse, runners, set, text, text_answer, token, too_many};
use crate::hub::SharedHub;
use crate::limits;
use crate::state::job::Breach;
use crate::state::mode::Rated;
use crate::state::put::Update;
use crate::state::queue::Asker;
use crate::state::runners::LEGACY_SYSTEM_ID;

/// The opaque queue value, sent with every 204 except one that ends a long poll because something
/// changed.
const LAST_UPDATE: &str = "x-gitlab-last-update";
const INTERVAL: &str = "x-gitlab-trace-update-interval";
const JOB_STATUS: &str = "job-status";

/// What a request for a job led to.
enum JobRequestOutcome {
    Refused,
    Job(Value),
    /// Nothing now; the value to answer.
    Nothing(String),
    /// The client knows the current value: wait for a change of it.
    Wait(String, watch::Receiver<u64>),
}

/// `POST jobs/request`.
pub(super) async fn request(State(hub): State<SharedHub>, headers: HeaderMap, body: Bytes) -> Response {
    if body.len() > limits::JOB_REQUEST_BODY {
        let detail = format!("{} bytes; GitLab takes at most {}", body.len(), limits::JOB_REQUEST_BODY);
        hub.world().violation(&Breach::new("request size", detail), None);
        return refuse(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let token = token(text(&body, "token"), &headers, "runner-token");
    if let Some(refused) = too_many(&hub, Rated::JobRequest, &token) {
        return refused;
    }
    match ask(&hub, &headers, &body) {
        JobRequestOutcome::Refused => refuse(StatusCode::FORBIDDEN),
        JobRequestOutcome::Job(payload) => json_answer(StatusCode::CREATED, &payload),
        JobRequestOutcome::Nothing(last_update) => no_job(Some(&last_update)),
        JobRequestOutcome::Wait(last_update, queue) => hold(&hub, &last_update, queue).await,
    }
}

fn ask(hub: &SharedHub, headers: &HeaderMap, body: &Map<String, Value>) -> JobRequestOutcome {
    let mut world = hub.world();
    let Some(runner) = runners::contact(&mut world, headers, body) else { return JobRequestOutcome::Refused };
    let asker = Asker {
        runner: runner.id,
        system_id: text(body, "system_id").unwrap_or(LEGACY_SYSTEM_ID).to_owned(),
        features: body.get("info").and_then(|info| info.get("features")).cloned().unwrap_or_default(),
        session: body.get("session").cloned(),
    };
    let paused = runner.paused;
    if let Some(problem) = asker.session.as_ref().and_then(unusable) {
        world.violation(&Breach::new("session", problem), None);
    }
    if !body.get("info").is_some_and(Value::is_object) {
        world.violation(&Breach::new("info", "the request has no `info` object"), None);
    }
    let last_update = world.last_update();
    if paused {
        return JobRequestOutcome::Nothing(last_update);
    }
    if text(body, "last_update") == Some(last_update.as_str()) {
        let queue = world.watch_queue();
        return JobRequestOutcome::Wait(last_update, queue);
    }
    match world.take(&asker) {
        Some((_, payload)) => JobRequestOutcome::Job(payload),
        None => JobRequestOutcome::Nothing(last_update),
    }
}

/// What keeps GitLab's proxy from using a session (it connects with TLS, trusts the certificate
/// that is given, and sends the word as it is).
fn unusable(session: &Value) -> Option<&'static str> {
    let text = |key: &str| session.get(key).and_then(Value::as_str).unwrap_or_default();
    if !text("url").starts_with("https://") {
        return Some("`url` of the session does not begin with https://");
    }
    if !text("certificate").starts_with("-----BEGIN CERTIFICATE-----") {
        return Some("`certificate` of the session is no PEM");
    }
    text("authorization").is_empty().then_some("`authorization` of the session is empty")
}

/// A long poll (GitLab's proxy): when something changes the answer is a 204 without the queue
/// value, so that the client's next request, which still has the old value, searches the queue.
async fn hold(hub: &SharedHub, last_update: &str, mut queue: watch::Receiver<u64>) -> Response {
    let mut stopping = hub.stopping.subscribe();
    let longest = hub.world().timing.long_poll;
    tokio::select! {
        _ = queue.changed() => no_job(None),
        () = tokio::time::sleep(longest) => no_job(Some(last_update)),
        _ = stopping.wait_for(|stopping| *stopping) => no_job(Some(last_update)),
    }
}

fn no_job(last_update: Option<&str>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(last_update) = last_update {
        set(&mut response, LAST_UPDATE, last_update);
    }
    response
}

/// `PUT jobs/<id>`.
pub(super) async fn update(
    State(hub): State<SharedHub>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(id) = id.parse::<u64>() else { return refuse(StatusCode::NOT_FOUND) };
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let token = token(text(&body, "token"), &headers, "job-token");
    if let Some(refused) = too_many(&hub, Rated::JobUpdate, &token) {
        return refused;
    }
    let Some((answer, status)) = hub.world().put(id, &token, &Update::from_json(&body)) else {
        return refuse(StatusCode::FORBIDDEN);
    };
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if code.is_success() { text_answer(code, code.as_str()) } else { refuse(code) };
    set(&mut response, JOB_STATUS, status.word());
    if let Some(seconds) = answer.backoff {
        set(&mut response, INTERVAL, &seconds.to_string());
    }
    response
}

/// The query of a PATCH. `debug_trace` is accepted and has no effect here: nobody is kept from
/// reading a log.
#[derive(Deserialize)]
pub(super) struct PatchQuery {
    token: Option<String>,
}

/// `PATCH jobs/<id>/trace`.
pub(super) async fn patch_trace(
    State(hub): State<SharedHub>,
    Path(id): Path<String>,
    Query(query): Query<PatchQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(id) = id.parse::<u64>() else { return refuse(StatusCode::NOT_FOUND) };
    let token = token(query.token.as_deref(), &headers, "job-token");
    if let Some(refused) = too_many(&hub, Rated::LogPatch, &token) {
        return refused;
    }
    let range = headers.get("content-range").and_then(|value| value.to_str().ok());
    let (patched, writing) = {
        let mut world = hub.world();
        (world.patch(id, &token, range, &body), world.timing.log_write)
    };
    let Some((answer, status)) = patched else { return refuse(StatusCode::FORBIDDEN) };
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if code.is_success() && !writing.is_zero() {
        tokio::time::sleep(writing).await;
    }
    let mut response = if code.is_success() { text_answer(code, code.as_str()) } else { refuse(code) };
    if answer.shows_status {
        set(&mut response, JOB_STATUS, status.word());
    }
    if let Some(size) = answer.size {
        set(&mut response, "range", &format!("0-{size}"));
    }
    if let Some(seconds) = answer.interval {
        set(&mut response, INTERVAL, &seconds.to_string());
    }
    response
}
