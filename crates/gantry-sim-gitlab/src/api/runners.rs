//! Registration, verification and removal of runners, and token rotation (GitLab Runner 19.4,
//! runner endpoints).

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::{json_answer, message, object, refuse, text, token};
use crate::clock::Now;
use crate::hub::SharedHub;
use crate::state::World;
use crate::state::job::Breach;
use crate::state::runners::{LEGACY_SYSTEM_ID, Runner};
use crate::tokens;

/// Longest maintenance note (GitLab server).
const NOTE: usize = 1024;
/// Shortest `maximum_timeout` (GitLab server: ten minutes).
const SHORTEST_TIMEOUT: u64 = 600;

/// `POST runners`: registration with a registration token.
pub(super) async fn register(State(hub): State<SharedHub>, headers: HeaderMap, body: Bytes) -> Response {
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let Some(expected) = &hub.registration_token else {
        return message(StatusCode::GONE, "410 Gone - runner registration disallowed");
    };
    if token(text(&body, "token"), &headers, "runner-token") != *expected {
        return refuse(StatusCode::FORBIDDEN);
    }
    let problems = attribute_problems(&body);
    if !problems.is_empty() {
        return json_answer(StatusCode::BAD_REQUEST, &json!({"message": problems}));
    }
    let mut world = hub.world();
    let now = world.now().wall;
    let expires = expiry(&world);
    let Some(runner) = world.runners.add(tokens::registered_runner(), now) else {
        let full = json!({"message": {"runner_namespaces.base": ["Maximum number of runners exceeded"]}});
        return json_answer(StatusCode::BAD_REQUEST, &full);
    };
    apply_attributes(runner, &body);
    runner.token_expires = expires;
    json_answer(StatusCode::CREATED, &credentials(runner))
}

pub(super) fn apply_attributes(runner: &mut Runner, body: &Map<String, Value>) {
    let flag = |key: &str, default: bool| body.get(key).and_then(Value::as_bool).unwrap_or(default);
    text(body, "description").unwrap_or_default().clone_into(&mut runner.description);
    runner.tags = match body.get("tag_list") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(list)) => {
            list.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    runner.run_untagged = flag("run_untagged", true);
    runner.locked = flag("locked", true);
    runner.paused = flag("paused", false);
    runner.access_level = text(body, "access_level").map(str::to_owned);
    runner.maximum_timeout = body.get("maximum_timeout").and_then(Value::as_u64).filter(|&seconds| seconds > 0);
}

pub(super) fn attribute_problems(body: &Map<String, Value>) -> Map<String, Value> {
    let mut problems = Map::new();
    if let Some(level) = text(body, "access_level").filter(|level| !matches!(*level, "not_protected" | "ref_protected"))
    {
        problems.insert("access_level".to_owned(), json!([format!("{level} does not have a valid value")]));
    }
    if text(body, "maintenance_note").is_some_and(|note| note.chars().count() > NOTE) {
        problems.insert("maintenance_note".to_owned(), json!(["is too long (maximum is 1024 characters)"]));
    }
    let timeout = body.get("maximum_timeout").and_then(Value::as_u64);
    if timeout.is_some_and(|seconds| seconds > 0 && seconds < SHORTEST_TIMEOUT) {
        problems.insert("maximum_timeout".to_owned(), json!(["needs to be at least 10 minutes"]));
    }
    let tagless = match body.get("tag_list") {
        Some(Value::String(list)) => list.trim().is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        _ => true,
    };
    if tagless && body.get("run_untagged").and_then(Value::as_bool) == Some(false) {
        problems.insert(
            "tags_list".to_owned(),
            json!(["can not be empty when runner is not allowed to pick untagged jobs"]),
        );
    }
    problems
}

/// When a token that is made now expires.
pub(super) fn expiry(world: &World) -> Option<Now> {
    world.settings.runner_token_lifetime.map(|lifetime| world.now().after(lifetime))
}

pub(super) fn credentials(runner: &Runner) -> Value {
    json!({"id": runner.id, "token": runner.token, "token_expires_at": runner.token_expires_at()})
}

