//! Reading: one object, or a list by selectors. `limit` is ignored, which the API allows: every
//! list is whole.

use axum::response::Response;
use http::StatusCode;

use super::{
    call::{Call, object_response},
    representation,
    request::{Query, Target},
    status::{ApiError, json_response},
};
use crate::{
    resources::ResourceType,
    store::{
        Key,
        selector::{FieldSelector, LabelSelector},
    },
};

/// Label and field selector of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selectors {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selectors {
    pub(crate) fn read(kind: &ResourceType, query: &Query) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))
            .map_err(|why| ApiError::bad_request(format!("unable to parse label selector: {why}")))?;
        let fields = FieldSelector::parse(kind.plural, query.get("fieldSelector").unwrap_or(""))
            .map_err(ApiError::bad_request)?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &serde_json::Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// `get`.
pub(crate) fn get(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let shape = representation::wanted(&call.headers)?;
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let object = call.cluster.store.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    Ok(object_response(StatusCode::OK, &representation::one(&call.cluster, target.kind, shape, &target.query, &object)))
}

/// `list`.
pub(crate) fn list(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let shape = representation::wanted(&call.headers)?;
    let selectors = Selectors::read(target.kind, &target.query)?;
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let (objects, version) = call.cluster.store.list(target.kind, namespace);
    if let Some(asked) = target.query.number("resourceVersion").filter(|asked| *asked != 0) {
        if asked > version {
            return Err(ApiError::version_too_large(asked, version));
        }
        // Only the present is kept, so an exact older version cannot be shown.
        if target.query.get("resourceVersionMatch") == Some("Exact") && asked != version {
            return Err(ApiError::expired(asked, version));
        }
    }
    let chosen = objects.iter().map(AsRef::as_ref).filter(|object| selectors.matches(object));
    let list = representation::many(&call.cluster, target.kind, (shape, &target.query), chosen, version);
    Ok(json_response(StatusCode::OK, &list))
}
