//! `pods/exec` over WebSocket: the sub-protocols v5 and v4 of Kubernetes' remote commands. One message is one channel
//! byte and data: 0 stdin, 1 stdout, 2 stderr, 3 the final status, 4 terminal size, and in v5 255 to close a channel.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream::SplitStream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
};

use super::{access, dispatch::Call, request::Target, status::ApiError};
use crate::{
    cluster::Cluster,
    container::{Container, ExecSpec, ExitStatus, Input, Output, StartError},
    store::{
        Key,
        object::{self, items, text},
    },
};

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Data of one message to the client; real servers send at most this much at once.
const PIECE: usize = 32 << 10;
/// Messages that wait for the client. With [`PIECE`] this bounds what a slow client costs; the command then waits, as
/// it would for a full pipe.
const OUTBOX: usize = 8;
/// How long the client may take to answer the end of the session.
const LINGER: Duration = Duration::from_secs(5);
/// Longest message from the client: far above what any client sends.
const MAX_MESSAGE: usize = 4 << 20;

/// Runs a command in a container.
pub(crate) fn answer(
    call: &Call,
    target: &Target,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if call.cluster.config.exec_needs_create && target.verb == "get" {
        let wish = crate::auth::attributes::Attributes { verb: "create".to_owned(), ..target.attributes() };
        access::check(call, &wish)?;
    }
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let pod = call.cluster.store.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    let name = named_container(&pod, target, "a container name must be specified")?;
    if text(&pod, &["spec", "nodeName"]).is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    if ["Succeeded", "Failed"].contains(&text(&pod, &["status", "phase"])) {
        let phase = text(&pod, &["status", "phase"]);
        return Err(ApiError::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let exec = ExecSpec {
        args: target.query.all("command").map(str::to_owned).collect(),
        env: Vec::new(),
        stdin: target.query.flag("stdin"),
        tty: target.query.flag("tty"),
    };
    if exec.args.is_empty() {
        return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
    }
    let container = call.cluster.kubelet.container(object::uid(&pod), &name);
    let not_found = || ApiError::internal(format!("unable to upgrade connection: container not found ({name:?})"));
    let after_upgrade = call.cluster.config.exec_errors_after_upgrade;
    if container.is_none() && (!after_upgrade || upgrade.is_err()) {
        return Err(not_found());
    }
    let (upgrade, version) = negotiated(upgrade)?;
    if container.is_none() && version == Version::V4 {
        return Err(not_found());
    }
    let wanted = Wanted { stdout: target.query.flag("stdout"), stderr: target.query.flag("stderr"), version };
    let refused = not_found();
    let cluster = Arc::clone(&call.cluster);
    Ok(upgrade.on_upgrade(move |socket| async move {
        match container {
            Some(container) => serve(cluster, socket, container, exec, wanted).await,
            None => refuse(socket, &refused).await,
        }
    }))
}

/// The upgrade with the sub-protocol that both sides speak.
fn negotiated(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<(WebSocketUpgrade, Version), ApiError> {
    let upgrade = upgrade.map_err(|_| ApiError::bad_request("Upgrade request required"))?;
    let upgrade = upgrade.protocols([V5, V4]).max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    let version = match upgrade.selected_protocol().and_then(|protocol| protocol.to_str().ok()) {
        Some(V5) => Version::V5,
        Some(V4) => Version::V4,
        _ => {
            let why = "unable to upgrade: none of the requested sub-protocols is supported (v5.channel.k8s.io, \
                       v4.channel.k8s.io)";
            return Err(ApiError::bad_request(why));
        }
    };
    Ok((upgrade, version))
}

/// The container that the request names, or the pod's only or default one.
pub(crate) fn named_container(pod: &Value, target: &Target, otherwise: &str) -> Result<String, ApiError> {
    let all: Vec<&str> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| items(pod, &["spec", list]))
        .map(|container| text(container, &["name"]))
        .collect();
    let mains: Vec<&str> = items(pod, &["spec", "containers"]).iter().map(|one| text(one, &["name"])).collect();
    let default = object::at(pod, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    let asked = target.query.get("container").filter(|name| !name.is_empty());
    let name = match (asked, mains.as_slice(), default.and_then(Value::as_str)) {
        (Some(name), _, _) | (None, _, Some(name)) => name,
        (None, [name], None) => *name,
        (None, _, None) => {
            let message = format!("{otherwise} for pod {}, choose one of: [{}]", target.name, mains.join(" "));
            return Err(ApiError::bad_request(message));
        }
    };
    if !all.contains(&name) {
        return Err(ApiError::bad_request(format!("container {name} is not valid for pod {}", target.name)));
    }
    Ok(name.to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V5,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    version: Version,
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

/// Tells an error the way a server does that has upgraded before it asked kubelet.
async fn refuse(mut socket: WebSocket, error: &ApiError) {
    let _ = socket.send(frame(ERROR, error.to_status().to_string().as_bytes())).await;
    let _ = socket.send(normal_end()).await;
    let drained = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

async fn serve(cluster: Arc<Cluster>, socket: WebSocket, container: Container, exec: ExecSpec, wanted: Wanted) {
    let (mut sink, mut stream) = socket.split();
    let (outbox, mut queue) = mpsc::channel::<Message>(OUTBOX);
    let session = session(cluster, &mut stream, container, exec, (wanted, outbox));
    let writer = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                // Nobody listens any more. The command goes on; when its pipes' readers are closed it may end by
                // SIGPIPE, as in a real cluster.
                queue.close();
                return;
            }
        }
        let _ = sink.send(normal_end()).await;
    };
    tokio::join!(session, writer);
    // Closing a socket with unread input resets the connection, and the client could lose the end of the output.
    let drained = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Clients take any other close code for a broken connection.
fn normal_end() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))
}

async fn session(
    cluster: Arc<Cluster>,
    stream: &mut SplitStream<WebSocket>,
    container: Container,
    exec: ExecSpec,
    (wanted, outbox): (Wanted, mpsc::Sender<Message>),
) {
    let mut child = match container.exec(exec).await {
        Ok(child) => child,
        Err(error) => {
            let _ = outbox.send(frame(ERROR, start_status(&error).to_string().as_bytes())).await;
            return;
        }
    };
    let stdin = child.stdin.take();
    let stdout = copy(child.stdout.take(), STDOUT, wanted.stdout, &outbox);
    let stderr = copy(child.stderr.take(), STDERR, wanted.stderr, &outbox);
    let (sizes, mut size) = watch::channel(None);
    let input = feed(stream, stdin, sizes, wanted.version);
    let outputs = async {
        tokio::join!(stdout, stderr);
    };
    tokio::pin!(input, outputs);
    let mut reading = true;
    let stopping = cluster.tasks.stopping();
    loop {
        tokio::select! {
            // The end of input is not the end of the command.
            () = &mut input, if reading => reading = false,
            Ok(()) = size.changed() => {
                if let Some((width, height)) = *size.borrow_and_update() {
                    let _ = child.resize(width, height);
                }
            }
            // Like container runtimes, wait for the output's end, so that nothing of it is lost.
            () = &mut outputs => break,
            () = stopping.cancelled() => return,
        }
    }
    let status = tokio::select! {
        status = child.wait() => status,
        () = &mut input, if reading => child.wait().await,
        () = stopping.cancelled() => return,
    };
    let _ = outbox.send(frame(ERROR, exit_status(status).to_string().as_bytes())).await;
}

async fn copy(output: Option<Output>, channel: u8, wanted: bool, outbox: &mpsc::Sender<Message>) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        if wanted && outbox.send(frame(channel, &buffer[..length])).await.is_err() {
            return;
        }
    }
}

