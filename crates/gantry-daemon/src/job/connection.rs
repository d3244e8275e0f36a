//! One connection to an agent: frames out, pings, frames in. Trace bytes go straight to the relay; everything else is an event of the job.
//!
//! While the relay takes nothing (GitLab is away) nothing is read: the trace waits in the pod's file. Pings go on, so the agent knows that
//! its manager lives.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gantry_core::limits::{PING_INTERVAL, RELAY_SILENCE};
use gantry_relay::Input;
use gantry_wire::frame::{Frame, FrameReader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::job::ledger::Ledger;

/// Frames on their way out. A job says little; what does not fit here waits with the job's task.
pub(crate) const OUTGOING: usize = 16;

/// One read. Every running job has such a buffer, and most of what comes is a few lines.
const READ_BUFFER: usize = 8 * 1024;

/// How long is read on after a write has failed: what an agent said before it died is on its way still, and may be all there is of it.
const FAREWELL: Duration = Duration::from_secs(5);

/// How soon an agent must be heard after it was told that it cannot go on. It answers a ping at once; if its connection is stalled it may have
/// ended well and cannot say so, and has to be asked over another one before the job is judged without it.
const PROOF: Duration = Duration::from_secs(5);

/// Where a connection delivers.
pub(crate) struct Sinks {
    /// Takes the trace.
    pub(crate) relay: mpsc::Sender<Input>,
    /// Takes all other frames.
    pub(crate) frames: mpsc::Sender<Frame>,
}

/// Runs a connection until either side ends it, it falls silent, or `stop`. Counts every byte that the relay took.
pub(crate) async fn run<S>(
    stream: S,
    outgoing: mpsc::Receiver<Frame>,
    sinks: Sinks,
    ledger: &mut Ledger,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let doubt = Doubt::default();
    let writing = async {
        write(writer, outgoing, &doubt).await;
        sleep(FAREWELL).await;
    };
    tokio::select! {
        () = writing => {}
        () = read(reader, sinks, ledger, &doubt) => {}
        () = stop.cancelled() => {}
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Frame>, doubt: &Doubt) {
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Not kept: the first frame is the plan, and those that follow for hours are a few bytes.
        let mut buffer = BytesMut::new();
        tokio::select! {
            frame = outgoing.recv() => match frame {
                Some(frame) => {
                    frame.encode(&mut buffer);
                    if matches!(frame, Frame::Fail(_)) {
                        Frame::Ping.encode(&mut buffer);
                        doubt.raise();
                    }
                }
                None => return,
            },
            _ = pings.tick() => Frame::Ping.encode(&mut buffer),
        }
        let sent = timeout(RELAY_SILENCE, async {
            writer.write_all(&buffer).await?;
            writer.flush().await
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read(mut reader: impl AsyncRead + Unpin, sinks: Sinks, ledger: &mut Ledger, doubt: &Doubt) {
    let mut frames = FrameReader::default();
    let mut buffer = vec![0; READ_BUFFER];
    let mut settled = 0;
    loop {
        let count = tokio::select! {
            count = reader.read(&mut buffer) => count.unwrap_or(0),
            () = silence(doubt, settled) => 0,
        };
        if count == 0 {
            return;
        }
        settled = doubt.count();
        frames.push(&buffer[..count]);
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => {
                    if !deliver(frame, &sinks, ledger).await {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the agent's stream cannot be understood; connecting again");
                    return;
                }
            }
        }
    }
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

/// `false`: nobody takes it any more.
async fn deliver(frame: Frame, sinks: &Sinks, ledger: &mut Ledger) -> bool {
    match frame {
        Frame::Trace { offset, bytes } => {
            if sinks.relay.send(Input::Trace { offset, bytes: bytes.clone() }).await.is_err() {
                return false;
            }
            ledger.count(offset, &bytes);
            true
        }
        Frame::Ping | Frame::Pong => true,
        frame => sinks.frames.send(frame).await.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use gantry_core::Ending;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trace_is_counted_and_silence_ends_the_connection() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (relay, mut inputs) = mpsc::channel(4);
        let (frames, mut events) = mpsc::channel(4);
        let (_outgoing, receiver) = mpsc::channel(OUTGOING);
        let mut ledger = Ledger::default();
        let trace = Frame::Trace { offset: 0, bytes: Bytes::from_static(b"abc") };
        theirs.write_all(&trace.to_bytes()).await.unwrap();
        theirs.write_all(&Frame::PlanAccepted.to_bytes()).await.unwrap();
        let started = Instant::now();
        run(ours, receiver, Sinks { relay, frames }, &mut ledger, CancellationToken::new()).await;
        assert!(started.elapsed() >= RELAY_SILENCE);
        assert_eq!(ledger.bytes(), 3);
        assert!(matches!(inputs.try_recv(), Ok(Input::Trace { offset: 0, .. })));
        assert_eq!(events.try_recv().unwrap(), Frame::PlanAccepted);
        let mut sent = FrameReader::default();
        let mut buffer = [0; 64];
        let count = theirs.read(&mut buffer).await.unwrap();
        sent.push(&buffer[..count]);
        assert_eq!(sent.next_frame().unwrap(), Some(Frame::Ping));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_told_to_fail_is_heard_soon_or_its_connection_is_given_up() {
        for answers in [false, true] {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let (relay, _inputs) = mpsc::channel(4);
            let (frames, _events) = mpsc::channel(4);
            let (outgoing, receiver) = mpsc::channel(OUTGOING);
            outgoing.send(Frame::Fail(Ending::Canceled)).await.unwrap();
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
            let mut ledger = Ledger::default();
            let run = run(ours, receiver, Sinks { relay, frames }, &mut ledger, CancellationToken::new());
            let given_up = timeout(RELAY_SILENCE, async { tokio::join!(run, agent) }).await.is_ok();
            assert_eq!((given_up, started.elapsed()), if answers { (false, RELAY_SILENCE) } else { (true, PROOF) });
        }
    }
}
