//! In which shape and language the client wants an answer: whole objects, only their metadata, or a
//! table; JSON or protobuf.

use std::borrow::Cow;

use http::{HeaderMap, header};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value, json, value::RawValue};

use super::{partial::metadata_only, protobuf, request::Query, status::ApiError, table};
use crate::{cluster::Cluster, patch::managed::FIELDS, resources::ResourceType};

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Metadata,
    Table,
}

/// What an answer is to be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Protobuf,
}

/// Reads the `Accept` header.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Shape, ApiError> {
    choice(headers).map(|(shape, _)| shape).ok_or_else(ApiError::not_acceptable)
}

/// The language that the client wants; JSON where it can read neither, so that it is told so.
pub(crate) fn language(headers: &HeaderMap) -> Language {
    choice(headers).map_or(Language::Json, |(_, language)| language)
}

/// The first acceptable of the `Accept` header's list counts.
fn choice(headers: &HeaderMap) -> Option<(Shape, Language)> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    accept.split(',').find_map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let language = match parts.next().unwrap_or("") {
            "application/json" | "*/*" | "application/*" | "" => Language::Json,
            protobuf::MEDIA_TYPE => Language::Protobuf,
            _ => return None,
        };
        match parts.find_map(|part| part.strip_prefix("as=")) {
            None => Some((Shape::Object, language)),
            Some("Table") if language == Language::Json => Some((Shape::Table, language)),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some((Shape::Metadata, language)),
            Some(_) => None,
        }
    })
}

/// One object in the wanted shape.
pub(crate) fn one<'o>(
    cluster: &Cluster,
    kind: &ResourceType,
    shape: Shape,
    query: &Query,
    object: &'o Value,
) -> Cow<'o, Value> {
    match shape {
        Shape::Object => Cow::Borrowed(object),
        Shape::Metadata => Cow::Owned(metadata_only(object)),
        Shape::Table => {
            let mut table = table::table(cluster, kind, query, std::iter::once(object));
            table["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            Cow::Owned(table)
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
) -> List<'o> {
    let metadata = json!({"resourceVersion": version.to_string()});
    match shape {
        Shape::Object => List::Whole {
            kind: format!("{}List", kind.kind),
            api_version: kind.api_version(),
            metadata,
            items: objects.map(Item).collect(),
        },
        Shape::Metadata => List::Other(json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": objects.map(metadata_only).collect::<Vec<_>>(),
        })),
        Shape::Table => {
            let mut table = table::table(cluster, kind, query, objects);
            table["metadata"] = metadata;
            List::Other(table)
        }
    }
}

/// A list that is written out without copying its objects.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(crate) enum List<'o> {
    #[serde(rename_all = "camelCase")]
    Whole {
        kind: String,
        api_version: String,
        metadata: Value,
        items: Vec<Item<'o>>,
    },
    Other(Value),
}

/// An object as it is kept, to be written out as clients see it.
pub(crate) struct Represented<'o>(pub(crate) &'o Value);

impl Serialize for Represented<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        each(to, self.0, |name, value| (name == "metadata").then_some(Metadata(value)))
    }
}

/// Items of a list carry no kind of their own, as on a real server.
pub(crate) struct Item<'o>(&'o Value);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.0 else { return self.0.serialize(to) };
        let mut map = to.serialize_map(None)?;
        for (name, value) in fields {
            match name.as_str() {
                "kind" | "apiVersion" => {}
                "metadata" => map.serialize_entry(name, &Metadata(value))?,
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// Writes a map in which some values are written in their own way.
fn each<'o, S: Serializer, V: Serialize>(
    to: S,
    value: &'o Value,
    own: impl Fn(&str, &'o Value) -> Option<V>,
) -> Result<S::Ok, S::Error> {
    let Value::Object(fields) = value else { return value.serialize(to) };
    let mut map = to.serialize_map(None)?;
    for (name, value) in fields {
        match own(name, value) {
            Some(value) => map.serialize_entry(name, &value)?,
            None => map.serialize_entry(name, value)?,
        }
    }
    map.end()
}

struct Metadata<'o>(&'o Value);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        each(to, self.0, |name, value| (name == "managedFields").then_some(Records(value)))
    }
}

struct Records<'o>(&'o Value);

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.as_array().into_iter().flatten().map(Record))
    }
}

struct Record<'o>(&'o Value);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        each(to, self.0, |name, value| match value {
            Value::String(text) if name == FIELDS => serde_json::from_str::<&RawValue>(text).ok(),
            _ => None,
        })
    }
}
