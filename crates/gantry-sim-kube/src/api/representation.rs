//! In which shape the client wants an answer: whole objects, only their metadata, or a table.

use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{request::Query, status::ApiError, table};
use crate::{cluster::Cluster, resources::ResourceType};

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Metadata,
    Table,
}

/// Reads the `Accept` header: the first acceptable of its list counts.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Shape, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    for choice in accept.split(',') {
        let mut parts = choice.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        if !["application/json", "*/*", "application/*", ""].contains(&media) {
            continue;
        }
        let transform = parts.find_map(|part| part.strip_prefix("as="));
        match transform {
            None => return Ok(Shape::Object),
            Some("Table") => return Ok(Shape::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Shape::Metadata),
            Some(_) => {}
        }
    }
    Err(ApiError::not_acceptable())
}

/// One object in the wanted shape.
pub(crate) fn one(cluster: &Cluster, kind: &ResourceType, shape: Shape, query: &Query, object: &Value) -> Value {
    match shape {
        Shape::Object => object.clone(),
        Shape::Metadata => metadata_only(object),
        Shape::Table => {
            let mut table = table::table(cluster, kind, query, std::iter::once(object));
            table["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            table
        }
    }
}

/// A list in the wanted shape.
pub(crate) fn many<'o>(
    cluster: &Cluster,
    kind: &ResourceType,
    (shape, query): (Shape, &Query),
    objects: impl Iterator<Item = &'o Value>,
    version: u64,
) -> Value {
    let metadata = json!({"resourceVersion": version.to_string()});
    match shape {
        Shape::Object => {
            // Items of a list carry no kind of their own, as on a real server.
            let items: Vec<Value> = objects
                .map(|object| {
                    let mut item = object.clone();
                    if let Some(fields) = item.as_object_mut() {
                        fields.remove("kind");
                        fields.remove("apiVersion");
                    }
                    item
                })
                .collect();
            let list = format!("{}List", kind.kind);
            json!({"kind": list, "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
        }
        Shape::Metadata => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": objects.map(metadata_only).collect::<Vec<_>>(),
        }),
        Shape::Table => {
            let mut table = table::table(cluster, kind, query, objects);
            table["metadata"] = metadata;
            table
        }
    }
}

pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
