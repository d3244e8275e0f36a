//! Maintenance mode and migrations: what the whole instance answers while they last, and how they
//! are switched.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{admin_error, json_answer, later, message};
use crate::hub::SharedHub;
use crate::limits;
use crate::state::mode::Mode;

/// Refuses what the mode does not let through. In maintenance mode reading goes on, and so does
/// git.
pub(super) async fn refuse_in_mode(State(hub): State<SharedHub>, request: Request, next: Next) -> Response {
    let mode = hub.world().mode;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match mode {
        Mode::Maintenance if !reads => {
            message(StatusCode::FORBIDDEN, "403 Forbidden - this GitLab is read-only for now")
        }
        Mode::Migration => later(limits::MIGRATION_RETRY_AFTER),
        Mode::Normal | Mode::Maintenance => next.run(request).await,
    }
}

/// `GET /sim/mode`.
pub(super) async fn show(State(hub): State<SharedHub>) -> Response {
    let mode = hub.world().mode;
    json_answer(StatusCode::OK, &json!({"mode": mode.word()}))
}

/// The body of `PUT /sim/mode`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeRequest {
    mode: String,
}

/// `PUT /sim/mode`.
pub(super) async fn change(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let wanted: ModeRequest = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return admin_error(StatusCode::BAD_REQUEST, format!("the body does not fit: {error}")),
    };
    let Some(mode) = Mode::from_word(&wanted.mode) else {
        let words = Mode::ALL.map(|(_, word)| word).join(", ");
        return admin_error(StatusCode::BAD_REQUEST, format!("no mode {:?}; there are: {words}", wanted.mode));
    };
    let mut world = hub.world();
    world.mode = mode;
    world.changed();
    json_answer(StatusCode::OK, &json!({"mode": mode.word()}))
}
