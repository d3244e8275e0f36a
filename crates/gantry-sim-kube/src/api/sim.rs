//! The simulator's own interface under `/sim/`, for tests: what was asked, and accidents on demand. Only for users who
//! may do anything on those paths (the administrator). Faults of the API itself would be another match arm here.

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    dispatch::{Call, json_body, object_response},
    status::ApiError,
};
use crate::{
    kubelet::Accident,
    resources,
    store::{
        Key,
        object::{self, text},
    },
};

/// Answers `/sim/<rest>`.
pub(crate) async fn answer(call: &Call, rest: &str, body: &[u8]) -> Result<Response, ApiError> {
    let segments: Vec<&str> = rest.split('/').collect();
    match (&call.method, segments.as_slice()) {
        (&Method::GET, ["requests"]) => Ok(object_response(StatusCode::OK, &call.cluster.counters.to_json())),
        (&Method::POST, ["pods", namespace, name, action]) => {
            let options = json_body(&call.headers, body)?.unwrap_or(Value::Null);
            let word = |key: &str, otherwise: &str| match text(&options, &[key]) {
                "" => otherwise.to_owned(),
                word => word.to_owned(),
            };
            let accident = match *action {
                "evict" => Accident::Evict {
                    reason: word("reason", "Evicted"),
                    message: word(
                        "message",
                        "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1Gi. ",
                    ),
                },
                "oom" => Accident::OutOfMemory { container: word("container", "") },
                _ => return Err(ApiError::no_such_path()),
            };
            happen(call, namespace, name, accident).await
        }
        _ => Err(ApiError::no_such_path()),
    }
}

async fn happen(call: &Call, namespace: &str, name: &str, accident: Accident) -> Result<Response, ApiError> {
    let pods = resources::core("pods");
    let pod =
        call.cluster.store.get(&Key::new(pods, namespace, name)).ok_or_else(|| ApiError::not_found(pods, name))?;
    call.cluster.kubelet.accident(object::uid(&pod), accident).await.map_err(ApiError::bad_request)?;
    Ok(object_response(
        StatusCode::OK,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
    ))
}
