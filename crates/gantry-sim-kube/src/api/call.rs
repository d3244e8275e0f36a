//! A request as those who answer it see it, and the usual answer.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;

use super::{representation::Represented, request::Query, status::json_response};
use crate::{auth::User, cluster::Cluster};

/// Everything about a request but its body.
pub(crate) struct Call {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) user: User,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
}

impl Call {
    /// Who is to own what a request changes: its `fieldManager`, or the program that sends it.
    pub(crate) fn manager<'c>(&'c self, query: &'c Query) -> &'c str {
        let agent = self.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("unknown");
        let program = agent.split(['/', ' ']).next().unwrap_or("unknown");
        query.get("fieldManager").filter(|manager| !manager.is_empty()).unwrap_or(program)
    }
}

/// An answer with an object.
pub(crate) fn object_response(code: StatusCode, object: &Value) -> Response {
    json_response(code, &Represented(object))
}
