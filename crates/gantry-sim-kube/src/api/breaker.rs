//! Where faults break a stream of a remote command: after so many bytes, when kubelet or the API
//! server goes away. A broken stream is cut, or it stalls: then nothing passes, and the command
//! does not notice.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use crate::faults::{Faults, Kubelet, Stream};

/// Bytes of output that count are those of channels 1 and 2.
const OUTPUT_CHANNELS: [u8; 2] = [1, 2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Stalled,
    Cut,
}

/// Watches over one stream.
#[derive(Debug)]
pub(super) struct Breaker {
    fault: Option<(Stream, bool)>,
    output: AtomicU64,
    input: AtomicU64,
    state: watch::Sender<State>,
}

impl Breaker {
    pub(super) fn new(fault: Option<(Stream, bool)>) -> Self {
        let breaker =
            Self { fault, output: AtomicU64::new(0), input: AtomicU64::new(0), state: watch::Sender::new(State::Open) };
        let at_once = |(stream, _): &(Stream, bool)| {
            stream.after == Some(0) || (stream.after.is_none() && stream.after_input.is_none())
        };
        if breaker.fault.as_ref().is_some_and(at_once) {
            breaker.trip_by_fault();
        }
        breaker
    }

    fn trip_by_fault(&self) {
        self.trip(self.fault.as_ref().is_some_and(|(_, stalls)| *stalls));
    }

    /// Breaks the stream now.
    pub(super) fn trip(&self, stalls: bool) {
        self.state.send_replace(if stalls { State::Stalled } else { State::Cut });
    }

    pub(super) fn is_stalled(&self) -> bool {
        *self.state.borrow() == State::Stalled
    }

    /// How many of so many bytes still pass, given the limit.
    fn passing(&self, passed: &AtomicU64, limit: Option<u64>, length: usize) -> usize {
        let Some(limit) = limit else { return length };
        let before = passed.fetch_add(length as u64, Ordering::Relaxed);
        let room = usize::try_from(limit.saturating_sub(before)).unwrap_or(usize::MAX);
        if length >= room {
            self.trip_by_fault();
        }
        length.min(room)
    }

    /// How many bytes of input reach the command.
    pub(super) fn input(&self, length: usize) -> usize {
        if *self.state.borrow() != State::Open {
            return 0;
        }
        self.passing(&self.input, self.fault.as_ref().and_then(|(fault, _)| fault.after_input), length)
    }

    /// What of a message may be sent. Waits while the stream is stalled.
    pub(super) async fn output(&self, message: Message) -> Option<Message> {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| *state != State::Stalled).await;
        if let Message::Binary(bytes) = &message
            && bytes.first().is_some_and(|channel| OUTPUT_CHANNELS.contains(channel))
        {
            if bytes.len() == 1 {
                return Some(message);
            }
            let limit = self.fault.as_ref().and_then(|(fault, _)| fault.after);
            let passing = self.passing(&self.output, limit, bytes.len() - 1);
            return (passing > 0).then(|| Message::Binary(bytes.slice(..=passing)));
        }
        Some(message)
    }

    /// Becomes ready when the stream is to break off.
    pub(super) async fn cut(&self, faults: &Faults) {
        let mut state = self.state.subscribe();
        let kubelet = async {
            faults.kubelet_is(|kubelet| kubelet != Kubelet::Up).await;
            if faults.kubelet() == Kubelet::Lost {
                self.trip(true);
                faults.kubelet_is(|kubelet| kubelet != Kubelet::Lost).await;
            }
        };
        tokio::select! {
            _ = state.wait_for(|state| *state == State::Cut) => {}
            () = kubelet => {}
            () = faults.restarted() => {}
        }
    }
}