/// `POST runners/verify`.
pub(super) async fn verify(State(hub): State<SharedHub>, headers: HeaderMap, body: Bytes) -> Response {
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let mut world = hub.world();
    match contact(&mut world, &headers, &body) {
        Some(runner) => json_answer(StatusCode::OK, &credentials(runner)),
        None => refuse(StatusCode::FORBIDDEN),
    }
}

/// Finds the runner of a request and notes the manager that made it.
pub(super) fn contact<'a>(
    world: &'a mut World,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Option<&'a mut Runner> {
    let now = world.now();
    let in_header = headers.get("runner-token").and_then(|value| value.to_str().ok());
    let in_body = text(body, "token").filter(|token| !token.is_empty());
    if let (Some(in_header), Some(in_body)) = (in_header, in_body)
        && in_header != in_body
    {
        world.violation(&Breach::new("runner authentication", "RUNNER-TOKEN and the body's token differ"), None);
    }
    let token = token(in_body, headers, "runner-token");
    let system_id = text(body, "system_id").filter(|id| !id.is_empty()).unwrap_or(LEGACY_SYSTEM_ID);
    let info = body.get("info").filter(|info| info.is_object()).cloned();
    let runner = world.runners.by_token(&token, now)?;
    runner.contact(system_id, info, now.wall);
    Some(runner)
}

/// `DELETE runners`.
pub(super) async fn unregister(State(hub): State<SharedHub>, headers: HeaderMap, body: Bytes) -> Response {
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let mut world = hub.world();
    let now = world.now();
    let token = token(text(&body, "token"), &headers, "runner-token");
    let Some(id) = world.runners.by_token(&token, now).map(|runner| runner.id) else {
        return refuse(StatusCode::FORBIDDEN);
    };
    world.runners.remove(id);
    world.wake();
    StatusCode::NO_CONTENT.into_response()
}

/// `DELETE runners/managers`.
pub(super) async fn unregister_manager(State(hub): State<SharedHub>, headers: HeaderMap, body: Bytes) -> Response {
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let Some(system_id) = text(&body, "system_id") else {
        return message(StatusCode::BAD_REQUEST, "400 Bad request - system_id is missing");
    };
    let mut world = hub.world();
    let now = world.now();
    let token = token(text(&body, "token"), &headers, "runner-token");
    let Some(runner) = world.runners.by_token(&token, now) else {
        return refuse(StatusCode::FORBIDDEN);
    };
    if runner.managers.remove(system_id).is_none() {
        return refuse(StatusCode::NOT_FOUND);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// `POST runners/reset_authentication_token`: the old token stops working at once.
pub(super) async fn reset_token(State(hub): State<SharedHub>, headers: HeaderMap, body: Bytes) -> Response {
    let body = match object(&hub, &headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let mut world = hub.world();
    let (now, expires) = (world.now(), expiry(&world));
    match world.runners.by_token(text(&body, "token").unwrap_or_default(), now) {
        Some(runner) => new_token(runner, expires),
        None => refuse(StatusCode::FORBIDDEN),
    }
}

fn new_token(runner: &mut Runner, expires: Option<Now>) -> Response {
    let registered = !runner.token.starts_with("glrt-");
    runner.token = if registered { tokens::registered_runner() } else { tokens::runner() };
    runner.token_expires = expires;
    json_answer(StatusCode::CREATED, &json!({"token": runner.token, "token_expires_at": runner.token_expires_at()}))
}

/// `POST runners/<id>/reset_authentication_token`: the same by an administrator, who needs no token
/// of the runner.
pub(super) async fn reset_token_of(
    State(hub): State<SharedHub>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let given = headers.get("private-token").and_then(|value| value.to_str().ok());
    let mut world = hub.world();
    if given.is_none() || given != world.settings.access_token.as_deref() {
        return refuse(StatusCode::UNAUTHORIZED);
    }
    let expires = expiry(&world);
    match id.parse().ok().and_then(|id| world.runners.by_id_mut(id)) {
        Some(runner) => new_token(runner, expires),
        None => refuse(StatusCode::NOT_FOUND),
    }
}

/// `GET runners/router/discovery`: this server has no job router.
pub(super) async fn discovery() -> Response {
    refuse(StatusCode::NOT_IMPLEMENTED)
}
