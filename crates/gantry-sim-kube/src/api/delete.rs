//! Removing objects: at once, or for pods with a grace period, or when finalizers let go; one,
//! many, or by eviction.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    budgets,
    call::{Call, object_response},
    list::Selectors,
    representation::{self, Shape},
    request::{Query, Target},
    status::{self, ApiError, json_response},
};
use crate::{
    clock,
    cluster::Cluster,
    kubelet::put_condition,
    resources::ResourceType,
    store::{
        Key, Verdict,
        object::{self, items, map_mut, text},
    },
};

/// The longest grace period, in seconds: that of a pod's own field.
const MOST_GRACE: i64 = i32::MAX as i64;

/// How an object is to be removed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removal {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) orphan: bool,
    pub(crate) dry_run: bool,
}

impl Removal {
    fn read(query: &Query, body: Option<&Value>) -> Self {
        let options = body.cloned().unwrap_or(Value::Null);
        let word = |path: &[&str]| Some(text(&options, path).to_owned()).filter(|word| !word.is_empty());
        let policy = word(&["propagationPolicy"]).or_else(|| query.get("propagationPolicy").map(str::to_owned));
        Self {
            grace: options["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| query.get("gracePeriodSeconds").and_then(|text| text.parse().ok())),
            uid: word(&["preconditions", "uid"]),
            version: word(&["preconditions", "resourceVersion"]),
            orphan: policy.as_deref() == Some("Orphan"),
            dry_run: query.get("dryRun").is_some() || !items(&options, &["dryRun"]).is_empty(),
        }
    }
}

/// `delete`.
pub(crate) fn answer(call: &Call, target: &Target, body: Option<&Value>) -> Result<Response, ApiError> {
    let removal = Removal::read(&target.query, body);
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let (object, gone) = begin_removal(&call.cluster, target.kind, &key, &removal)?;
    // These types answer with the object, the others with a status once it is gone.
    if !gone || ["pods", "serviceaccounts", "services"].contains(&target.kind.plural) {
        let shape = representation::wanted(&call.headers).unwrap_or(Shape::Object);
        let shown = representation::one(&call.cluster, target.kind, shape, &target.query, &object);
        return Ok(object_response(StatusCode::OK, &shown));
    }
    let done = status::removed(target.kind, &target.name, object::uid(&object));
    Ok(object_response(StatusCode::OK, &done))
}

/// `deletecollection`.
pub(crate) fn collection(call: &Call, target: &Target, body: Option<&Value>) -> Result<Response, ApiError> {
    let removal = Removal::read(&target.query, body);
    let selectors = Selectors::read(target.kind, &target.query)?;
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let (objects, version) = call.cluster.store.list(target.kind, namespace);
    let chosen: Vec<&Arc<Value>> = objects.iter().filter(|object| selectors.matches(object)).collect();
    for object in &chosen {
        match begin_removal(&call.cluster, target.kind, &Key::of(target.kind, object), &removal) {
            Ok(_) => {}
            // Somebody else was faster.
            Err(error) if error.code == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    let shape = (Shape::Object, &target.query);
    let list = representation::many(&call.cluster, target.kind, shape, chosen.iter().map(|object| &***object), version);
    Ok(json_response(StatusCode::OK, &list))
}

/// Starts to remove an object. The answer is the object and whether it is gone already; a pod that
/// runs is gone when kubelet says so, a namespace when it is empty, anything with finalizers when
/// they are taken away.
pub(crate) fn begin_removal(
    cluster: &Cluster,
    kind: &'static ResourceType,
    key: &Key,
    removal: &Removal,
) -> Result<(Arc<Value>, bool), ApiError> {
    let mut gone = false;
    let mut imagined = None;
    let stored = cluster.store.modify(key, |old| {
        preconditions(kind, old, removal)?;
        let grace = grace(kind, old, removal);
        let held = held(kind, old);
        gone = grace == 0 && !held;
        if removal.dry_run {
            imagined = Some(Arc::new(old.clone()));
            return Ok(Verdict::Keep);
        }
        if gone {
            return Ok(Verdict::Remove);
        }
        Ok(marked(cluster, kind, old, grace).map_or(Verdict::Keep, Verdict::Replace))
    })?;
    let object = imagined.or(stored).ok_or_else(|| ApiError::not_found(kind, &key.name))?;
    if removal.orphan && !removal.dry_run {
        orphan(cluster, object::uid(&object));
    }
    Ok((object, gone))
}

fn preconditions(kind: &'static ResourceType, old: &Value, removal: &Removal) -> Result<(), ApiError> {
    let checks = [
        ("UID", removal.uid.as_deref(), object::uid(old)),
        ("ResourceVersion", removal.version.as_deref(), object::version_text(old)),
    ];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            return Err(ApiError::conflict(kind, object::name(old), &why));
        }
    }
    Ok(())
}

/// Seconds until the object may be removed by force; only pods that were given to a node and have
/// not ended wait.
fn grace(kind: &ResourceType, old: &Value, removal: &Removal) -> i64 {
    let unused = text(old, &["spec", "nodeName"]).is_empty()
        || ["Succeeded", "Failed"].contains(&text(old, &["status", "phase"]));
    if kind.plural != "pods" || unused {
        return 0;
    }
    let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    removal.grace.unwrap_or(own).clamp(0, MOST_GRACE)
}

fn held(kind: &ResourceType, old: &Value) -> bool {
    !items(old, &["metadata", "finalizers"]).is_empty()
        || (kind.plural == "namespaces" && !items(old, &["spec", "finalizers"]).is_empty())
}

/// The object marked as being removed; `None` when it was so already and the grace period does not
/// get shorter.
fn marked(cluster: &Cluster, kind: &ResourceType, old: &Value, grace: i64) -> Option<Value> {
    let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if object::is_terminating(old) && before.is_none_or(|before| before <= grace) {
        return None;
    }
    let mut new = old.clone();
    let seconds = u64::try_from(grace).unwrap_or(0);
    let at = cluster.clock.now().checked_add(Duration::from_secs(seconds)).unwrap_or_else(|_| cluster.clock.now());
    let metadata = map_mut(&mut new, &["metadata"]);
    metadata.insert("deletionTimestamp".to_owned(), json!(clock::stamp(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if kind.plural == "namespaces" {
        map_mut(&mut new, &["status"]).insert("phase".to_owned(), json!("Terminating"));
    }
    Some(new)
}

/// `create` on `pods/eviction`: a deletion that disruption budgets can refuse.
pub(crate) fn evict(call: &Call, target: &Target, body: Option<&Value>) -> Result<Response, ApiError> {
    let body =
        body.filter(|body| body.is_object()).ok_or_else(|| ApiError::bad_request("the body is not an object"))?;
    let version = text(body, &["apiVersion"]);
    if !["policy/v1", "policy/v1beta1", ""].contains(&version) || !["Eviction", ""].contains(&text(body, &["kind"])) {
        let kind = text(body, &["kind"]);
        return Err(ApiError::bad_request(format!("no kind {kind:?} is registered for version {version:?}")));
    }
    let named = object::name(body);
    if !named.is_empty() && named != target.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let removal = Removal::read(&target.query, body.get("deleteOptions"));
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let pod = call.cluster.store.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    let ended = ["Succeeded", "Failed", "Pending"].contains(&text(&pod, &["status", "phase"]));
    if !ended && !object::is_terminating(&pod) {
        budgets::check(&call.cluster, &pod)?;
    }
    if !removal.dry_run && call.cluster.config.disruption_conditions {
        disruption(call, &key);
    }
    begin_removal(&call.cluster, target.kind, &key, &removal)?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(object_response(StatusCode::CREATED, &done))
}

/// Says in the pod's conditions why it is going.
fn disruption(call: &Call, key: &Key) {
    let stamp = call.cluster.clock.stamp();
    let outcome: Result<_, std::convert::Infallible> = call.cluster.store.modify(key, |pod| {
        let mut pod = pod.clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null,
        });
        put_condition(&mut pod["status"], condition, &stamp);
        Ok(Verdict::Replace(pod))
    });
    drop(outcome);
}

/// `propagationPolicy: Orphan`: whoever named this owner stays without it.
fn orphan(cluster: &Cluster, uid: &str) {
    let names = |owner: &Value| text(owner, &["uid"]) == uid;
    for (key, object) in cluster.store.everything() {
        if !items(&object, &["metadata", "ownerReferences"]).iter().any(names) {
            continue;
        }
        let done: Result<_, Infallible> = cluster.store.modify(&key, |old| {
            let mut new = old.clone();
            object::list_mut(&mut new, &["metadata", "ownerReferences"]).retain(|owner| !names(owner));
            Ok(Verdict::Replace(new))
        });
        drop(done);
    }
}
