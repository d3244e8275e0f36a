//! Health, version and discovery documents, made from the resource table. Both forms of discovery
//! are served: the old one per group, and the aggregated one that newer clients ask for by
//! `Accept`.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::status::json_response;
use crate::config::Config;
use crate::resources::{ResourceType, STORED_VERBS, TYPES};

/// Health checks need no token.
pub(crate) fn health(path: &str) -> Option<Response> {
    ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|known| path == *known || path.strip_prefix(known).is_some_and(|rest| rest.starts_with('/')))
        .then(|| (StatusCode::OK, "ok").into_response())
}

/// The document at a path, if it is one of discovery.
pub(crate) fn answer(config: &Config, path: &str, headers: &HeaderMap) -> Option<Response> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let document = match segments.as_slice() {
        ["version"] => version(config),
        ["api"] if wants_aggregated(headers) => return Some(aggregated(true)),
        ["apis"] if wants_aggregated(headers) => return Some(aggregated(false)),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            let groups: Vec<Value> = groups().iter().map(|group| group_document(group)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", "v1"] => resource_list("", "v1"),
        ["apis", group] if groups().contains(group) => {
            let mut document = group_document(group);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            document
        }
        ["apis", group, "v1"] if groups().contains(group) => resource_list(group, "v1"),
        [] => json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]}),
        _ => return None,
    };
    Some(json_response(StatusCode::OK, &document))
}

/// The version that the server says it is. Clients choose features by it.
fn version(config: &Config) -> Value {
    let (major, minor) = config.version;
    json!({
        "major": major.to_string(), "minor": minor.to_string(), "gitVersion": config.version_text(), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", go_arch()),
    })
}

/// The processor's name as Kubernetes has it.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Names of all groups but the core group.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = TYPES.iter().map(|kind| kind.group).filter(|group| !group.is_empty()).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn group_document(group: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

fn verbs(kind: &ResourceType) -> &'static [&'static str] {
    if kind.stored { STORED_VERBS } else { &["create"] }
}

fn resource_list(group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for kind in TYPES.iter().filter(|kind| kind.group == group) {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": verbs(kind),
        });
        if !kind.short.is_empty() {
            entry["shortNames"] = json!(kind.short);
        }
        if kind.in_all {
            entry["categories"] = json!(["all"]);
        }
        resources.push(entry);
        for sub in kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if let Some((group, version)) = sub.group_version.split_once('/') {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            resources.push(entry);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    accept.split(',').any(|choice| {
        let parts: Vec<&str> = choice.split(';').map(str::trim).collect();
        ["application/json", "v=v2", "as=APIGroupDiscoveryList"].iter().all(|part| parts.contains(part))
    })
}

fn aggregated(core: bool) -> Response {
    let groups = if core { vec![""] } else { groups() };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|group| {
            let resources: Vec<Value> =
                TYPES.iter().filter(|kind| kind.group == group).map(aggregated_resource).collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = json!(group);
            }
            json!({"metadata": metadata, "versions": [
                {"version": "v1", "freshness": "Current", "resources": resources}
            ]})
        })
        .collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    (StatusCode::OK, [(header::CONTENT_TYPE, AGGREGATED)], document.to_string()).into_response()
}

fn aggregated_resource(kind: &ResourceType) -> Value {
    let response = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) = sub.group_version.split_once('/').unwrap_or(("", "v1"));
            json!({"subresource": sub.name, "responseKind": response(group, version, sub.kind), "verbs": sub.verbs})
        })
        .collect();
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": response(kind.group, kind.version, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(kind),
    });
    for (key, list) in [("shortNames", json!(kind.short)), ("subresources", json!(subresources))] {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            entry[key] = list;
        }
    }
    if kind.in_all {
        entry["categories"] = json!(["all"]);
    }
    entry
}
