//! The tries to reach one pod.

use gantry_wire::layout;
use tokio::time::Instant;

use super::starts::{Kind, Pace, Starts};
use crate::facts::{ContainerState, PodFacts};

/// When the next try is due, and what is learned from the one that succeeds.
#[derive(Debug)]
pub(super) struct Tries {
    /// When the pod was seen to have its node.
    since: Instant,
    pub(super) next: Instant,
    pace: Pace,
    /// Absent where nothing is to be learned: a connection to an agent that ran before.
    kind: Option<Kind>,
    count: u32,
    /// The status has shown the helper running.
    runs: bool,
    /// What the status said last.
    version: String,
}

impl Tries {
    /// The first tries of a pod that starts.
    pub(super) fn learned(starts: &Starts, facts: &PodFacts, now: Instant) -> Self {
        let image = facts.container(layout::HELPER).map_or("", |container| container.image.as_str());
        let kind = Kind::new(facts.node.as_deref().unwrap_or_default(), image, starts.crowd());
        let pace = starts.pace(&kind);
        Self { next: now + pace.first, pace, kind: Some(kind), ..Self::at_once(facts, now) }
    }

    /// Of a pod that has been reached before.
    pub(super) fn at_once(facts: &PodFacts, now: Instant) -> Self {
        Self {
            since: now,
            next: now,
            pace: Pace::unknown_alone(),
            kind: None,
            count: 0,
            runs: runs(facts),
            version: facts.resource_version.clone(),
        }
    }

    /// The status, or the number of pods that start, may have changed.
    pub(super) fn look_again(&mut self, starts: &Starts, facts: &PodFacts, now: Instant) {
        if let Some(kind) = &mut self.kind
            && kind.grows(starts.crowd())
        {
            self.pace = starts.pace(kind);
            self.next = self.next.max(self.since + self.pace.first);
        }
        let runs = runs(facts);
        let news = self.version != facts.resource_version;
        self.version.clone_from(&facts.resource_version);
        // A helper that is shown to run can be reached now. Other news mean something only where
        // there is nothing better to go by.
        if (runs && !std::mem::replace(&mut self.runs, runs)) || (news && self.pace.restart(now - self.since)) {
            self.next = now;
        }
    }

    /// A try was made at `begun`, and has taken until `now`.
    pub(super) fn tried(&mut self, begun: Instant, now: Instant) {
        self.count += 1;
        self.next = begun.max(now) + self.pace.next(now - self.since);
    }

    /// The try at `begun` has succeeded.
    pub(super) fn succeeded(&mut self, starts: &Starts, begun: Instant) {
        if let Some(kind) = self.kind.take() {
            starts.learn(kind, begun - self.since, self.count);
        }
    }
}

fn runs(facts: &PodFacts) -> bool {
    facts.container(layout::HELPER).is_some_and(|helper| helper.state == ContainerState::Running)
}
