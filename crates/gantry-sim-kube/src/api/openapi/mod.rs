//! As much OpenAPI as `kubectl` needs: which paths exist and that they take `fieldValidation`, so
//! that it leaves validation to the server; and the fields of all types, without descriptions.

mod definitions;
mod v2;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::{discovery, status::json_response};
use crate::resources::{ResourceType, TYPES};

/// The document at a path, if it is one of OpenAPI.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Option<Response> {
    if path == "/openapi/v2" {
        return Some(v2::answer(headers));
    }
    let rest = path.strip_prefix("/openapi/v3")?.trim_start_matches('/');
    if rest.is_empty() {
        return Some(json_response(StatusCode::OK, &index()));
    }
    let group = match rest {
        "api/v1" => "",
        other => other.strip_prefix("apis/")?.strip_suffix("/v1")?,
    };
    (group.is_empty() || discovery::groups().contains(&group)).then(|| json_response(StatusCode::OK, &document(group)))
}

fn index() -> Value {
    let mut paths = Map::new();
    let mut add = |path: String| {
        let url = format!("/openapi/v3/{path}?hash=1");
        paths.insert(path, json!({"serverRelativeURL": url}));
    };
    add("api/v1".to_owned());
    for group in discovery::groups() {
        add(format!("apis/{group}/v1"));
    }
    json!({"paths": paths})
}

fn document(group: &str) -> Value {
    let mut paths = Map::new();
    for kind in TYPES.iter().filter(|kind| kind.group == group && kind.stored) {
        let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        let place = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{root}{place}/{}", kind.plural);
        paths.insert(format!("{collection}/{{name}}"), operations(kind, &["get", "put", "patch", "delete"]));
        paths.insert(collection, operations(kind, &["get", "post"]));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": definitions::schemas(Some(group), "#/components/schemas/")},
    })
}

fn operations(kind: &ResourceType, methods: &[&str]) -> Value {
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let mut item = Map::new();
    for method in methods {
        let mut operation = json!({
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": method,
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
        if ["post", "put", "patch"].contains(method) {
            operation["parameters"] =
                json!([parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")]);
        }
        item.insert((*method).to_owned(), operation);
    }
    Value::Object(item)
}
