//! Looks at all pods of a site again and again, and has done what a pod that it finds means. In
//! steady state it asks nothing of the API server but one heartbeat (`heart.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gantry_kube::{Coverage, PodFacts};
use gantry_plan::LABEL_FLEET;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::events::{OwnerChanged, PodNotRemoved, PodRemoved, Said as _};
use crate::member::Member;
use crate::site::adoption::{self, Orphan};
use crate::site::heart::Heart;
use crate::site::meaning::{Condition, FoundPod, Meaning, may_be_on_its_way, meaning};
use crate::site::owners::{self, Owners};
use crate::site::shared::{Marking, Progress, Scout, Site};
use crate::tasks;

/// How often pods are looked at, in memory, while there are some of other managers. With
/// [`owners::SILENCE`] and the time that adoption takes it stays below 20 s.
const LOOK: Duration = Duration::from_secs(1);

/// The same while there are none.
const LOOK_ALONE: Duration = Duration::from_secs(5);

/// Where pods can be listed and not watched: how often. One list per namespace and minute is little
/// for an API server.
const LIST: Duration = Duration::from_secs(60);

/// Until a pod is looked into again whose agent has a manager. The first look may come while the
/// connection of a manager that was killed is still held open by the network.
const AGAIN: Duration = Duration::from_secs(30);

/// For how long a pod of ours may name another manager before we write our own name again. Longer
/// than a manager that has lost a job takes to learn of it from the agent.
const NAMES_ANOTHER: Duration = Duration::from_secs(20);

/// Until a pod is removed again that could not be.
const REMOVE_AGAIN: Duration = Duration::from_mins(1);

/// How often it is looked into: an agent gives up a connection that is silent after 25 s, and does
/// not lose its manager later.
const LOOKS: u32 = 4;

/// Keeps the site as long as anybody has it.
pub(super) async fn run(site: Weak<Site>) {
    let Some(mut coverage) = site.upgrade().map(|site| site.cluster().coverage()) else { return };
    let mut keeper = Keeper::default();
    // Before the first pod, if possible: it says what may be concluded from its manager's silence.
    if let Some(site) = site.upgrade() {
        keeper.heart.ask(&site).await;
    }
    loop {
        tokio::select! {
            () = sleep(keeper.rest()) => {}
            // The first list should not wait. An error means that the cluster is gone, and so is
            // the site.
            changed = coverage.changed() => if changed.is_err() { return },
        }
        let Some(site) = site.upgrade() else { return };
        keeper.turn(&site).await;
    }
}

#[derive(Default)]
struct Keeper {
    owners: Owners,
    /// Pods of our fleets, by uid.
    pods: BTreeMap<String, RememberedPod>,
    /// Pods that cannot be made sense of and of which that was said.
    reported: BTreeSet<String>,
    /// There was a look at all pods.
    looked: bool,
    /// There are pods of our fleets that other managers own, or pods of ours without a heartbeat
    /// yet.
    has_others: bool,
    next_list: Option<Instant>,
    /// All pods at the last look.
    seen: Vec<Arc<PodFacts>>,
    heart: Heart,
}

/// What is remembered of a pod.
#[derive(Clone, Copy)]
struct RememberedPod {
    condition: Condition,
    since: Instant,
    was_there: bool,
    /// How often it was looked into.
    looks: u32,
    next_look: Option<Instant>,
    /// The last look was one that takes the job from a manager that is proven gone.
    replaced: bool,
    /// Its job is here, and since then it names another manager.
    names_another: Option<Instant>,
}

impl RememberedPod {
    /// Whether another look would be of no use yet, or any more.
    fn is_spent(&self, replaces: bool, now: Instant) -> bool {
        // That its manager is proven gone is news.
        let is_news = replaces && !self.replaced;
        !is_news && (self.next_look.is_some_and(|at| now < at) || self.looks >= LOOKS && !replaces)
    }
}

impl Keeper {
    /// Until the next look.
    fn rest(&self) -> Duration {
        let look = if self.looked && !self.has_others { LOOK_ALONE } else { LOOK };
        let beat = self.heart.until_next();
        // A heartbeat that is due and has no pod to be on is looked for with the rest.
        beat.filter(|beat| !beat.is_zero()).map_or(look, |beat| beat.min(look))
    }

