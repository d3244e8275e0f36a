//! Turns what the cluster says about a job's pod into events of the job, and into lines for its log while it waits.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Ending;
use gantry_kube::facts::{self, ContainerState, PodFacts, Words};
use gantry_kube::{ApiError, Cluster, Fault, PodNow, PodRef, PodWatch, Sight};
use gantry_wire::layout::{BUILD, HELPER};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::job::events::Event;

/// What a look at the pod led to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// Something that changes the course of the job.
    Event(Event),
    /// Why the pod does not run yet, to be shown when it has changed.
    Waiting(Vec<String>),
    /// Where the cause is to be found, if the pod never starts and nothing better is known.
    Clue(String),
}

/// A pod that waits without a reason is not worth a line until it has waited this long: most start sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a pod with a node may say nothing about why it has not started before its events are asked, at most: most start sooner, and a
/// kubelet that cannot mount a volume has said so by then.
const UNEXPLAINED: Duration = Duration::from_secs(4);

/// Longest time between two looks at the events of such a pod.
const EVENTS_PERIOD: Duration = Duration::from_secs(30);

/// Between two looks at a pod whose time to start is over, while the API server cannot say whether its services have started. The watch may
/// be behind, and what was not seen proves nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is watched, and how.
pub(crate) struct Watcher {
    pub(crate) cluster: Cluster,
    pub(crate) pod: PodRef,
    pub(crate) services: Vec<String>,
    /// How long the pod may take to start.
    pub(crate) start_timeout: Duration,
    /// When that is over.
    pub(crate) late_at: Instant,
    /// Whether events may be asked (`print_pod_warning_events`).
    pub(crate) asks_events: bool,
}

