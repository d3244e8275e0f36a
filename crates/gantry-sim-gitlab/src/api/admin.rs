//! What people and tests use, under `/sim/`: make single jobs, look at jobs, cancel and retry, read
//! the journal and the violations. Errors are `{"error": "…"}`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{CancelQuery, admin_error, json_answer, pipelines};
use crate::hub::SharedHub;
use crate::limits;
use crate::state::job::{NewJob, RawJob, Source};
use crate::state::retries::Retried;

/// `POST /sim/jobs`: a job given as payload. Keys of our own are taken out of it first; see
/// [`Own`].
pub(super) async fn create_job(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let mut payload = match serde_json::from_slice(&body) {
        Ok(Value::Object(payload)) => payload,
        Ok(_) => return admin_error(StatusCode::BAD_REQUEST, "the body must be a JSON object: a job payload"),
        Err(error) => return admin_error(StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}")),
    };
    let own = match Own::take_from(&mut payload) {
        Ok(own) => own,
        Err(what) => return admin_error(StatusCode::BAD_REQUEST, what),
    };
    let mut checkout = None;
    if let Some(repo) = &own.repo {
        checkout = match pipelines::look_up(&hub, Some(repo), &own.git_ref, None).await {
            Ok(found) => Some(found),
            Err(refused) => return *refused,
        };
    }
    let wanted = payload.get("id").and_then(Value::as_u64).filter(|&id| id > 0);
    let new = new_job(payload, own, checkout);
    let mut world = hub.world();
    if let Some(id) = wanted.filter(|id| world.jobs.contains_key(id)) {
        return admin_error(StatusCode::CONFLICT, format!("job {id} exists already"));
    }
    let Some(id) = world.add_job(new, wanted) else {
        return admin_error(StatusCode::CONFLICT, format!("there are {} jobs already", limits::JOBS));
    };
    world.enqueue(id);
    json_answer(StatusCode::CREATED, &json!({"id": id}))
}

/// The keys of a job that are for the simulator and not part of the payload.
#[derive(Default)]
struct Own {
    /// `repo`: a served project; fills `git_info`.
    repo: Option<String>,
    /// `ref`: branch or tag of it; the default branch if absent.
    git_ref: String,
    /// `name`, `stage`: for the default `job_info`.
    name: Option<String>,
    stage: Option<String>,
    /// `tags`: which runners may take it.
    tags: Vec<String>,
    /// `watched`: the log counts as watched all the time.
    watched: bool,
    /// `exact`: nothing at all is added to the payload.
    exact: bool,
    /// `extra_variables`: appended to the variables, whatever those are.
    extra_variables: Vec<Value>,
}

impl Own {
    fn take_from(payload: &mut Map<String, Value>) -> Result<Self, String> {
        let mut take = |key: &str| payload.remove(key).unwrap_or(Value::Null);
        Ok(Self {
            repo: optional_text("repo", take("repo"))?,
            git_ref: optional_text("ref", take("ref"))?.unwrap_or_default(),
            name: optional_text("name", take("name"))?,
            stage: optional_text("stage", take("stage"))?,
            tags: serde_json::from_value::<Option<_>>(take("tags"))
                .map_err(|_| "`tags` must be a list of texts")?
                .unwrap_or_default(),
            watched: optional_flag("watched", &take("watched"))?,
            exact: optional_flag("exact", &take("exact"))?,
            extra_variables: serde_json::from_value::<Option<_>>(take("extra_variables"))
                .map_err(|_| "`extra_variables` must be a list")?
                .unwrap_or_default(),
        })
    }
}

fn optional_text(key: &str, value: Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(format!("`{key}` must be a text")),
    }
}

fn optional_flag(key: &str, value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        _ => Err(format!("`{key}` must be true or false")),
    }
}

fn new_job(payload: Map<String, Value>, own: Own, checkout: Option<crate::repo::Checkout>) -> NewJob {
    let info = |key: &str| payload.get("job_info").and_then(|info| info.get(key)?.as_str()).map(str::to_owned);
    let timeout =
        payload.get("runner_info").and_then(|info| info.get("timeout")?.as_u64()).filter(|&timeout| timeout > 0);
    let timeout = timeout.unwrap_or(limits::DEFAULT_JOB_TIMEOUT_SECONDS).min(limits::JOB_TIMEOUT_SECONDS);
    NewJob {
        name: own.name.or_else(|| info("name")).unwrap_or_else(|| "job".to_owned()),
        stage: own.stage.or_else(|| info("stage")).unwrap_or_else(|| "test".to_owned()),
        tags: own.tags,
        timeout: Duration::from_secs(timeout),
        watched: own.watched,
        fixed_token: payload.get("token").and_then(Value::as_str).map(str::to_owned),
        source: Source::Raw(Arc::new(RawJob {
            payload,
            checkout,
            extra_variables: own.extra_variables,
            exact: own.exact,
        })),
    }
}

/// `GET /sim/jobs`.
pub(super) async fn list_jobs(State(hub): State<SharedHub>) -> Response {
    let jobs = hub.world().jobs.values().map(crate::state::job::Job::view).collect::<Value>();
    json_answer(StatusCode::OK, &jobs)
}

/// `GET /sim/jobs/<id>`.
pub(super) async fn show_job(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().jobs.get(&id) {
        Some(job) => json_answer(StatusCode::OK, &job.view()),
        None => no_such_job(id),
    }
}

