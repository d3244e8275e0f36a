//! Faults that are a state of the cluster: is kubelet there, is the API server there, what is to
//! happen to a pod.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{
    Effect, Faults,
    effect::{self, fits},
    parse,
};

/// What kubelet says when it evicts a pod because the node's disk is full.
pub(crate) const LOW_ON_DISK: &str =
    "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1Gi. ";

/// Something that a test makes happen to a pod.
#[derive(Debug, Clone)]
pub(crate) enum PodFault {
    /// The node runs short of something and kubelet evicts the pod.
    Evict { reason: String, message: String },
    /// The kernel kills a container's processes for want of memory; an empty name means the first
    /// container.
    OutOfMemory { container: String },
}

/// How the API server sees kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kubelet {
    Up,
    /// Nobody listens on its port.
    Restarting,
    /// No packet arrives.
    Lost,
}

/// Whether the API server takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Up,
    Down,
}

/// How long a control plane waits for a silent kubelet, as in a real cluster.
const NODE_GRACE: Duration = Duration::from_secs(40);

/// What a pod's worker is told.
#[derive(Debug, Clone)]
pub(crate) enum Coming {
    Now(PodFault),
    /// Look again then.
    At(Instant),
}

impl Faults {
    /// How the API server sees kubelet now.
    pub(crate) fn kubelet(&self) -> Kubelet {
        self.absence().map_or(Kubelet::Up, |(state, ..)| state)
    }

    fn absence(&self) -> Option<(Kubelet, Instant, Option<Instant>)> {
        self.lasting(|effect| match effect {
            Effect::NodeLoss { .. } => Some(Kubelet::Lost),
            Effect::KubeletRestart {} => Some(Kubelet::Restarting),
            _ => None,
        })
    }

    /// Waits until kubelet can speak with the API server.
    pub(crate) async fn kubelet_up(&self) {
        self.kubelet_is(|state| state == Kubelet::Up).await;
    }

    /// Waits until kubelet is as wanted.
    pub(crate) async fn kubelet_is(&self, wanted: impl Fn(Kubelet) -> bool) {
        let mut changed = self.follow();
        loop {
            changed.borrow_and_update();
            let absence = self.absence();
            if wanted(absence.map_or(Kubelet::Up, |(state, ..)| state)) {
                return;
            }
            self.next_change(&mut changed, absence.and_then(|(_, _, until)| until)).await;
        }
    }

    /// Since when the control plane holds the node for lost, or when it will; `None` while kubelet
    /// is there.
    pub(crate) fn node_unknown_from(&self) -> Option<Instant> {
        let (grace, since, _) = self.lasting(|effect| match effect {
            Effect::NodeLoss { detect, .. } => Some(detect.map_or(NODE_GRACE, parse::seconds)),
            Effect::KubeletRestart {} => Some(NODE_GRACE),
            _ => None,
        })?;
        Some(since + grace)
    }

    /// Whether the node has crashed.
    pub(crate) fn crashed(&self) -> bool {
        let crash = |effect: &Effect| matches!(effect, Effect::NodeLoss { crash: true, .. }).then_some(());
        self.lasting(crash).is_some()
    }

    /// Whether the API server takes connections now.
    pub(crate) fn server(&self) -> Server {
        let down = self.lasting(|effect| matches!(effect, Effect::ApiRestart { .. }).then_some(()));
        if down.is_some() { Server::Down } else { Server::Up }
    }

    /// Becomes ready when the API server is restarted next.
    pub(crate) async fn restarted(&self) {
        let mut restarts = self.restarts.subscribe();
        restarts.borrow_and_update();
        if restarts.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Follows orders to close watches.
    pub(crate) fn closings(&self) -> Closings {
        Closings(self.closings.subscribe())
    }

    /// What is to happen to a pod, given the names of its running containers and how long the pod
    /// has run.
    pub(crate) fn pod_fault(&self, namespace: &str, pod: &str, running: &[&str], since: Instant) -> Option<Coming> {
        let due = |after: Option<f64>| since + parse::seconds(after.unwrap_or(0.0));
        let found = |effect: &Effect| -> Option<(PodFault, Instant)> {
            match effect {
                Effect::Evict { namespace: place, pod: name, after, reason, message }
                    if fits(place.as_ref(), namespace) && fits(name.as_ref(), pod) =>
                {
                    let reason = reason.clone().unwrap_or_else(|| "Evicted".to_owned());
                    let message = message.clone().unwrap_or_else(|| LOW_ON_DISK.to_owned());
                    Some((PodFault::Evict { reason, message }, due(*after)))
                }
                Effect::OomKill { namespace: place, pod: name, container, after }
                    if fits(place.as_ref(), namespace) && fits(name.as_ref(), pod) =>
                {
                    let hit = running.iter().find(|running| effect::fits(container.as_ref(), running))?;
                    Some((PodFault::OutOfMemory { container: (*hit).to_owned() }, due(*after)))
                }
                _ => None,
            }
        };
        let now = Instant::now();
        if let Some(pod_fault) = self.take(|effect| found(effect).filter(|(_, due)| *due <= now).map(|(hit, _)| hit)) {
            return Some(Coming::Now(pod_fault));
        }
        let later = |effect: &Effect| found(effect).map(|(_, due)| due).filter(|due| *due > now);
        self.lasting(later).map(|(due, ..)| Coming::At(due))
    }
}

/// Orders to close watches, from a moment on.
#[derive(Debug)]
pub(crate) struct Closings(watch::Receiver<(u64, Option<Effect>)>);

impl Closings {
    /// Becomes ready when a watch of that type and namespace is to end; the answer is whether with
    /// `410 Gone`.
    pub(crate) async fn closed(&mut self, resource: &str, namespace: &str) -> bool {
        while self.0.changed().await.is_ok() {
            if let Some(Effect::WatchClose { resource: wanted, namespace: place, gone }) = &self.0.borrow_and_update().1
                && fits(wanted.as_ref(), resource)
                && fits(place.as_ref(), namespace)
            {
                return *gone;
            }
        }
        std::future::pending().await
    }
}