    async fn turn(&mut self, site: &Arc<Site>) {
        let members = site.members();
        let Some(first) = members.first() else { return };
        if first.shared.stop_jobs.borrow().is_some() {
            return;
        }
        let is_unseen = matches!(site.coverage(), Coverage::Unknown | Coverage::Lost { .. });
        if is_unseen || site.has_jobs() || !self.pods.is_empty() {
            site.is_of_use();
        }
        self.heart.ask(site).await;
        let pods = self.look(site).await;
        if let Some(pods) = &pods {
            self.seen.clone_from(pods);
        }
        // Who cannot see all pods lives all the same.
        self.heart.beat(site, &self.seen, site.has_jobs()).await;
        let Some(pods) = pods else { return };
        if first.shared.jobs.is_closed() {
            // No new jobs, and none of others.
            return;
        }
        self.scan(site, &members, pods).await;
    }

    /// All pods there are, if that is known.
    async fn look(&mut self, site: &Site) -> Option<Vec<Arc<PodFacts>>> {
        let now = Instant::now();
        let pods = match site.coverage() {
            Coverage::Live { .. } => site.cluster().seen_pods(),
            Coverage::Refused if self.next_list.is_none_or(|at| now >= at) => {
                self.next_list = Some(now + LIST);
                site.list_pods().await?
            }
            Coverage::Refused | Coverage::Unknown => return None,
            Coverage::Lost { .. } => {
                self.owners.doubt(now);
                return None;
            }
        };
        self.owners.look(&pods, now);
        Some(pods)
    }

    async fn scan(&mut self, site: &Arc<Site>, members: &[Arc<Member>], pods: Vec<Arc<PodFacts>>) {
        let fleets = Fleets::of(site, members);
        self.remember(site, &fleets, &pods);
        self.own_again(site, &pods);
        site.keep_progress(|uid| self.pods.contains_key(uid));
        site.keep_scouts(|owner| pods.iter().any(|facts| owners::name(facts) == Some(owner)));
        let mut found = self.meanings(site, &fleets, &pods);
        let replaces = |(_, meaning): &(_, Meaning)| *meaning == Meaning::Adopt { replaces: true };
        if found.iter().any(replaces) {
            // What the watch has not shown may only be late: the API server itself is asked before
            // a manager counts as gone.
            let Some(fresh) = site.list_pods().await else { return self.owners.doubt(Instant::now()) };
            self.owners.look(&fresh, Instant::now());
            found = self.meanings(site, &fleets, &fresh);
        }
        for (facts, meaning) in found {
            match meaning {
                Meaning::Remove(why) => remove(site, &facts, why),
                Meaning::Adopt { replaces } if replaces || may_ask(site, &facts) => {
                    let (has_agent, lasts) = self.begin(&facts.uid, replaces);
                    let runners = fleets.runners(&facts).to_vec();
                    let manager_may_live = !replaces && has_agent && may_be_on_its_way(&facts, lasts);
                    adoption::begin(site, Orphan { facts, runners, replaces, manager_may_live, has_agent });
                }
                Meaning::Foreign | Meaning::Leave | Meaning::Adopt { .. } => {}
            }
        }
    }

    /// Keeps for how long each pod has been as it is.
    fn remember(&mut self, site: &Site, fleets: &Fleets, pods: &[Arc<PodFacts>]) {
        let (us, now) = (site.owner().as_ref(), Instant::now());
        let mut remembered = BTreeMap::new();
        for facts in pods.iter().filter(|facts| !fleets.runners(facts).is_empty()) {
            let condition = Condition::of(facts);
            let new = RememberedPod {
                condition,
                since: now,
                was_there: !self.looked,
                looks: 0,
                next_look: None,
                replaced: false,
                names_another: None,
            };
            let mut watched = self.pods.remove(&facts.uid).unwrap_or(new);
            if !watched.condition.is_like(condition) {
                // It is another question now.
                watched = RememberedPod { was_there: watched.was_there, ..new };
            }
            watched.condition = condition;
            let names_another = site.has(facts) && owners::name(facts).is_some_and(|owner| owner != us);
            watched.names_another = names_another.then(|| watched.names_another.unwrap_or(now));
            if owners::has_strange_owner(facts) && self.reported.insert(facts.uid.clone()) {
                OwnerChanged(&facts.name).say();
            }
            remembered.insert(facts.uid.clone(), watched);
        }
        self.has_others = pods.iter().any(|facts| {
            let is_ours = owners::name(facts) == Some(us);
            remembered.contains_key(&facts.uid) && (!is_ours || !self.heart.has_carrier())
        });
        self.reported.retain(|uid| remembered.contains_key(uid));
        self.pods = remembered;
        self.looked = true;
    }

