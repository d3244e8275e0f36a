//! One site: what its parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use gantry_kube::{Cluster, Coverage, PodFacts};
use gantry_plan::{Fleet, LABEL_FLEET, LABEL_MANAGED};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use crate::hold::{self, Hold};
use crate::member::Member;
use crate::site::owners;

/// One namespace of one cluster.
pub(crate) struct Site {
    cluster: Cluster,
    owner: Arc<str>,
    coverage: watch::Receiver<Coverage>,
    claims: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: Vec<Weak<Member>>,
    marking: Marking,
    /// The API server knows scheduling gates.
    has_gates: bool,
    /// Jobs and requests for jobs of this process, by the fleet's label.
    places: BTreeMap<String, usize>,
    /// Names of the pods whose jobs this process took from GitLab and still has, whatever owner
    /// another manager has written on them.
    held: BTreeSet<String>,
    /// Pods of other managers that this one has looked into, by uid.
    orphans: BTreeMap<String, Progress>,
    /// What the first agent that was asked has said of each manager that cannot be seen to live.
    scouts: BTreeMap<String, Scout>,
    last_asked: Option<Instant>,
    /// For a namespace that jobs have chosen: when it was of use last.
    of_use: Option<Instant>,
}

/// Whether this manager may write on pods who owns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Marking {
    #[default]
    Unknown,
    Granted,
    Refused,
}

/// How far this manager is with a pod of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A job of this process has it.
    Here,
    /// It has another manager, or could not be looked into: worth another look.
    Again,
    /// Nothing more can be done for its job.
    Settled,
    /// It is being deleted.
    Removing,
}

/// What is known of a manager by the agent of one of its jobs. One is asked before all the others
/// are: a manager that lives is not disturbed for each of its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scout {
    /// Nothing yet.
    Asked,
    /// It lives, as of then.
    Lives(Instant),
    /// It is gone.
    Gone,
}

/// How long a list of pods may take: the keeper waits for it, and a heartbeat may be due.
const LIST_LIMIT: Duration = Duration::from_secs(4);

/// Jobs that are being claimed at once: an API server notices nothing, and a hundred are claimed
/// within a second.
const CLAIMS_AT_ONCE: usize = 32;

/// How long a namespace that jobs have chosen is watched although it has no pods of ours and no job
/// of this process: the next such job mostly comes sooner, and what another manager begins there
/// meanwhile is found if that dies.
pub(super) const KEPT: Duration = Duration::from_hours(1);

impl Site {
    pub(super) fn new(cluster: Cluster, owner: Arc<str>) -> Self {
        let coverage = cluster.coverage();
        Self { cluster, owner, coverage, claims: Semaphore::new(CLAIMS_AT_ONCE), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// All pods of ours in this namespace, straight from the API server, if it answers in time.
    pub(super) async fn list_pods(&self) -> Option<Vec<Arc<PodFacts>>> {
        match timeout(LIST_LIMIT, self.cluster.list_pods(&format!("{LABEL_MANAGED}=true"))).await {
            Ok(Ok(pods)) => Some(pods.iter().map(|pod| Arc::new(PodFacts::digest(pod, None))).collect()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "pods of other managers cannot be looked for");
                None
            }
            Err(_) => {
                tracing::debug!("pods of other managers cannot be looked for in time");
                None
            }
        }
    }

    /// What this process is called.
    pub(crate) fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// What the shared watch is good for now.
    pub(super) fn coverage(&self) -> Coverage {
        *self.coverage.borrow()
    }

    /// From now on pods of this runner's fleet are ours. `most`: how many of them there may be, if
    /// that is bounded.
    pub(crate) fn join(&self, runner: &Arc<Member>, most: Option<usize>) {
        let label = runner.fleet(self.cluster.namespace()).label();
        self.cluster.bound(&label, most);
        let mut state = self.lock();
        state.members.retain(|member| member.strong_count() > 0 && !member.ptr_eq(&Arc::downgrade(runner)));
        state.members.push(Arc::downgrade(runner));
    }

    /// Jobs may choose this namespace: it stays for those that come.
    pub(crate) fn keep(&self) {
        self.lock().of_use = Some(Instant::now());
    }

    /// There are pods of ours, or may be.
    pub(super) fn is_of_use(&self) {
        if let Some(of_use) = &mut self.lock().of_use {
            *of_use = Instant::now();
        }
    }

    /// Whether it is to stay although nobody has it.
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.lock().of_use.is_some_and(|at| now.saturating_duration_since(at) < KEPT)
    }