/// Passes on what the client sends, until it goes or closes the input.
async fn feed(
    stream: &mut SplitStream<WebSocket>,
    mut stdin: Option<Input>,
    sizes: watch::Sender<Option<(u16, u16)>>,
    version: Version,
) {
    while let Some(Ok(message)) = stream.next().await {
        let data: Bytes = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Some((channel, data)) = data.split_first() else { continue };
        match *channel {
            STDIN => {
                if let Some(input) = &mut stdin {
                    let written = async {
                        input.write_all(data).await?;
                        input.flush().await
                    };
                    if written.await.is_err() {
                        stdin = None;
                    }
                }
            }
            CLOSE if version == Version::V5 && data.first() == Some(&STDIN) => stdin = None,
            RESIZE => {
                let size: Value = serde_json::from_slice(data).unwrap_or_default();
                let side = |name: &str| size[name].as_u64().and_then(|side| u16::try_from(side).ok());
                if let (Some(width), Some(height)) = (side("Width"), side("Height")) {
                    sizes.send_replace(Some((width, height)));
                }
            }
            _ => {}
        }
    }
}

fn exit_status(status: ExitStatus) -> Value {
    if status.code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit code {}", status.code),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": status.code.to_string()}]},
    })
}

/// A command that did not start is trouble of the container runtime, in its words.
fn start_status(error: &StartError) -> Value {
    let why = match error {
        StartError::NotRunning => "no running task found: container is not running".to_owned(),
        error if error.is_users_fault() => format!(
            "failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: {error}: \
             unknown"
        ),
        error => error.to_string(),
    };
    ApiError::internal(format!("error executing command in container: failed to exec in container: {why}")).to_status()
}
