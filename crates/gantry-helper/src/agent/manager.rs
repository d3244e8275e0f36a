//! Connections of managers. Each has its own task and reads the trace from its file, so the slowest reader holds up only itself. The newest
//! connection is in charge; older ones are closed. Nothing here decides anything about the job.

use std::io;

use bytes::BytesMut;
use gantry_core::limits::RELAY_SILENCE;
use gantry_wire::PROTOCOL;
use gantry_wire::frame::{Frame, FrameReader, Hello, State};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::event::Event;
use super::presence::Presence;
use super::published::{Published, TraceFile, TraceReader};
use crate::diagnostics::say;
use crate::limits::{CONNECT_PAUSE, LAST_WORDS, MANAGER_ANSWERS, OUTPUT_CHUNK};
use crate::ports::{Accepted, Listener};
use crate::tasks::{self, Task};

/// Accepts managers for as long as the agent lives.
pub(crate) async fn accept<L: Listener>(
    mut listener: L,
    trace: TraceFile,
    published: watch::Receiver<Published>,
    (events, presence): (mpsc::Sender<Event>, Presence),
) {
    let mut epoch = 0;
    let mut newest: Option<Task> = None;
    loop {
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, most likely: worth another try, not worth a busy loop.
                say(format_args!("cannot accept a manager: {error}"));
                tokio::time::sleep(CONNECT_PAUSE).await;
                continue;
            }
        };
        epoch += 1;
        // Dropping the older task closes its connection: it is superseded.
        drop(newest.take());
        let writer = Writer {
            epoch,
            trace: TraceReader::new(trace.clone(), published.clone()),
            published: published.clone(),
            told: State::default(),
            follow: None,
        };
        newest = Some(tasks::spawn(serve(connection, writer, events.clone(), presence.clone())));
    }
}

async fn serve<R, W>(connection: Accepted<R, W>, mut writer: Writer, events: mpsc::Sender<Event>, presence: Presence)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    presence.arrived();
    let Accepted { read: read_half, write: mut write_half, .. } = connection;
    let (answers, orders) = mpsc::channel(MANAGER_ANSWERS);
    let reading = read(read_half, answers, events, &presence);
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        // A manager that has gone hears nothing more, but what it said before counts.
        _ = writer.write(&mut write_half, orders) => {
            let _ = timeout(LAST_WORDS, reading).await;
        }
    }
    presence.left();
}

/// Reads until the manager goes, falls silent or talks nonsense.
async fn read(
    mut half: impl AsyncRead + Unpin,
    answers: mpsc::Sender<Frame>,
    events: mpsc::Sender<Event>,
    presence: &Presence,
) {
    let mut reader = FrameReader::default();
    let mut buffer = BytesMut::with_capacity(OUTPUT_CHUNK);
    loop {
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    say(format_args!("a manager sent something that is no message: {error}"));
                    return;
                }
            };
            let passed_on = match frame {
                // While the manager takes nothing there is no use for more answers, but what it says must go on being read.
                Frame::Ping => {
                    let _ = answers.try_send(Frame::Pong);
                    true
                }
                Frame::Follow(_) => {
                    !matches!(answers.send_timeout(frame, RELAY_SILENCE).await, Err(SendTimeoutError::Timeout(_)))
                }
                Frame::Acked(acked) => {
                    presence.acked(acked.offset);
                    true
                }
                Frame::Pong => true,
                frame => events.send(Event::Manager { frame, reply: answers.clone() }).await.is_ok(),
            };
            if !passed_on {
                return;
            }
        }
        buffer.clear();
        match timeout(RELAY_SILENCE, half.read_buf(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => reader.push(&buffer),
            Ok(_) => return,
            Err(_) => {
                say(format_args!("a manager fell silent; its connection is closed"));
                return;
            }
        }
    }
}

/// The writing side of one connection.
struct Writer {
    epoch: u64,
    trace: TraceReader,
    published: watch::Receiver<Published>,
    /// The state that the manager knows.
    told: State,
    /// The next byte of the trace that the manager wants.
    follow: Option<u64>,
}

impl Writer {
    async fn write(
        &mut self,
        half: &mut (impl AsyncWrite + Unpin),
        mut orders: mpsc::Receiver<Frame>,
    ) -> io::Result<()> {
        let state = self.published.borrow_and_update().state.clone();
        self.told = state.clone();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Hello { protocol: PROTOCOL, version, epoch: self.epoch, state };
        send(half, &Frame::Hello(hello)).await?;
        loop {
            // Answers first: a long trace must not hold up a pong.
            while let Ok(order) = orders.try_recv() {
                self.obey(half, order).await?;
            }
            self.tell_state(half).await?;
            if self.send_trace(half).await? {
                continue;
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(half, order).await?,
                    None => return Ok(()),
                },
                changed = self.published.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    async fn obey(&mut self, half: &mut (impl AsyncWrite + Unpin), order: Frame) -> io::Result<()> {
        match order {
            Frame::Follow(from) => self.follow = Some(from.offset),
            answer => send(half, &answer).await?,
        }
        Ok(())
    }

    async fn tell_state(&mut self, half: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let state = {
            let published = self.published.borrow_and_update();
            if !published.differs(&self.told) {
                return Ok(());
            }
            published.state.clone()
        };
        self.told = state.clone();
        send(half, &Frame::State(state)).await
    }

    /// Sends the next piece of the trace; whether there was one.
    async fn send_trace(&mut self, half: &mut (impl AsyncWrite + Unpin)) -> io::Result<bool> {
        let Some(offset) = self.follow else { return Ok(false) };
        let Some(bytes) = self.trace.piece(offset)? else { return Ok(false) };
        self.follow = Some(offset + bytes.len() as u64);
        send(half, &Frame::Trace { offset, bytes }).await?;
        Ok(true)
    }
}

/// Sends one frame. A manager that pings but takes nothing has a GitLab that takes nothing: the trace waits here. One that falls silent is
/// noticed by the reading side, which ends this one too.
async fn send(half: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    half.write_all(&frame.to_bytes()).await
}

#[cfg(test)]
mod tests {
    use gantry_wire::frame::Offset;
    use tokio::io::duplex;

    use super::*;

    /// A broken pipe shows on the writing side first, often before anything has been read.
    #[tokio::test]
    async fn a_manager_that_has_gone_is_still_heard() {
        let (mut manager, read) = duplex(4096);
        for frame in [Frame::Follow(Offset { offset: 0 }), Frame::Ping, Frame::Go] {
            manager.write_all(&frame.to_bytes()).await.unwrap();
        }
        drop(manager);
        let (write, _) = duplex(1);
        let (events, mut inbox) = mpsc::channel(1);
        let (_published, reader) = watch::channel(Published::default());
        let writer = Writer {
            epoch: 1,
            trace: TraceReader::new(TraceFile::named("/nowhere".into()), reader.clone()),
            published: reader,
            told: State::default(),
            follow: None,
        };
        let connection = Accepted { read, write, user: None };
        let (presence, seen) = Presence::new();
        let ((), heard) = tokio::join!(serve(connection, writer, events, presence), inbox.recv());
        assert!(matches!(heard, Some(Event::Manager { frame: Frame::Go, .. })));
        assert!(!seen.borrow().connected);
    }
}
