//! PATCH requests: the four media types, one of which is server-side apply.

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::Value;

use super::{
    call::{Call, object_response},
    create, representation,
    request::Target,
    status::ApiError,
    update,
};
use crate::{
    patch::{
        self,
        managed::{self, Author, Conflict},
    },
    store::{Key, object},
};

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

#[derive(Clone, Copy, PartialEq, Eq)]
enum PatchType {
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
        "application/json-patch+json" => PatchType::Json,
        "application/merge-patch+json" => PatchType::Merge,
        "application/strategic-merge-patch+json" => PatchType::Strategic,
        "application/apply-patch+yaml" => PatchType::Apply,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    let patch: Value = serde_json::from_slice(body).map_err(|error| {
        let hint = if way == PatchType::Apply {
            " (this server reads JSON only, which every YAML parser reads too)"
        } else {
            ""
        };
        ApiError::bad_request(format!("error decoding patch: {error}{hint}"))
    })?;
    let (code, stored) = if way == PatchType::Apply {
        apply(call, target, patch)?
    } else {
        (StatusCode::OK, update::change(call, target, |old| patched(way, old, &patch))?)
    };
    let shown = representation::one(&call.cluster, target.kind, shape, &target.query, &stored);
    Ok(object_response(code, &shown))
}

fn patched(way: PatchType, old: &Value, patch: &Value) -> Result<Value, ApiError> {
    let mut new = old.clone();
    match way {
        PatchType::Json => patch::json_patch(&mut new, patch).map_err(|why| {
            let mut error =
                ApiError::bad_request(format!("the server rejected our request due to an error in our request: {why}"));
            error.code = StatusCode::UNPROCESSABLE_ENTITY;
            error.reason = "Invalid";
            error
        })?,
        PatchType::Merge => patch::merge(&mut new, patch),
        PatchType::Strategic | PatchType::Apply => patch::strategic(&mut new, patch),
    }
    Ok(new)
}

fn apply(call: &Call, target: &Target, mut patch: Value) -> Result<(StatusCode, std::sync::Arc<Value>), ApiError> {
    let Some(manager) = target.query.get("fieldManager").filter(|manager| !manager.is_empty()) else {
        return Err(ApiError::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    };
    if !patch.is_object() {
        return Err(ApiError::bad_request("the body is not an object"));
    }
    if !object::items(&patch, &["metadata", "managedFields"]).is_empty() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    object::map_mut(&mut patch, &["metadata"]).remove("managedFields");
    let (version, stamp) = (target.kind.api_version(), call.cluster.clock.stamp());
    let author = Author { manager, version: &version, stamp: &stamp };
    let key = Key::new(target.kind, &target.namespace, &target.name);
    if call.cluster.store.get(&key).is_none() && target.subresource.is_empty() {
        object::map_mut(&mut patch, &["metadata"]).insert("name".to_owned(), target.name.clone().into());
        let mut object = create::decoded(target, Some(patch))?;
        managed::created(&mut object, author, true);
        let dry_run = target.query.get("dryRun").is_some();
        return Ok((StatusCode::CREATED, create::add(&call.cluster, target.kind, object, dry_run)?));
    }
    let force = target.query.flag("force");
    let stored = update::change_with_owners(call, target, |old| {
        managed::apply(old, &patch, author, force).map_err(|conflicts| refusal(&conflicts))
    })?;
    Ok((StatusCode::OK, stored))
}

/// The conflicts of an apply, in the words that people see.
fn refusal(conflicts: &[Conflict]) -> ApiError {
    let told = match conflicts {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.owner, one.field),
        many => {
            let mut text = format!("Apply failed with {} conflicts:", many.len());
            let mut owners: Vec<&str> = many.iter().map(|one| one.owner.as_str()).collect();
            owners.dedup();
            for owner in owners {
                let plural = owner.replacen("conflict ", "conflicts ", 1);
                text.extend([" ", &plural, ":"]);
                for one in many.iter().filter(|one| one.owner == owner) {
                    text.extend(["\n- ", &one.field]);
                }
            }
            text
        }
    };
    ApiError::owned_by_others(&told, conflicts.iter().map(|one| (one.owner.as_str(), one.field.as_str())))
}
