//! PATCH requests: the four media types, and server-side apply as create-or-merge. Field ownership is not tracked.

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::Value;

use super::{
    create,
    dispatch::{Call, object_response},
    representation,
    request::Target,
    status::ApiError,
    update,
};
use crate::{
    patch,
    store::{Key, object},
};

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// `patch`.
pub(crate) fn answer(call: &Call, target: &Target, body: &[u8]) -> Result<Response, ApiError> {
    let shape = representation::wanted(&call.headers)?;
    let media = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let way = match media.split(';').next().unwrap_or("").trim() {
        "application/json-patch+json" => Way::Json,
        "application/merge-patch+json" => Way::Merge,
        "application/strategic-merge-patch+json" => Way::Strategic,
        "application/apply-patch+yaml" => Way::Apply,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    let patch: Value = serde_json::from_slice(body).map_err(|error| {
        let hint =
            if way == Way::Apply { " (this server reads JSON only, which every YAML parser reads too)" } else { "" };
        ApiError::bad_request(format!("error decoding patch: {error}{hint}"))
    })?;
    let (code, stored) = if way == Way::Apply {
        apply(call, target, patch)?
    } else {
        (StatusCode::OK, update::change(&call.cluster, target, |old| patched(way, old, &patch))?)
    };
    let shown = representation::one(&call.cluster, target.kind, shape, &target.query, &stored);
    Ok(object_response(code, &shown))
}

fn patched(way: Way, old: &Value, patch: &Value) -> Result<Value, ApiError> {
    let mut new = old.clone();
    match way {
        Way::Json => patch::json_patch(&mut new, patch).map_err(|why| {
            let mut error =
                ApiError::bad_request(format!("the server rejected our request due to an error in our request: {why}"));
            error.code = StatusCode::UNPROCESSABLE_ENTITY;
            error.reason = "Invalid";
            error
        })?,
        Way::Merge => patch::merge(&mut new, patch),
        Way::Strategic | Way::Apply => patch::strategic(&mut new, patch),
    }
    Ok(new)
}

fn apply(call: &Call, target: &Target, mut patch: Value) -> Result<(StatusCode, std::sync::Arc<Value>), ApiError> {
    if target.query.get("fieldManager").is_none_or(str::is_empty) {
        return Err(ApiError::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    object::map_mut(&mut patch, &["metadata"]).remove("managedFields");
    let key = Key::new(target.kind, &target.namespace, &target.name);
    if call.cluster.store.get(&key).is_none() && target.subresource.is_empty() {
        object::map_mut(&mut patch, &["metadata"]).insert("name".to_owned(), target.name.clone().into());
        let object = create::decoded(target, Some(patch))?;
        let dry_run = target.query.get("dryRun").is_some();
        return Ok((StatusCode::CREATED, create::add(&call.cluster, target.kind, object, dry_run)?));
    }
    let stored = update::change(&call.cluster, target, |old| patched(Way::Apply, old, &patch))?;
    Ok((StatusCode::OK, stored))
}
