mod any_order;
mod connection;
mod found;
mod leaving;
mod starting;
mod walk;

use std::sync::Arc;

use gantry_core::FailureReason;
use gantry_core::ending::StartSetting;
use gantry_gitlab::RemoteStatus;
use gantry_kube::facts::{ContainerEnd, ContainerFacts, ContainerState, PodFacts, Words};
use gantry_kube::{PodState, facts};
use gantry_relay::{AckOutcome, GitlabStatus, GoneReason, RelayEnd};
use gantry_wire::frame::Phase;
use gantry_wire::layout::BUILD;
use gantry_wire::services::{EndedService, SilentService};
use proptest::prelude::*;

use gantry_kube::PodEvent;
use gantry_plan::HeadLine;

use super::agent::never_handed;
use super::*;
use crate::job::events::{JobTime, ServiceNews};

fn terms() -> Terms {
    Terms {
        pod: "p".into(),
        namespace: "ci".into(),
        services: Some(Vec::new()),
        timeout: Duration::from_secs(3600),
        start_timeout: Duration::from_secs(15),
        start_setting: StartSetting::PrepareTimeout,
        asks_events: false,
        prints_events: false,
        volumes: Vec::new(),
        is_known: true,
        manager_may_live: false,
    }
}

fn taken() -> (Machine, Vec<Effect>) {
    let (machine, effects) = Machine::taken(terms());
    (machine, acts(effects))
}

/// Without timers and lines about waiting.
fn acts(effects: Vec<Effect>) -> Vec<Effect> {
    let is_act = |effect: &Effect| !matches!(effect, Effect::Arm(..) | Effect::Disarm(_) | Effect::ShowWaiting(_));
    effects.into_iter().filter(is_act).collect()
}

impl Machine {
    /// What has to be done about what happened.
    fn acts(&mut self, event: Event) -> Vec<Effect> {
        acts(self.step(event))
    }
}

const CONNECT: Effect = Effect::Connect { resume: false, pause: false };
/// After a connection that has not lasted.
const RECONNECT: Effect = Effect::Connect { resume: true, pause: true };

fn ready(phase: Phase) -> Event {
    Event::AgentReady { phase, time: None }
}

fn ends(ending: Ending) -> Effect {
    Effect::EndLocally { ending, of_agent: false }
}

fn container(name: &str, state: ContainerState) -> ContainerFacts {
    ContainerFacts { name: name.into(), state, ..ContainerFacts::default() }
}

fn ended(exit_code: i32, reason: &str) -> ContainerState {
    ContainerState::Terminated(ContainerEnd { exit_code, reason: reason.into(), ..ContainerEnd::default() })
}

/// A pod that shows its containers like this.
fn seen(helper: ContainerState, build: ContainerState) -> Event {
    Event::PodSeen(PodState::Present(Arc::new(PodFacts {
        name: "p".into(),
        node: Some("n".into()),
        phase: facts::Phase::Running,
        containers: vec![container(HELPER, helper), container(BUILD, build)],
        ..PodFacts::default()
    })))
}

fn build_is(build: ContainerState) -> Event {
    seen(ContainerState::Running, build)
}

fn gone() -> Event {
    Event::PodSeen(PodState::Gone(None))
}

fn pod_deleted() -> Ending {
    Ending::PodDeleted { pod: "p".into() }
}

/// The job cannot go on, and its agent lives.
fn cannot_go_on() -> Event {
    build_is(ContainerState::Waiting(Words { reason: "CreateContainerError".into(), message: "no".into() }))
}

fn count(effects: &[Effect], wanted: impl Fn(&Effect) -> bool) -> usize {
    effects.iter().filter(|effect| wanted(effect)).count()
}

#[test]
fn nothing_runs_before_gitlab_knows() {
    let (mut machine, _) = taken();
    machine.acts(Event::PodCreated);
    machine.acts(ready(Phase::Waiting));
    assert_eq!(machine.acts(Event::PlanAccepted), [Effect::Acknowledge]);
    assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay, Effect::SendGo]);
}

/// A machine to which these things have happened.
fn after(events: impl IntoIterator<Item = Event>) -> Machine {
    let (mut machine, _) = taken();
    for event in events {
        machine.acts(event);
    }
    machine
}

/// A job that GitLab shows as running although its pod has no plan: it waits for a node, or for an
/// image.
fn acknowledged_early() -> [Event; 3] {
    [Event::PodCreated, Event::Time(Timer::Slow), Event::Acknowledged(AckOutcome::Running)]
}

/// A job of which this manager knows nothing but its pod, and perhaps a ticket.
fn adopted(is_known: bool) -> Machine {
    Machine::adopted(Terms { services: None, is_known, ..terms() })
}

fn runs() -> Event {
    seen(ContainerState::Running, ContainerState::Running)
}

/// A job whose pod's events may be asked.
fn asking() -> (Machine, Vec<Effect>) {
    let (machine, effects) = Machine::taken(Terms { asks_events: true, ..terms() });
    (machine, acts(effects))
}

fn warning(reason: &str, message: &str) -> PodEvent {
    let words = Words { reason: reason.into(), message: message.into() };
    PodEvent { is_warning: true, words, ..PodEvent::default() }
}