    /// The runners whose pods are here.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.lock().members.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn marking(&self) -> Marking {
        self.lock().marking
    }

    pub(super) fn set_marking(&self, marking: Marking) {
        self.lock().marking = marking;
    }

    /// Whether this manager may write on pods, as far as it knows.
    pub(crate) fn may_mark(&self) -> bool {
        self.marking() != Marking::Refused
    }

    pub(super) fn set_gates(&self, are_known: bool) {
        self.lock().has_gates = are_known;
    }

    /// Whether a pod can be held back after it was made, and let go.
    pub(crate) fn may_hold_back(&self) -> bool {
        let state = self.lock();
        state.has_gates && state.marking == Marking::Granted
    }

    /// What a new pod says of its owner's heart: whether others may conclude anything from its
    /// silence.
    pub(crate) fn beats(&self) -> bool {
        self.marking() == Marking::Granted
    }

    /// This process has the job of that pod until the answer is dropped.
    pub(crate) fn hold_pod(self: &Arc<Self>, name: &str) -> HeldPod {
        self.lock().held.insert(name.to_owned());
        HeldPod { site: Arc::clone(self), name: name.to_owned() }
    }

    /// Whether a job of this process has that pod.
    pub(super) fn has(&self, facts: &PodFacts) -> bool {
        let state = self.lock();
        state.held.contains(&facts.name) || state.orphans.get(&facts.uid) == Some(&Progress::Here)
    }

    /// Whether any job of this process has its pod here.
    pub(super) fn has_jobs(&self) -> bool {
        let state = self.lock();
        !state.held.is_empty() || state.orphans.values().any(|progress| *progress == Progress::Here)
    }

    /// How far this manager is with a pod of another.
    pub(super) fn progress(&self, uid: &str) -> Option<Progress> {
        self.lock().orphans.get(uid).copied()
    }

    pub(super) fn set_progress(&self, uid: &str, progress: Progress) {
        self.lock().orphans.insert(uid.to_owned(), progress);
    }

    /// Waits for a turn to claim a job. `None` cannot happen while the site lives.
    pub(super) async fn claim_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.claims.acquire().await.ok()
    }

    /// What is known of a manager by its agents.
    pub(super) fn scout(&self, owner: &str) -> Option<Scout> {
        self.lock().scouts.get(owner).copied()
    }

    pub(super) fn set_scout(&self, owner: &str, scout: Option<Scout>) {
        let mut state = self.lock();
        match scout {
            Some(scout) => state.scouts.insert(owner.to_owned(), scout),
            None => state.scouts.remove(owner),
        };
    }

    /// Forgets managers that have no pods any more.
    pub(super) fn keep_scouts(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().scouts.retain(|owner, _| is_there(owner));
    }

    /// Forgets pods that are gone.
    pub(super) fn keep_progress(&self, is_there: impl Fn(&str) -> bool) {
        self.lock().orphans.retain(|uid, progress| *progress == Progress::Here || is_there(uid));
    }

    /// A place among those of a fleet, for a request and for the job that comes of it, if there are
    /// fewer than `most`. Those of other managers are their pods, as far as they have been shown;
    /// ours count before they have pods.
    pub(crate) fn place(self: &Arc<Self>, fleet: &Fleet, most: Option<usize>) -> Result<FleetPlace, Hold> {
        let label = fleet.label();
        let others = most.map_or(0, |_| self.pods_of_others(&label));
        let mut state = self.lock();
        let places = state.places.entry(label.clone()).or_default();
        if let Some(most) = most.filter(|most| *places + others >= *most) {
            return Err(Hold::full(*places + others, most));
        }
        *places += 1;
        drop(state);
        Ok(FleetPlace { site: Arc::clone(self), label })
    }

    /// A place for a job that runs already, whether there is one or not.
    pub(crate) fn place_beyond(self: &Arc<Self>, fleet: &Fleet) -> FleetPlace {
        let label = fleet.label();
        *self.lock().places.entry(label.clone()).or_default() += 1;
        FleetPlace { site: Arc::clone(self), label }
    }

    /// Pods of a fleet that no job of this process has.
    fn pods_of_others(&self, label: &str) -> usize {
        let pods = self.cluster.seen_pods();
        let is_here = |facts: &PodFacts| owners::name(facts) == Some(&self.owner) || self.has(facts);
        let of_fleet = |facts: &&Arc<PodFacts>| facts.takes_room() && facts.mark(LABEL_FLEET) == Some(label);
        pods.iter().filter(of_fleet).filter(|facts| !is_here(facts)).count()
    }

    /// GitLab is asked for a job whose pod would come here.
    pub(crate) fn asks(&self) {
        self.lock().last_asked = Some(Instant::now());
    }

    /// Why no job should be asked for whose pod would come here.
    pub(crate) fn hold(&self) -> Option<Hold> {
        let pods = self.cluster.seen_pods();
        let waiting = pods.iter().filter(|facts| self.waits_for_a_node(facts)).count();
        let last_asked = self.lock().last_asked;
        hold::hold(self.cluster.shortage(), self.coverage(), (waiting, last_asked))
    }

    fn waits_for_a_node(&self, facts: &PodFacts) -> bool {
        let is_unschedulable = facts.unscheduled.as_ref().is_some_and(|words| words.reason == "Unschedulable");
        is_unschedulable && facts.takes_room() && owners::name(facts) == Some(&self.owner)
    }
}

/// A pod whose job this process took from GitLab; dropping it says that the job has ended here.
pub(crate) struct HeldPod {
    site: Arc<Site>,
    name: String,
}

impl Drop for HeldPod {
    fn drop(&mut self) {
        self.site.lock().held.remove(&self.name);
    }
}

/// A place among those of a fleet; dropping it gives it back.
pub(crate) struct FleetPlace {
    site: Arc<Site>,
    label: String,
}

impl Drop for FleetPlace {
    fn drop(&mut self) {
        if let Some(places) = self.site.lock().places.get_mut(&self.label) {
            *places = places.saturating_sub(1);
        }
    }
}
