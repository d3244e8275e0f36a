//! The agent's side of the shim's connection. Exactly one is ever accepted: the first, which PID 1
//! of the build container makes before any user code runs there. What comes over it is not trusted.

use bytes::BytesMut;
use gantry_core::limits::SHIM_HELLO;
use gantry_wire::PROTOCOL;
use gantry_wire::shim::{ShimFrame, ShimFrameReader};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::diagnostics::say;
use crate::event::{Event, ShimEvent, ShimLink};
use crate::limits::{OUTPUT_CHUNK, SHIM_FRAME, SHIM_ORDERS};
use crate::ports::{Accepted, Listener, User};

/// Waits for the shim, however long its image takes to pull, and serves it until its connection
/// ends.
pub(crate) async fn accept(mut listener: impl Listener, events: mpsc::Sender<Event>) {
    let accepted = listener.accept().await;
    drop(listener);
    let why = match accepted {
        Ok(connection) => serve(connection, &events).await,
        Err(error) => format!("its connection could not be accepted: {error}"),
    };
    let _ = events.send(Event::Shim(ShimEvent::Lost(why))).await;
}

/// Serves the connection to its end and says why that came.
async fn serve<R, W>(connection: Accepted<R, W>, events: &mpsc::Sender<Event>) -> String
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Some(User { uid, gid }) = connection.user else { return "its user is unknown".to_owned() };
    let mut write_half = connection.write;
    let mut input =
        Input { half: connection.read, reader: ShimFrameReader::limited(SHIM_FRAME), buffer: BytesMut::new() };
    let hello = match timeout(SHIM_HELLO, input.next()).await {
        Ok(Ok(ShimFrame::Hello(hello))) => hello,
        Ok(Ok(_)) => return "it did not say hello first".to_owned(),
        Ok(Err(why)) => return why,
        Err(_) => return format!("it connected but said nothing for {} s", SHIM_HELLO.as_secs()),
    };
    if hello.protocol != PROTOCOL {
        return format!("it speaks protocol {} and not {PROTOCOL}", hello.protocol);
    }
    let (orders, for_writer) = mpsc::channel(SHIM_ORDERS);
    let link = ShimLink { orders, shell: hello.shell, uid, gid };
    if events.send(Event::Shim(ShimEvent::Connected(link))).await.is_err() {
        return "the agent is ending".to_owned();
    }
    tokio::select! {
        why = read(&mut input, events) => why,
        why = write(&mut write_half, for_writer) => why,
    }
}

async fn read(input: &mut Input<impl AsyncRead + Unpin>, events: &mpsc::Sender<Event>) -> String {
    loop {
        let event = match input.next().await {
            Ok(ShimFrame::Output(bytes)) => ShimEvent::Output(bytes),
            Ok(ShimFrame::Ended(ended)) => ShimEvent::Ended(ended),
            Ok(_) => {
                say(format_args!("the shim sent something that only an agent says; ignored"));
                continue;
            }
            Err(why) => return why,
        };
        if events.send(Event::Shim(event)).await.is_err() {
            return "the agent is ending".to_owned();
        }
    }
}

async fn write(half: &mut (impl AsyncWrite + Unpin), mut orders: mpsc::Receiver<ShimFrame>) -> String {
    while let Some(order) = orders.recv().await {
        if let Err(error) = half.write_all(&order.to_bytes()).await {
            return format!("its connection broke: {error}");
        }
    }
    "the agent let it go".to_owned()
}

/// Frames of the shim.
struct Input<R> {
    half: R,
    reader: ShimFrameReader,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Input<R> {
    async fn next(&mut self) -> Result<ShimFrame, String> {
        loop {
            if let Some(frame) = self.reader.next_frame().map_err(|error| format!("it sent no message: {error}"))? {
                return Ok(frame);
            }
            self.buffer.clear();
            self.buffer.reserve(OUTPUT_CHUNK);
            match self.half.read_buf(&mut self.buffer).await {
                Ok(0) => return Err("its connection ended".to_owned()),
                Ok(_) => self.reader.push(&self.buffer),
                Err(error) => return Err(format!("its connection broke: {error}")),
            }
        }
    }
}
