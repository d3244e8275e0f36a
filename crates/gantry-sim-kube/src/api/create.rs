//! Creating objects: metadata, defaults, admission, validation, storage.

use std::sync::{Arc, PoisonError};

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{
    admission,
    call::{Call, object_response},
    policy, representation,
    request::Target,
    status::ApiError,
};
use crate::{
    cluster::Cluster,
    ids,
    patch::managed::{self, Author},
    resources::{self, ResourceType},
    store::object::{self, default, map_mut},
    validation::{self, Problems},
};

/// Types whose specification is counted.
pub(crate) const GENERATIONS: [&str; 4] = ["deployments", "poddisruptionbudgets", "pods", "replicasets"];
/// How often another name is drawn for a `generateName` that hits a taken one.
const NAME_DRAWS: usize = 8;

/// `create`.
pub(crate) fn answer(call: &Call, target: &Target, body: Option<Value>) -> Result<Response, ApiError> {
    let shape = representation::wanted(&call.headers)?;
    if !target.name.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    if target.kind.namespaced && target.namespace.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    let mut body = body;
    let unknown = body.as_mut().map_or(Ok(Vec::new()), |body| known_fields(target, body))?;
    let mut object = decoded(target, body)?;
    map_mut(&mut object, &["metadata"]).remove("managedFields");
    let (version, stamp) = (target.kind.api_version(), call.cluster.clock.stamp());
    let author = Author { manager: call.manager(&target.query), version: &version, stamp: &stamp };
    managed::created(&mut object, author, false);
    let object = add(&call.cluster, target.kind, object, target.query.get("dryRun").is_some())?;
    let shown = representation::one(&call.cluster, target.kind, shape, &target.query, &object);
    let mut response = object_response(StatusCode::CREATED, &shown);
    let unknown = unknown.iter().map(|field| format!("299 - \"unknown field \\\"{field}\\\"\""));
    let unknown = unknown.filter_map(|text| HeaderValue::from_str(&text).ok());
    for warning in unknown.chain(policy::warnings(&call.cluster, target.kind, &object)) {
        response.headers_mut().append(header::WARNING, warning);
    }
    Ok(response)
}

/// Drops fields that a pod cannot have; or refuses them, if the client wants it so. What was
/// dropped is returned, unless the client does not care.
fn known_fields(target: &Target, object: &mut Value) -> Result<Vec<String>, ApiError> {
    if target.kind.plural != "pods" {
        return Ok(Vec::new());
    }
    let unknown = validation::pod_fields::prune(object);
    match target.query.get("fieldValidation") {
        Some("Ignore") => Ok(Vec::new()),
        Some("Strict") if !unknown.is_empty() => {
            let list: Vec<String> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
            let why = format!("strict decoding error: {}", list.join(", "));
            Err(ApiError::bad_request(format!("Pod in version \"v1\" cannot be handled as a Pod: {why}")))
        }
        _ => Ok(unknown),
    }
}

/// The body as an object of the target's type and namespace.
pub(crate) fn decoded(target: &Target, body: Option<Value>) -> Result<Value, ApiError> {
    let mut object = body.filter(Value::is_object).ok_or_else(|| ApiError::bad_request("the body is not an object"))?;
    let (kind, version) = (object::text(&object, &["kind"]), object::text(&object, &["apiVersion"]));
    let wanted = target.kind.api_version();
    if (!kind.is_empty() && kind != target.kind.kind) || (!version.is_empty() && version != wanted) {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {version}, Kind={kind}",
            target.kind.kind
        )));
    }
    object["kind"] = json!(target.kind.kind);
    object["apiVersion"] = json!(wanted);
    object::drop_nulls(&mut object);
    for field in ["labels", "annotations"] {
        let found = object::at(&object, &["metadata", field]).and_then(Value::as_object);
        if found.into_iter().flatten().any(|(_, value)| !value.is_string()) {
            let kind = target.kind.kind;
            return Err(ApiError::bad_request(format!(
                "{kind} in version \"v1\" cannot be handled as a {kind}: json: cannot unmarshal into Go struct field \
                 ObjectMeta.metadata.{field} of type string"
            )));
        }
    }
    let namespace = object::namespace(&object);
    if target.kind.namespaced {
        if !namespace.is_empty() && namespace != target.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        map_mut(&mut object, &["metadata"]).insert("namespace".to_owned(), json!(target.namespace));
    } else {
        map_mut(&mut object, &["metadata"]).remove("namespace");
    }
    known_fields(target, &mut object)?;
    if target.kind.plural == "pods" {
        let reading = |why| ApiError::bad_request(format!("Pod in version \"v1\" cannot be handled as a Pod: {why}"));
        validation::pod::decode(&object).map_err(reading)?;
    }
    Ok(object)
}

/// Adds an object of the cluster's own.
pub(crate) fn put(cluster: &Cluster, plural: &str, mut object: Value) {
    let kind = resources::any(plural);
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    if let Err(error) = add(cluster, kind, object, false) {
        tracing::warn!(plural, message = error.message, "cannot furnish the cluster");
    }
}

