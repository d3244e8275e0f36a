//! Writes every request of runners and git into the journal, secrets masked. Requests of people and
//! tests are left out: they poll, and would push out what they want to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use crate::connection::Broken;
use crate::hub::SharedHub;
use crate::limits;
use crate::state::records;
use crate::tokens;

const MASKED: &str = "[MASKED]";
/// Headers that carry a secret.
const SECRET_HEADERS: [&str; 5] = ["authorization", "cookie", "job-token", "private-token", "runner-token"];

/// The number of a request's entry, for those who have more to say about it.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) u64);

pub(super) async fn record(State(hub): State<SharedHub>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !super::is_outside(path) {
        return next.run(request).await;
    }
    let request_id = tokens::request();
    let number = {
        let mut world = hub.world();
        let entry = records::Request {
            id: request_id.clone(),
            method: request.method().to_string(),
            path: masked_path(path, request.uri().query()),
            headers: masked_headers(request.headers()),
            time: world.now().wall,
        };
        world.journal.begin(entry)
    };
    request.extensions_mut().insert(Number(number));
    let (request, json) = with_small_json(request).await;
    let size = Arc::new(AtomicU64::new(0));
    let mut response = next.run(counted(request, &size)).await;
    // GitLab answers every request with an id of its own, whatever id the client sent (GitLab
    // server).
    super::set(&mut response, "x-request-id", &request_id);
    let mut world = hub.world();
    let answer = records::Answer {
        status: response.extensions().get::<Broken>().is_none().then(|| response.status().as_u16()),
        body_bytes: size.load(Ordering::Relaxed),
        body: json,
        answered: world.now().wall,
    };
    world.journal.answer(number, answer);
    drop(world);
    response
}

/// Counts the body's bytes as the handler reads them.
fn counted(request: Request, size: &Arc<AtomicU64>) -> Request {
    let size = Arc::clone(size);
    request.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                size.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }))
    })
}

/// Reads the body ahead if it is said to be small JSON, and gives it back unread.
async fn with_small_json(request: Request) -> (Request, Option<Value>) {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let small = length.is_some_and(|length: usize| length <= limits::JOURNAL_BODY);
    if !small || !super::is_json(request.headers()) {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, limits::JOURNAL_BODY).await {
        Ok(bytes) => {
            let mut json = serde_json::from_slice(&bytes).ok();
            json.iter_mut().for_each(mask);
            (Request::from_parts(parts, Body::from(bytes)), json)
        }
        // The body broke off, and so it must for the handler: an empty one would be another
        // request.
        Err(error) => {
            let broken = futures::stream::once(std::future::ready(Err::<Bytes, _>(error)));
            (Request::from_parts(parts, Body::from_stream(broken)), None)
        }
    }
}

fn masked_path(path: &str, query: Option<&str>) -> String {
    let Some(query) = query else { return path.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}={MASKED}"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn masked_headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut shown: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let secret = SECRET_HEADERS.contains(&name.as_str());
        let text = if secret { MASKED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
        match shown
            .get_mut(name.as_str())
            .and_then(|earlier| earlier.as_str().map(|earlier| format!("{earlier}, {text}")))
        {
            Some(joined) => shown.insert(name.to_string(), json!(joined)),
            None => shown.insert(name.to_string(), json!(text)),
        };
    }
    shown
}

/// Replaces every non-empty value whose key names a secret.
fn mask(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if is_secret(key) && !text.is_empty() => MASKED.clone_into(text),
                    value => mask(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mask),
        _ => {}
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "authorization" || key.ends_with("token") || key.contains("password") || key.contains("secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_reach_the_journal() {
        let mut body = json!({"token": "glrt-x", "info": {"features": {"vault_secrets": true}},
            "session": {"authorization": "abc", "url": "u"}, "list": [{"job_token": "y"}]});
        mask(&mut body);
        let text = body.to_string();
        for secret in ["glrt-x", "abc", "\"y\""] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("\"vault_secrets\":true"), "{text}");
        assert_eq!(
            masked_path("/a", Some("token=x&b=1&private_token=z")),
            "/a?token=[MASKED]&b=1&private_token=[MASKED]"
        );
        let mut headers = HeaderMap::new();
        for name in SECRET_HEADERS {
            headers.insert(name, "s3cret".parse().expect("a header value"));
        }
        assert!(!Value::Object(masked_headers(&headers)).to_string().contains("s3cret"));
    }
}
