//! What a pod's status proves about its job, and what of it is worth a line in the job log while it
//! does not run yet. Everything is said once.

use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::facts::{self, ContainerState, PodFacts};
use gantry_kube::{ApiError, PodEvent, PodState};
use gantry_wire::layout::{BUILD, HELPER};
use gantry_wire::services::{self as wire, EndedService};

use super::evidence::Evidence;
use super::services::{self, Services};
use super::terms::Terms;
use crate::job::events::{Effect, Timer};

/// A pod that waits without a reason is not worth a line until it has waited this long: most start
/// sooner.
pub(super) const QUIET_WAIT: Duration = Duration::from_secs(3);

/// How long a reason for waiting has to stand before the job is acknowledged, so that its log shows
/// it: some pass at once, and a job that is not acknowledged can still be given back.
const EXPLAINED: Duration = Duration::from_secs(1);

/// What a pod proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// All service containers have started.
    ServicesStarted,
    /// The container of a service has ended.
    ServiceEnded(EndedService),
    /// The agent is dead or the pod gone.
    AgentDead(Ending),
    /// The job cannot go on, although the agent may still live.
    CannotGoOn(Ending),
}

/// What is known of a job's pod.
#[derive(Clone, Debug)]
pub(super) struct PodView {
    name: String,
    namespace: String,
    service_names: Option<Vec<String>>,
    pod_state: PodState,
    services_started: bool,
    pub(super) services: Services,
    build_runs: bool,
    cannot_go_on: Option<Ending>,
    ended: bool,
    /// Why it does not run yet, by what was seen last.
    waiting: Vec<String>,
    /// What was in its way last.
    words: Vec<String>,
    /// Only reasons are shown yet.
    quiet: bool,
    /// Nothing is shown: an earlier manager has, and says what it saw until it ended.
    mute: bool,
    /// A reason for waiting was shown.
    explained: bool,
    evidence: Evidence,
}

