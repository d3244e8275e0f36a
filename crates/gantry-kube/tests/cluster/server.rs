//! The API server: pods in a map, a log of events for watchers, and scripts of what to answer next.
//! It shares no code with what it tests.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use gantry_kube::{Cluster, Driver, ObservedPod, PodRef};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

type Body = BoxBody<Bytes, Infallible>;
type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// An answer that is not the ordinary one.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A `Status`.
    Status(u16, &'static str, &'static str),
    /// Text that is no `Status`.
    Raw(u16, &'static str),
    /// Does what was asked and then breaks the connection.
    Lost,
    /// Never answers.
    Hang,
}

/// What the container does with an exec.
#[derive(Clone, Debug)]
pub(crate) enum Exec {
    /// Not even started.
    Refused(Answer),
    /// Upgraded, and then the kubelet says that it cannot run it.
    Fails(&'static str),
    /// Prints this line, ends with code 1.
    Says(&'static str),
    /// Greets, then echoes.
    Bridge,
    /// Asks for a helper for that machine, then greets and echoes.
    Push(&'static str),
    /// Asks for a helper, takes that many bytes of it, says that the disk is full and ends.
    DiskFull(usize),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) pods: BTreeMap<String, Value>,
    /// As the API server would list them.
    pub(crate) namespaces: Vec<Value>,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<String>>,
    /// `METHOD path?query` of each request.
    pub(crate) requests: Vec<String>,
    pub(crate) creates: VecDeque<Answer>,
    pub(crate) deletes: VecDeque<Answer>,
    pub(crate) patches: VecDeque<Answer>,
    pub(crate) lists: VecDeque<Answer>,
    pub(crate) watches: VecDeque<Answer>,
    /// Used one after the other; the last again and again.
    pub(crate) execs: VecDeque<Exec>,
    /// Bytes that were pushed.
    pub(crate) pushed: Vec<u8>,
    /// Those that came behind, after the first ones had been taken.
    pub(crate) unpacked: Vec<u8>,
    /// Execs whose connection has ended.
    pub(crate) closed_execs: usize,
}

#[derive(Clone, Default)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
}

impl World {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A cluster of this world whose driver runs in the background.
    pub(crate) fn cluster(&self) -> Cluster {
        let (cluster, driver) = self.cluster_and_driver();
        tokio::spawn(driver);
        cluster
    }

    pub(crate) fn cluster_and_driver(&self) -> (Cluster, Driver) {
        Cluster::from_client(self.client(), "ci".to_owned(), "gantry.dev/fleet=a".to_owned())
    }

