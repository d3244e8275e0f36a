//! The simulated GitLab of a world, as runners and agents reach it (through its weather) and as the
//! simulation itself does.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream;
use gantry_gitlab::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};
use gantry_sim_gitlab::Connector;
use http::{Request, Response};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::weather::{Fate, Weather};

/// The way of runners and agents to GitLab.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) connections: Arc<Connections>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) ledger: Ledger,
    /// Who speaks over it.
    pub(crate) who: Arc<str>,
    /// Nothing ever gets through, as from behind a policy that forbids it.
    pub(crate) is_blocked: bool,
}

impl Transport for Line {
    fn send(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        async move {
            match timeout(timeouts.head, self.pass(request)).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(TransportError::new(TransportFault::Timeout, elapsed)),
            }
        }
        .boxed()
    }
}

impl Line {
    /// The same way as somebody else goes it.
    pub(crate) fn of(&self, who: &str) -> Arc<Self> {
        Arc::new(Self { who: who.into(), ..self.clone() })
    }

    /// Notes what GitLab hears of a job that runs: its log, and its end. That it lives may also be
    /// said by somebody who is cut off from it, every few seconds, until a connection shows that
    /// another has it.
    fn note_report(&self, parts: &http::request::Parts, body: &[u8]) {
        let Some(job) = job_of(parts) else { return };
        let is_no_end = |body: Value| body["state"] == "pending" || body["state"] == "running";
        let is_end = parts.method == http::Method::PUT && !serde_json::from_slice(body).is_ok_and(is_no_end);
        if parts.method == http::Method::PATCH || is_end {
            self.ledger.of(job, |facts| facts.reports.push((Instant::now(), Arc::clone(&self.who))));
        }
    }

    async fn pass(&self, request: Request<Body>) -> Result<Response<ByteStream>, TransportError> {
        let (fate, latency) = self.weather.next();
        sleep(latency).await;
        if self.is_blocked {
            return Err(TransportError::new(TransportFault::Connect, "forbidden"));
        }
        if fate != Fate::Fine {
            self.ledger.book().gitlab_trouble();
            self.ledger.tell(|| format!("gitlab {} {}: {fate:?}", request.method(), request.uri().path()));
        }
        let (parts, body) = request.into_parts();
        let Body::Bytes(body) = body else {
            return Err(TransportError::new(TransportFault::Request, "the simulation uploads nothing"));
        };
        if let Some(job) = job_of(&parts) {
            let got_there = !matches!(fate, Fate::Refused | Fate::LostRequest | Fate::Status(_));
            let acknowledges = parts.method == http::Method::PUT
                && serde_json::from_slice(&body).is_ok_and(|body: Value| body["state"] == "running");
            self.ledger.of(job, |facts| facts.asked_gitlab(got_there, acknowledges));
        }
        match fate {
            Fate::Refused => return Err(TransportError::new(TransportFault::Connect, "refused")),
            Fate::LostRequest => return Err(TransportError::new(TransportFault::Broken, "broke off")),
            // A proxy does not say what it knows of the job. Only logs have a lock, and only jobs
            // are raced for.
            Fate::Status(409) if parts.method == http::Method::PUT => return Ok(canned(503)),
            Fate::Status(status) => return Ok(canned(status)),
            Fate::Fine | Fate::LostAnswer | Fate::CutAnswer | Fate::Silence => {}
        }
        self.note_report(&parts, &body);
        let path = parts.uri.path().to_owned();
        let answer = self.connections.exchange(Request::from_parts(parts, Full::new(body))).await;
        let answer =
            answer.map_err(|error| TransportError::new(TransportFault::Broken, error.into_boxed_dyn_error()))?;
        self.ledger.tell(|| format!("gitlab {path} by {}: {}", self.who, answer.status()));
        match fate {
            Fate::LostAnswer => Err(TransportError::new(TransportFault::Broken, "broke off")),
            Fate::CutAnswer => Ok(answer.map(cut)),
            Fate::Silence => std::future::pending().await,
            _ => Ok(answer.map(one_piece)),
        }
    }
}

/// The job that a request is about.
fn job_of(parts: &http::request::Parts) -> Option<u64> {
    let mut words = parts.uri.path().split('/').skip_while(|word| *word != "jobs").skip(1);
    words.next()?.parse().ok()
}

fn one_piece(bytes: Bytes) -> ByteStream {
    Box::pin(stream::once(async { Ok(bytes) }))
}

fn cut(mut bytes: Bytes) -> ByteStream {
    bytes.truncate(bytes.len() / 2);
    Box::pin(stream::iter([Ok(bytes), Err(TransportError::new(TransportFault::Broken, "broke off"))]))
}

fn canned(status: u16) -> Response<ByteStream> {
    let mut response = Response::new(one_piece(Bytes::from_static(b"{}")));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// Connections to one GitLab.
#[derive(Debug)]
pub(crate) struct Connections {
    connector: Connector,
    pool: Pool,
}

impl Connections {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, pool: Pool::default() }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        parts.uri = path.parse()?;
        parts.headers.insert(http::header::HOST, http::HeaderValue::from_static("gitlab.invalid"));
        self.pool.exchange(Request::from_parts(parts, body), || self.connector.connect()).await
    }
}

/// GitLab as the simulation itself speaks to it: always reachable.
#[derive(Clone, Debug)]
pub(crate) struct Desk(pub(crate) Arc<Connections>);

impl Desk {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Bytes> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        let answer = self.0.exchange(request).await?;
        anyhow::ensure!(
            answer.status().is_success() || answer.status() == http::StatusCode::CONFLICT,
            "{method} {path}: {} {}",
            answer.status(),
            String::from_utf8_lossy(answer.body())
        );
        Ok(answer.into_body())
    }

    /// What is at `path`, as far as the caller looks at it.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        serde_json::from_slice(&self.ask("GET", path, None).await?).with_context(|| format!("GET {path}"))
    }

    pub(crate) async fn trace(&self, job: u64) -> anyhow::Result<Bytes> {
        self.ask("GET", &format!("/sim/jobs/{job}/trace"), None).await
    }

    /// Puts a job into the queue, under another id where a further try of an earlier job has got
    /// the one that it wants.
    pub(crate) async fn add(&self, payload: &Value) -> anyhow::Result<()> {
        let answer = self.ask("POST", "/sim/jobs", Some(payload)).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        if !answer["id"].is_null() {
            return Ok(());
        }
        let mut payload = payload.clone();
        if let Some(payload) = payload.as_object_mut() {
            payload.remove("id");
        }
        self.post("/sim/jobs", &payload).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        self.ask("POST", path, Some(body)).await.map(drop)
    }

    pub(crate) async fn cancel(&self, job: u64, force: bool) -> anyhow::Result<()> {
        self.ask("POST", &format!("/sim/jobs/{job}/cancel?force={force}"), None).await.map(drop)
    }
}
