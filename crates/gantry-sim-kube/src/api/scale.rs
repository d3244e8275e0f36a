//! The sub-resource `scale`: how many replicas, of whatever has replicas.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    call::{Call, object_response},
    request::Target,
    status::ApiError,
    update,
};
use crate::{
    patch,
    store::{
        Key,
        object::{self, at, pairs},
    },
    validation::Problems,
};

fn shown(object: &Value) -> Value {
    let selector = at(object, &["spec", "selector"]).cloned().unwrap_or_default();
    let labels: Vec<String> = pairs(&selector, &["matchLabels"]).map(|(key, value)| format!("{key}={value}")).collect();
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]},
        "spec": {"replicas": object["spec"]["replicas"].as_u64().unwrap_or(0)},
        "status": {"replicas": object["status"]["replicas"].as_u64().unwrap_or(0), "selector": labels.join(",")},
    })
}

/// `get` on `scale`.
pub(crate) fn get(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let found = call.cluster.store.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    Ok(object_response(StatusCode::OK, &shown(&found)))
}

/// `update` and `patch` on `scale`.
pub(crate) fn set(call: &Call, target: &Target, body: &[u8]) -> Result<Response, ApiError> {
    let wanted: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding the scale: {error}")))?;
    let whole = Target { subresource: String::new(), ..target.clone() };
    let stored = update::change(call, &whole, |old| {
        let mut scale = shown(old);
        match &wanted {
            Value::Array(_) => patch::json_patch(&mut scale, &wanted).map_err(ApiError::bad_request)?,
            _ => patch::merge(&mut scale, &wanted),
        }
        let asked = &scale["spec"]["replicas"];
        let Some(replicas) = asked.as_u64() else {
            let mut problems = Problems::default();
            problems.invalid("spec.replicas", asked, "must be greater than or equal to 0");
            return Err(ApiError::invalid(target.kind, &target.name, &problems.0));
        };
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(replicas);
        // The caller's idea of the version counts, not ours.
        object::set_version_text(&mut new, object::version_text(&scale));
        Ok(new)
    })?;
    Ok(object_response(StatusCode::OK, &shown(&stored)))
}
