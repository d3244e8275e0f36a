//! A WebSocket as its client has it (RFC 6455): binary messages out and in, in frames of the
//! library.
//!
//! The library's own stream keeps buffers as large as its largest messages, which a running job
//! would hold for hours. Here nothing outlives a message.

use std::{
    io::{self, Cursor},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::{
    error::{CapacityError, Error, ProtocolError},
    protocol::frame::{
        Frame, FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use crate::limits;

/// A control frame's longest payload (RFC 6455, 5.5).
const CONTROL: u64 = 125;

/// A connection that has become a WebSocket, from its first frame on.
pub(super) struct WebSocket<S> {
    stream: S,
    /// Not a whole frame yet.
    received: BytesMut,
    /// What has come of a message in several frames.
    begun: Option<BytesMut>,
    /// Frames that are not written yet.
    outgoing: Bytes,
    /// To be written next: a pong, of which only the newest counts, or a close.
    answer: Option<Frame>,
    /// Something is written that may not have left yet, and only who reads knows of it.
    is_answering: bool,
    /// We have said that nothing more comes.
    has_closed: bool,
    /// The server has said so.
    is_closed: bool,
    waiting: Arc<Waiting>,
}

/// A whole binary message.
pub(super) fn binary(message: Vec<u8>) -> Frame {
    Frame::message(message, OpCode::Data(Data::Binary), true)
}

/// The bytes of a frame, masked as a client's have to be.
fn encode(mut frame: Frame) -> Result<Bytes, Error> {
    frame.header_mut().mask = Some(rand::random());
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes)?;
    Ok(bytes.into())
}

/// Who waits until more can be written: who writes, and who reads because of an answer. The stream
/// below remembers one of them only.
#[derive(Default)]
struct Waiting {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            begun: None,
            outgoing: Bytes::new(),
            answer: None,
            is_answering: false,
            has_closed: false,
            is_closed: false,
            waiting: Arc::default(),
        }
    }

    /// The next message; nothing once the server has closed the connection as it should.
    ///
    /// # Errors
    /// It ended otherwise, or what came is not the protocol.
    pub(super) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match self.next_message() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.is_answering {
                self.waiting.reader.register(context.waker());
                if let Poll::Ready(Err(error)) = self.flush() {
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            if self.is_closed {
                return Poll::Ready(None);
            }
            let mut space = [MaybeUninit::uninit(); limits::READ_BUFFER];
            let mut buffer = ReadBuf::uninit(&mut space);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                return Poll::Ready(Some(Err(error.into())));
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(Some(Err(ProtocolError::ResetWithoutClosingHandshake.into())));
            }
            self.received.extend_from_slice(buffer.filled());
        }
    }

    /// The next whole message of what has come. Control frames before it are dealt with.
    fn next_message(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.is_closed {
            let Some((header, payload)) = self.next_frame()? else { return Ok(None) };
            match header.opcode {
                OpCode::Data(kind) => {
                    let begun = self.begun.take();
                    let message = match (kind, begun) {
                        (Data::Binary, None) if header.is_final => return Ok(Some(payload)),
                        (Data::Binary, None) => payload.into(),
                        (Data::Continue, Some(mut begun)) => {
                            begun.extend_from_slice(&payload);
                            begun
                        }
                        (Data::Continue, None) => return Err(ProtocolError::UnexpectedContinueFrame.into()),
                        (_, Some(_)) => return Err(ProtocolError::ExpectedFragment(kind).into()),
                        (_, None) => return Err(ProtocolError::InvalidOpcode(header.opcode.into()).into()),
                    };
                    if header.is_final {
                        return Ok(Some(message.freeze()));
                    }
                    self.begun = Some(message);
                }
                OpCode::Control(Control::Ping) => self.answer(Frame::pong(payload)),
                OpCode::Control(Control::Close) => {
                    // Its status is said back (RFC 6455, 5.5.1).
                    let status = payload.slice(..payload.len().min(2));
                    if !self.has_closed {
                        self.answer(Frame::from_payload(FrameHeader::default(), status));
                    }
                    self.is_closed = true;
                }
                OpCode::Control(_) => {}
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>, Error> {
        let mut cursor = Cursor::new(&self.received);
        let Some((header, length)) = FrameHeader::parse(&mut cursor)? else { return Ok(None) };
        let before = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let length = self.checked(&header, length)?;
        let missing = (before + length).saturating_sub(self.received.len());
        if missing > 0 {
            self.received.reserve(missing);
            return Ok(None);
        }
        self.received.advance(before);
        let payload = self.received.split_to(length).freeze();
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        Ok(Some((header, payload)))
    }

    /// The length of a frame's payload, if a server may send such a frame and there is room for it.
    fn checked(&self, header: &FrameHeader, length: u64) -> Result<usize, Error> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(ProtocolError::NonZeroReservedBits.into());
        }
        if header.mask.is_some() {
            return Err(ProtocolError::MaskedFrameFromServer.into());
        }
        if let OpCode::Control(_) = header.opcode {
            if !header.is_final {
                return Err(ProtocolError::FragmentedControlFrame.into());
            }
            if length > CONTROL {
                return Err(ProtocolError::ControlFrameTooBig.into());
            }
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let size = self.begun.as_ref().map_or(0, BytesMut::len).saturating_add(length);
        if size > limits::EXEC_MESSAGE {
            return Err(Error::Capacity(CapacityError::MessageTooLong { size, max_size: limits::EXEC_MESSAGE }));
        }
        Ok(length)
    }

    fn answer(&mut self, frame: Frame) {
        self.answer = Some(frame);
        self.is_answering = true;
    }

    /// Takes a frame once all before it are written, and writes what can be written of it.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        frame: impl FnOnce() -> Frame,
    ) -> Poll<Result<(), Error>> {
        self.waiting.writer.register(context.waker());
        ready!(self.write())?;
        let frame = frame();
        self.has_closed |= frame.header().opcode == OpCode::Control(Control::Close);
        self.outgoing = encode(frame)?;
        match self.write() {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Writes all that was sent.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.waiting.writer.register(context.waker());
        self.flush().map_err(Error::from)
    }

    fn flush(&mut self) -> Poll<io::Result<()>> {
        ready!(self.write())?;
        let waker = Waker::from(Arc::clone(&self.waiting));
        ready!(Pin::new(&mut self.stream).poll_flush(&mut Context::from_waker(&waker)))?;
        self.is_answering = false;
        Poll::Ready(Ok(()))
    }

    /// Gives the stream all that waits.
    fn write(&mut self) -> Poll<io::Result<()>> {
        let waker = Waker::from(Arc::clone(&self.waiting));
        loop {
            while !self.outgoing.is_empty() {
                let context = &mut Context::from_waker(&waker);
                let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.outgoing))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.outgoing.advance(count);
            }
            self.outgoing = Bytes::new();
            let Some(frame) = self.answer.take() else { return Poll::Ready(Ok(())) };
            self.outgoing = encode(frame).map_err(io::Error::other)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use futures::{FutureExt as _, SinkExt as _, StreamExt as _, future::poll_fn, stream::FuturesUnordered};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::timeout,
    };
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use super::*;

    type Server = WebSocketStream<DuplexStream>;

    /// A client, and the library's server at the other end of a line that holds so many bytes.
    async fn connected(room: usize) -> (WebSocket<DuplexStream>, Server) {
        let (ours, theirs) = duplex(room);
        (WebSocket::new(ours), WebSocketStream::from_raw_socket(theirs, Role::Server, None).await)
    }

    async fn next(socket: &mut WebSocket<DuplexStream>) -> Option<Result<Bytes, Error>> {
        poll_fn(|context| socket.poll_message(context)).await
    }

    async fn send(socket: &mut WebSocket<DuplexStream>, message: &[u8]) {
        let mut frame = Some(binary(message.to_vec()));
        poll_fn(|context| socket.poll_send(context, || frame.take().unwrap())).await.unwrap();
        poll_fn(|context| socket.poll_flush(context)).await.unwrap();
    }

    /// What a server sends, as bytes.
    fn bytes(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            frame.clone().format(&mut bytes).unwrap();
        }
        bytes
    }

    /// Everything a client makes of what a server sends, up to the first error.
    async fn taken(bytes: &[u8], cut: usize) -> (Vec<Vec<u8>>, Option<String>) {
        let (ours, mut theirs) = duplex(cut);
        let mut socket = WebSocket::new(ours);
        let mut messages = Vec::new();
        let reading = async {
            loop {
                match next(&mut socket).await {
                    Some(Ok(message)) => messages.push(message.to_vec()),
                    Some(Err(error)) => return Some(error.to_string()),
                    None => return None,
                }
            }
        };
        let writing = async {
            for part in bytes.chunks(cut) {
                theirs.write_all(part).await.unwrap();
            }
            theirs.shutdown().await.unwrap();
            let _ = theirs.read_to_end(&mut Vec::new()).await;
        };
        let error = tokio::select! {
            error = reading => error,
            () = writing => panic!("the client waits for more"),
        };
        (messages, error)
    }

    #[tokio::test]
    async fn messages_go_both_ways_and_nothing_of_them_is_kept() {
        let (mut socket, mut server) = connected(1 << 20).await;
        for size in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let message = vec![7; size];
            send(&mut socket, &message).await;
            assert_eq!(server.next().await.unwrap().unwrap(), Message::binary(message.clone()));
            server.send(Message::binary(message.clone())).await.unwrap();
            assert_eq!(next(&mut socket).await.unwrap().unwrap(), message);
            assert_eq!((socket.received.capacity(), socket.outgoing.len()), (0, 0));
        }
        server.close(None).await.unwrap();
        assert!(next(&mut socket).await.is_none());
        assert!(server.next().await.unwrap().unwrap().is_close(), "the server hears of the end");
    }

    #[tokio::test]
    async fn any_cut_gives_the_same_messages() {
        let part = |text: &'static str, kind, is_final| Frame::message(text, OpCode::Data(kind), is_final);
        let sent = bytes(&[
            part("one", Data::Binary, true),
            part("t", Data::Binary, false),
            Frame::ping("are you there"),
            part("w", Data::Continue, false),
            Frame::pong("unasked"),
            part("o", Data::Continue, true),
            Frame::message(vec![3; 70_000], OpCode::Data(Data::Binary), true),
            Frame::close(None),
        ]);
        for cut in [1, 2, 3, 5, 100, 4096, 100_000] {
            let (messages, error) = taken(&sent, cut).await;
            assert_eq!(messages, [b"one".to_vec(), b"two".to_vec(), vec![3; 70_000]]);
            assert_eq!(error, None);
        }
    }

    #[tokio::test]
    async fn what_no_server_may_send_ends_the_connection() {
        let frame = |kind, is_final| Frame::message("x", OpCode::Data(kind), is_final);
        let header = |change: fn(&mut FrameHeader)| {
            let mut frame = frame(Data::Binary, true);
            change(frame.header_mut());
            bytes(&[frame])
        };
        let large = {
            let mut bytes = vec![0x82, 127];
            bytes.extend(u64::MAX.to_be_bytes());
            bytes
        };
        let half = Frame::message(vec![1; limits::EXEC_MESSAGE], OpCode::Data(Data::Binary), false);
        for (sent, words) in [
            (header(|header| header.rsv1 = true), "Reserved bits are non-zero"),
            (header(|header| header.mask = Some([1; 4])), "masked frame from server"),
            (bytes(&[Frame::ping(vec![0; 126])]), "Control frame too big"),
            (vec![0x09, 0], "Fragmented control frame"),
            (vec![0x83, 0], "invalid opcode"),
            (bytes(&[frame(Data::Continue, true)]), "nothing to continue"),
            (bytes(&[frame(Data::Binary, false), frame(Data::Binary, true)]), "more fragments"),
            (bytes(&[frame(Data::Text, true)]), "invalid opcode: 1"),
            (large, "Message too long"),
            (bytes(&[half, frame(Data::Continue, true)]), "Message too long"),
            (bytes(&[frame(Data::Binary, true)])[..2].to_vec(), "without closing handshake"),
        ] {
            let (messages, error) = taken(&sent, 4096).await;
            assert!(messages.is_empty(), "{words}: {messages:?}");
            assert!(error.as_deref().is_some_and(|error| error.contains(words)), "{words}: {error:?}");
        }
    }

    /// The writer waits for a line that is full. Who reads must not wait for it, and must not be
    /// woken in its place.
    #[tokio::test(start_paused = true)]
    async fn a_ping_is_answered_between_messages_though_the_line_is_full() {
        let (socket, mut server) = connected(100).await;
        let socket = Mutex::new(socket);
        let sent = [vec![7; 10_000], b"last".to_vec()];
        let writing = async {
            for message in &sent {
                let frame = || binary(message.clone());
                poll_fn(|context| socket.lock().unwrap().poll_send(context, frame)).await.unwrap();
            }
            poll_fn(|context| socket.lock().unwrap().poll_flush(context)).await.unwrap();
            Vec::new()
        };
        let reading = async {
            let message = poll_fn(|context| socket.lock().unwrap().poll_message(context)).await;
            vec![Message::Binary(message.unwrap().unwrap())]
        };
        let serving = async {
            server.send(Message::Ping("there?".into())).await.unwrap();
            let heard: Vec<_> = (&mut server).take(3).map(Result::unwrap).collect().await;
            server.send(Message::binary("end")).await.unwrap();
            heard
        };
        // Each is woken in a way of its own, as tasks are.
        let all = FuturesUnordered::from_iter([writing.boxed_local(), reading.boxed_local(), serving.boxed_local()]);
        let all = timeout(Duration::from_secs(5), all.concat()).await.expect("nobody is forgotten");
        let [first, last] = sent.map(Message::binary);
        let pong = Message::Pong("there?".into());
        assert!(all.contains(&pong) && all.contains(&Message::binary("end")), "{all:?}");
        let place = |message| all.iter().position(|one| *one == message).expect("it has come");
        assert!(place(first) < place(last));
    }
}
