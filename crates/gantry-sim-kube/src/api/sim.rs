//! The simulator's own interface under `/sim/`, for tests and for people: what was asked, accidents
//! to one pod, and faults of any part. Only for users who may do anything on those paths (the
//! administrator).

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    call::{Call, object_response},
    status::ApiError,
};
use crate::{
    faults::{LOW_ON_DISK, PodFault},
    resources,
    store::{
        Key,
        object::{self, text},
    },
};

/// Answers `/sim/<rest>`.
pub(crate) async fn answer(call: &Call, rest: &str, body: &[u8]) -> Result<Response, ApiError> {
    let segments: Vec<&str> = rest.split('/').collect();
    let cluster = &call.cluster;
    match (&call.method, segments.as_slice()) {
        (&Method::GET, ["requests"]) => Ok(object_response(StatusCode::OK, &cluster.counters.to_json())),
        (&Method::GET, ["faults"]) => Ok(object_response(StatusCode::OK, &cluster.faults.list())),
        (&Method::POST, ["faults"]) => {
            let order = json(body)?;
            if let Value::Object(fields) = &order
                && fields.get("kind").is_some_and(|kind| kind == "api-restart")
                && fields.get("compact") == Some(&Value::Bool(true))
            {
                cluster.store.forget_history();
            }
            let fault = cluster.faults.add(&order).map_err(ApiError::bad_request)?;
            cluster.kubelet.wake_all();
            Ok(object_response(StatusCode::CREATED, &fault))
        }
        (&Method::DELETE, ["faults"]) => {
            cluster.faults.remove(None);
            Ok(success())
        }
        (&Method::DELETE, ["faults", id]) => {
            let removed = id.parse().map_or(0, |id| cluster.faults.remove(Some(id)));
            if removed == 0 {
                return Err(ApiError::no_such_path());
            }
            Ok(success())
        }
        (&Method::POST, ["pods", namespace, name, action]) => {
            let options = json(body)?;
            let word = |key: &str, otherwise: &str| match text(&options, &[key]) {
                "" => otherwise.to_owned(),
                word => word.to_owned(),
            };
            let pod_fault = match *action {
                "evict" => PodFault::Evict { reason: word("reason", "Evicted"), message: word("message", LOW_ON_DISK) },
                "oom" => PodFault::OutOfMemory { container: word("container", "") },
                _ => return Err(ApiError::no_such_path()),
            };
            happen(call, namespace, name, pod_fault).await
        }
        _ => Err(ApiError::no_such_path()),
    }
}

/// JSON whatever the request calls it: `curl -d` calls it a form.
fn json(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

async fn happen(call: &Call, namespace: &str, name: &str, pod_fault: PodFault) -> Result<Response, ApiError> {
    let pods = resources::core("pods");
    let pod =
        call.cluster.store.get(&Key::new(pods, namespace, name)).ok_or_else(|| ApiError::not_found(pods, name))?;
    call.cluster.kubelet.pod_fault(object::uid(&pod), pod_fault).await.map_err(ApiError::bad_request)?;
    Ok(success())
}

fn success() -> Response {
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    object_response(StatusCode::OK, &done)
}
