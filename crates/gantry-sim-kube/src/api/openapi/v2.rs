//! OpenAPI 2.0, in JSON and in the protobuf form that `kubectl` asks for when it validates a list,
//! plans a patch, or is older than OpenAPI 3.0 in Kubernetes. Only schemas: which paths take which
//! parameters is told by 3.0.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::definitions::schemas;
use crate::{
    api::{protobuf, status::json_response},
    schema::OPENAPI,
};

/// The media type of the protobuf form.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The document in the form that the client wants.
pub(super) fn answer(headers: &HeaderMap) -> Response {
    let definitions = schemas(None, "#/definitions/");
    let info = json!({"title": "Kubernetes", "version": "unversioned"});
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !accept.contains("proto-openapi") {
        let document = json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": definitions});
        return json_response(StatusCode::OK, &document);
    }
    let named: Vec<Value> = definitions.iter().map(|(name, schema)| named(name, &message(schema))).collect();
    let document = json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": {"list": named}});
    let fields = OPENAPI.get("Document").map_or(&[][..], Vec::as_slice);
    let body = document.as_object().map(|document| protobuf::message(&OPENAPI, document, fields)).unwrap_or_default();
    (StatusCode::OK, [(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
}

fn named(name: &str, value: &Value) -> Value {
    json!({"name": name, "value": value})
}

/// A schema as the messages of the protobuf form have it: maps are lists of named values,
/// extensions are YAML.
fn message(schema: &Value) -> Value {
    let mut message = json!({});
    let mut extensions = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match key.as_str() {
            "$ref" => message["reference"] = value.clone(),
            "type" => message["types"] = json!([value]),
            "items" => message["items"] = json!({"schemas": [self::message(value)]}),
            "additionalProperties" => message["additional"] = json!({"schema": self::message(value)}),
            "properties" => {
                let inner = value.as_object().into_iter().flatten();
                let list: Vec<Value> = inner.map(|(name, schema)| named(name, &self::message(schema))).collect();
                message["properties"] = json!({"list": list});
            }
            key if key.starts_with("x-") => extensions.push(named(key, &json!({"yaml": format!("{value}\n")}))),
            key => message[key] = value.clone(),
        }
    }
    message["extensions"] = json!(extensions);
    message
}
