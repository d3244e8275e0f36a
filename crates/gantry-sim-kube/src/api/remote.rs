//! Remote commands over WebSocket: what goes over the channels of `exec` and `attach` once both
//! sides have agreed. One message is one channel byte and data: 0 stdin, 1 stdout, 2 stderr, 3 the
//! final status, 4 terminal size, and in v5 255 to close a channel. It decides nothing about rights
//! or containers.

use std::{future::Future, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream::SplitStream};
use http::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
};

use super::{
    breaker::Breaker,
    request::Target,
    status::ApiError,
    websocket::{Upgrade, WebSocket},
};
use crate::{
    cluster::Cluster,
    config::RemoteProtocol,
    container::{Input, Output},
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Data of one message to the client; real servers send at most this much at once.
const PIECE: usize = 32 << 10;
/// Messages that wait for the client. With [`PIECE`] this bounds what a slow client costs; the
/// command then waits, as it would for a full pipe.
const OUTBOX: usize = 8;
/// How long the client may take to answer the end of the session.
const LINGER: Duration = Duration::from_secs(5);
/// Longest message from the client: far above what any client sends.
const MAX_MESSAGE: usize = 4 << 20;
/// What is read at once. The library clears a buffer of this size for every read.
const READ_BUFFER: usize = 4 << 10;

/// Something that runs and can be spoken with.
pub(super) trait Remote: Send + Sync {
    /// Its streams, once.
    fn streams(&mut self) -> Streams;
    /// Sets the size of its terminal.
    fn resize(&self, columns: u16, rows: u16);
    /// Waits for its end, which the final status tells.
    fn ended(&self) -> impl Future<Output = Value> + Send;
}

/// The streams of something that runs.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
}

/// What the client wants to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedStreams {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) protocol: RemoteProtocol,
}

impl WantedStreams {
    pub(super) fn read(target: &Target, protocol: RemoteProtocol) -> Self {
        Self { stdout: target.query.flag("stdout"), stderr: target.query.flag("stderr"), protocol }
    }
}

/// The upgrade with the sub-protocol that both sides speak.
pub(super) fn negotiated(cluster: &Cluster, mut upgrade: Upgrade) -> Result<(Upgrade, RemoteProtocol), Box<Response>> {
    let known = &cluster.config.remote_protocols;
    let chosen = upgrade.agree(known.iter().map(|protocol| protocol.name()));
    match known.iter().find(|protocol| Some(protocol.name()) == chosen) {
        Some(protocol) => Ok((upgrade, *protocol)),
        // Kubelet's WebSocket library refuses the handshake with a bare 403.
        None => Err(Box::new(StatusCode::FORBIDDEN.into_response())),
    }
}

/// A request that must be an upgrade.
pub(super) fn required(upgrade: Option<Upgrade>) -> Result<Upgrade, ApiError> {
    upgrade.ok_or_else(|| ApiError::bad_request("Upgrade request required"))
}

/// What one WebSocket may hold of messages.
pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(READ_BUFFER)
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

/// Tells an error the way a server does that has upgraded before it asked kubelet.
pub(super) async fn refuse(mut socket: WebSocket, error: &ApiError) {
    let _ = socket.send(frame(ERROR, error.to_status().to_string().as_bytes())).await;
    let _ = socket.send(normal_end()).await;
    let drained = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Clients take any other close code for a broken connection.
fn normal_end() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Serves one client until the command ends, or a fault ends the stream.
pub(super) async fn serve<R: Remote>(
    cluster: Arc<Cluster>,
    socket: WebSocket,
    start: impl Future<Output = Result<R, Value>>,
    (wanted, breaker): (WantedStreams, Breaker),
) {
    let (mut sink, mut stream) = socket.split();
    let (outbox, mut queue) = mpsc::channel::<Message>(OUTBOX);
    let session = session(&cluster, (&mut stream, &breaker), start, (wanted, outbox));
    let writer = async {
        while let Some(message) = queue.recv().await {
            let Some(message) = breaker.output(message).await else { continue };
            if sink.send(message).await.is_err() {
                // Nobody listens any more. The command goes on; when its pipes' readers are closed
                // it may end by SIGPIPE, as in a real cluster.
                queue.close();
                return;
            }
        }
        let _ = sink.send(normal_end()).await;
    };
    let whole = async { tokio::join!(session, writer) };
    tokio::select! {
        // Nothing more is sent, not even a close frame: so a broken connection looks.
        () = breaker.cut(&cluster.faults) => return,
        _ = whole => {}
    }
    // Closing a socket with unread input resets the connection, and the client could lose the end
    // of the output.
    let drained = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

async fn session<R: Remote>(
    cluster: &Cluster,
    (stream, breaker): (&mut SplitStream<WebSocket>, &Breaker),
    start: impl Future<Output = Result<R, Value>>,
    (wanted, outbox): (WantedStreams, mpsc::Sender<Message>),
) {
    let mut remote = match start.await {
        Ok(remote) => remote,
        Err(status) => {
            let _ = outbox.send(frame(ERROR, status.to_string().as_bytes())).await;
            return;
        }
    };
    let streams = remote.streams();
    // So the client learns that the other side is there.
    let lowest =
        [(wanted.stdout, STDOUT), (wanted.stderr, STDERR)].iter().find(|(wanted, _)| *wanted).map(|(_, it)| *it);
    let _ = outbox.send(frame(lowest.unwrap_or(ERROR), &[])).await;
    let stdout = copy(streams.stdout, STDOUT, wanted.stdout, &outbox);
    let stderr = copy(streams.stderr, STDERR, wanted.stderr, &outbox);
    let (sizes, mut size) = watch::channel(None);
    let input = feed((stream, breaker), streams.stdin, sizes, wanted.protocol);
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
                if let Some((columns, rows)) = *size.borrow_and_update() {
                    remote.resize(columns, rows);
                }
            }
            // Like container runtimes, wait for the output's end, so that nothing of it is lost.
            () = &mut outputs => break,
            () = stopping.cancelled() => return,
        }
    }
    let status = tokio::select! {
        status = remote.ended() => status,
        () = &mut input, if reading => remote.ended().await,
        () = stopping.cancelled() => return,
    };
    let _ = outbox.send(frame(ERROR, status.to_string().as_bytes())).await;
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
    (stream, breaker): (&mut SplitStream<WebSocket>, &Breaker),
    mut stdin: Option<Input>,
    sizes: watch::Sender<Option<(u16, u16)>>,
    protocol: RemoteProtocol,
) {
    while let Some(Ok(message)) = stream.next().await {
        let data: Bytes = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let Some((channel, data)) = data.split_first() else { continue };
        match *channel {
            STDIN => {
                let data = &data[..breaker.input(data.len())];
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
            CLOSE if protocol == RemoteProtocol::V5 && data.first() == Some(&STDIN) && !breaker.is_stalled() => {
                stdin = None;
            }
            RESIZE if !breaker.is_stalled() => {
                let size: Value = serde_json::from_slice(data).unwrap_or_default();
                let side = |name: &str| size[name].as_u64().and_then(|side| u16::try_from(side).ok());
                if let (Some(width), Some(height)) = (side("Width"), side("Height")) {
                    sizes.send_replace(Some((width, height)));
                }
            }
            _ => {}
        }
    }
    if breaker.is_stalled() {
        // The command has not noticed that the line is dead, but the client has hung up: nobody
        // needs it any more.
        breaker.trip(false);
    }
}
