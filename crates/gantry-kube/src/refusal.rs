//! Answers that refuse something, made into what the client library understands: a `Status` with
//! the code that was really answered. What does not come from an API server (a proxy's page, a
//! gateway's JSON, nothing at all) is told in its own words, and as what it is.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    error::{Fault, Unusable, shorten},
    limits,
    target::Target,
};

/// Passes on what an API server says. `Err` where the answer is none, or breaks off. `is_exec`: it
/// may be a kubelet's, which are plain text.
pub(crate) async fn understood(answer: Response<Body>, target: &Target, is_exec: bool) -> kube::Result<Response<Body>> {
    let (mut parts, body) = answer.into_parts();
    let status = parts.status;
    let is_page = content_type(&parts.headers).starts_with("text/html");
    if status == StatusCode::SWITCHING_PROTOCOLS || (status.is_success() && !is_page) {
        return Ok(Response::from_parts(parts, body));
    }
    let body = beginning(body).await;
    let refuses = status.is_client_error() || status.is_server_error();
    // That something is gone counts as proof, and whoever answers without a `Status` proves
    // nothing.
    let may_be_reworded = refuses && !matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let stated = serde_json::from_slice::<Value>(&body).ok().filter(|json| refuses && json["kind"] == "Status");
    let Some(mut stated) = stated.or_else(|| may_be_reworded.then(|| json!({"kind": "Status", "status": "Failure"})))
    else {
        let message = strange(status, &parts.headers, &body, target);
        return Err(Unusable { fault: Fault::Garbled, message }.into());
    };
    if stated["code"].as_u64().unwrap_or(0) == 0 {
        stated["code"] = json!(status.as_u16());
    }
    if stated["reason"].is_null() && stated["message"].is_null() {
        let text = String::from_utf8_lossy(&body);
        let is_kubelets = is_exec && !is_page && !text.trim().is_empty();
        let words = if is_kubelets { words(&text) } else { strange(status, &parts.headers, &body, target) };
        stated["message"] = json!(words);
    }
    let asked_to_wait =
        parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(seconds) = asked_to_wait.filter(|_| stated["details"]["retryAfterSeconds"].is_null()) {
        let details = stated["details"].as_object().cloned().unwrap_or_default();
        stated["details"] = Value::Object(details);
        stated["details"]["retryAfterSeconds"] = json!(seconds);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, Body::from(stated.to_string().into_bytes())))
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

/// As much of a body as is looked at. What has come until it breaks off or takes too long is all
/// that is said: the status must not get lost over what a proxy wrote below it.
async fn beginning(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < limits::REFUSAL
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
        }
    };
    let _ = timeout(limits::REFUSAL_TIME, reading).await;
    bytes.truncate(limits::REFUSAL);
    bytes
}

/// A sentence about an answer that no API server gives.
fn strange(status: StatusCode, headers: &HeaderMap, body: &[u8], target: &Target) -> String {
    let location =
        headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).filter(|_| status.is_redirection());
    if let Some(location) = location {
        // What follows a question mark may be a secret.
        let location = shorten(location.split(['?', '#']).next().unwrap_or_default(), limits::MESSAGE);
        return format!("HTTP status {status}, a redirect to {location}; {}", target.doubt());
    }
    let text = words(&String::from_utf8_lossy(body));
    if text.is_empty() {
        return format!("HTTP status {status} without a word; {}", target.doubt());
    }
    format!("HTTP status {status}: {}; {}", shorten(&text, limits::MESSAGE), target.doubt())
}

