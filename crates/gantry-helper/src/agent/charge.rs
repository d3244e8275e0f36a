//! Who is in charge of the job: what becomes of the claims of managers. Pure, so that every order
//! of events can be tried.
//!
//! One manager is in charge at a time. Whoever takes over supersedes it for good: it may have
//! slept, and cannot know what it missed.

use gantry_core::limits::RELAY_SILENCE;
use gantry_wire::frame::{Claim, Greeting, Protocols, Refusal, Refused, RelayNow};
use tokio::time::Instant;

use crate::limits::{COMES_BACK, PRESUMED_GONE, SUPERSEDED_MANAGERS};

/// Who wants to be in charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// One of the first version: it has no name and claims by speaking.
    Nameless,
    /// One that has greeted.
    Named {
        /// The name of its process.
        manager: String,
        /// Its right.
        claim: Claim,
    },
}

impl Claimant {
    /// What a greeting claims.
    ///
    /// # Errors
    /// It speaks no version that we do.
    pub(crate) fn of(greeting: Greeting) -> Result<Self, Refused> {
        let Greeting { protocols, version, manager, claim } = greeting;
        if protocols.common(Protocols::OURS).is_none() {
            let message = format!(
                "the runner manager {version} speaks protocol {protocols} and this helper {}: no version of both",
                Protocols::OURS
            );
            return Err(Refused { message, cause: Refusal::Protocol, retry_after_ms: None });
        }
        Ok(Self::Named { manager, claim })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Nameless,
    Named(String),
}

/// Who is in charge, or was last.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    holder: Holder,
    /// The number of the connection that is in charge, or was last; 0 if none was.
    epoch: u64,
    connected: bool,
    /// When that one was last heard; the agent's start where nobody has been.
    heard: Instant,
    /// It has let go by itself.
    released: bool,
    /// Names of those that were superseded, the latest last.
    superseded: Vec<String>,
    /// The largest number that was given to a connection.
    newest: u64,
}

impl Charge {
    pub(crate) fn new(now: Instant) -> Self {
        let (superseded, released) = (Vec::new(), false);
        Self { holder: Holder::Nobody, epoch: 0, connected: false, heard: now, released, superseded, newest: 0 }
    }

    /// The number of the connection that is in charge, or was last.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A connection has come; gives its number.
    pub(crate) fn arrived(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// Decides on the claim of connection `epoch`. A claim that is granted after newer connections
    /// have come gets a new number.
    ///
    /// # Errors
    /// It is not granted.
    pub(crate) fn claim(&mut self, claimant: &Claimant, epoch: u64, now: Instant) -> Result<u64, Refused> {
        self.decide(claimant, now)?;
        let before = std::mem::replace(
            &mut self.holder,
            match claimant {
                Claimant::Nameless => Holder::Nameless,
                Claimant::Named { manager, .. } => Holder::Named(manager.clone()),
            },
        );
        if let Holder::Named(name) = before
            && self.holder != Holder::Named(name.clone())
        {
            self.superseded.push(name);
            if self.superseded.len() > SUPERSEDED_MANAGERS {
                self.superseded.remove(0);
            }
        }
        self.epoch = if epoch == self.newest { epoch } else { self.arrived() };
        (self.connected, self.heard, self.released) = (true, now, false);
        Ok(self.epoch)
    }

    fn decide(&self, claimant: &Claimant, now: Instant) -> Result<(), Refused> {
        let (manager, claim) = match (claimant, &self.holder) {
            // As in the first version: whoever comes last. But never again after one that greets.
            (Claimant::Nameless, Holder::Nobody | Holder::Nameless) => return Ok(()),
            (Claimant::Nameless, Holder::Named(_)) => return Err(superseded()),
            (Claimant::Named { manager, claim }, _) => (manager, *claim),
        };
        match &self.holder {
            Holder::Named(name) if name == manager => return Ok(()),
            Holder::Nobody if claim == Claim::Resume => return Ok(()),
            _ if claim == Claim::Resume => return Err(superseded()),
            _ => {}
        }
        if self.released {
            return Ok(());
        }
        // One that was superseded once does not know for how long it has slept, so neither what it
        // believes of others.
        let knows = claim == Claim::Replace && !self.superseded.contains(manager);
        let silence_limit = match (&self.holder, self.connected) {
            (Holder::Nobody, _) | (_, false) if knows => return Ok(()),
            (Holder::Nobody, _) => RELAY_SILENCE,
            (_, true) if knows => PRESUMED_GONE,
            // The connection is closed before that.
            (_, true) => RELAY_SILENCE * 2,
            (_, false) => COMES_BACK,
        };
        let silence = now.saturating_duration_since(self.heard);
        match silence_limit.checked_sub(silence) {
            None => Ok(()),
            Some(rest) => Err(lives(rest)),
        }
    }

    /// Whoever is in charge has said something.
    pub(crate) fn heard(&mut self, epoch: u64, now: Instant) {
        if epoch == self.epoch {
            self.heard = now;
        }
    }

    /// A connection is over; whether it was the one in charge.
    pub(crate) fn left(&mut self, epoch: u64, now: Instant) -> bool {
        let was = epoch == self.epoch && self.connected;
        if was {
            (self.connected, self.heard) = (false, now);
        }
        was
    }

    /// Whoever is in charge lets go.
    pub(crate) fn release(&mut self, epoch: u64) {
        self.released |= epoch == self.epoch;
    }

    /// The same for managers.
    pub(crate) fn shown(&self, alone: bool, now: Instant) -> RelayNow {
        let manager = match &self.holder {
            Holder::Named(name) => Some(name.clone()),
            Holder::Nobody | Holder::Nameless => None,
        };
        let silence = now.saturating_duration_since(self.heard).as_millis();
        RelayNow { manager, connected: self.connected, silent_ms: u64::try_from(silence).unwrap_or(u64::MAX), alone }
    }
}

fn superseded() -> Refused {
    let message = "another runner manager has taken this job over".to_owned();
    Refused { message, cause: Refusal::Superseded, retry_after_ms: None }
}

fn lives(rest: std::time::Duration) -> Refused {
    let message = "another runner manager is in charge of this job, or may come back".to_owned();
    // Not sooner than the moment itself. One that is connected may lose its connection at any time,
    // and may then come back.
    let rest = rest.min(COMES_BACK).as_millis();
    let retry_after_ms = u64::try_from(rest).unwrap_or(u64::MAX).saturating_add(1);
    Refused { message, cause: Refusal::RelayLives, retry_after_ms: Some(retry_after_ms) }
}

#[cfg(test)]
mod tests;