/// Adds an object, as from a request that may do so.
pub(crate) fn add(
    cluster: &Cluster,
    kind: &'static ResourceType,
    mut object: Value,
    dry_run: bool,
) -> Result<Arc<Value>, ApiError> {
    let base = object::text(&object, &["metadata", "generateName"]).to_owned();
    let generated = object::name(&object).is_empty() && !base.is_empty();
    for draw in 1.. {
        if generated {
            map_mut(&mut object, &["metadata"]).insert("name".to_owned(), json!(ids::generated(&base)));
        }
        let (name, created) = {
            // Nobody else may take what a quota has left between the question and the creation.
            let _alone = cluster.creating.lock().unwrap_or_else(PoisonError::into_inner);
            // Only a drawn name can have to be drawn again.
            let candidate = if generated { object.clone() } else { std::mem::take(&mut object) };
            let ready = prepared(cluster, kind, candidate)?;
            if dry_run {
                return Ok(Arc::new(ready));
            }
            (object::name(&ready).to_owned(), cluster.store.create(kind, ready))
        };
        match created {
            Ok(stored) => {
                if kind.plural == "namespaces" {
                    bootstrap_namespace(cluster, &name);
                } else if kind.namespaced {
                    policy::quota::refresh(cluster, object::namespace(&stored));
                }
                return Ok(stored);
            }
            Err(_) if generated && draw < NAME_DRAWS => {}
            Err(_) => return Err(ApiError::already_exists(kind, &name)),
        }
    }
    Err(ApiError::internal("no name could be drawn"))
}

fn prepared(cluster: &Cluster, kind: &'static ResourceType, mut object: Value) -> Result<Value, ApiError> {
    let metadata = map_mut(&mut object, &["metadata"]);
    if metadata.get("resourceVersion").is_some_and(|version| version != "") {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), json!(ids::uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(cluster.clock.stamp()));
    if GENERATIONS.contains(&kind.plural) {
        metadata.insert("generation".to_owned(), json!(1));
    }
    defaults(kind, &mut object);
    admission::check(cluster, kind, &mut object)?;
    let mut problems = validation::simple::metadata(kind, &object).0;
    problems.extend(body_problems(kind, &object).0);
    if !problems.is_empty() {
        return Err(ApiError::invalid(kind, object::name(&object), &problems));
    }
    policy::judge(cluster, kind, &object)?;
    Ok(object)
}

fn body_problems(kind: &ResourceType, object: &Value) -> Problems {
    match kind.plural {
        "pods" => validation::pod::create(object),
        _ => validation::simple::body(kind, object),
    }
}

/// Fills in what every object of a type has.
pub(crate) fn defaults(kind: &ResourceType, object: &mut Value) {
    match kind.plural {
        "pods" => validation::pod_defaults::fill(object),
        "namespaces" => {
            let name = object::name(object).to_owned();
            map_mut(object, &["metadata", "labels"]).insert("kubernetes.io/metadata.name".to_owned(), json!(name));
            default(map_mut(object, &["spec"]), "finalizers", json!(["kubernetes"]));
            object["status"] = json!({"phase": "Active"});
        }
        "secrets" => {
            secret_text(object);
            default(map_mut(object, &[]), "type", "Opaque");
        }
        "services" => service(object),
        "deployments" | "replicasets" => workload(kind, object),
        "limitranges" => policy::range_defaults(object),
        "priorityclasses" => default(map_mut(object, &[]), "preemptionPolicy", "PreemptLowerPriority"),
        "rolebindings" | "clusterrolebindings" => binding(object),
        _ => {}
    }
}

/// `stringData` is a way to write `data`, never shown again.
pub(crate) fn secret_text(object: &mut Value) {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let Some(Value::Object(plain)) = map_mut(object, &[]).remove("stringData") else { return };
    let data = map_mut(object, &["data"]);
    for (key, value) in plain {
        data.insert(key, json!(BASE64_STANDARD.encode(value.as_str().unwrap_or(""))));
    }
}

fn service(object: &mut Value) {
    let spec = map_mut(object, &["spec"]);
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    default(spec, "internalTrafficPolicy", "Cluster");
    // Containers share the host's network, so every service is where its pods are.
    default(spec, "clusterIP", "127.0.0.1");
    default(spec, "clusterIPs", json!(["127.0.0.1"]));
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            default(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or(Value::Null);
            default(port, "targetPort", number);
        }
    }
    object["status"] = json!({"loadBalancer": {}});
}

fn workload(kind: &ResourceType, object: &mut Value) {
    let spec = map_mut(object, &["spec"]);
    default(spec, "replicas", 1);
    if kind.plural == "deployments" {
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        let strategy = map_mut(object, &["spec", "strategy"]);
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = map_mut(object, &["spec", "strategy", "rollingUpdate"]);
            default(rolling, "maxSurge", "25%");
            default(rolling, "maxUnavailable", "25%");
        }
    }
    object["status"] = if kind.plural == "deployments" { json!({}) } else { json!({"replicas": 0}) };
}

fn binding(object: &mut Value) {
    default(map_mut(object, &["roleRef"]), "apiGroup", "rbac.authorization.k8s.io");
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        let account = object::text(subject, &["kind"]) == "ServiceAccount";
        if let Some(subject) = subject.as_object_mut()
            && !account
        {
            default(subject, "apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

/// What every namespace has from the start: the `default` service account and the cluster's
/// certificate authority. (Real clusters add them a moment later, and a pod created in that moment
/// is refused; here there is no such moment.)
pub(crate) fn bootstrap_namespace(cluster: &Cluster, namespace: &str) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace}});
    let roots = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
        "data": {"ca.crt": cluster.ca_pem}});
    for (plural, object) in [("serviceaccounts", account), ("configmaps", roots)] {
        if let Err(error) = add(cluster, resources::core(plural), object, false)
            && error.reason != "AlreadyExists"
        {
            tracing::warn!(namespace, plural, message = error.message, "cannot prepare the namespace");
        }
    }
}
