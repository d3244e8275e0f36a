//! The simulated cluster of a world, as managers reach it (through its weather, over connections
//! that can be cut) and as the simulation itself does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::Context as _;
use bytes::Bytes;
use gantry_sim_kube::Connector;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper_util::rt::TokioIo;
use kube::core::ObjectMeta;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::time::sleep;

use crate::ledger::Ledger;
use crate::pipe::{Pipe, Switch};
use crate::pods::Pods;
use crate::pool::Pool;
use crate::programs::SECRET;
use crate::tasks;
use crate::weather::{Fate, Weather};

/// As much as a socket holds.
const SOCKET: usize = 64 << 10;
/// Beginnings of what must never be readable in the cluster.
const SECRETS: [&str; 3] = [SECRET, "glcbt-", "glrt-"];
const NAMESPACE: &str = "/api/v1/namespaces/default/pods";

type Answer = Response<BoxBody<Bytes, BoxError>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The managers' network to the API server.
pub(crate) struct Wire {
    pub(crate) connector: Connector,
    pub(crate) token: String,
    pub(crate) weather: Arc<Weather>,
    pub(crate) ledger: Ledger,
    pub(crate) pods: Arc<Pods>,
    /// Whether a pod's helper image brings a helper, by the job's number.
    pub(crate) brings_helper: fn(u64) -> bool,
    pool: Pool,
    /// Execs and watches.
    held: Mutex<Vec<(Held, Weak<Switch>)>>,
}

/// A pod as far as it says whose it is.
#[derive(serde::Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

/// A connection that is held for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Exec,
    Watch,
}

impl Wire {
    pub(crate) fn new(
        connector: Connector,
        token: String,
        weather: Arc<Weather>,
        pods: Arc<Pods>,
        brings_helper: fn(u64) -> bool,
    ) -> Self {
        let ledger = pods.ledger.clone();
        Self { connector, token, weather, ledger, pods, brings_helper, pool: Pool::default(), held: Mutex::default() }
    }

    /// A client of this network.
    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let wire = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let wire = Arc::clone(&wire);
            async move { wire.pass(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// The connections of a kind that are open.
    pub(crate) fn held(&self, kind: Held) -> Vec<Arc<Switch>> {
        let mut held = self.list();
        held.retain(|(_, switch)| switch.strong_count() > 0);
        held.iter().filter(|(other, _)| *other == kind).filter_map(|(_, switch)| switch.upgrade()).collect()
    }

    fn list(&self) -> MutexGuard<'_, Vec<(Held, Weak<Switch>)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, request: Request<kube::client::Body>) -> anyhow::Result<Answer> {
        let (fate, latency) = self.weather.next();
        sleep(latency).await;
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        if fate != Fate::Fine {
            self.ledger.book().api_trouble();
            self.ledger.tell(|| format!("cluster {} {}: {fate:?}", parts.method, parts.uri.path()));
        }
        match fate {
            Fate::Refused | Fate::LostRequest => anyhow::bail!("the connection was lost"),
            Fate::Status(status) => return canned(status),
            Fate::Fine | Fate::LostAnswer | Fate::CutAnswer | Fate::Silence => {}
        }
        self.inspect(&parts, &body);
        let answer = self.exchange(parts, body).await?;
        match fate {
            Fate::LostAnswer => anyhow::bail!("the connection was lost"),
            Fate::CutAnswer => cut(answer).await,
            Fate::Silence => std::future::pending().await,
            _ => Ok(answer),
        }
    }

    /// Looks at what comes into the cluster: new pods, and secrets that must not.
    fn inspect(&self, parts: &http::request::Parts, body: &[u8]) {
        let query = parts.uri.query().unwrap_or_default();
        let text = String::from_utf8_lossy(body);
        for secret in SECRETS {
            if is_readable(&text, secret) || is_readable(query, secret) {
                self.ledger.wrong(format!("{} {}: {secret} is readable", parts.method, parts.uri.path()));
            }
        }
        if parts.method != Method::POST || parts.uri.path() != NAMESPACE {
            return;
        }
        let Ok(Named { metadata }) = serde_json::from_slice::<Named>(body) else { return };
        let label = metadata.labels.and_then(|mut labels| labels.remove("gantry.dev/job"));
        let job = label.and_then(|id| id.parse::<u64>().ok());
        if let (Some(name), Some(job)) = (metadata.name, job) {
            self.pods.announce(&name, job, (self.brings_helper)(job));
        }
    }

    async fn exchange(&self, mut parts: http::request::Parts, body: Bytes) -> anyhow::Result<Answer> {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token))?;
        parts.headers.insert(header::AUTHORIZATION, bearer);
        parts.headers.insert(header::HOST, HeaderValue::from_static("kube.invalid"));
        let query = parts.uri.query().unwrap_or_default();
        let kind = if parts.uri.path().ends_with("/exec") {
            Some(Held::Exec)
        } else if query.contains("watch=true") {
            Some(Held::Watch)
        } else {
            None
        };
        let request = Request::from_parts(parts, Full::new(body));
        if let Some(kind) = kind {
            return self.hold(kind, request).await;
        }
        let answer = self.pool.exchange(request, || async { Ok(self.connect()) }).await?;
        Ok(answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed()))
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(SOCKET);
        let connector = self.connector.clone();
        tasks::spawn(async move { connector.serve(far).await });
        near
    }

    /// A request whose connection lasts, and can be hit.
    async fn hold(&self, kind: Held, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let switch = Arc::new(Switch::default());
        self.list().push((kind, Arc::downgrade(&switch)));
        let stream = TokioIo::new(Pipe::new(self.connect(), switch));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tasks::spawn(connection.with_upgrades());
        Ok(sender.send_request(request).await?.map(|body| body.map_err(BoxError::from).boxed()))
    }

    /// A request of the simulation itself: always possible.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let (parts, ()) = request.body(())?.into_parts();
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.exchange(parts, body).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
        anyhow::ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&text));
        serde_json::from_slice(&text).with_context(|| path.to_owned())
    }

    /// Names of the pods there are, and their job's labels.
    pub(crate) async fn pods(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        let list = self.ask(Method::GET, NAMESPACE, Value::Null).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let named = items.into_iter().map(|pod| (pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(), pod));
        Ok(named.collect())
    }
}

/// The first half of an answer, and the end of its connection. One that lasts ends at its
/// beginning.
async fn cut(answer: Answer) -> anyhow::Result<Answer> {
    let (parts, body) = answer.into_parts();
    let Some(length) = body.size_hint().exact() else { anyhow::bail!("the connection was lost") };
    let bytes = body.collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let half = bytes.slice(..usize::try_from(length / 2)?.min(bytes.len()));
    let frames = [Ok(Frame::data(half)), Err(BoxError::from("the connection was lost"))];
    Ok(Response::from_parts(parts, BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))))
}

fn canned(status: u16) -> anyhow::Result<Answer> {
    let reason = if status == 429 { "TooManyRequests" } else { "InternalError" };
    let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the weather is bad", "reason": reason, "code": status});
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed();
    let status = StatusCode::from_u16(status)?;
    Ok(Response::builder().status(status).header(header::CONTENT_TYPE, "application/json").body(body)?)
}

/// Whether a word of the text begins so. In the middle of one, such as what is sealed, a beginning
/// of five letters comes by chance once in a thousand million.
fn is_readable(text: &str, beginning: &str) -> bool {
    let ends_a_word = |at: usize| text[..at].bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.match_indices(beginning).any(|(at, _)| !ends_a_word(at))
}
