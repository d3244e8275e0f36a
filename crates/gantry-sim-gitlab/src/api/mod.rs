//! The HTTP surface: what runners call, what git calls, and what people and tests call under
//! `/sim/`. Handlers translate between HTTP and the state; they decide nothing that `state/` could
//! decide.

mod admin;
mod admin_runners;
mod artifacts;
mod faults;
mod git_http;
mod jobs;
mod journal;
mod mode;
mod page;
mod pipelines;
mod runners;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, patch, post, put};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::hub::SharedHub;
use crate::limits;
use crate::state::job::Breach;
use crate::state::mode::Rated;

/// The query of a cancel.
#[derive(Deserialize)]
struct CancelQuery {
    #[serde(default)]
    force: bool,
}

/// An answer that ends a request early; boxed, because it travels as an error.
type Refusal = Box<Response>;

pub(crate) use pipelines::of_project;

/// All routes.
pub(crate) fn router(hub: &SharedHub) -> Router {
    finished(hub, for_people(outside_routes(hub)))
}

/// The routes of runners and git alone.
pub(crate) fn outside_router(hub: &SharedHub) -> Router {
    finished(hub, outside_routes(hub))
}

fn outside_routes(hub: &SharedHub) -> Router<SharedHub> {
    let runner_api = Router::new()
        .route("/runners", post(runners::register).delete(runners::unregister))
        .route("/runners/verify", post(runners::verify))
        .route("/runners/managers", delete(runners::unregister_manager))
        .route("/runners/reset_authentication_token", post(runners::reset_token))
        .route("/runners/{id}/reset_authentication_token", post(runners::reset_token_of))
        .route("/runners/router/discovery", get(runners::discovery))
        .route("/jobs/request", post(jobs::request))
        .route("/jobs/{id}", put(jobs::update))
        .route("/jobs/{id}/trace", patch(jobs::patch_trace).layer(DefaultBodyLimit::max(limits::PATCH_BODY)))
        .route("/jobs/{id}/artifacts", post(artifacts::upload).get(artifacts::download))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(hub), mode::refuse_in_mode));
    Router::new()
        .route("/-/storage/{key}/{filename}", get(artifacts::stored))
        .nest("/api/v4", runner_api)
        .fallback(git_http::serve)
}

/// Adds the page, and what people and tests use.
fn for_people(routes: Router<SharedHub>) -> Router<SharedHub> {
    let admin = Router::new()
        .route("/pipelines", post(pipelines::create).get(pipelines::list))
        .route("/pipelines/{id}", get(pipelines::show))
        .route("/pipelines/{id}/cancel", post(pipelines::cancel))
        .route("/jobs", post(admin::create_job).get(admin::list_jobs))
        .route("/jobs/{id}", get(admin::show_job))
        .route("/jobs/{id}/trace", get(admin::trace))
        .route("/jobs/{id}/session", get(admin::session))
        .route("/jobs/{id}/phases", get(admin::phases))
        .route("/jobs/{id}/artifacts", get(artifacts::list))
        .route("/jobs/{id}/artifacts/{filename}", get(artifacts::show))
        .route("/jobs/{id}/files", get(artifacts::files))
        .route("/jobs/{id}/files/{*path}", get(artifacts::file))
        .route("/jobs/{id}/cancel", post(admin::cancel))
        .route("/jobs/{id}/retry", post(admin::retry))
        .route("/jobs/{id}/play", post(admin::play))
        .route("/jobs/{id}/erase", post(admin::erase))
        .route("/jobs/{id}/trace/lock", post(admin::lock_log))
        .route("/requests", get(admin::requests))
        .route("/violations", get(admin::violations))
        .route("/overview", get(page::overview))
        .route("/events", get(page::events))
        .route("/refs", get(page::refs))
        .route("/faults", get(faults::list).post(faults::set).delete(faults::remove_all))
        .route("/faults/{id}", delete(faults::remove))
        .route("/mode", get(mode::show).put(mode::change))
        .route("/runners", get(admin_runners::list).post(admin_runners::create))
        .route("/runners/{id}", patch(admin_runners::change).delete(admin_runners::remove))
        .fallback(admin::unknown)
        .layer(axum::middleware::from_fn(page::own_pages_only))
        .layer(axum::middleware::map_response(admin::errors_as_json));
    routes.route("/", get(page::index)).route("/-/app/{file}", get(page::asset)).nest("/sim", admin)
}

fn finished(hub: &SharedHub, routes: Router<SharedHub>) -> Router {
    routes
        .layer(DefaultBodyLimit::max(limits::JSON_BODY))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(hub), faults::strike))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(hub), journal::record))
        .with_state(Arc::clone(hub))
}

/// Is this a path of runners and git, and not of people and tests?
fn is_outside(path: &str) -> bool {
    let inside = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path != "/" && !inside("/sim") && !inside(page::PREFIX)
}

/// An answer in the style of GitLab's API: `{"message": "403 Forbidden"}`.
fn refuse(status: StatusCode) -> Response {
    message(status, &format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()))
}

fn message(status: StatusCode, text: &str) -> Response {
    json_answer(status, &json!({"message": text}))
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, axum::Json(body)).into_response()
}

/// An error of the admin interface.
fn admin_error(status: StatusCode, text: impl Into<String>) -> Response {
    json_answer(status, &json!({"error": text.into()}))
}

/// 429 with `Retry-After`, if there were too many requests of this kind with this token in the last
/// minute.
fn too_many(hub: &SharedHub, what: Rated, token: &str) -> Option<Response> {
    if hub.world().within_rate(what, token) {
        return None;
    }
    Some(later(limits::RATE_WINDOW))
}

/// 429 with `Retry-After`.
fn later(wait: Duration) -> Response {
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS);
    set(&mut response, "retry-after", &wait.as_secs().to_string());
    response
}

/// A status with a short text, such as the `200` that GitLab answers to a PUT.
fn text_answer(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain")], text.to_owned()).into_response()
}

fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The JSON object of a request; anything else is a violation and answered 400. No body counts as
/// an empty object.
fn object(hub: &SharedHub, headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    if !is_json(headers) {
        hub.world().violation(&Breach::new("content type", "a JSON body needs Content-Type: application/json"), None);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad_body(hub, "the body is no JSON object").into()),
        Err(error) => Err(bad_body(hub, &format!("the body is no JSON: {error}")).into()),
    }
}

fn bad_body(hub: &SharedHub, detail: &str) -> Response {
    hub.world().violation(&Breach::new("request body", detail), None);
    message(StatusCode::BAD_REQUEST, "400 Bad request - the body must be a JSON object")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A token: from the body or query first, then from the header (GitLab server).
fn token(given: Option<&str>, headers: &HeaderMap, name: &str) -> String {
    let header = headers.get(name).and_then(|value| value.to_str().ok());
    given.filter(|token| !token.is_empty()).or(header).unwrap_or_default().to_owned()
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}