    /// Writes our name on pods of ours again that another manager has claimed and did not get: by
    /// it others learn whether the job still has a manager.
    fn own_again(&mut self, site: &Arc<Site>, pods: &[Arc<PodFacts>]) {
        if site.marking() != Marking::Granted {
            return;
        }
        for facts in pods {
            let Some(watched) = self.pods.get_mut(&facts.uid) else { continue };
            if watched.names_another.is_some_and(|since| since.elapsed() >= NAMES_ANOTHER) {
                watched.names_another = None;
                adoption::own_beside(site, facts.pod());
            }
        }
    }

    /// What there is to do about them.
    fn meanings(&self, site: &Site, fleets: &Fleets, pods: &[Arc<PodFacts>]) -> Vec<(Arc<PodFacts>, Meaning)> {
        let now = Instant::now();
        let unix_seconds = Timestamp::now().as_second();
        let found = pods.iter().filter_map(|facts| {
            let watched = self.pods.get(&facts.uid)?;
            let progress = site.progress(&facts.uid);
            let found = FoundPod {
                facts,
                is_ours: !fleets.runners(facts).is_empty(),
                owner: self.owners.of(facts, site.owner(), now),
                is_here: site.has(facts),
                was_there: watched.was_there,
                lasts: now.saturating_duration_since(watched.since),
                unix_seconds,
            };
            let meaning = meaning(&found);
            let is_useless = match meaning {
                Meaning::Adopt { replaces } => progress == Some(Progress::Settled) || watched.is_spent(replaces, now),
                _ => false,
            };
            (!is_useless && !matches!(meaning, Meaning::Leave | Meaning::Foreign)).then(|| (Arc::clone(facts), meaning))
        });
        found.collect()
    }

    /// A pod is looked into. Whether there is an agent to ask, and for how long.
    fn begin(&mut self, uid: &str, replaces: bool) -> (bool, Duration) {
        let now = Instant::now();
        let Some(watched) = self.pods.get_mut(uid) else { return (false, Duration::ZERO) };
        watched.looks += 1;
        (watched.next_look, watched.replaced) = (Some(now + AGAIN), replaces);
        (watched.condition == Condition::Runs, now.saturating_duration_since(watched.since))
    }
}

/// Whether an agent should be asked who its manager is: one for each manager, and the others once
/// that one has said that it is gone.
fn may_ask(site: &Site, facts: &PodFacts) -> bool {
    let Some(owner) = owners::name(facts) else { return true };
    let may = match site.scout(owner) {
        None => true,
        Some(Scout::Lives(at)) => at.elapsed() >= AGAIN,
        Some(Scout::Asked) => false,
        Some(Scout::Gone) => return true,
    };
    if may {
        site.set_scout(owner, Some(Scout::Asked));
    }
    may
}

/// Whose pods are ours, and which runner goes on with the jobs of each fleet.
struct Fleets(BTreeMap<String, Vec<Arc<Member>>>);

impl Fleets {
    fn of(site: &Site, members: &[Arc<Member>]) -> Self {
        let mut fleets: BTreeMap<String, Vec<Arc<Member>>> = BTreeMap::new();
        for runner in members {
            let label = runner.fleet(site.cluster().namespace()).label();
            fleets.entry(label).or_default().push(Arc::clone(runner));
        }
        Self(fleets)
    }

    /// The runners of the pod's fleet; none if it is not ours.
    fn runners(&self, facts: &PodFacts) -> &[Arc<Member>] {
        facts.mark(LABEL_FLEET).and_then(|label| self.0.get(label)).map_or(&[], Vec::as_slice)
    }
}

/// Removes a pod, and the Secret with its logins, which goes with it unless its manager had no time
/// to see to that.
fn remove(site: &Arc<Site>, facts: &PodFacts, why: &'static str) {
    if site.progress(&facts.uid) == Some(Progress::Removing) {
        return;
    }
    site.set_progress(&facts.uid, Progress::Removing);
    let (site, pod, has_logins) = (Arc::clone(site), facts.pod(), facts.has_own_secret);
    tasks::spawn(async move {
        match site.cluster().delete_pod(&pod, None).await {
            Ok(()) => {
                PodRemoved { pod: &pod.name, why }.say();
                if has_logins {
                    adoption::remove_logins(&site, &pod.name).await;
                }
            }
            Err(error) => {
                PodNotRemoved { pod: &pod.name, error: &error }.say();
                tokio::time::sleep(REMOVE_AGAIN).await;
                site.set_progress(&pod.uid, Progress::Again);
            }
        }
    });
}
