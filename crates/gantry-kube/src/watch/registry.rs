//! Who watches which pod, and what has been seen of each. A plain map behind a lock that is never
//! held across a wait.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use super::{Coverage, PodState};
use crate::{
    facts::{ContainerEnd, ContainerFacts, ContainerState, PodFacts, Words},
    limits,
    observed::ObservedPod,
    pods::PodRef,
};

/// Shared by the clones of a cluster and its driver.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    coverage: watch::Sender<Coverage>,
}

#[derive(Debug, Default)]
struct State {
    /// By uid.
    watched: HashMap<String, Subscription>,
    /// Every pod that the selector shows, by uid, so that who asks later is answered at once.
    seen: HashMap<String, Arc<PodFacts>>,
    /// The driver has been dropped: nothing will ever be seen again.
    closed: bool,
}

#[derive(Debug)]
struct Subscription {
    pod: PodRef,
    pod_state: watch::Sender<PodState>,
    /// The shared watch shows it, so that nobody has to look it up.
    shown: bool,
    /// What was seen last, once the shared watch does not show it any more.
    last: Option<Arc<PodFacts>>,
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

    pub(crate) fn subscribe(&self, pod: &PodRef) -> watch::Receiver<PodState> {
        let mut state = self.lock();
        state.forget_unwatched();
        if state.closed {
            return watch::channel(PodState::Unknown).1;
        }
        if let Some(watched) = state.watched.get(&pod.uid) {
            return watched.pod_state.subscribe();
        }
        let seen = state.seen.get(&pod.uid).cloned();
        let shown = seen.is_some();
        let (pod_state, receiver) = watch::channel(seen.map_or(PodState::Unknown, PodState::Present));
        state.watched.insert(pod.uid.clone(), Subscription { pod: pod.clone(), pod_state, shown, last: None });
        receiver
    }

    /// Every pod that the selector shows, by name.
    pub(crate) fn all(&self) -> Vec<Arc<PodFacts>> {
        let mut all: Vec<Arc<PodFacts>> = self.lock().seen.values().cloned().collect();
        all.sort_unstable_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
        all
    }

    /// How many of them are like this.
    pub(crate) fn count(&self, is_wanted: impl Fn(&PodFacts) -> bool) -> usize {
        self.lock().seen.values().filter(|facts| is_wanted(facts)).count()
    }

    /// What the shared watch is good for.
    pub(crate) fn coverage(&self) -> watch::Receiver<Coverage> {
        self.coverage.subscribe()
    }

    /// The shared watch shows everything from now on, or may miss something from now on.
    pub(crate) fn set_live(&self, is_live: bool) {
        let now = Instant::now();
        self.coverage.send_if_modified(|coverage| {
            // One that was never live is not lost, and one that is not granted is not either.
            let changes = coverage.is_live() != is_live;
            if changes {
                *coverage = if is_live { Coverage::Live { since: now } } else { Coverage::Lost { since: now } };
            }
            changes
        });
    }

    /// `list` or `watch` is not granted.
    pub(crate) fn set_refused(&self) {
        self.coverage.send_replace(Coverage::Refused);
    }

    /// Takes in a pod that was just made, if the watch will also show its end.
    pub(crate) fn made(&self, pod: &ObservedPod) {
        if self.coverage.borrow().is_live() {
            self.observe(pod, Source::LookUp);
        }
    }

    /// All pods that somebody watches and that are not known to be gone.
    pub(crate) fn watched(&self) -> Vec<PodRef> {
        self.select(|pod_state| !matches!(pod_state, PodState::Gone(_)))
    }

    /// Those of them of which nothing has been seen yet.
    pub(crate) fn unseen(&self) -> Vec<PodRef> {
        self.select(|pod_state| matches!(pod_state, PodState::Unknown))
    }