    fn client(&self) -> kube::Client {
        let world = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let world = world.clone();
            async move {
                let (near, far) = tokio::io::duplex(64 * 1024);
                let serve = hyper::service::service_fn(move |request| world.clone().serve(request));
                let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), serve);
                tokio::spawn(server.with_upgrades());
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
                tokio::spawn(connection.with_upgrades());
                let (mut parts, body) = request.into_parts();
                parts.headers.insert(header::HOST, header::HeaderValue::from_static("sim"));
                sender.send_request(Request::from_parts(parts, body)).await
            }
        });
        kube::Client::new(service, "ci")
    }

    /// Stores the pod and tells watchers. Returns it as stored.
    pub(crate) fn put(&self, mut pod: Value) -> Value {
        let mut state = self.lock();
        state.version += 1;
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        pod["metadata"]["resourceVersion"] = json!(state.version.to_string());
        if pod["metadata"]["uid"].is_null() {
            pod["metadata"]["uid"] = json!(format!("uid-{}", state.version));
        }
        let kind = if state.pods.contains_key(&name) { "MODIFIED" } else { "ADDED" };
        state.pods.insert(name, pod.clone());
        state.tell(kind, &pod);
        pod
    }

    pub(crate) fn remove(&self, name: &str) {
        let mut state = self.lock();
        state.version += 1;
        let mut pod = state.pods.remove(name).unwrap();
        pod["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell("DELETED", &pod);
    }

    /// Ends every watch, and forgets what happened since: who resumes must list again.
    pub(crate) fn end_watches(&self) {
        self.lock().watchers.clear();
    }

    pub(crate) fn requests(&self, of: &str) -> usize {
        self.lock().requests.iter().filter(|request| request.contains(of)).count()
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Body>, String> {
        let line = format!("{} {}", request.method(), request.uri());
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if path.ends_with("/selfsubjectaccessreviews") {
            let body = request.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            let mut review: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
            let asked = &review["spec"]["resourceAttributes"];
            let allowed = asked["namespace"] == "ci" && asked["resource"] == "pods" && asked["subresource"] != "exec";
            review["status"] = json!({"allowed": allowed});
            return Ok(answer(201, &review));
        }
        if path == "/api/v1/namespaces" && request.method() == http::Method::GET {
            let mut state = self.lock();
            state.requests.push(line);
            return Ok(answer(200, &page("PartialObjectMetadataList", &state.namespaces, state.version, &query)));
        }
        let rest = path.strip_prefix("/api/v1/namespaces/ci/pods").ok_or("unexpected path")?.to_owned();
        self.lock().requests.push(line);
        let method = request.method().as_str().to_owned();
        match (method.as_str(), rest.trim_start_matches('/')) {
            ("GET", name) if name.ends_with("/exec") => self.exec(request).await,
            ("GET", "") if query.contains("watch=") => self.watch().await,
            ("GET", "") => self.list(&query).await,
            ("GET", name) => Ok(self.found(name)),
            ("POST", "") => {
                let body = request.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                self.create(serde_json::from_slice(&body).map_err(|error| error.to_string())?).await
            }
            ("PATCH", name) => {
                let body = request.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                Ok(self.patch(name, &serde_json::from_slice(&body).map_err(|error| error.to_string())?))
            }
            ("DELETE", name) => {
                let body = request.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                self.delete(name, &serde_json::from_slice(&body).unwrap_or_default()).await
            }
            _ => Err("unexpected method".to_owned()),
        }
    }

    fn found(&self, name: &str) -> Response<Body> {
        self.lock().pods.get(name).map_or_else(|| status(404, "NotFound", "not found"), |pod| answer(200, pod))
    }

    async fn create(&self, pod: Value) -> Result<Response<Body>, String> {
        let scripted = self.lock().creates.pop_front();
        match scripted {
            Some(Answer::Status(code, reason, message)) => return Ok(status(code, reason, message)),
            Some(Answer::Raw(code, text)) => return Ok(raw(code, text)),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Lost) | None => {}
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.lock().pods.contains_key(&name) {
            return Ok(status(409, "AlreadyExists", "pods \"x\" already exists"));
        }
        let stored = self.put(pod);
        if scripted.is_some() { Err("connection lost".to_owned()) } else { Ok(answer(201, &stored)) }
    }

    /// A merge of annotations.
    fn patch(&self, name: &str, patch: &Value) -> Response<Body> {
        let scripted = self.lock().patches.pop_front();
        if let Some(Answer::Status(code, reason, message)) = scripted {
            return status(code, reason, message);
        }
        let Some(mut pod) = self.lock().pods.get(name).cloned() else { return status(404, "NotFound", "not found") };
        let (patch, metadata) = (&patch["metadata"], &mut pod["metadata"]);
        for key in ["uid", "resourceVersion"] {
            if !patch[key].is_null() && patch[key] != metadata[key] {
                return status(409, "Conflict", "the object has been modified");
            }
        }
        for (key, value) in patch["annotations"].as_object().unwrap() {
            metadata["annotations"][key] = value.clone();
        }
        answer(200, &self.put(pod))
    }

    async fn delete(&self, name: &str, options: &Value) -> Result<Response<Body>, String> {
        let scripted = self.lock().deletes.pop_front();
        match scripted {
            Some(Answer::Status(code, reason, message)) => return Ok(status(code, reason, message)),
            Some(Answer::Raw(code, text)) => return Ok(raw(code, text)),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Lost) | None => {}
        }
        let Some(pod) = self.lock().pods.get(name).cloned() else { return Ok(status(404, "NotFound", "not found")) };
        let wanted = &options["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != pod["metadata"]["uid"] {
            return Ok(status(409, "Conflict", "the UID in the precondition does not match"));
        }
        self.remove(name);
        if scripted.is_some() { Err("connection lost".to_owned()) } else { Ok(answer(200, &pod)) }
    }

    async fn list(&self, query: &str) -> Result<Response<Body>, String> {
        let scripted = self.lock().lists.pop_front();
        match scripted {
            Some(Answer::Status(code, reason, message)) => return Ok(status(code, reason, message)),
            Some(Answer::Raw(code, text)) => return Ok(raw(code, text)),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Lost) => return Err("connection lost".to_owned()),
            None => {}
        }
        let state = self.lock();
        // `hidden` stands for labels that do not match the selector.
        let items: Vec<Value> = state.pods.values().filter(|pod| !is_hidden(pod)).cloned().collect();
        Ok(answer(200, &page("PodList", &items, state.version, query)))
    }

    async fn watch(&self) -> Result<Response<Body>, String> {
        let scripted = self.lock().watches.pop_front();
        match scripted {
            Some(Answer::Status(410, reason, message)) => {
                // A version that is too old is said in the stream.
                let event = json!({"type": "ERROR", "object": status_object(410, reason, message)});
                return Ok(Response::new(Full::new(Bytes::from(format!("{event}\n"))).boxed()));
            }
            Some(Answer::Status(code, reason, message)) => return Ok(status(code, reason, message)),
            Some(Answer::Raw(code, text)) => return Ok(raw(code, text)),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Lost) => return Err("connection lost".to_owned()),
            None => {}
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().watchers.push(sender);
        let lines = futures::stream::unfold(receiver, |mut receiver| async move {
            let line: String = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from(line))), receiver))
        });
        Ok(Response::new(http_body_util::BodyExt::boxed(StreamBody::new(
            lines.map(|frame: Result<_, Infallible>| frame).boxed().into_sync(),
        ))))
    }

    async fn exec(&self, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
        let exec = {
            let mut state = self.lock();
            if state.execs.len() > 1 { state.execs.pop_front() } else { state.execs.front().cloned() }
        };
        let exec = match exec.ok_or("no exec was expected")? {
            Exec::Refused(Answer::Status(code, reason, message)) => return Ok(status(code, reason, message)),
            Exec::Refused(Answer::Raw(code, text)) => return Ok(raw(code, text)),
            Exec::Refused(Answer::Hang) => std::future::pending().await,
            Exec::Refused(Answer::Lost) => return Err("connection lost".to_owned()),
            exec => exec,
        };
        let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes().to_vec();
        let upgrade = hyper::upgrade::on(&mut request);
        let world = self.clone();
        tokio::spawn(async move {
            let io = TokioIo::new(upgrade.await.unwrap());
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            world.run(socket, exec).await;
            world.lock().closed_execs += 1;
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(&key))
            .header(header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io");
        Ok(response.body(Full::default().boxed()).unwrap())
    }

    async fn run(&self, mut socket: Socket, exec: Exec) {
        for channel in 1..=3 {
            let _ = socket.send(Message::Binary(Bytes::from(vec![channel]))).await;
        }
        match exec {
            Exec::Refused(_) => {}
            Exec::Fails(message) => {
                end(socket, json!({"status": "Failure", "reason": "InternalError", "message": message})).await;
            }
            Exec::Says(line) => {
                say(&mut socket, 2, b"something on standard error\n").await;
                say(&mut socket, 1, format!("{line}\n").as_bytes()).await;
                end(socket, exit(1)).await;
            }
            Exec::Bridge => bridge(socket).await,
            Exec::Push(machine) => {
                say(&mut socket, 1, format!("gantry-push {machine}\n").as_bytes()).await;
                let (pushed, packed) = receive(&mut socket, usize::MAX).await;
                self.lock().pushed = pushed;
                if packed > 0 {
                    say(&mut socket, 1, b"gantry-push-on\n").await;
                    let unpacked = receive_bytes(&mut socket, packed).await;
                    self.lock().unpacked = unpacked;
                }
                bridge(socket).await;
            }
            Exec::DiskFull(room) => {
                say(&mut socket, 1, b"gantry-push x86_64\n").await;
                receive(&mut socket, room).await;
                say(&mut socket, 1, b"gantry-error No space left on device\n").await;
                end(socket, exit(1)).await;
            }
        }
    }
}

impl State {
    fn tell(&mut self, kind: &str, pod: &Value) {
        if is_hidden(pod) {
            return;
        }
        let line = format!("{}\n", json!({"type": kind, "object": pod}));
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }
}

trait IntoSync: Sized {
    fn into_sync(self) -> SyncStream<Self>;
}

impl<S: futures::Stream + Unpin> IntoSync for S {
    fn into_sync(self) -> SyncStream<Self> {
        SyncStream(Mutex::new(self))
    }
}

/// `BoxBody` wants `Sync`; a lock that only its one owner takes gives it.
struct SyncStream<S>(Mutex<S>);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.get_mut().unwrap().poll_next_unpin(context)
    }
}

