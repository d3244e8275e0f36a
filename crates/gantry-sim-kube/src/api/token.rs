//! `create` on `serviceaccounts/token`: short-lived tokens.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    call::{Call, object_response},
    request::Target,
    status::ApiError,
};
use crate::{
    auth::tokens::{AUDIENCE, Bound, Grant},
    clock,
    cluster::Cluster,
    resources,
    store::{
        Key,
        object::{self, items, text},
    },
    validation::Problems,
};

/// How long a token lives that asks for nothing, and the least that can be asked for.
const DEFAULT_SECONDS: i64 = 3_600;
const LEAST_SECONDS: i64 = 600;
/// The most: 2³² seconds, as in Kubernetes.
const MOST_SECONDS: i64 = 1 << 32;

/// Makes a token.
pub(crate) fn answer(call: &Call, target: &Target, body: Option<Value>) -> Result<Response, ApiError> {
    let mut request = body.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let cluster = &call.cluster;
    let account = cluster
        .store
        .get(&Key::new(target.kind, &target.namespace, &target.name))
        .ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    if !(LEAST_SECONDS..=MOST_SECONDS).contains(&seconds) {
        let mut problems = Problems::default();
        let detail = if seconds < LEAST_SECONDS {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        problems.invalid("spec.expirationSeconds", &json!(seconds), detail);
        return Err(ApiError::invalid(target.kind, &target.name, &problems.0));
    }
    let mut audiences: Vec<String> =
        items(&request, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(AUDIENCE.to_owned());
    }
    let expires = cluster.clock.now().as_second() + seconds;
    let grant = Grant {
        namespace: target.namespace.clone(),
        account: target.name.clone(),
        account_uid: object::uid(&account).to_owned(),
        bound: bound(cluster, target, &request)?,
        audiences: audiences.clone(),
        expires: Some(expires),
    };
    let expires = jiff::Timestamp::from_second(expires).map(clock::stamp).map_err(ApiError::internal)?;
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["metadata"] = json!({"name": target.name, "namespace": target.namespace,
        "creationTimestamp": cluster.clock.stamp()});
    let spec = object::map_mut(&mut request, &["spec"]);
    spec.insert("audiences".to_owned(), json!(audiences));
    spec.insert("expirationSeconds".to_owned(), json!(seconds));
    let token = cluster.tokens.issue(grant, cluster.clock.now().as_second());
    request["status"] = json!({"token": token, "expirationTimestamp": expires});
    Ok(object_response(StatusCode::CREATED, &request))
}

/// The pod or Secret that the token is to be bound to, if it asks for that.
fn bound(cluster: &Cluster, target: &Target, request: &Value) -> Result<Option<Bound>, ApiError> {
    let kind = match text(request, &["spec", "boundObjectRef", "kind"]) {
        "Pod" => resources::core("pods"),
        "Secret" => resources::core("secrets"),
        _ => return Ok(None),
    };
    let name = text(request, &["spec", "boundObjectRef", "name"]);
    let found =
        cluster.store.get(&Key::new(kind, &target.namespace, name)).ok_or_else(|| ApiError::not_found(kind, name))?;
    let wanted = text(request, &["spec", "boundObjectRef", "uid"]);
    if !wanted.is_empty() && wanted != object::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(ApiError::conflict(kind, name, &why));
    }
    Ok(Some(Bound { plural: kind.plural, name: name.to_owned(), uid: object::uid(&found).to_owned() }))
}