    /// Whether somebody watches a pod that the shared watch does not show and that is not known to
    /// be gone.
    pub(crate) fn is_hidden(&self, uid: &str) -> bool {
        self.lock().watched.get(uid).is_some_and(|watched| {
            !watched.shown
                && watched.pod_state.receiver_count() > 0
                && !matches!(*watched.pod_state.borrow(), PodState::Gone(_))
        })
    }

    fn select(&self, wanted: impl Fn(&PodState) -> bool) -> Vec<PodRef> {
        let mut state = self.lock();
        state.forget_unwatched();
        let chosen = state.watched.values().filter(|watched| wanted(&watched.pod_state.borrow()));
        in_order(chosen.map(|watched| watched.pod.clone()))
    }

    /// Takes in an object that the API server showed. Answers can overtake each other: an older one
    /// than is known is left out.
    pub(crate) fn observe(&self, pod: &ObservedPod, source: Source) {
        let mut state = self.lock();
        let Some(uid) = &pod.metadata.uid else { return };
        if source == Source::Feed
            && let Some(watched) = state.watched.get_mut(uid)
        {
            watched.shown = true;
        }
        let last = || state.watched.get(uid).and_then(|watched| watched.last.clone());
        let previous = state.seen.get(uid).cloned().or_else(last);
        if let Some(previous) = &previous
            && is_older(pod.metadata.resource_version.as_deref().unwrap_or_default(), &previous.resource_version)
        {
            return;
        }
        let facts = Arc::new(PodFacts::digest(pod, previous.as_deref()));
        let is_new = previous.is_none();
        let is_too_much = is_new && state.seen.len() >= limits::SEEN || text_of(&facts) > limits::SEEN_TEXT;
        if is_too_much && !state.watched.contains_key(uid) {
            // What was remembered would be out of date.
            state.seen.remove(uid);
            return;
        }
        state.seen.insert(uid.clone(), Arc::clone(&facts));
        if let Some(watched) = state.watched.get(uid) {
            watched.pod_state.send_if_modified(|pod_state| {
                let next = PodState::Present(facts);
                // Proven gone stays gone.
                let newer = !matches!(pod_state, PodState::Gone(_)) && *pod_state != next;
                if newer {
                    *pod_state = next;
                }
                newer
            });
        }
    }

    /// Takes in a complete list. Returns the watched pods that were seen before and are not in it.
    pub(crate) fn listed(&self, pods: &[ObservedPod]) -> Vec<PodRef> {
        for pod in pods {
            self.observe(pod, Source::Feed);
        }
        let listed: HashSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let mut state = self.lock();
        state.forget_unwatched();
        let State { watched, seen, .. } = &mut *state;
        let missing = watched.values_mut().filter(|watched| !listed.contains(watched.pod.uid.as_str()));
        let seen_before = missing.filter_map(|watched| {
            watched.leaves(seen);
            let present = matches!(*watched.pod_state.borrow(), PodState::Present(_));
            present.then(|| watched.pod.clone())
        });
        let seen_before = in_order(seen_before);
        seen.retain(|uid, _| listed.contains(uid.as_str()));
        seen_before
    }

    /// The shared watch will not show the pod again. Its facts are kept for who watches it, if
    /// somebody does, until a look-up has said what became of it.
    pub(crate) fn left(&self, uid: &str) {
        let mut state = self.lock();
        let State { watched, seen, .. } = &mut *state;
        match watched.get_mut(uid) {
            Some(watched) if watched.pod_state.receiver_count() > 0 => watched.leaves(seen),
            _ => {
                seen.remove(uid);
                watched.remove(uid);
            }
        }
    }