/// The page of a list that `query` asks for; its token is where the next one begins.
fn page(kind: &str, items: &[Value], version: u64, query: &str) -> Value {
    let number = |key: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        value.map(|value| value.parse::<usize>().unwrap())
    };
    let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(items.len()));
    let end = items.len().min(from + limit);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if end < items.len() {
        metadata["continue"] = json!(end.to_string());
    }
    json!({"kind": kind, "apiVersion": "v1", "items": items[from..end], "metadata": metadata})
}

fn is_hidden(pod: &Value) -> bool {
    pod["metadata"]["labels"]["hidden"] == "yes"
}

/// Takes the size line and then that many bytes, or `room` bytes if that is less.
async fn receive(socket: &mut Socket, room: usize) -> (Vec<u8>, usize) {
    let mut input = Vec::new();
    loop {
        if let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&input[..end]).unwrap();
            let (size, packed) = line.split_once(" plain").unwrap();
            let size: usize = size.parse().unwrap();
            if input.len() > end + size.min(room) {
                let packed = packed.strip_prefix(' ').map_or(0, |packed| packed.parse().unwrap());
                return (input.split_off(end + 1), packed);
            }
        }
        if !more(socket, &mut input).await {
            return (input, 0);
        }
    }
}

async fn receive_bytes(socket: &mut Socket, count: usize) -> Vec<u8> {
    let mut input = Vec::new();
    while input.len() < count && more(socket, &mut input).await {}
    input
}

