//! The way of a request: who is it, may they, what is asked, who answers. Every request is counted.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::{
    access,
    call::Call,
    create, delete, discovery, exec, list, log, openapi, patch, protobuf,
    representation::{self, Language},
    request::{self, PathSubject, Target},
    reviews, scale, sim,
    status::ApiError,
    token, update, watch,
    websocket::Upgrade,
};
use crate::{auth::attributes::Attributes, cluster::Cluster, faults::RequestFault};

/// Largest request body; real API servers take 3 MiB.
const MAX_BODY: usize = 3 << 20;

/// Marks an answer that must not reach the client: the connection breaks instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerLost;

/// Lets faults happen to a request. Returns whether its answer is to get lost.
async fn request_fault(call: &Call, wish: &Attributes) -> Result<bool, ApiError> {
    let ask = |delays| call.cluster.faults.request(wish, delays);
    if let Some(RequestFault::Delay(time)) = ask(true) {
        tokio::time::sleep(time).await;
    }
    match ask(false) {
        Some(RequestFault::Refuse(refusal)) => Err(ApiError::ordered(refusal)),
        Some(RequestFault::LoseAnswer) => Ok(true),
        Some(RequestFault::Delay(_)) | None => Ok(false),
    }
}

/// The whole server as a service.
pub(crate) fn router(cluster: Arc<Cluster>) -> Router {
    Router::new().fallback(answer).with_state(cluster)
}

async fn answer(State(cluster): State<Arc<Cluster>>, request: Request) -> Response {
    let language = representation::language(request.headers());
    let answer = handle(cluster, request).await.unwrap_or_else(IntoResponse::into_response);
    match language {
        Language::Json => answer,
        Language::Protobuf => protobuf::translated(answer).await,
    }
}

async fn handle(cluster: Arc<Cluster>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Some(health) = discovery::health(&path) {
        return Ok(health);
    }
    let user = access::user(&cluster, &parts.headers)?;
    let call = Call { cluster, user, method: parts.method.clone(), headers: parts.headers.clone() };
    match request::read(&parts.method, &parts.uri) {
        PathSubject::Resource(target) => {
            call.cluster.counters.count(target.verb, &target.attributes().full_resource());
            let lost = request_fault(&call, &target.attributes()).await?;
            reviews::check(&call, &target.attributes())?;
            let answer = resource(call, *target, parts, body).await;
            if !lost {
                return answer;
            }
            let mut answer = answer.unwrap_or_else(IntoResponse::into_response);
            answer.extensions_mut().insert(AnswerLost);
            Ok(answer)
        }
        PathSubject::Unknown(wish) => {
            call.cluster.counters.count(&wish.verb, &wish.full_resource());
            access::check(&call, &wish)?;
            Err(ApiError::no_such_path())
        }
        PathSubject::Path => {
            call.cluster.counters.count(&parts.method.as_str().to_lowercase(), &path);
            non_resource(call, &parts, &path, body).await
        }
    }
}

async fn non_resource(call: Call, parts: &Parts, path: &str, body: axum::body::Body) -> Result<Response, ApiError> {
    if let Some(rest) = path.strip_prefix("/sim/") {
        let wish = Attributes {
            verb: parts.method.as_str().to_lowercase(),
            path: Some(path.to_owned()),
            ..Attributes::default()
        };
        access::check(&call, &wish)?;
        let rest = rest.to_owned();
        let body = read_body(body).await?;
        return sim::answer(&call, &rest, &body).await;
    }
    if call.method != Method::GET && call.method != Method::HEAD {
        return Err(ApiError::method_not_allowed());
    }
    discovery::answer(&call.cluster.config, path, &parts.headers)
        .or_else(|| openapi::answer(path, &parts.headers))
        .ok_or_else(ApiError::no_such_path)
}

async fn read_body(body: axum::body::Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(MAX_BODY)),
        Err(_) => Err(ApiError::bad_request("the request's body broke off")),
    }
}

/// The request's body as JSON; nothing at all is `None`.
pub(crate) fn json_body(headers: &HeaderMap, body: &[u8]) -> Result<Option<Value>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if kind == protobuf::MEDIA_TYPE {
        let read = protobuf::read(body);
        return read.map(Some).ok_or_else(|| ApiError::unsupported_media_type("application/json"));
    }
    if !(kind == "application/json" || kind.ends_with("+json") || kind == "*/*") {
        return Err(ApiError::unsupported_media_type("application/json"));
    }
    serde_json::from_slice(body)
        .map(Some)
        .map_err(|error| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}

async fn resource(call: Call, target: Target, mut parts: Parts, body: axum::body::Body) -> Result<Response, ApiError> {
    if ["exec", "attach"].contains(&target.subresource.as_str()) && target.kind.plural == "pods" {
        return exec::answer(&call, &target, Upgrade::asked(&mut parts)).await;
    }
    if !target.kind.stored {
        let body = json_body(&call.headers, &read_body(body).await?)?;
        return reviews::answer(&call, &target, body);
    }
    if !target.subresource.is_empty() {
        let body = read_body(body).await?;
        return subresource(call, target, &body).await;
    }
    match target.verb {
        "get" => list::get(&call, &target),
        "list" => list::list(&call, &target),
        "watch" => watch::answer(&call, &target),
        verb => {
            let body = read_body(body).await?;
            match verb {
                "patch" => patch::answer(&call, &target, &body),
                "create" => create::answer(&call, &target, json_body(&call.headers, &body)?),
                "update" => update::answer(&call, &target, json_body(&call.headers, &body)?),
                "delete" => delete::answer(&call, &target, json_body(&call.headers, &body)?.as_ref()),
                "deletecollection" => delete::collection(&call, &target, json_body(&call.headers, &body)?.as_ref()),
                _ => Err(ApiError::method_not_allowed()),
            }
        }
    }
}

async fn subresource(call: Call, target: Target, body: &[u8]) -> Result<Response, ApiError> {
    let known = target.kind.subresource(&target.subresource).ok_or_else(ApiError::no_such_path)?;
    if !known.verbs.contains(&target.verb) {
        return Err(ApiError::method_not_allowed());
    }
    match (known.name, target.verb) {
        ("log", _) => log::answer(&call, &target).await,
        ("status", "get") => list::get(&call, &target),
        ("status", "patch") => patch::answer(&call, &target, body),
        ("status", _) => update::answer(&call, &target, json_body(&call.headers, body)?),
        ("scale", "get") => scale::get(&call, &target),
        ("scale", _) => scale::set(&call, &target, body),
        ("token", _) => token::answer(&call, &target, json_body(&call.headers, body)?),
        ("eviction", _) => delete::evict(&call, &target, json_body(&call.headers, body)?.as_ref()),
        ("binding", _) => update::bind(&call, &target, json_body(&call.headers, body)?.as_ref()),
        _ => Err(ApiError::no_such_path()),
    }
}