    /// A look-up has proven that the pod is gone.
    pub(crate) fn gone(&self, uid: &str) {
        let mut state = self.lock();
        let last = state.seen.remove(uid);
        if let Some(watched) = state.watched.get_mut(uid) {
            let last = last.or(watched.last.take());
            watched.pod_state.send_replace(PodState::Gone(last));
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

impl Subscription {
    /// The shared watch does not show it any more.
    fn leaves(&mut self, seen: &mut HashMap<String, Arc<PodFacts>>) {
        self.shown = false;
        self.last = seen.remove(&self.pod.uid).or(self.last.take());
    }
}

/// Bytes of the texts in `facts`, the large ones.
fn text_of(facts: &PodFacts) -> usize {
    let words = |words: &Words| words.reason.len() + words.message.len();
    let of_end = |end: &ContainerEnd| end.reason.len() + end.message.len();
    let of_state = |state: &ContainerState| match state {
        ContainerState::Waiting(waiting) => words(waiting),
        ContainerState::Running => 0,
        ContainerState::Terminated(end) => of_end(end),
    };
    let of_container = |container: &ContainerFacts| {
        let ends = of_state(&container.state) + container.last_end.as_ref().map_or(0, of_end);
        size_of::<ContainerFacts>() + container.name.len() + container.image.len() + ends
    };
    let conditions = [&facts.unscheduled, &facts.disruption].into_iter().flatten().map(words).sum::<usize>();
    let node = facts.node.as_ref().map_or(0, String::len);
    let marks = facts.marks.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let own = facts.name.len() + facts.uid.len() + facts.reason.len() + facts.message.len() + node;
    own + conditions + marks + facts.containers.iter().map(of_container).sum::<usize>()
}

/// By name: what is done about them must not depend on how a map happens to be laid out.
fn in_order(pods: impl Iterator<Item = PodRef>) -> Vec<PodRef> {
    let mut pods: Vec<PodRef> = pods.collect();
    pods.sort_unstable_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
    pods
}

impl State {
    fn forget_unwatched(&mut self) {
        self.watched.retain(|_, watched| watched.pod_state.receiver_count() > 0);
    }
}

/// Versions of one kind of object are numbers that grow, as long as they look like numbers
/// (Kubernetes API, since 1.35 in writing).
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: usize, message: &str) -> ObservedPod {
        let pod = serde_json::json!({
            "metadata": {"name": "a", "uid": uid.to_string(), "resourceVersion": uid.to_string()},
            "status": {"message": message},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_that_has_left_is_none_of_all_pods_whoever_watches_it() {
        let registry = Registry::default();
        let names = || registry.all().len();
        registry.observe(&pod(1, "first"), Source::Feed);
        let watched = PodRef { name: "a".to_owned(), uid: "1".to_owned() };
        let pod_state = registry.subscribe(&watched);
        registry.observe(&pod(2, "second"), Source::Feed);
        assert_eq!(names(), 2);
        registry.left("1");
        registry.left("2");
        assert_eq!(names(), 0);
        registry.gone("1");
        assert!(matches!(&*pod_state.borrow(), PodState::Gone(Some(facts)) if facts.message == "first"));
        drop(pod_state);
        registry.left("1");
        assert!(registry.lock().watched.is_empty(), "nothing is kept for nobody");
        // One that a list does not show has left as well.
        registry.observe(&pod(3, "third"), Source::Feed);
        let _sight = registry.subscribe(&PodRef { name: "a".to_owned(), uid: "3".to_owned() });
        assert_eq!(registry.listed(&[]).len(), 1);
        assert_eq!(names(), 0);
    }

    #[test]
    fn what_nobody_watches_is_remembered_within_bounds() {
        let registry = Registry::default();
        let remembered = || registry.lock().seen.len();
        registry.observe(&pod(1, &"x".repeat(2 * limits::SEEN_TEXT)), Source::Feed);
        assert_eq!(remembered(), 0);
        for uid in 2..limits::SEEN + 100 {
            registry.observe(&pod(uid, "short"), Source::Feed);
        }
        assert_eq!(remembered(), limits::SEEN);
        let wanted = PodRef { name: "a".to_owned(), uid: "999999".to_owned() };
        let pod_state = registry.subscribe(&wanted);
        registry.observe(&pod(999_999, &"x".repeat(2 * limits::SEEN_TEXT)), Source::Feed);
        assert!(matches!(*pod_state.borrow(), PodState::Present(_)), "a pod that somebody watches is always seen");
    }
}