impl Watcher {
    /// Watches until nobody listens or nothing more can be seen.
    pub(crate) async fn run(self, mut watch: PodWatch, seen: mpsc::Sender<Seen>) {
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        let namespace = self.cluster.namespace();
        let mut told = Told { patience: Some(Instant::now() + PATIENCE), ..Told::default() };
        let mut mystery = Mystery::new(&self);
        let mut late_at = (!services.is_empty()).then_some(self.late_at);
        let mut look: Option<BoxFuture<'_, PodNow>> = None;
        let mut sight = watch.current();
        loop {
            mystery.look(&sight);
            for news in told.news((&self.pod.name, namespace), &services, &sight, &mystery.warnings) {
                if seen.send(news).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                next = watch.changed() => match next {
                    Some(next) => sight = next,
                    None => return,
                },
                // The job has ended. Without that the pod counts as watched, and is asked for when it goes.
                () = seen.closed() => return,
                () = moment(told.patience) => told.patience = None,
                () = moment(late_at) => {
                    late_at = None;
                    look = Some(self.cluster.get_pod(&self.pod).boxed()).filter(|_| !told.services);
                }
                now = answer(&mut look) => {
                    look = None;
                    late_at = matches!(now, PodNow::Unknown(_)).then(|| Instant::now() + LOOK_AGAIN);
                    if let Some(event) = self.late(&services, now)
                        && seen.send(Seen::Event(event)).await.is_err()
                    {
                        return;
                    }
                }
                () = moment(mystery.ask_at) => mystery.ask(&self),
                answer = answer(&mut mystery.asked) => {
                    if let Some(clue) = mystery.learn(&self, answer)
                        && seen.send(Seen::Clue(clue)).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the pod, as it is now, shows that a service has not started in time.
    fn late(&self, services: &[&str], now: PodNow) -> Option<Event> {
        let PodNow::Present(pod) = now else { return None };
        let facts = PodFacts::digest(&pod, None);
        if facts::services_started(&facts, services) {
            return None;
        }
        let is_waiting = |name: &&&str| facts.container(name).is_some_and(|container| !container.has_started());
        let waiting: Vec<&str> = services.iter().filter(is_waiting).copied().collect();
        let detail = format!("these services have not started: {}", waiting.join(", "));
        Some(Event::ServicesLate(Ending::PodStartTimeout { seconds: self.start_timeout.as_secs(), detail }))
    }
}

/// The answer, if something was asked.
async fn answer<T>(asked: &mut Option<BoxFuture<'_, T>>) -> T {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// A moment that may never come.
async fn moment(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What the cluster says about its events.
type Answer = Result<Vec<Words>, ApiError>;

/// A pod that has a node and does not start, and whose status does not say why.
struct Mystery {
    /// When its events are asked next.
    ask_at: Option<Instant>,
    /// How long it has to be one before they are asked.
    first: Duration,
    /// Until they are asked again: a kubelet on a busy node is slow to say what it has tried.
    wait: Duration,
    /// They may be asked, as far as known.
    asks: bool,
    /// A question that is under way.
    asked: Option<BoxFuture<'static, Answer>>,
    /// What they have said.
    warnings: Vec<String>,
}

impl Mystery {
    fn new(watcher: &Watcher) -> Self {
        let first = UNEXPLAINED.min(watcher.start_timeout / 4);
        Self { ask_at: None, first, wait: first, asks: watcher.asks_events, asked: None, warnings: Vec::new() }
    }

    fn look(&mut self, sight: &Sight) {
        let is_unexplained = self.asks && matches!(sight, Sight::Present(facts) if facts::is_unexplained(facts));
        if !is_unexplained {
            (self.ask_at, self.asked, self.wait) = (None, None, self.first);
            self.warnings.clear();
        } else if self.ask_at.is_none() {
            self.ask_at = Some(Instant::now() + self.first);
        }
    }

    /// Asks for events, beside what the watch shows.
    fn ask(&mut self, watcher: &Watcher) {
        self.ask_at = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(EVENTS_PERIOD);
        let (cluster, pod) = (watcher.cluster.clone(), watcher.pod.clone());
        self.asked = Some(async move { cluster.pod_warnings(&pod).await }.boxed());
    }

    /// Takes an answer. Says what to do if events may not be read.
    fn learn(&mut self, watcher: &Watcher, answer: Answer) -> Option<String> {
        self.asked = None;
        let (pod, namespace) = (&watcher.pod, watcher.cluster.namespace());
        match answer {
            Ok(warnings) => self.warnings = warnings.iter().map(facts::warning_line).collect(),
            Err(error) if error.fault == Fault::Forbidden => {
                (self.asks, self.ask_at) = (false, None);
                return Some(format!(
                    "its events would say why, and the runner may not list them: see kubectl -n {namespace} get events \
                     --field-selector involvedObject.name={}, or grant list on events",
                    pod.name
                ));
            }
            Err(error) => tracing::debug!(%error, pod = pod.name, "the events of a pod cannot be read"),
        }
        None
    }
}

/// What was said already: everything is said once.
#[derive(Default)]
struct Told {
    services: bool,
    build: bool,
    doomed: bool,
    ended: bool,
    waiting: Vec<String>,
    /// Until when only reasons are said.
    patience: Option<Instant>,
}

impl Told {
    /// `pod` is its name and its namespace.
    fn news(&mut self, pod: (&str, &str), services: &[&str], sight: &Sight, warnings: &[String]) -> Vec<Seen> {
        let (pod, namespace) = pod;
        let mut news = Vec::new();
        if let Some(facts) = sight.facts() {
            if !self.services && !services.is_empty() && facts::services_started(facts, services) {
                self.services = true;
                news.push(Seen::Event(Event::ServicesStarted));
            }
            let runs = |name| facts.container(name).is_some_and(|container| container.state == ContainerState::Running);
            if !self.build && runs(BUILD) {
                self.build = true;
                news.push(Seen::Event(Event::BuildRuns));
            }
            let lines = waiting_lines(namespace, facts, warnings);
            if lines != self.waiting && (lines.len() > 1 || self.patience.is_none()) {
                self.waiting.clone_from(&lines);
                news.push(Seen::Waiting(lines));
            }
        }
        let about_the_agent =
            sight.terminal(pod, &[HELPER]).filter(|ending| !self.ended && is_about_the_agent(sight, ending));
        if let Some(ending) = about_the_agent {
            self.ended = true;
            news.push(Seen::Event(Event::PodEnded(ending)));
        } else if let Some(ending) = self.doom(pod, services, sight).filter(|_| !self.doomed && !self.ended) {
            self.doomed = true;
            news.push(Seen::Event(Event::Doomed(ending)));
        }
        news
    }

    /// Why the job cannot go on although its agent may live: the build container is over or cannot start, or the job waits for a service
    /// that cannot. A service that ends later is the script's affair (GitLab Runner 19.4).
    fn doom(&self, pod: &str, services: &[&str], sight: &Sight) -> Option<Ending> {
        let missing = || facts::unstartable(sight.facts().filter(|_| !self.services)?, services);
        sight.terminal(pod, &[BUILD]).or_else(missing)
    }
}

/// A container that cannot start dooms the job, but the agent lives unless it is the helper itself or the whole pod is over.
fn is_about_the_agent(sight: &Sight, ending: &Ending) -> bool {
    match (sight, ending) {
        (Sight::Gone(_), _) => true,
        (_, Ending::ImagePull { container, .. } | Ending::ContainerConfig { container, .. }) => container == HELPER,
        _ => true,
    }
}

/// The lines of GitLab Runner 19.4 about a pod that does not run yet; none for one that does.
fn waiting_lines(namespace: &str, facts: &PodFacts, warnings: &[String]) -> Vec<String> {
    if facts.phase != facts::Phase::Pending {
        return Vec::new();
    }
    let node = facts.node.as_deref().unwrap_or("<unknown>");
    let first = format!(
        "Waiting for pod {namespace}/{} to be running on the node {node}, status is {}",
        facts.name,
        facts.phase.as_str()
    );
    let reasons = facts::pending_reasons(facts);
    let reasons = reasons.iter().chain(warnings).map(|reason| format!("\t{reason}"));
    std::iter::once(first).chain(reasons).collect()
}
