//! Connections of managers. Each has its own task and reads the trace from its file, so the slowest
//! reader holds up only itself. Whose claim was granted last is in charge, and the connection of
//! whoever was before is closed. Nothing here decides anything about the job.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;
use gantry_core::limits::RELAY_SILENCE;
use gantry_wire::PROTOCOL;
use gantry_wire::frame::{Adoption, Frame, FrameReader, Granted, Hello, Protocols, State};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::bundle::Bundle;
use super::charge::Claimant;
use super::known::SharedJob;
use super::presence::{Presence, PresenceState};
use super::published::{Published, TraceFile, TraceReader};
use crate::diagnostics::say;
use crate::event::Event;
use crate::limits::{CONNECT_PAUSE, LAST_FRAMES, MANAGER_ANSWERS, MANAGER_CONNECTIONS, OUTPUT_CHUNK};
use crate::ports::{Accepted, Listener};
use crate::tasks::{self, Task};

/// What connections show and tell.
#[derive(Clone)]
pub(crate) struct ConnectionContext {
    pub(crate) trace: TraceFile,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) known: SharedJob,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) presence: Presence,
    pub(crate) seen: watch::Receiver<PresenceState>,
}

/// Accepts managers for as long as the agent lives.
pub(crate) async fn accept<L: Listener>(mut listener: L, door: ConnectionContext) {
    let mut connections: VecDeque<(watch::Receiver<Option<u64>>, Task)> = VecDeque::new();
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
        connections.retain(|(granted, _)| granted.has_changed().is_ok());
        if connections.len() >= MANAGER_CONNECTIONS {
            // The oldest that is not in charge makes room.
            let in_charge = Some(door.seen.borrow().epoch());
            let oldest = connections.iter().position(|(granted, _)| *granted.borrow() != in_charge);
            connections.remove(oldest.unwrap_or(0));
        }
        let (granted, is_granted) = watch::channel(None);
        let serving = Connection { number: door.presence.arrived(), granted, door: door.clone() };
        connections.push_back((is_granted, tasks::spawn(serving.serve(connection))));
    }
}

/// One connection.
struct Connection {
    /// Its number when it came.
    number: u64,
    /// The number with which it is in charge, once it is.
    granted: watch::Sender<Option<u64>>,
    door: ConnectionContext,
}

