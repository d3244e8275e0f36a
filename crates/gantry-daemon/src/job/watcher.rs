//! Turns what the cluster says about a job's pod into events of the job, and into lines for its log while it waits.

use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::facts::{self, ContainerState, PodFacts};
use gantry_kube::{PodRef, PodWatch, Sight};
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
}

/// A pod that waits without a reason is not worth a line until it has waited this long: most start sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watches until nobody listens or nothing more can be seen.
pub(crate) async fn run(
    pod: PodRef,
    mut watch: PodWatch,
    services: Vec<String>,
    namespace: String,
    seen: mpsc::Sender<Seen>,
) {
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let mut told = Told { patience: Some(Instant::now() + PATIENCE), ..Told::default() };
    let mut sight = watch.current();
    loop {
        for news in told.news(&pod.name, &namespace, &services, &sight) {
            if seen.send(news).await.is_err() {
                return;
            }
        }
        let patience = told.patience;
        let out_of_patience = async {
            match patience {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = watch.changed() => match next {
                Some(next) => sight = next,
                None => return,
            },
            () = out_of_patience => told.patience = None,
        }
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
    fn news(&mut self, pod: &str, namespace: &str, services: &[&str], sight: &Sight) -> Vec<Seen> {
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
            let lines = waiting_lines(namespace, facts);
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
fn waiting_lines(namespace: &str, facts: &PodFacts) -> Vec<String> {
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
    std::iter::once(first).chain(reasons.into_iter().map(|reason| format!("\t{reason}"))).collect()
}