/// `GET /sim/jobs/<id>/session`: where and how GitLab's proxy would enter the job. It is for tests,
/// which play that proxy.
pub(super) async fn session(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    let world = hub.world();
    let Some(job) = world.jobs.get(&id) else { return no_such_job(id) };
    match job.session.as_ref().filter(|_| job.lease.is_some()) {
        Some(session) => json_answer(StatusCode::OK, session),
        None => admin_error(StatusCode::NOT_FOUND, format!("the runner of job {id} offers no session")),
    }
}

/// `GET /sim/jobs/<id>/phases`: where its time went.
pub(super) async fn phases(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().jobs.get(&id) {
        Some(job) => json_answer(StatusCode::OK, &job.phases()),
        None => no_such_job(id),
    }
}

fn no_such_job(id: u64) -> Response {
    admin_error(StatusCode::NOT_FOUND, format!("no job {id}"))
}

/// The query of a log request.
#[derive(Deserialize)]
pub(super) struct TraceQuery {
    #[serde(default)]
    offset: u64,
}

/// `GET /sim/jobs/<id>/trace`: the stored bytes. From now on, for a while, the log counts as
/// watched.
pub(super) async fn trace(
    State(hub): State<SharedHub>,
    Path(id): Path<u64>,
    Query(query): Query<TraceQuery>,
) -> Response {
    let mut world = hub.world();
    let now = world.now();
    let Some(job) = world.jobs.get_mut(&id) else { return no_such_job(id) };
    job.last_look = Some(now.at);
    let bytes = job.trace.from(query.offset).to_vec();
    // A log that looks like a page must not become one in somebody's browser.
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, bytes).into_response()
}

/// `POST /sim/jobs/<id>/cancel`: gracefully if the runner can, at once with `force=true`.
pub(super) async fn cancel(
    State(hub): State<SharedHub>,
    Path(id): Path<u64>,
    Query(query): Query<CancelQuery>,
) -> Response {
    let mut world = hub.world();
    match world.cancel(id, query.force) {
        None => no_such_job(id),
        Some(false) => admin_error(StatusCode::CONFLICT, format!("job {id} has ended already")),
        Some(true) => {
            let status = world.jobs.get(&id).map(|job| job.status.word());
            json_answer(StatusCode::OK, &json!({"id": id, "status": status}))
        }
    }
}

/// `POST /sim/jobs/<id>/retry`: the same job again, under a new id.
pub(super) async fn retry(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().retry(id) {
        Retried::NoJob => no_such_job(id),
        Retried::NotPossible => {
            admin_error(StatusCode::CONFLICT, format!("job {id} has not ended, or was retried already"))
        }
        Retried::As(new) => json_answer(StatusCode::CREATED, &json!({"id": new})),
    }
}

/// `POST /sim/jobs/<id>/play`: starts a manual or delayed job.
pub(super) async fn play(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().play(id) {
        None => no_such_job(id),
        Some(false) => admin_error(StatusCode::CONFLICT, format!("job {id} does not wait for a start")),
        Some(true) => json_answer(StatusCode::OK, &json!({"id": id})),
    }
}

/// `POST /sim/jobs/<id>/erase`: deletes log and artifacts of an ended job.
pub(super) async fn erase(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().erase(id) {
        None => no_such_job(id),
        Some(false) => admin_error(StatusCode::CONFLICT, format!("job {id} has not ended")),
        Some(true) => json_answer(StatusCode::OK, &json!({"id": id, "erased": true})),
    }
}

/// The query of a lock.
#[derive(Deserialize)]
pub(super) struct LockQuery {
    seconds: f64,
}

/// `POST /sim/jobs/<id>/trace/lock?seconds=5`: somebody else writes to the log for so long; 0 ends
/// it.
pub(super) async fn lock_log(
    State(hub): State<SharedHub>,
    Path(id): Path<u64>,
    Query(query): Query<LockQuery>,
) -> Response {
    let wait = Duration::try_from_secs_f64(query.seconds).ok().filter(|wait| *wait <= limits::LOG_LOCK);
    let Some(wait) = wait else {
        let what = format!("`seconds` must be between 0 and {}", limits::LOG_LOCK.as_secs());
        return admin_error(StatusCode::BAD_REQUEST, what);
    };
    let mut world = hub.world();
    let now = world.now();
    let Some(job) = world.jobs.get_mut(&id) else { return no_such_job(id) };
    job.log_locked_until = Some(now.at + wait);
    json_answer(StatusCode::OK, &json!({"id": id, "seconds": query.seconds}))
}

/// `GET /sim/requests`.
pub(super) async fn requests(State(hub): State<SharedHub>) -> Response {
    let view = hub.world().journal.view();
    json_answer(StatusCode::OK, &view)
}

/// `GET /sim/violations`.
pub(super) async fn violations(State(hub): State<SharedHub>) -> Response {
    let view = hub.world().violations.view();
    json_answer(StatusCode::OK, &view)
}

/// Longest refusal text of the framework that is passed on; they are one short sentence.
const REFUSAL: usize = 4 * 1024;

/// The framework refuses a bad path, query or method in plain text; here every error is JSON.
pub(super) async fn errors_as_json(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || super::is_json(response.headers()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), REFUSAL).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = if text.is_empty() { status.canonical_reason().unwrap_or("refused").into() } else { text };
    admin_error(status, text)
}

/// Any other path under `/sim/`.
pub(super) async fn unknown() -> Response {
    admin_error(StatusCode::NOT_FOUND, "no such path under /sim/")
}
