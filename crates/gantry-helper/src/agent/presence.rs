//! Whether a manager is there, and how far it has brought the trace: what decides whether the agent
//! must relay by itself.

use std::sync::Arc;

use gantry_wire::frame::{Refused, RelayNow};
use tokio::sync::watch;
use tokio::time::Instant;

use super::charge::{Charge, Claimant};

/// What is known about managers.
#[derive(Clone, Debug)]
pub(crate) struct PresenceState {
    /// One is in charge and connected. A silent one is disconnected soon.
    pub(crate) connected: bool,
    /// Since when that is so.
    pub(crate) since: Instant,
    /// GitLab has the trace up to here, as far as managers have said.
    pub(crate) acked: u64,
    /// The agent relays by itself.
    pub(crate) alone: bool,
    /// Who is in charge.
    charge: Charge,
}

impl PresenceState {
    /// The number of the connection that is in charge, or was last.
    pub(crate) fn epoch(&self) -> u64 {
        self.charge.epoch()
    }

    /// The same for managers.
    pub(crate) fn shown(&self) -> RelayNow {
        self.charge.shown(self.alone, Instant::now())
    }
}

/// The side that knows.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    seen: Arc<watch::Sender<PresenceState>>,
}

impl Presence {
    pub(crate) fn new() -> (Self, watch::Receiver<PresenceState>) {
        let now = Instant::now();
        let seen = PresenceState { connected: false, since: now, acked: 0, alone: false, charge: Charge::new(now) };
        let (seen, reader) = watch::channel(seen);
        (Self { seen: Arc::new(seen) }, reader)
    }

    /// A connection has come; gives its number.
    pub(crate) fn arrived(&self) -> u64 {
        let mut number = 0;
        self.quietly(|seen| number = seen.charge.arrived());
        number
    }

    /// Decides on the claim of a connection; gives the number with which it is in charge.
    ///
    /// # Errors
    /// It is not granted.
    pub(crate) fn claim(&self, claimant: &Claimant, epoch: u64) -> Result<u64, Refused> {
        let (now, mut decision) = (Instant::now(), Ok(epoch));
        self.seen.send_if_modified(|seen| {
            decision = seen.charge.claim(claimant, epoch, now);
            if decision.is_ok() {
                (seen.connected, seen.since) = (true, now);
            }
            decision.is_ok()
        });
        decision
    }

    /// Something came over a connection.
    pub(crate) fn heard(&self, epoch: u64) {
        self.quietly(|seen| seen.charge.heard(epoch, Instant::now()));
    }

    /// A connection is over.
    pub(crate) fn left(&self, epoch: u64) {
        self.seen.send_if_modified(|seen| {
            let now = Instant::now();
            let was_in_charge = seen.charge.left(epoch, now);
            if was_in_charge {
                (seen.connected, seen.since) = (false, now);
            }
            was_in_charge
        });
    }

    /// The manager of a connection lets go of the job.
    pub(crate) fn released(&self, epoch: u64) {
        self.quietly(|seen| seen.charge.release(epoch));
    }

    pub(crate) fn acked(&self, offset: u64) {
        self.seen.send_modify(|seen| seen.acked = seen.acked.max(offset));
    }

    /// Whether the agent relays by itself.
    pub(crate) fn set_alone(&self, alone: bool) {
        self.quietly(|seen| seen.alone = alone);
    }

    /// Changes what nobody waits for.
    fn quietly(&self, change: impl FnOnce(&mut PresenceState)) {
        self.seen.send_if_modified(|seen| {
            change(seen);
            false
        });
    }
}
