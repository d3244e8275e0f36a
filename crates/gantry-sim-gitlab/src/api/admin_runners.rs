//! Runners as an administrator sees them, under `/sim/runners`: make one, pause it, let its token
//! expire, remove it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::{admin_error, json_answer, runners};
use crate::clock::Now;
use crate::hub::SharedHub;
use crate::limits;
use crate::state::runners::Runner;
use crate::tokens;

/// What a body may have; the first ones are those of a registration.
const KEYS: [&str; 9] = [
    "description",
    "tag_list",
    "run_untagged",
    "locked",
    "paused",
    "access_level",
    "maximum_timeout",
    "token_expires_in_seconds",
    "token",
];

/// `GET /sim/runners`.
pub(super) async fn list(State(hub): State<SharedHub>) -> Response {
    let view = hub.world().runners.view();
    json_answer(StatusCode::OK, &view)
}

/// `POST /sim/runners`: as a person creates one in the user interface. The token is shown this
/// once; one that the body gives is random no more.
pub(super) async fn create(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let body = match attributes(&body) {
        Ok(body) => body,
        Err(what) => return admin_error(StatusCode::BAD_REQUEST, what),
    };
    let mut world = hub.world();
    let (now, default_expiry) = (world.now(), runners::expiry(&world));
    let token = super::text(&body, "token").map_or_else(tokens::runner, str::to_owned);
    let Some(runner) = world.runners.add(token, now.wall) else {
        return admin_error(StatusCode::CONFLICT, format!("there are {} runners already", limits::RUNNERS));
    };
    runners::apply_attributes(runner, &body);
    runner.token_expires = default_expiry;
    expire(runner, &body, now);
    let answer = json_answer(StatusCode::CREATED, &runners::credentials(runner));
    world.changed();
    answer
}

/// `PATCH /sim/runners/<id>`: what the body names changes, the rest stays.
pub(super) async fn change(State(hub): State<SharedHub>, Path(id): Path<u64>, body: Bytes) -> Response {
    let body = match attributes(&body) {
        Ok(body) => body,
        Err(what) => return admin_error(StatusCode::BAD_REQUEST, what),
    };
    let mut world = hub.world();
    let now = world.now();
    let Some(runner) = world.runners.by_id_mut(id) else { return no_such_runner(id) };
    let mut merged = Map::from_iter([
        ("description".to_owned(), json!(runner.description)),
        ("tag_list".to_owned(), json!(runner.tags)),
        ("run_untagged".to_owned(), json!(runner.run_untagged)),
        ("locked".to_owned(), json!(runner.locked)),
        ("paused".to_owned(), json!(runner.paused)),
        ("access_level".to_owned(), json!(runner.access_level)),
        ("maximum_timeout".to_owned(), json!(runner.maximum_timeout)),
    ]);
    merged.extend(body);
    runners::apply_attributes(runner, &merged);
    expire(runner, &merged, now);
    let view = runner.view();
    world.wake();
    world.changed();
    json_answer(StatusCode::OK, &view)
}

/// `DELETE /sim/runners/<id>`.
pub(super) async fn remove(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    let mut world = hub.world();
    if !world.runners.remove(id) {
        return no_such_runner(id);
    }
    world.wake();
    world.changed();
    StatusCode::NO_CONTENT.into_response()
}

fn attributes(body: &[u8]) -> Result<Map<String, Value>, String> {
    let body: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body must be a JSON object: {error}"))?;
    if let Some(unknown) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("no attribute {unknown:?}; there are: {}", KEYS.join(", ")));
    }
    let expiry = body.get("token_expires_in_seconds").unwrap_or(&Value::Null);
    if !expiry.is_null() && expiry.as_u64().is_none_or(|seconds| seconds > limits::JOB_TIMEOUT_SECONDS * 12) {
        return Err("`token_expires_in_seconds` must be a number of seconds, at most a year".to_owned());
    }
    if body.get("token").is_some_and(|token| !token.as_str().is_some_and(|token| token.starts_with("glrt"))) {
        return Err("`token` must be a text that begins with glrt".to_owned());
    }
    let problems = runners::attribute_problems(&body);
    if problems.is_empty() { Ok(body) } else { Err(Value::Object(problems).to_string()) }
}

fn expire(runner: &mut Runner, body: &Map<String, Value>, now: Now) {
    if let Some(seconds) = body.get("token_expires_in_seconds") {
        runner.token_expires = seconds.as_u64().map(|seconds| now.after(Duration::from_secs(seconds)));
    }
}

fn no_such_runner(id: u64) -> Response {
    admin_error(StatusCode::NOT_FOUND, format!("no runner {id}"))
}
