//! One question to a store and its answer.

use std::time::Duration;

use bytes::Bytes;
use gantry_http::retry::Idempotency;
use gantry_http::{Timeouts, read, send};
use http::{HeaderName, Method, Request, StatusCode};
use serde_json::Value;
use url::Url;

use crate::error::SecretError;
use crate::text::shortened;
use crate::world::World;

/// Time for one answer: such a store answers at once or is not well, and a job waits.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Largest answer: stores keep secrets of at most a MiB.
const MOST: usize = 4 * 1024 * 1024;

/// Headers that belong to the store and go nowhere else.
static TOKENS: [HeaderName; 2] = [http::header::AUTHORIZATION, HeaderName::from_static("x-vault-token")];

/// A question.
pub(crate) struct Question<'a> {
    /// Whom, for errors: the provider and the server.
    pub(crate) who: &'a str,
    /// What for, for errors: a noun.
    pub(crate) wish: &'static str,
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Question<'_> {
    /// Asks, and takes any answer.
    pub(crate) async fn any(&self, world: &World) -> Result<Answer, SecretError> {
        let Self { who, method, url, headers, body, .. } = self;
        let wrong = |what: String| SecretError::Settings(format!("{who} cannot be asked: {what}"));
        let base = Url::parse(url).map_err(|error| wrong(format!("its address is no URL ({error})")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none_or(str::is_empty) {
            return Err(wrong("its address must begin with https:// or http://".to_owned()));
        }
        let setup = |source| SecretError::Setup { who: (*who).to_owned(), source };
        let transport = (world.connect)(&base).map_err(setup)?;
        let mut request = Request::builder().method(method.clone()).uri(base.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // The library's words could hold a value.
        let request = request
            .body(Bytes::from(body.clone()))
            .map_err(|_| wrong("a token, namespace or path holds characters that no request can have".to_owned()))?;
        let timeouts = Timeouts { head: TIMEOUT, idle: TIMEOUT };
        let unreachable = |source| SecretError::Unreachable { who: (*who).to_owned(), source };
        // Logging in twice and reading twice is as good as once.
        let sent = send(transport.as_ref(), request, &TOKENS, timeouts, Idempotency::Idempotent).await;
        let (head, body) = sent.answer.map_err(unreachable)?.into_parts();
        let content = read(body, MOST, TIMEOUT).await;
        if content.end.is_err() {
            return Err(self.odd("it broke off"));
        }
        Ok(Answer { status: head.status, text: String::from_utf8_lossy(&content.bytes).into_owned() })
    }

    /// Asks for what must be granted, in JSON.
    pub(crate) async fn json(&self, world: &World) -> Result<Value, SecretError> {
        let answer = self.granted(world).await?;
        serde_json::from_str(&answer.text).map_err(|_| self.odd("it is not JSON"))
    }

    /// Asks for what must be granted.
    pub(crate) async fn granted(&self, world: &World) -> Result<Answer, SecretError> {
        let answer = self.any(world).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    pub(crate) fn refused(&self, answer: &Answer) -> SecretError {
        let Self { who, wish, .. } = self;
        SecretError::Refused { who: (*who).to_owned(), wish, status: answer.status, said: shortened(&answer.text) }
    }

    pub(crate) fn odd(&self, what: &str) -> SecretError {
        SecretError::Answer { who: self.who.to_owned(), wish: self.wish, what: what.to_owned() }
    }
}
