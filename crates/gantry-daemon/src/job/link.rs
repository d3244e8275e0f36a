//! One connection to an agent: frames out, pings, frames in, in order, to the job's task.
//!
//! While nobody takes frames (GitLab is away) nothing is read: the trace waits in the pod's file.
//! Pings go on, so the agent knows that its manager lives.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use gantry_core::limits::{PING_INTERVAL, RELAY_SILENCE};
use gantry_wire::frame::{Frame, FrameReader, Hello};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::events::{Said as _, StreamGarbled};

/// Frames on their way out. A job says little; what does not fit here waits with the job's task.
/// They are boxed, both ways: the channel has room for 32 whatever its bound, and a frame has 344
/// bytes.
const OUTGOING: usize = 16;

/// One read, from a place on the stack: every running job has a connection, and most of what comes
/// is a few lines.
const READ_BUFFER: usize = 4 * 1024;

/// How long is read on after a write has failed: what an agent said before it died is on its way
/// still, and may be all there is of it.
const LAST_FRAMES: Duration = Duration::from_secs(5);

/// How soon an agent must be heard after it was told that it cannot go on. It answers a ping at
/// once; if its connection is stalled it may have ended well and cannot say so, and has to be asked
/// over another one before the job is judged without it.
const PROOF: Duration = Duration::from_secs(5);

/// How long a runner that ends waits for its last word to an agent: without it the next manager is
/// only a little slower.
const RELEASE: Duration = Duration::from_millis(500);

/// Frames that have come and wait for the job's task. Few: each may be a large piece of the trace,
/// and every running job has such a line.
const INCOMING: usize = 4;

/// A connection that runs. It closes when this is dropped.
pub(super) struct Link {
    outgoing: mpsc::Sender<Box<Frame>>,
    incoming: mpsc::Receiver<Box<Frame>>,
    give_up: CancellationToken,
    stop: DropGuard,
    /// What the agent has said of itself, until it is ours.
    pub(super) hello: Option<Box<Hello>>,
    /// The agent was asked to send its trace.
    pub(super) follows: bool,
    /// What waits until the agent has granted what the greeting asks for, if it has not: whoever
    /// says anything else before is taken for a manager of the first version, which cannot greet.
    held: Option<Vec<Frame>>,
}

impl Link {
    /// Begins to talk over a new connection; what is returned beside has to be run.
    pub(super) fn over<S>(stream: S) -> (Self, impl Future<Output = ()>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (outgoing, orders) = mpsc::channel(OUTGOING);
        let (frames, incoming) = mpsc::channel(INCOMING);
        let give_up = CancellationToken::new();
        let talk = run(stream, orders, frames, give_up.clone());
        let stop = give_up.clone().drop_guard();
        (Self { outgoing, incoming, give_up, stop, hello: None, follows: false, held: Some(Vec::new()) }, talk)
    }

    /// Sends a frame. A connection that is too slow for the little that a job has to say is given
    /// up; what it did not take is said again on the next one.
    pub(super) fn send(&mut self, frame: Frame) {
        let is_dispensable = matches!(frame, Frame::Acked(_));
        if let Some(held) = self.held.as_mut().filter(|_| !matches!(frame, Frame::Greet(_))) {
            if is_dispensable {
                return;
            }
            if held.len() < OUTGOING {
                held.push(frame);
            } else {
                self.give_up.cancel();
            }
            return;
        }
        if let Err(TrySendError::Full(_)) = self.outgoing.try_send(Box::new(frame))
            && !is_dispensable
        {
            self.give_up.cancel();
        }
    }

    /// The agent knows who we are, and takes what we say.
    pub(super) fn granted(&mut self) {
        for frame in self.held.take().unwrap_or_default() {
            self.send(frame);
        }
    }

    /// The way for frames that wait until there is room for them, once the agent takes any.
    pub(super) fn outgoing(&self) -> Option<mpsc::Sender<Box<Frame>>> {
        self.held.is_none().then(|| self.outgoing.clone())
    }

    /// Says that somebody else may have the agent now, and closes the connection behind that.
    pub(super) async fn release(self) {
        let Self { outgoing, mut incoming, stop, held, .. } = self;
        let said = async {
            if held.is_none() {
                let _ = outgoing.send(Box::new(Frame::Release)).await;
            }
            drop(outgoing);
            while incoming.recv().await.is_some() {}
        };
        let _ = timeout(RELEASE, said).await;
        drop(stop);
    }

    /// Waits for the next frame; nothing once the connection has ended and all that came over it
    /// has been taken.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        self.incoming.recv().await.map(|frame| *frame)
    }
}

/// Runs a connection until either side ends it, it falls silent, or `stop`.
async fn run<S>(
    stream: S,
    outgoing: mpsc::Receiver<Box<Frame>>,
    frames: mpsc::Sender<Box<Frame>>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let doubt = Doubt::default();
    let writing = async {
        if write(writer, outgoing, &doubt).await.is_err() {
            sleep(LAST_FRAMES).await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = read(reader, frames, &doubt) => {}
        () = stop.cancelled() => {}
    }
}

/// Writes until there is nothing more to say.
///
/// # Errors
/// It cannot be written.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Box<Frame>>,
    doubt: &Doubt,
) -> io::Result<()> {
    // The agent hears who we are first.
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Not kept: the first frame is the plan, and those that follow for hours are a few bytes.
        let mut buffer = BytesMut::new();
        tokio::select! {
            frame = outgoing.recv() => match frame {
                Some(frame) => {
                    frame.encode(&mut buffer);
                    if matches!(*frame, Frame::Fail(_)) {
                        Frame::Ping.encode(&mut buffer);
                        doubt.raise();
                    }
                }
                None => return Ok(()),
            },
            _ = pings.tick() => Frame::Ping.encode(&mut buffer),
        }
        let sent = timeout(RELAY_SILENCE, async {
            writer.write_all(&buffer).await?;
            writer.flush().await
        });
        sent.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    }
}