/// Adds what comes next; nothing does when the connection has ended.
async fn more(socket: &mut Socket, input: &mut Vec<u8>) -> bool {
    match socket.next().await {
        Some(Ok(Message::Binary(bytes))) if bytes[0] == 0 => input.extend_from_slice(&bytes[1..]),
        Some(Ok(_)) => {}
        _ => return false,
    }
    true
}

async fn bridge(mut socket: Socket) {
    say(&mut socket, 1, b"gantry-bridge 1\nhello").await;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            // Standard input is closed: the bridge ends.
            Message::Binary(bytes) if bytes.first() == Some(&255) => return end(socket, exit(0)).await,
            Message::Binary(bytes) if bytes.first() == Some(&0) => say(&mut socket, 1, &bytes[1..]).await,
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, channel: u8, bytes: &[u8]) {
    let _ = socket.send(Message::Binary([&[channel], bytes].concat().into())).await;
}

fn exit(code: i32) -> Value {
    if code == 0 {
        return json!({"status": "Success"});
    }
    json!({
        "status": "Failure", "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

async fn end(mut socket: Socket, status: Value) {
    say(&mut socket, 3, status.to_string().as_bytes()).await;
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}

fn answer(code: u16, body: &Value) -> Response<Body> {
    let builder = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    builder.body(Full::new(Bytes::from(body.to_string())).boxed()).unwrap()
}

fn raw(code: u16, text: &'static str) -> Response<Body> {
    Response::builder().status(code).body(Full::new(Bytes::from_static(text.as_bytes())).boxed()).unwrap()
}

fn status_object(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    answer(code, &status_object(code, reason, message))
}

/// A job's pod as it is asked for.
pub(crate) fn job(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"gantry.dev/fleet": "a"}, "annotations": {"gantry.dev/claim": "c-1"}},
        "spec": {"containers": [{"name": "helper", "image": "h"}, {"name": "build", "image": "b"}]},
        "status": {"phase": "Pending"},
    })
}

pub(crate) fn on_node(mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = json!("node-a");
    pod
}

pub(crate) fn with_status(mut pod: Value, status: Value) -> Value {
    pod["status"] = status;
    pod
}

pub(crate) fn parsed(pod: &Value) -> Pod {
    serde_json::from_value(pod.clone()).unwrap()
}

pub(crate) fn reference(pod: &Value) -> PodRef {
    PodRef::of(&serde_json::from_value::<ObservedPod>(pod.clone()).unwrap()).unwrap()
}