/// The words of a text or a page: without tags, scripts and styles, on one line.
fn words(text: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        words.push_str(before);
        words.push(' ');
        let name: String = tag.chars().skip(1).take_while(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
        let end = match name.as_str() {
            "script" | "style" => tag.to_lowercase().find(&format!("</{name}>")).map(|end| end + name.len() + 3),
            _ => tag.find('>').map(|end| end + 1),
        };
        rest = end.and_then(|end| tag.get(end..)).unwrap_or_default();
    }
    words.push_str(rest);
    for (entity, character) in
        [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        words = words.replace(entity, character);
    }
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    words.chars().map(printable).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ApiError;

    async fn read(status: u16, kind: &str, body: &str) -> Result<ApiError, ApiError> {
        let answer = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, kind)
            .header(header::LOCATION, "https://login/x?token=1");
        let answer = answer.body(Body::from(body.as_bytes().to_vec())).unwrap();
        let answer = understood(answer, &Target::default(), false).await.map_err(ApiError::from)?;
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Ok(ApiError::from(&serde_json::from_slice::<kube::core::Status>(&body).unwrap()))
    }

    async fn refused(status: u16, kind: &str, body: &str) -> (Fault, u16, String) {
        let error = read(status, kind, body).await.unwrap();
        (error.fault, error.code, error.message)
    }

    #[tokio::test]
    async fn what_is_no_status_keeps_its_code_and_its_words() {
        let doubt = Target::default().doubt();
        let page = "<html><head><title>Sorry</title><style>p {}</style></head><body>\n<h1>403 Forbidden</h1> by &quot;corp&quot;\
                    <script>if (a < b) {}</script></body></html>";
        for (status, kind, body, fault, words) in [
            (403, "text/html", page, Fault::Forbidden, r#"HTTP status 403 Forbidden: Sorry 403 Forbidden by "corp""#),
            (
                401,
                "application/json",
                r#"{"error": "no"}"#,
                Fault::Unauthenticated,
                r#"HTTP status 401 Unauthorized: {"error": "no"}"#,
            ),
            (
                503,
                "text/plain",
                "no healthy upstream",
                Fault::Server,
                "HTTP status 503 Service Unavailable: no healthy upstream",
            ),
            (429, "application/json", "[]", Fault::Throttled, "HTTP status 429 Too Many Requests: []"),
            (500, "text/plain", "", Fault::Server, "HTTP status 500 Internal Server Error without a word"),
            (409, "text/plain", "\u{1b}[31mred\nlines", Fault::Conflict, "HTTP status 409 Conflict: [31mred lines"),
        ] {
            assert_eq!(refused(status, kind, body).await, (fault, status, format!("{words}; {doubt}")));
        }
    }

    #[tokio::test]
    async fn only_an_api_server_can_say_that_something_is_gone() {
        let stranger = read(404, "text/html", "<h1>404 page not found</h1>").await.unwrap_err();
        assert_eq!(stranger.fault, Fault::Garbled);
        assert!(stranger.message.starts_with("HTTP status 404 Not Found: 404 page not found; "), "{stranger}");
        let body = r#"{"kind": "Status", "message": "pods \"x\" not found", "reason": "NotFound", "code": 404}"#;
        assert_eq!(refused(404, "application/json", body).await.0, Fault::Gone);
    }

    #[tokio::test]
    async fn a_status_stays_as_it_is() {
        let body = r#"{"kind": "Status", "status": "Failure", "message": "exceeded quota", "reason": "Forbidden", "code": 403}"#;
        assert_eq!(refused(403, "application/json", body).await, (Fault::Forbidden, 403, "exceeded quota".into()));
        // Without a code it has the one of the answer.
        let body = r#"{"kind": "Status", "message": "etcd is down"}"#;
        assert_eq!(refused(503, "application/json", body).await, (Fault::Server, 503, "etcd is down".into()));
    }

    #[tokio::test]
    async fn what_should_be_an_object_and_is_a_page_is_told_as_that() {
        let page = read(200, "text/html; charset=utf-8", "<title>Sign in</title>").await.unwrap_err();
        assert!(page.message.starts_with("HTTP status 200 OK: Sign in; "), "{page}");
        let elsewhere = read(302, "text/html", "").await.unwrap_err();
        assert!(elsewhere.message.starts_with("HTTP status 302 Found, a redirect to https://login/x; "), "{elsewhere}");
        assert_eq!((page.fault, elsewhere.fault), (Fault::Garbled, Fault::Garbled));
    }
}
