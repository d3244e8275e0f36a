//! One question to a store and its answer.

use std::time::Duration;

use bytes::Bytes;
use gantry_http::retry::Idempotency;
use gantry_http::{ReadError, Timeouts, TransportFault, read, send};
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
        if let Err(error) = &content.end {
            return Err(self.odd(&match error {
                ReadError::TooLarge { most } => format!("it is larger than {most} bytes"),
                ReadError::Transport(error) if error.fault() == TransportFault::Timeout => {
                    format!("it did not end within {} s", TIMEOUT.as_secs())
                }
                ReadError::Transport(_) => "it broke off".to_owned(),
            }));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use futures::future::BoxFuture;
    use futures::{FutureExt as _, StreamExt as _, stream};
    use gantry_http::{Body, ByteStream, Transport, TransportError};
    use http::Response;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::stub::Stub;
    use crate::{Google, Kind};

    /// Longer than anybody waits for one secret, with all tries.
    const LONGEST: Duration = Duration::from_mins(2);

    /// A store that is not well.
    #[derive(Clone, Copy, Debug)]
    enum Ill {
        /// Nobody listens.
        Away,
        /// It takes the question and says nothing.
        Silent,
        /// Its answer breaks off.
        Cut,
        /// Its answer comes a byte a second.
        Slow,
        /// Its answer never ends.
        Endless,
    }

    impl Transport for Ill {
        fn send(
            &self,
            _: Request<Body>,
            timeouts: Timeouts,
        ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
            let ill = *self;
            async move {
                let piece = || Ok(Bytes::from_static(b"{"));
                let broken = || Err(TransportError::new(TransportFault::Broken, "cut"));
                let body: ByteStream = match ill {
                    Ill::Away => return Err(TransportError::new(TransportFault::Connect, "refused")),
                    Ill::Silent => {
                        sleep(timeouts.head).await;
                        return Err(TransportError::new(TransportFault::Timeout, "silence"));
                    }
                    Ill::Cut => stream::iter([piece(), broken()]).boxed(),
                    Ill::Slow => stream::repeat_with(piece)
                        .then(async |piece| {
                            sleep(Duration::from_secs(1)).await;
                            piece
                        })
                        .boxed(),
                    Ill::Endless => stream::repeat_with(|| Ok(Bytes::from(vec![b' '; 64 * 1024]))).boxed(),
                };
                Ok(Response::new(body))
            }
            .boxed()
        }
    }

    fn question() -> Question<'static> {
        Question {
            who: "Vault at vault.test",
            wish: "the login",
            method: Method::POST,
            url: "https://vault.test/v1/auth/jwt/login".to_owned(),
            headers: Vec::new(),
            body: "canary".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_not_well_is_one_sentence_in_bounded_time() {
        for (ill, words) in [
            (Ill::Away, "Vault at vault.test cannot be reached"),
            (Ill::Silent, "Vault at vault.test cannot be reached"),
            (Ill::Cut, "answered the login with something else than expected: it broke off"),
            (Ill::Slow, "it did not end within 15 s"),
            (Ill::Endless, "it is larger than 4194304 bytes"),
        ] {
            let world = World {
                connect: Arc::new(move |_| Ok(Arc::new(ill))),
                variable: Arc::new(|_| None),
                now: Arc::new(jiff::Timestamp::now),
                google: Google::default(),
            };
            let begun = Instant::now();
            let error = question().granted(&world).await.err().expect("no answer");
            assert!(error.to_string().contains(words), "{ill:?}: {error}");
            assert_eq!(error.kind(), Kind::Dependency, "{ill:?}");
            assert!(begun.elapsed() < LONGEST, "{ill:?}: {:?}", begun.elapsed());
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    /// Who has to change something, by status: what the reference makes of it (GitLab Runner 19.4).
    #[tokio::test(start_paused = true)]
    async fn statuses() {
        let mut kinds: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
        for status in
            [200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 422, 425, 429, 500, 501, 502, 503, 504]
        {
            let stub =
                Stub::new(&[]).answers("POST https://vault.test/v1/auth/jwt/login", status, r#"{"errors": ["no"]}"#);
            let kind = match question().granted(&stub.world()).await {
                Ok(_) => "granted",
                Err(error) => {
                    assert!(error.to_string().contains(&format!("the login with status {status}")), "{error}");
                    match error.kind() {
                        Kind::Configuration => "configuration",
                        Kind::Dependency => "dependency",
                    }
                }
            };
            kinds.entry(kind).or_default().push(status);
        }
        assert_eq!(kinds["granted"], [200, 201, 204]);
        assert_eq!(kinds["dependency"], [408, 425, 429, 500, 501, 502, 503, 504]);
        assert_eq!(kinds["configuration"], [400, 401, 403, 404, 405, 409, 410, 412, 413, 422]);
    }
}
