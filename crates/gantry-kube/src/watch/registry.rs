//! Who watches which pod, and what has been seen of each. A plain map behind a lock that is never held across a wait.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::Sight;
use crate::{facts::PodFacts, limits, pods::PodRef, seen::SeenPod};

/// Shared by the clones of a cluster and its driver.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By uid.
    watched: HashMap<String, Watched>,
    /// Every pod that the selector shows, by uid, so that who asks later is answered at once.
    seen: HashMap<String, Arc<PodFacts>>,
    /// The driver has been dropped: nothing will ever be seen again.
    closed: bool,
}

#[derive(Debug)]
struct Watched {
    pod: PodRef,
    sight: watch::Sender<Sight>,
    /// The shared watch shows it, so that nobody has to look it up.
    shown: bool,
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The shared list and watch.
    Feed,
    /// A GET.
    LookUp,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self, pod: &PodRef) -> watch::Receiver<Sight> {
        let mut state = self.lock();
        state.forget_unwatched();
        if state.closed {
            return watch::channel(Sight::Unseen).1;
        }
        if let Some(watched) = state.watched.get(&pod.uid) {
            return watched.sight.subscribe();
        }
        let seen = state.seen.get(&pod.uid).cloned();
        let shown = seen.is_some();
        let (sight, receiver) = watch::channel(seen.map_or(Sight::Unseen, Sight::Present));
        state.watched.insert(pod.uid.clone(), Watched { pod: pod.clone(), sight, shown });
        receiver
    }

    /// All pods that somebody watches and that are not known to be gone.
    pub(crate) fn watched(&self) -> Vec<PodRef> {
        self.select(|sight| !matches!(sight, Sight::Gone(_)))
    }

    /// Those of them of which nothing has been seen yet.
    pub(crate) fn unseen(&self) -> Vec<PodRef> {
        self.select(|sight| matches!(sight, Sight::Unseen))
    }

    /// Whether somebody watches a pod that the shared watch does not show and that is not known to be gone.
    pub(crate) fn is_hidden(&self, uid: &str) -> bool {
        self.lock().watched.get(uid).is_some_and(|watched| {
            !watched.shown && watched.sight.receiver_count() > 0 && !matches!(*watched.sight.borrow(), Sight::Gone(_))
        })
    }

    fn select(&self, wanted: impl Fn(&Sight) -> bool) -> Vec<PodRef> {
        let mut state = self.lock();
        state.forget_unwatched();
        let chosen = state.watched.values().filter(|watched| wanted(&watched.sight.borrow()));
        in_order(chosen.map(|watched| watched.pod.clone()))
    }

    /// Takes in an object that the API server showed. Answers can overtake each other: an older one than is known is left out.
    pub(crate) fn observe(&self, pod: &SeenPod, source: Source) {
        let mut state = self.lock();
        let Some(uid) = &pod.metadata.uid else { return };
        if source == Source::Feed
            && let Some(watched) = state.watched.get_mut(uid)
        {
            watched.shown = true;
        }
        let previous = state.seen.get(uid).cloned();
        if let Some(previous) = &previous
            && is_older(pod.metadata.resource_version.as_deref().unwrap_or_default(), &previous.resource_version)
        {
            return;
        }
        if previous.is_none() && state.seen.len() >= limits::SEEN && !state.watched.contains_key(uid) {
            return;
        }
        let facts = Arc::new(PodFacts::digest(pod, previous.as_deref()));
        state.seen.insert(uid.clone(), Arc::clone(&facts));
        if let Some(watched) = state.watched.get(uid) {
            watched.sight.send_if_modified(|sight| {
                let next = Sight::Present(facts);
                // Proven gone stays gone.
                let newer = !matches!(sight, Sight::Gone(_)) && *sight != next;
                if newer {
                    *sight = next;
                }
                newer
            });
        }
    }

    /// Takes in a complete list. Returns the watched pods that were seen before and are not in it.
    pub(crate) fn listed(&self, pods: &[SeenPod]) -> Vec<PodRef> {
        for pod in pods {
            self.observe(pod, Source::Feed);
        }
        let listed: HashSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let mut state = self.lock();
        state.forget_unwatched();
        let State { watched, seen, .. } = &mut *state;
        // Of a watched pod the facts are kept until a look-up has said what became of it.
        seen.retain(|uid, _| listed.contains(uid.as_str()) || watched.contains_key(uid));
        let missing = watched.values_mut().filter(|watched| !listed.contains(watched.pod.uid.as_str()));
        let seen_before = missing.filter_map(|watched| {
            watched.shown = false;
            let present = matches!(*watched.sight.borrow(), Sight::Present(_));
            present.then(|| watched.pod.clone())
        });
        in_order(seen_before)
    }

    /// The shared watch will not show the pod again. Its facts are forgotten, unless somebody watches it.
    pub(crate) fn left(&self, uid: &str) {
        let mut state = self.lock();
        match state.watched.get_mut(uid) {
            Some(watched) => watched.shown = false,
            None => {
                state.seen.remove(uid);
            }
        }
    }

    /// A look-up has proven that the pod is gone.
    pub(crate) fn gone(&self, uid: &str) {
        let mut state = self.lock();
        let last = state.seen.remove(uid);
        if let Some(watched) = state.watched.get(uid) {
            watched.sight.send_replace(Sight::Gone(last));
        }
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.watched.clear();
        state.seen.clear();
    }
}

/// By name: what is done about them must not depend on how a map happens to be laid out.
fn in_order(pods: impl Iterator<Item = PodRef>) -> Vec<PodRef> {
    let mut pods: Vec<PodRef> = pods.collect();
    pods.sort_unstable_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
    pods
}

impl State {
    fn forget_unwatched(&mut self) {
        self.watched.retain(|_, watched| watched.sight.receiver_count() > 0);
    }
}

/// Versions of one kind of object are numbers that grow, as long as they look like numbers (Kubernetes API, since 1.35 in writing).
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}