async fn read(mut reader: impl AsyncRead + Unpin, taker: mpsc::Sender<Box<Frame>>, doubt: &Doubt) {
    let mut frames = FrameReader::default();
    let mut settled = 0;
    loop {
        let is_open = tokio::select! {
            is_open = poll_fn(|context| receive(&mut reader, &mut frames, context)) => is_open,
            () = silence(doubt, settled) => false,
        };
        if !is_open {
            return;
        }
        settled = doubt.count();
        loop {
            match frames.next_frame() {
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(Some(frame)) => {
                    if taker.send(Box::new(frame)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    StreamGarbled(&error).say();
                    return;
                }
            }
        }
    }
}

/// Takes in what has come; false at the end of the connection, whatever it is.
fn receive(reader: &mut (impl AsyncRead + Unpin), frames: &mut FrameReader, context: &mut Context<'_>) -> Poll<bool> {
    let mut space = [0; READ_BUFFER];
    let mut buffer = ReadBuf::new(&mut space);
    let read = ready!(Pin::new(reader).poll_read(context, &mut buffer));
    frames.push(buffer.filled());
    Poll::Ready(read.is_ok() && !buffer.filled().is_empty())
}

/// Whether the agent is still there: how often that was asked.
#[derive(Default)]
struct Doubt {
    count: AtomicU32,
    raised: Notify,
}

impl Doubt {
    fn raise(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.raised.notify_one();
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// As long as nothing may be heard, when all doubts up to `settled` are.
async fn silence(doubt: &Doubt, settled: u32) {
    tokio::select! {
        () = sleep(RELAY_SILENCE) => {}
        () = async {
            // What wakes may be a doubt that something heard has settled meanwhile.
            while doubt.count() == settled {
                doubt.raised.notified().await;
            }
            sleep(PROOF).await;
        } => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use gantry_core::Ending;
    use gantry_wire::frame::{Claim, Greeting, Offset, Protocols};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frames_come_in_order_and_silence_ends_the_connection() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (mut link, talk) = Link::over(ours);
        let trace = Frame::Trace { offset: 0, bytes: Bytes::from_static(b"abc") };
        theirs.write_all(&trace.to_bytes()).await.unwrap();
        theirs.write_all(&Frame::PlanAccepted.to_bytes()).await.unwrap();
        let started = Instant::now();
        talk.await;
        assert!(started.elapsed() >= RELAY_SILENCE);
        assert_eq!(link.next().await, Some(trace));
        assert_eq!(link.next().await, Some(Frame::PlanAccepted));
        assert_eq!(link.next().await, None);
        let mut sent = FrameReader::default();
        let mut buffer = [0; 64];
        let count = theirs.read(&mut buffer).await.unwrap();
        sent.push(&buffer[..count]);
        assert_eq!(sent.next_frame().unwrap(), Some(Frame::Ping));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_before_the_agent_has_granted_what_the_greeting_asks_for() {
        let greeting = || {
            let (version, manager) = ("1".to_owned(), "a".to_owned());
            Frame::Greet(Greeting { protocols: Protocols::OURS, version, manager, claim: Claim::Resume })
        };
        let acked = |offset| Frame::Acked(Offset { offset });
        for is_granted in [true, false] {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let (mut link, talk) = Link::over(ours);
            link.send(acked(1));
            link.send(Frame::Go);
            link.send(greeting());
            link.send(acked(2));
            assert!(link.outgoing().is_none());
            if is_granted {
                link.granted();
                link.send(acked(3));
            }
            let said = async {
                let (mut said, mut sent, mut buffer) = (Vec::new(), FrameReader::default(), [0; 1024]);
                loop {
                    let count = theirs.read(&mut buffer).await.unwrap();
                    if count == 0 {
                        return said;
                    }
                    sent.push(&buffer[..count]);
                    while let Some(frame) = sent.next_frame().unwrap() {
                        said.push(frame);
                    }
                }
            };
            let (said, ()) = tokio::join!(said, async {
                tokio::join!(link.release(), talk);
            });
            let all = if is_granted { vec![greeting(), Frame::Go, acked(3), Frame::Release] } else { vec![greeting()] };
            assert_eq!(said, all);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_told_to_fail_is_heard_soon_or_its_connection_is_given_up() {
        for answers in [false, true] {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let (mut link, talk) = Link::over(ours);
            link.granted();
            link.send(Frame::Fail(Ending::Canceled));
            let started = Instant::now();
            let agent = async {
                let mut sent = FrameReader::default();
                let mut buffer = [0; 64];
                let mut failed = false;
                loop {
                    let count = theirs.read(&mut buffer).await.unwrap();
                    if count == 0 {
                        return;
                    }
                    sent.push(&buffer[..count]);
                    while let Some(frame) = sent.next_frame().unwrap() {
                        failed |= matches!(frame, Frame::Fail(_));
                        if answers && failed && frame == Frame::Ping {
                            theirs.write_all(&Frame::Pong.to_bytes()).await.unwrap();
                        }
                    }
                }
            };
            let given_up = timeout(RELAY_SILENCE, async { tokio::join!(talk, agent) }).await.is_ok();
            assert_eq!((given_up, started.elapsed()), if answers { (false, RELAY_SILENCE) } else { (true, PROOF) });
        }
    }
}
