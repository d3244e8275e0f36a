//! What ends a run from outside. Listening begins before anything else does, so that nothing is
//! left behind by a signal that comes early.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit_status;

/// The signals that ask for an end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where whoever started the program wants it to outlive its terminal (`nohup`).
    hang_up: Option<Signal>,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) name: &'static str,
    number: u8,
}

impl Received {
    /// As shells give it.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(exit_status::SIGNAL + self.number)
    }
}

/// What the program would have got for writing where nobody reads.
pub(super) const BROKEN_PIPE: Received = Received { name: "SIGPIPE", number: 13 };

impl Signals {
    /// Begins to listen.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let is_detached = is_ignored(SignalKind::hangup());
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: if is_detached { None } else { Some(listen(SignalKind::hangup())?) },
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Received {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let (name, kind) = tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = hang_up => ("SIGHUP", SignalKind::hangup()),
        };
        Received { name, number: u8::try_from(kind.as_raw_value()).unwrap_or_default() }
    }
}

/// Whether this process was started with the signal ignored (`/proc/self/status`, proc(5)).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    set >> (kind.as_raw_value() - 1) & 1 == 1
}
