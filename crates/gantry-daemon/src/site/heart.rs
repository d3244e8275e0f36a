//! How others learn that this manager lives: a counter on one of its job pods, and its last word.
//! What they conclude from it is in `owners.rs`.

use std::sync::Arc;
use std::time::Duration;

use gantry_kube::{Fault, Marked, PodFacts, rights};
use gantry_plan::ANNOTATION_HEARTBEAT;
use tokio::time::{Instant, timeout};

use crate::events::{EndNotAnnounced, PatchRefused, Said as _};
use crate::site::owners::{self, BEAT, LEFT};
use crate::site::shared::{Marking, Site};

/// How long one heartbeat may take. The next try follows soon, and others wait for one and a half
/// beats.
const BEAT_LIMIT: Duration = Duration::from_secs(4);

/// Until a heartbeat is tried again that the API server did not take: several fit into the time in
/// which others would hear nothing.
const BEAT_AGAIN: Duration = Duration::from_secs(1);

/// Pods that one heartbeat is tried on. Where a watch has stalled, those that it still shows may
/// all be gone.
const CARRIERS: usize = 4;

/// After a refusal, in case somebody has granted the right since.
const REFUSED_RETRY: Duration = Duration::from_mins(5);

/// How long a process that ends may take to say so.
const ANNOUNCE_END: Duration = Duration::from_secs(1);

/// Tells other managers that this process ends, so that one of them takes its jobs.
pub(super) async fn announce_end(site: &Site) {
    if site.marking() != Marking::Granted {
        return;
    }
    let word = format!("{} {LEFT}", site.owner());
    let marks = [(ANNOTATION_HEARTBEAT, word.as_str())];
    let pods = site.cluster().seen_pods();
    let telling = async {
        for facts in pods.iter().filter(|facts| is_carrier(facts, site.owner())) {
            // One that has just gone tells nobody.
            if matches!(site.cluster().annotate(&facts.pod(), &marks, None).await, Ok(Marked::Done(_))) {
                return;
            }
        }
    };
    if timeout(ANNOUNCE_END, telling).await.is_err() {
        EndNotAnnounced.say();
    }
}

/// The heartbeat of this process in one namespace.
#[derive(Default)]
pub(super) struct Heart {
    asked: bool,
    count: u64,
    /// The pod with the counter.
    carrier: Option<String>,
    /// Other managers count on the next one.
    has_beaten: bool,
    /// Since when there are jobs and none of their pods can be seen: one may have been made all the
    /// same, and say that others may conclude something from our silence.
    podless: Option<Instant>,
    next: Option<Instant>,
}

impl Heart {
    /// Until the next beat, if one was made or refused.
    pub(super) fn until_next(&self) -> Option<Duration> {
        self.next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether there is a pod with the counter.
    pub(super) fn has_carrier(&self) -> bool {
        self.carrier.is_some()
    }

    /// Asks once whether this manager may write on pods, before its first pod says what others may
    /// conclude from its silence.
    pub(super) async fn ask(&mut self, site: &Site) {
        if std::mem::replace(&mut self.asked, true) {
            return;
        }
        match site.cluster().may(&rights::MARKS).await {
            Ok(true) => {
                site.set_marking(Marking::Granted);
                site.set_gates(site.cluster().has_scheduling_gates().await);
            }
            Ok(false) => self.refused(site),
            Err(error) => tracing::debug!(%error, "the API server does not say whether pods may be patched"),
        }
    }

    fn refused(&mut self, site: &Site) {
        if site.marking() != Marking::Refused {
            PatchRefused(site.cluster().namespace()).say();
        }
        site.set_marking(Marking::Refused);
        self.next = Some(Instant::now() + REFUSED_RETRY);
    }

    /// Says that this manager lives, if it has jobs and it is time.
    pub(super) async fn beat(&mut self, site: &Site, pods: &[Arc<PodFacts>], has_jobs: bool) {
        let is_ours = |facts: &&Arc<PodFacts>| is_carrier(facts, site.owner());
        let is_carrier = |facts: &&Arc<PodFacts>| Some(&facts.uid) == self.carrier.as_ref();
        let (carrier, others): (Vec<_>, Vec<_>) = pods.iter().filter(is_ours).partition(is_carrier);
        let now = Instant::now();
        let is_due = self.next.is_none_or(|at| now >= at);
        let moved = carrier.is_empty() && site.marking() != Marking::Refused;
        if !moved && !is_due {
            return;
        }
        self.count += 1;
        let carriers = carrier.into_iter().chain(others);
        if self.beat_on(site, carriers).await || !has_jobs {
            self.podless = None;
            return;
        }
        let is_long = self.podless.get_or_insert(now).elapsed() >= BEAT;
        if !(is_due && (self.has_beaten || is_long && site.beats())) {
            return;
        }
        // The jobs' pods are not among those that are known: a watch may have stalled.
        let fresh = site.list_pods().await.unwrap_or_default();
        if self.beat_on(site, fresh.iter().filter(is_ours)).await {
            self.podless = None;
        } else {
            self.next = Some(now + BEAT / 2);
        }
    }

    /// Writes the counter on one of these pods. False if there is none of them any more.
    async fn beat_on<'a>(&mut self, site: &Site, pods: impl Iterator<Item = &'a Arc<PodFacts>>) -> bool {
        let word = format!("{} {}", site.owner(), self.count);
        let marks = [(ANNOTATION_HEARTBEAT, word.as_str())];
        for facts in pods.take(CARRIERS) {
            match timeout(BEAT_LIMIT, site.cluster().annotate(&facts.pod(), &marks, None)).await {
                Ok(Ok(Marked::Done(_))) => {
                    site.set_marking(Marking::Granted);
                    self.carrier = Some(facts.uid.clone());
                    (self.has_beaten, self.next) = (true, Some(Instant::now() + BEAT));
                    return true;
                }
                Ok(Ok(Marked::Changed)) => continue,
                Ok(Err(error)) if error.fault == Fault::Forbidden => self.refused(site),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "other managers cannot be reported that this one lives; trying again");
                }
                Err(_) => {
                    tracing::debug!("other managers cannot be reported in time that this one lives; trying again");
                }
            }
            if site.marking() != Marking::Refused {
                self.next = Some(Instant::now() + BEAT_AGAIN);
            }
            return true;
        }
        self.carrier = None;
        false
    }
}

/// Whether a pod can carry the counter of this manager.
fn is_carrier(facts: &PodFacts, owner: &str) -> bool {
    facts.takes_room() && owners::name(facts) == Some(owner)
}
