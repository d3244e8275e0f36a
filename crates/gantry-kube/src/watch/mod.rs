//! What the cluster says about each pod, out of one watch per namespace and label selector. Steady
//! state costs one open request, whatever the number of pods; where `watch` is not granted, each
//! watched pod is looked at in turn.

mod driver;
mod feed;
mod registry;

use std::sync::Arc;

use futures::{Stream, stream};
use gantry_core::Ending;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::facts::{self, PodFacts};

pub(crate) use driver::drive;
pub(crate) use registry::Registry;

/// What is known about a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PodState {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Its object, as it was last shown.
    Present(Arc<PodFacts>),
    /// A GET has proven that it is gone. What was seen of it last, if anything.
    Gone(Option<Arc<PodFacts>>),
}

impl PodState {
    /// The facts that were seen last.
    pub fn facts(&self) -> Option<&PodFacts> {
        match self {
            Self::Unknown => None,
            Self::Present(facts) => Some(facts),
            Self::Gone(facts) => facts.as_deref(),
        }
    }

    /// How the job ended if there is proof that it cannot go on; see [`facts::terminal`].
    pub fn terminal(&self, pod: &str, interest: &[&str]) -> Option<Ending> {
        let ending = self.facts().and_then(|facts| facts::terminal(facts, interest));
        match self {
            Self::Gone(last) => Some(ending.unwrap_or_else(|| facts::gone(pod, last.as_deref()))),
            _ => ending,
        }
    }
}

/// What the shared watch is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing has been shown yet.
    #[default]
    Unknown,
    /// It shows every pod of the selector.
    Live {
        /// Since when, without a break.
        since: Instant,
    },
    /// It did, and may miss something now.
    Lost {
        /// Since when.
        since: Instant,
    },
    /// `list` or `watch` on pods is not granted.
    Refused,
}

impl Coverage {
    /// Whether every pod is shown now.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// Follows one pod. It shows levels, not events: who looks late sees only the newest state.
#[derive(Clone, Debug)]
pub struct PodWatch {
    receiver: watch::Receiver<PodState>,
    /// Keeps the driver alive while somebody watches.
    _driver: mpsc::Sender<()>,
}

impl PodWatch {
    pub(crate) fn new(receiver: watch::Receiver<PodState>, driver: mpsc::Sender<()>) -> Self {
        Self { receiver, _driver: driver }
    }

    /// What is known now. [`PodWatch::changed`] then waits for something newer.
    pub fn current(&mut self) -> PodState {
        self.receiver.borrow_and_update().clone()
    }

    /// Waits for something newer than what was last returned, and returns it. `None`: the driver
    /// has been dropped, nothing more will come.
    pub async fn changed(&mut self) -> Option<PodState> {
        self.receiver.changed().await.ok()?;
        Some(self.current())
    }

    /// Waits until `wanted` finds in the pod's state what it looks for. `None`: the driver has been
    /// dropped.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&PodState) -> Option<T>) -> Option<T> {
        let mut pod_state = self.current();
        loop {
            if let Some(found) = wanted(&pod_state) {
                return Some(found);
            }
            pod_state = self.changed().await?;
        }
    }

    /// The states as a stream, the present one first.
    pub fn into_stream(mut self) -> impl Stream<Item = PodState> + Send {
        self.receiver.mark_changed();
        stream::unfold(self, |mut watch| async move { Some((watch.changed().await?, watch)) })
    }
}