impl Connection {
    async fn serve<R, W>(self, connection: Accepted<R, W>)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Accepted { read: read_half, write: mut write_half, .. } = connection;
        let (answers, orders) = mpsc::channel(MANAGER_ANSWERS);
        let mut writer = Writer::new(self.number, &self.door);
        let superseded = self.superseded();
        let reading = self.read(read_half, answers);
        tokio::pin!(reading);
        tokio::select! {
            () = &mut reading => {}
            // A manager that has gone hears nothing more, but what it said before counts.
            _ = writer.write(&mut write_half, orders) => {
                let _ = timeout(LAST_FRAMES, reading).await;
            }
            () = superseded => {}
        }
    }

    /// Waits until another connection is in charge after this one was.
    fn superseded(&self) -> impl Future<Output = ()> + use<> {
        let (mut granted, mut seen) = (self.granted.subscribe(), self.door.seen.clone());
        async move {
            let own = granted.wait_for(Option::is_some).await.map_or(None, |own| *own);
            let is_over = own.is_some() && seen.wait_for(|seen| Some(seen.epoch()) != own).await.is_ok();
            if !is_over {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reads until the manager goes, falls silent or talks nonsense.
    async fn read(&self, mut half: impl AsyncRead + Unpin, answers: mpsc::Sender<Frame>) {
        let mut reader = FrameReader::default();
        let mut buffer = BytesMut::with_capacity(OUTPUT_CHUNK);
        loop {
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => {
                        if !self.take(frame, &answers).await {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        say(format_args!("a manager sent something that is no message: {error}"));
                        return;
                    }
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

    /// Takes one frame; `false` ends the connection.
    async fn take(&self, frame: Frame, answers: &mpsc::Sender<Frame>) -> bool {
        let Some(epoch) = self.in_charge(&frame, answers) else { return true };
        let ConnectionContext { presence, events, .. } = &self.door;
        presence.heard(epoch);
        match frame {
            // While the manager takes nothing there is no use for more answers, but what it says
            // must go on being read.
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
            Frame::Release => {
                presence.released(epoch);
                true
            }
            Frame::Pong | Frame::Greet(_) => true,
            frame => events.send(Event::Manager { frame, reply: answers.clone() }).await.is_ok(),
        }
    }

    /// The number with which this connection is in charge when `frame` has come. Whoever is not is
    /// answered here.
    fn in_charge(&self, frame: &Frame, answers: &mpsc::Sender<Frame>) -> Option<u64> {
        let own = *self.granted.borrow();
        let claimant = match (frame, own) {
            (Frame::Greet(greeting), _) => Claimant::of(greeting.clone()),
            (_, Some(epoch)) => return Some(epoch),
            // To be alive is no claim.
            (Frame::Ping, None) => {
                let _ = answers.try_send(Frame::Pong);
                return None;
            }
            (Frame::Pong, None) => return None,
            (_, None) => Ok(Claimant::Nameless),
        };
        let decision = claimant.and_then(|claimant| {
            let epoch = self.door.presence.claim(&claimant, own.unwrap_or(self.number))?;
            Ok((claimant, epoch))
        });
        match decision {
            Ok((claimant, epoch)) => {
                self.granted.send_replace(Some(epoch));
                if let Claimant::Named { manager, claim } = claimant {
                    say(format_args!("runner manager {manager} is in charge now ({claim:?}, epoch {epoch})"));
                    let _ = answers.try_send(Frame::Granted(Granted { epoch }));
                }
                Some(epoch)
            }
            Err(refused) => {
                // It may ask again.
                let _ = answers.try_send(Frame::Refused(refused));
                None
            }
        }
    }
}

/// However a connection ends, whoever waits for its manager to be gone must hear of it.
impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(epoch) = *self.granted.borrow() {
            self.door.presence.left(epoch);
        }
    }
}

/// The writing side of one connection.
struct Writer {
    epoch: u64,
    trace: TraceReader,
    published: watch::Receiver<Published>,
    known: SharedJob,
    seen: watch::Receiver<PresenceState>,
    /// The state that the manager knows.
    last_sent: State,
    /// The next byte of the trace that the manager wants.
    follow: Option<u64>,
    bundle: Bundle,
}

impl Writer {
    fn new(epoch: u64, door: &ConnectionContext) -> Self {
        let ConnectionContext { trace, published, known, seen, .. } = door.clone();
        let trace = TraceReader::new(trace, published.clone());
        Self {
            epoch,
            trace,
            published,
            known,
            seen,
            last_sent: State::default(),
            follow: None,
            bundle: Bundle::default(),
        }
    }

    fn hello(&mut self) -> Hello {
        let published = self.published.borrow_and_update().clone();
        self.last_sent = published.state.clone();
        let seen = self.seen.borrow().clone();
        Hello {
            protocol: PROTOCOL,
            protocols: Some(Protocols::OURS),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.epoch,
            relay: Some(seen.shown()),
            adoption: self.known.get().map(|job| {
                Box::new(Adoption {
                    services_started: published.services_started,
                    started: published.started,
                    acknowledged: published.started || job.plan.acknowledged,
                    canceled: published.canceled,
                    acked: seen.acked,
                    ..job.now(published.state.shim)
                })
            }),
            state: published.state,
        }
    }

    async fn write(
        &mut self,
        half: &mut (impl AsyncWrite + Unpin),
        mut orders: mpsc::Receiver<Frame>,
    ) -> io::Result<()> {
        let hello = self.hello();
        send(half, &Frame::Hello(hello)).await?;
        loop {
            // Answers first: a long trace must not hold up a pong.
            while let Ok(order) = orders.try_recv() {
                self.on_order(half, order).await?;
            }
            if self.tell_state(half).await? {
                // Nobody has to wait for the log of what has ended.
                self.bundle.let_go();
            }
            let due = self.trace_due();
            if due.is_some_and(|due| due <= Instant::now()) {
                self.send_trace(half).await?;
                continue;
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.on_order(half, order).await?,
                    None => return Ok(()),
                },
                changed = self.published.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = reached(due) => {}
            }
        }
    }

    async fn on_order(&mut self, half: &mut (impl AsyncWrite + Unpin), order: Frame) -> io::Result<()> {
        match order {
            Frame::Follow(from) => {
                self.follow = Some(from.offset);
                self.bundle.let_go();
            }
            answer => send(half, &answer).await?,
        }
        Ok(())
    }

    /// Says how far the job is, if the manager does not know; whether it did not.
    async fn tell_state(&mut self, half: &mut (impl AsyncWrite + Unpin)) -> io::Result<bool> {
        let state = {
            let published = self.published.borrow_and_update();
            if !published.differs(&self.last_sent) {
                return Ok(false);
            }
            published.state.clone()
        };
        self.last_sent = state.clone();
        send(half, &Frame::State(state)).await?;
        Ok(true)
    }

    /// When the next piece of the trace is to go out, if there is one.
    fn trace_due(&self) -> Option<Instant> {
        let published = self.published.borrow();
        let waiting = published.trace_bytes().checked_sub(self.follow?).filter(|waiting| *waiting > 0)?;
        let now = Instant::now();
        Some(if published.state.closed.is_some() { now } else { self.bundle.due(waiting, now) })
    }

    /// Sends the next piece of the trace.
    async fn send_trace(&mut self, half: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let Some(offset) = self.follow else { return Ok(()) };
        let Some(bytes) = self.trace.piece(offset)? else { return Ok(()) };
        self.follow = Some(offset + bytes.len() as u64);
        self.bundle.goes(Instant::now());
        send(half, &Frame::Trace { offset, bytes }).await
    }
}

/// Waits for a moment, if there is one.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Sends one frame. A manager that pings but takes nothing has a GitLab that takes nothing: the
/// trace waits here. One that falls silent is noticed by the reading side, which ends this one too.
async fn send(half: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    half.write_all(&frame.to_bytes()).await
}

#[cfg(test)]
mod tests {
    use gantry_wire::frame::{Claim, Greeting, Offset};
    use tokio::io::{DuplexStream, duplex};

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
        let (_published, published) = watch::channel(Published::default());
        let (presence, seen) = Presence::new();
        let (trace, known) = (TraceFile::named("/nowhere".into()), SharedJob::default());
        let door = ConnectionContext { trace, published, known, events, presence, seen: seen.clone() };
        let serving = Connection { number: 1, granted: watch::channel(None).0, door };
        let connection = Accepted { read, write, user: None };
        let ((), heard) = tokio::join!(serving.serve(connection), inbox.recv());
        assert!(matches!(heard, Some(Event::Manager { frame: Frame::Go, .. })));
        assert!(!seen.borrow().connected);
    }

    /// A door, and what has to live beside it.
    fn door() -> (ConnectionContext, (mpsc::Receiver<Event>, watch::Sender<Published>)) {
        let (events, inbox) = mpsc::channel(8);
        let (presence, seen) = Presence::new();
        let (trace, known) = (TraceFile::named("/nowhere".into()), SharedJob::default());
        let (publisher, published) = watch::channel(Published::default());
        (ConnectionContext { trace, published, known, events, presence, seen }, (inbox, publisher))
    }

    fn greeting() -> Frame {
        let greeting =
            Greeting { protocols: Protocols::OURS, version: "9.0.0".into(), manager: "m".into(), claim: Claim::Resume };
        Frame::Greet(greeting)
    }

    /// Reads until a frame of that kind comes.
    async fn hear(stream: &mut (impl AsyncRead + Unpin), is_it: impl Fn(&Frame) -> bool) {
        let (mut frames, mut buffer) = (FrameReader::default(), BytesMut::new());
        let hearing = async {
            loop {
                while let Some(frame) = frames.next_frame().unwrap() {
                    if is_it(&frame) {
                        return;
                    }
                }
                buffer.clear();
                assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "the connection has ended");
                frames.push(&buffer);
            }
        };
        timeout(RELAY_SILENCE, hearing).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_has_left() {
        let (door, _beside) = door();
        let seen = door.seen.clone();
        let (mut manager, agents) = duplex(4096);
        let (read, write) = tokio::io::split(agents);
        manager.write_all(&greeting().to_bytes()).await.unwrap();
        let serving = Connection { number: door.presence.arrived(), granted: watch::channel(None).0, door };
        tokio::select! {
            () = serving.serve(Accepted { read, write, user: None }) => panic!("it goes on"),
            () = hear(&mut manager, |frame| matches!(frame, Frame::Granted(_))) => {}
        }
        assert!(!seen.borrow().connected);
    }

    /// Connections as they come from a test.
    struct Door(mpsc::Receiver<Accepted<DuplexStream, DuplexStream>>);

    impl Listener for Door {
        type Read = DuplexStream;
        type Write = DuplexStream;

        async fn accept(&mut self) -> io::Result<Accepted<DuplexStream, DuplexStream>> {
            match self.0.recv().await {
                Some(connection) => Ok(connection),
                None => std::future::pending().await,
            }
        }
    }

    /// Those that were in charge before are heard to their end, so that all may have been, and the
    /// one that is now may be the oldest.
    #[tokio::test]
    async fn whoever_is_in_charge_makes_no_room() {
        let (context, _beside) = door();
        let mut seen = context.seen.clone();
        let (come, comes) = mpsc::channel(1);
        let talk = async {
            // What a manager says, and what it hears.
            let connect = async || {
                let ((to, read), (mut from, write)) = (duplex(4096), duplex(4096));
                come.send(Accepted { read, write, user: None }).await.unwrap();
                hear(&mut from, |frame| matches!(frame, Frame::Hello(_))).await;
                (to, from)
            };
            let (mut to_oldest, mut from_oldest) = connect().await;
            let mut others = Vec::new();
            for number in 2..=MANAGER_CONNECTIONS {
                let (mut to, from) = connect().await;
                drop(from);
                to.write_all(&greeting().to_bytes()).await.unwrap();
                let granted = seen.wait_for(|seen| seen.epoch() == number as u64);
                timeout(RELAY_SILENCE, granted).await.unwrap().unwrap();
                others.push(to);
            }
            to_oldest.write_all(&greeting().to_bytes()).await.unwrap();
            hear(&mut from_oldest, |frame| matches!(frame, Frame::Granted(_))).await;
            others.push(connect().await.0);
            to_oldest.write_all(&Frame::Ping.to_bytes()).await.unwrap();
            hear(&mut from_oldest, |frame| matches!(frame, Frame::Pong)).await;
        };
        tokio::select! {
            () = accept(Door(comes), context) => unreachable!("it accepts for ever"),
            () = talk => {}
        }
    }

    /// What a connection sends while a job prints a line every 50 ms for two seconds and then ends.
    #[tokio::test(start_paused = true)]
    async fn a_job_that_goes_on_printing_is_sent_in_bundles_and_its_end_at_once() {
        use std::io::Write as _;
        use std::time::Duration;

        use gantry_core::Ending;
        use gantry_wire::frame::Closed;

        let directory = tempfile::tempdir().unwrap();
        let trace = TraceFile::named(directory.path().join("trace"));
        let mut file = trace.create().unwrap();
        let (mut manager, agents) = duplex(1 << 16);
        let (read, write) = tokio::io::split(agents);
        let (events, _inbox) = mpsc::channel(1);
        let (publisher, published) = watch::channel(Published::default());
        let (presence, seen) = Presence::new();
        let door =
            ConnectionContext { trace, published, known: SharedJob::default(), events, presence, seen: seen.clone() };
        let serving = Connection { number: 1, granted: watch::channel(None).0, door };
        let connection = Accepted { read, write, user: None };
        let printing = async {
            manager.write_all(&Frame::Follow(Offset { offset: 0 }).to_bytes()).await.unwrap();
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                file.write_all(b"line\n").unwrap();
                publisher.send_modify(|published| published.in_file += 5);
            }
            let ended = Instant::now();
            let closed =
                Closed { verdict: Ending::Succeeded.verdict(), trace_bytes: 200, trace_crc32: None, usage: None };
            publisher.send_modify(|published| published.state.closed = Some(closed));
            let (mut frames, mut buffer) = (FrameReader::default(), BytesMut::new());
            let (mut pieces, mut length) = (0, 0);
            while length < 200 {
                buffer.clear();
                assert!(manager.read_buf(&mut buffer).await.unwrap() > 0);
                frames.push(&buffer);
                while let Some(frame) = frames.next_frame().unwrap() {
                    if let Frame::Trace { offset, bytes } = frame {
                        assert_eq!(offset, length);
                        length += bytes.len() as u64;
                        pieces += 1;
                    }
                }
            }
            assert_eq!(ended.elapsed(), Duration::ZERO);
            pieces
        };
        let pieces = tokio::select! {
            pieces = printing => pieces,
            () = serving.serve(connection) => panic!("it goes on"),
        };
        assert!((8..=14).contains(&pieces), "{pieces}");
    }
}