impl PodView {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            name: terms.pod.clone(),
            namespace: terms.namespace.clone(),
            service_names: terms.services.clone(),
            pod_state: PodState::Unknown,
            services_started: false,
            services: Services::default(),
            build_runs: false,
            cannot_go_on: None,
            ended: false,
            waiting: Vec::new(),
            words: Vec::new(),
            quiet: true,
            mute: false,
            explained: false,
            evidence: Evidence::new(terms),
        }
    }

    /// The same of a pod that was found: what it shows now is news to nobody.
    pub(super) fn of_found(terms: &Terms) -> Self {
        Self { quiet: false, mute: true, ..Self::new(terms) }
    }

    /// What the pod shows from now on is news.
    pub(super) fn speak(&mut self) {
        self.mute = false;
    }

    /// The build container runs.
    pub(super) fn build_runs(&self) -> bool {
        self.build_runs
    }

    /// All service containers have started.
    pub(super) fn services_started(&self) -> bool {
        self.services_started
    }

    /// There is no such pod any more.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.pod_state, PodState::Gone(_))
    }

    /// Whether there are services, and not all of them have been seen to start.
    pub(super) fn awaits_services(&self) -> bool {
        !self.services_started && self.service_names.as_ref().is_some_and(|names| !names.is_empty())
    }

    /// Takes what the cluster shows.
    pub(super) fn look(&mut self, pod_state: PodState, out: &mut Vec<Effect>) -> Vec<Proof> {
        self.pod_state = pod_state;
        let facts = if let PodState::Present(facts) = &self.pod_state { Some(facts.as_ref()) } else { None };
        self.evidence.look(facts, out);
        self.look_again(out)
    }

    /// What is new about what was seen last.
    pub(super) fn look_again(&mut self, out: &mut Vec<Effect>) -> Vec<Proof> {
        let mut proofs = Vec::new();
        let pod_state = self.pod_state.clone();
        if let Some(facts) = pod_state.facts() {
            let services = self.services_of(facts);
            let dead: Vec<_> = services.iter().filter_map(|service| services::death(facts, service)).collect();
            if !self.services_started && !services.is_empty() && facts::services_started(facts, &services) {
                self.services_started = true;
                proofs.push(Proof::ServicesStarted);
            }
            for death in dead {
                if !self.services.take(&death) {
                    continue;
                }
                proofs.push(Proof::ServiceEnded(death.service.clone()));
                if !self.mute {
                    self.services.show(death, out);
                }
            }
            let runs = |name| facts.container(name).is_some_and(|container| container.state == ContainerState::Running);
            self.build_runs |= runs(BUILD);
            let lines = waiting_lines(&self.namespace, facts, &self.evidence.lines(facts));
            if lines != self.waiting && (lines.len() > 1 || !self.quiet) {
                self.waiting.clone_from(&lines);
                self.wait(lines.len() > 1, lines, out);
            }
        }
        proofs.extend(self.end(&pod_state));
        proofs
    }

    /// How messages name a service, with its container where that has another name.
    pub(super) fn shown_service(&self, container: &str) -> String {
        wire::shown(container, self.image_of(container))
    }

    /// What people call a service.
    pub(super) fn service_name(&self, container: &str) -> String {
        wire::called(container, self.image_of(container)).0.to_owned()
    }

    fn image_of(&self, container: &str) -> &str {
        self.pod_state.facts().and_then(|facts| facts.container(container)).map_or("", |container| &container.image)
    }

    /// Shows lines about waiting, and soon to whoever looks at the job's log if they explain it.
    pub(super) fn wait(&mut self, explains: bool, lines: Vec<String>, out: &mut Vec<Effect>) {
        if lines.is_empty() {
            return;
        }
        if !self.mute {
            out.push(Effect::ShowWaiting(lines.clone()));
            if explains && !self.explained {
                self.explained = true;
                out.push(Effect::Arm(Timer::Slow, EXPLAINED));
            }
        }
        self.words = lines;
    }

    fn services_of<'a>(&'a self, facts: &'a PodFacts) -> Vec<&'a str> {
        if let Some(names) = &self.service_names {
            return names.iter().map(String::as_str).collect();
        }
        let others = facts.containers.iter().filter(|container| !container.init);
        others.map(|container| container.name.as_str()).filter(|name| ![HELPER, BUILD].contains(name)).collect()
    }

    /// What proves that the agent is dead, or else that the job cannot go on.
    fn end(&mut self, pod_state: &PodState) -> Option<Proof> {
        if self.ended {
            return None;
        }
        let terminal = pod_state.terminal(&self.name, &[HELPER]);
        if let Some(ending) = terminal.filter(|ending| is_about_the_agent(pod_state, ending)) {
            self.ended = true;
            return Some(Proof::AgentDead(ending));
        }
        if self.cannot_go_on.is_some() {
            return None;
        }
        let ending = self.why_it_cannot_go_on(pod_state)?;
        self.cannot_go_on = Some(ending.clone());
        Some(Proof::CannotGoOn(ending))
    }

    /// Why the job cannot go on although its agent may live: the build container is over or cannot
    /// start, or the job waits for a service that cannot. A service that ends later is the script's
    /// affair (GitLab Runner 19.4).
    fn why_it_cannot_go_on(&self, pod_state: &PodState) -> Option<Ending> {
        let missing = || {
            let facts = pod_state.facts().filter(|_| !self.services_started)?;
            Some(match facts::unstartable(facts, &self.services_of(facts))? {
                Ending::ContainerConfig { container, message } => {
                    Ending::ContainerConfig { container: self.shown_service(&container), message }
                }
                ending => ending,
            })
        };
        pod_state.terminal(&self.name, &[BUILD]).or_else(missing)
    }

    /// Nobody could make use of it yet: it is said again with the next status.
    pub(super) fn forget_ending(&mut self, ending: &Ending) {
        if self.cannot_go_on.as_ref() == Some(ending) {
            self.cannot_go_on = None;
        }
    }

    /// Which services the pod, as it is now, shows not to have started; nothing if all of them
    /// have.
    pub(super) fn late_services(&self, facts: &PodFacts) -> Option<String> {
        let services = self.services_of(facts);
        if self.services_started || facts::services_started(facts, &services) {
            return None;
        }
        let containers = services.iter().filter_map(|name| facts.container(name));
        let waiting: Vec<String> = containers
            .filter(|container| !container.has_started())
            .map(|container| wire::shown(&container.name, &container.image))
            .collect();
        Some(format!("these services have not started: {}", waiting.join(", ")))
    }

    /// From now on a pod that waits without a reason is worth a line.
    pub(super) fn quiet_wait_is_over(&mut self) {
        self.quiet = false;
    }

    /// It is time to look at events.
    pub(super) fn ask(&mut self, out: &mut Vec<Effect>) {
        self.evidence.act(out);
    }

    /// Takes what the pod's events say.
    pub(super) fn learn(&mut self, answer: Result<Vec<PodEvent>, ApiError>, out: &mut Vec<Effect>) {
        let notes = self.evidence.learn(answer, out);
        if !notes.is_empty() && !self.mute {
            out.push(Effect::ShowNotes(notes));
        }
    }

    /// Whether the pod's events may be asked for causes, as far as known.
    pub(super) fn may_explain(&self) -> bool {
        self.evidence.may_explain()
    }

    /// The lines about waiting that were shown last.
    pub(super) fn shown(&self) -> &[String] {
        &self.words
    }

    /// What the pod said last about itself, on one line: its reasons, else `otherwise` and where to
    /// look for them.
    pub(super) fn why_not_started(&self, otherwise: &str) -> String {
        let mut words: Vec<&str> = self.words.iter().map(|line| line.trim()).collect();
        if words.len() < 2 {
            words.extend([otherwise].into_iter().chain(self.evidence.clue()));
        }
        words.join("; ")
    }
}

/// A container that cannot start ends the job, but the agent lives unless it is the helper itself
/// or the whole pod is over.
fn is_about_the_agent(pod_state: &PodState, ending: &Ending) -> bool {
    match (pod_state, ending) {
        (PodState::Gone(_), _) => true,
        (_, Ending::ImagePull { container, .. } | Ending::ContainerConfig { container, .. }) => container == HELPER,
        _ => true,
    }
}

/// The lines of GitLab Runner 19.4 about a pod that does not run yet, with further reasons; none
/// for one that does.
fn waiting_lines(namespace: &str, facts: &PodFacts, more: &[String]) -> Vec<String> {
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
    let reasons = reasons.iter().chain(more).map(|reason| format!("\t{reason}"));
    std::iter::once(first).chain(reasons).collect()
}
