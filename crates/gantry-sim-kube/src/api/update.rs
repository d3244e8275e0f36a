//! Replacing objects: which fields the client may change, and what is refused. Shared by PUT and
//! PATCH.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    binding,
    call::{Call, object_response},
    create, representation,
    request::Target,
    status::ApiError,
};
use crate::{
    patch::managed::{self, Author},
    resources::ResourceType,
    store::{
        Key, Verdict,
        object::{self, items, map_mut},
    },
    validation,
};

/// Metadata that only the server sets.
const SERVERS: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "name", "namespace"];

/// `update`.
pub(crate) fn answer(call: &Call, target: &Target, body: Option<Value>) -> Result<Response, ApiError> {
    let shape = representation::wanted(&call.headers)?;
    if target.name.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    let new = create::decoded(target, body)?;
    let named = object::name(&new);
    if named != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({})",
            target.name
        )));
    }
    let stored = change(call, target, |_| Ok(new))?;
    let shown = representation::one(&call.cluster, target.kind, shape, &target.query, &stored);
    Ok(object_response(StatusCode::OK, &shown))
}

/// Changes the target's object into what `make` makes of it, under all the rules of updates. What
/// changes becomes the caller's.
pub(crate) fn change(
    call: &Call,
    target: &Target,
    make: impl FnOnce(&Value) -> Result<Value, ApiError>,
) -> Result<Arc<Value>, ApiError> {
    changed(call, target, make, true)
}

/// The same for a change that says itself who owns what.
pub(crate) fn change_with_owners(
    call: &Call,
    target: &Target,
    make: impl FnOnce(&Value) -> Result<Value, ApiError>,
) -> Result<Arc<Value>, ApiError> {
    changed(call, target, make, false)
}

fn changed(
    call: &Call,
    target: &Target,
    make: impl FnOnce(&Value) -> Result<Value, ApiError>,
    tracked: bool,
) -> Result<Arc<Value>, ApiError> {
    let cluster = &call.cluster;
    let (version, stamp) = (target.kind.api_version(), cluster.clock.stamp());
    let author = Author { manager: call.manager(&target.query), version: &version, stamp: &stamp };
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let dry_run = target.query.get("dryRun").is_some();
    let mut imagined = None;
    let stored = cluster.store.modify(&key, |old| {
        let mut new = accepted(target.kind, &target.subresource, old, make(old)?)?;
        if tracked && target.subresource.is_empty() {
            managed::updated(old, &mut new, author);
        }
        if dry_run {
            imagined = Some(Arc::new(new));
            return Ok(Verdict::Keep);
        }
        Ok(if released(target.kind, &new) { Verdict::Remove } else { Verdict::Replace(new) })
    })?;
    imagined.or(stored).ok_or_else(|| ApiError::not_found(target.kind, &target.name))
}

/// Whether nothing holds an object any more that is to be removed.
fn released(kind: &ResourceType, object: &Value) -> bool {
    let holding = !items(object, &["metadata", "finalizers"]).is_empty()
        || (kind.plural == "namespaces" && !items(object, &["spec", "finalizers"]).is_empty());
    let grace = object::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    object::is_terminating(object) && !holding && grace == 0
}

/// The new object with everything put back that this request may not change, or why it is refused.
fn accepted(kind: &'static ResourceType, subresource: &str, old: &Value, mut new: Value) -> Result<Value, ApiError> {
    let name = object::name(old);
    let version = object::version_text(&new);
    if !version.is_empty() && version != object::version_text(old) {
        return Err(ApiError::stale(kind, name));
    }
    let uid = object::uid(&new);
    if !uid.is_empty() && uid != object::uid(old) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object::uid(old));
        return Err(ApiError::conflict(kind, name, &why));
    }
    object::drop_nulls(&mut new);
    if kind.plural == "pods" {
        validation::pod_fields::prune(&mut new);
    }
    if subresource == "status" {
        let mut merged = old.clone();
        let status = new.get("status").filter(|status| status.is_object());
        merged["status"] = status.cloned().unwrap_or_else(|| json!({}));
        return Ok(merged);
    }
    let metadata = map_mut(&mut new, &["metadata"]);
    if let Some(owners) = old["metadata"].get("managedFields") {
        metadata.entry("managedFields").or_insert_with(|| owners.clone());
    }
    for field in SERVERS {
        match old["metadata"].get(*field) {
            Some(value) => drop(metadata.insert((*field).to_owned(), value.clone())),
            None => drop(metadata.remove(*field)),
        }
    }
    if kind.subresource("status").is_some() {
        match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => drop(map_mut(&mut new, &[]).remove("status")),
        }
    }
    new["kind"] = json!(kind.kind);
    new["apiVersion"] = json!(kind.api_version());
    if kind.plural == "secrets" {
        create::secret_text(&mut new);
    }
    refuse(kind, old, &new)?;
    if create::GENERATIONS.contains(&kind.plural) && old.get("spec") != new.get("spec") {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
        new["metadata"]["generation"] = json!(generation);
    }
    Ok(new)
}

fn refuse(kind: &'static ResourceType, old: &Value, new: &Value) -> Result<(), ApiError> {
    let mut problems = validation::simple::metadata(kind, new);
    match kind.plural {
        "pods" => {
            if let Err(why) = validation::pod::decode(new) {
                return Err(ApiError::bad_request(why));
            }
            problems.0.extend(validation::pod::update(old, new).0);
        }
        "rolebindings" | "clusterrolebindings" if old.get("roleRef") != new.get("roleRef") => {
            problems.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
        }
        "configmaps" | "secrets" if old["immutable"] == json!(true) => {
            for field in ["data", "binaryData", "immutable"] {
                if old.get(field) != new.get(field) {
                    problems.forbidden(field, "field is immutable when `immutable` is set");
                }
            }
        }
        _ => problems.0.extend(validation::simple::body(kind, new).0),
    }
    if problems.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(kind, object::name(old), &problems.0)) }
}

/// `create` on `pods/binding`: what a scheduler does.
pub(crate) fn bind(call: &Call, target: &Target, body: Option<&Value>) -> Result<Response, ApiError> {
    let node = body.map_or("", |body| object::text(body, &["target", "name"])).to_owned();
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let bound = call.cluster.store.modify(&key, |pod| {
        if !object::text(pod, &["spec", "nodeName"]).is_empty() {
            let why = format!("pod {} is already assigned to node", target.name);
            return Err(ApiError::conflict(target.kind, &target.name, &why));
        }
        Ok(Verdict::Replace(binding::bound(pod, &node, &call.cluster.clock.stamp())))
    })?;
    bound.ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(object_response(StatusCode::CREATED, &success))
}
