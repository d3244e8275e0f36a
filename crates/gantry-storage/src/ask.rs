//! Small questions to services that give credentials.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_http::retry::Idempotency;
use gantry_http::{Timeouts, Transport, read, send};
use http::{HeaderMap, Method, Request, StatusCode};
use url::Url;

use crate::encode::element;
use crate::error::StoreError;
use crate::world::{Route, World};

/// How long such a service may take. It is asked before a job starts.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The same for one on this machine or beside it, which may not be there at all (Amazon's own kits
/// wait 1 s).
const TIMEOUT_NEARBY: Duration = Duration::from_secs(2);

/// Largest answer: credentials and tokens are a few KiB.
const MOST: usize = 1024 * 1024;

/// A question.
pub(crate) struct Question<'a> {
    /// Whom we ask, for errors.
    pub(crate) who: &'a str,
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: String,
    pub(crate) way: Route,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl<'a> Question<'a> {
    pub(crate) fn get(who: &'a str, url: &'a str) -> Self {
        Self { who, method: Method::GET, url, headers: Vec::new(), body: String::new(), way: Route::Usual }
    }

    /// Asks, and takes any answer.
    pub(crate) async fn ask(self, world: &World) -> Result<Answer, StoreError> {
        let Self { who, method, url, headers, body, way } = self;
        let wrong = |what: String| StoreError::Settings(format!("{who} cannot be asked: {what}"));
        let base = Url::parse(url).map_err(|error| wrong(format!("{error} in its URL")))?;
        let transport: Arc<dyn Transport> = (world.connect)(&base, way)?;
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::from(body)).map_err(|error| wrong(error.to_string()))?;
        let within = if way == Route::Direct { TIMEOUT_NEARBY } else { TIMEOUT };
        let timeouts = Timeouts { head: within, idle: within };
        let unreachable = |source| StoreError::Unreachable { who: who.to_owned(), source };
        let idempotency = if way == Route::Direct { Idempotency::NotIdempotent } else { Idempotency::Idempotent };
        let answer = send(transport.as_ref(), request, &[], timeouts, idempotency).await.answer.map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        let content = read(body, MOST, within).await;
        let text = String::from_utf8_lossy(&content.bytes).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, text })
    }

    /// Asks for what must be granted.
    pub(crate) async fn granted(self, world: &World) -> Result<Answer, StoreError> {
        let who = self.who.to_owned();
        let answer = self.ask(world).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(StoreError::Refused { who, said: said(&answer) })
    }
}

/// What a refusal says, in one line.
pub(crate) fn said(answer: &Answer) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(&answer.text).ok();
    let of_json = |json: &serde_json::Value| {
        let texts = [&json["error"]["message"], &json["error_description"], &json["message"], &json["Message"]];
        texts.into_iter().find_map(|text| text.as_str()).map(str::to_owned)
    };
    let words = match (element(&answer.text, "Code"), element(&answer.text, "Message")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (Some(code), None) => Some(code),
        _ => json.as_ref().and_then(of_json),
    };
    let line = words.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    if line.is_empty() { answer.status.to_string() } else { format!("{} ({line})", answer.status) }
}
