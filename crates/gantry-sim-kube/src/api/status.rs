//! The `Status` object that Kubernetes answers when a request cannot be done, with its exact codes,
//! reasons and words. Clients decide by code and reason and people read the message, so all three
//! are made in one place.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{auth::attributes::Attributes, faults::Refusal, resources::ResourceType, validation::Cause};

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    /// Seconds for the `Retry-After` header.
    retry_after: Option<u64>,
    /// What was ordered, in place of the usual.
    ordered: Option<Box<Ordered>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Ordered {
    reason: Option<String>,
    /// Type and text of a body that is no `Status`.
    body: Option<(Option<String>, String)>,
}

/// Reason and message that a server gives with a status, as clients see them.
fn usual(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("BadRequest", "the server rejected our request for an unknown reason"),
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden"),
        404 => ("NotFound", "the server could not find the requested resource"),
        409 => ("Conflict", "the server reported a conflict"),
        429 => ("TooManyRequests", "Too many requests, please try again later."),
        500 => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
        _ => ("", "an error on the server has prevented the request from succeeding"),
    }
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after: None, ordered: None }
    }

    fn about(mut self, kind: &ResourceType, name: &str) -> Self {
        let mut details = json!({"kind": kind.plural});
        if !kind.group.is_empty() {
            details["group"] = json!(kind.group);
        }
        if !name.is_empty() {
            details["name"] = json!(name);
        }
        self.details = Some(details);
        self
    }

    pub(crate) fn not_found(kind: &ResourceType, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{} {name:?} not found", kind.qualified()))
            .about(kind, name)
    }

    /// The path names no resource type of this server.
    pub(crate) fn no_such_path() -> Self {
        let mut error =
            Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource");
        // Empty, but there: `kubectl debug` reads them to see whether it is the pod or the
        // subresource that does not exist.
        error.details = Some(json!({}));
        error
    }

    pub(crate) fn already_exists(kind: &ResourceType, name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", format!("{} {name:?} already exists", kind.qualified()))
            .about(kind, name)
    }

    pub(crate) fn conflict(kind: &ResourceType, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// Somebody changed the object in between.
    pub(crate) fn stale(kind: &ResourceType, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// An admission controller says no.
    pub(crate) fn forbidden(kind: &ResourceType, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", kind.qualified())
        } else {
            format!("{} {name:?} is forbidden: {why}", kind.qualified())
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// The user's roles do not allow it.
    pub(crate) fn unauthorized_wish(wish: &Attributes, user: &str) -> Self {
        let why = wish.refusal(user);
        let message = if wish.path.is_some() {
            format!("forbidden: {why}")
        } else {
            let mut what = wish.resource.clone();
            if !wish.group.is_empty() {
                what = format!("{what}.{}", wish.group);
            }
            if !wish.name.is_empty() {
                what = format!("{what} {:?}", wish.name);
            }
            format!("{what} is forbidden: {why}")
        };
        let mut error = Self::new(StatusCode::FORBIDDEN, "Forbidden", message);
        let mut details = json!({});
        for (key, value) in [("name", &wish.name), ("group", &wish.group), ("kind", &wish.resource)] {
            if !value.is_empty() {
                details[key] = json!(value);
            }
        }
        error.details = Some(details);
        error
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        let mut error = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("Internal error occurred: {message}"),
        );
        error.details = Some(json!({"causes": [{"message": message}]}));
        error
    }

    /// An error that the API server has no reason for: only a code and a sentence.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    /// A request refused by a fault that was ordered.
    pub(crate) fn ordered(refusal: Refusal) -> Self {
        let Refusal { status, retry_after, reason, message, body } = refusal;
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (usual_reason, usual) = usual(status);
        let mut error = Self::new(code, usual_reason, message.unwrap_or_else(|| usual.to_owned()));
        if let Some(seconds) = retry_after {
            error.details = Some(json!({"retryAfterSeconds": seconds}));
            error.retry_after = Some(seconds);
        }
        error.ordered = Some(Box::new(Ordered { reason, body }));
        error
    }

    /// An eviction that a disruption budget does not allow now.
    pub(crate) fn budget(message: &str, detail: &str) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        error.details = Some(json!({"causes": [{"reason": "DisruptionBudget", "message": detail}]}));
        error
    }

    /// Fields that a server-side apply would take from their owners, each with its owner.
    pub(crate) fn owned_by_others<'c>(message: &str, causes: impl Iterator<Item = (&'c str, &'c str)>) -> Self {
        let mut error = Self::new(StatusCode::CONFLICT, "Conflict", message);
        let causes: Vec<Value> = causes
            .map(|(owner, field)| json!({"reason": "FieldManagerConflict", "message": owner, "field": field}))
            .collect();
        error.details = Some(json!({"causes": causes}));
        error
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// A watch or list wants a version that is not kept any more.
    pub(crate) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(StatusCode::GONE, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// A list wants a version that does not exist yet.
    pub(crate) fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message);
        error.details = Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        }));
        error
    }

    /// The object breaks rules; all of them are told at once.
    pub(crate) fn invalid(kind: &ResourceType, name: &str, causes: &[Cause]) -> Self {
        let told: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let told = if let [one] = told.as_slice() { one.clone() } else { format!("[{}]", told.join(", ")) };
        let kind_name =
            if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let mut error =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", format!("{kind_name} {name:?} is invalid: {told}"))
                .about(kind, name);
        if let Some(details) = &mut error.details {
            details["kind"] = json!(kind.kind);
            details["causes"] = causes
                .iter()
                .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
                .collect();
        }
        error
    }

    /// The `Status` object.
    pub(crate) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code.as_u16(),
        });
        let ordered = self.ordered.as_ref().and_then(|ordered| ordered.reason.as_deref());
        let reason = ordered.unwrap_or(self.reason);
        if !reason.is_empty() {
            status["reason"] = json!(reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = match self.ordered.as_ref().and_then(|ordered| ordered.body.as_ref()) {
            None => json_response(self.code, &self.to_status()),
            Some((kind, text)) => {
                let kind = kind.as_deref().unwrap_or("text/plain").to_owned();
                (self.code, [(header::CONTENT_TYPE, kind)], text.clone()).into_response()
            }
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json_response(code: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (code, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// The `Status` that says a removal is done.
pub(crate) fn removed(kind: &ResourceType, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::any;

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(ApiError::not_found(any("pods"), "x").message, r#"pods "x" not found"#);
        assert_eq!(ApiError::not_found(any("roles"), "x").message, r#"roles.rbac.authorization.k8s.io "x" not found"#);
        assert_eq!(ApiError::already_exists(any("pods"), "x").message, r#"pods "x" already exists"#);
        assert_eq!(ApiError::no_such_path().to_status()["details"], json!({}));
        let wish = Attributes {
            verb: "create".into(),
            resource: "pods".into(),
            subresource: "exec".into(),
            namespace: "ns".into(),
            name: "p".into(),
            ..Attributes::default()
        };
        assert_eq!(
            ApiError::unauthorized_wish(&wish, "u").message,
            r#"pods "p" is forbidden: User "u" cannot create resource "pods/exec" in API group "" in the namespace "ns""#
        );
    }

    #[test]
    fn invalid_tells_every_cause() {
        let cause =
            |field: &str| Cause { reason: "FieldValueRequired", field: field.into(), message: "Required value".into() };
        let one = ApiError::invalid(any("pods"), "x", &[cause("spec.containers")]);
        assert_eq!(one.message, r#"Pod "x" is invalid: spec.containers: Required value"#);
        let two = ApiError::invalid(any("pods"), "x", &[cause("a"), cause("b")]);
        assert_eq!(two.message, r#"Pod "x" is invalid: [a: Required value, b: Required value]"#);
        assert_eq!(two.to_status()["details"]["causes"][1]["field"], "b");
    }
}
