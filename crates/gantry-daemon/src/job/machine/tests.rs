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

/// Runs one job against a world that answers every effect, in an order that `choices` decides, with
/// troubles thrown in. Returns all effects.
fn live(choices: &[u8]) -> Vec<Effect> {
    let (machine, pending) = taken();
    live_on(machine, pending, choices)
}

fn live_on(mut machine: Machine, mut pending: Vec<Effect>, choices: &[u8]) -> Vec<Effect> {
    let mut all: Vec<Effect> = Vec::new();
    let mut world: Vec<Event> = Vec::new();
    let mut choices = choices.iter().copied();
    let mut delivered = false;
    let mut rounds = 0;
    loop {
        for effect in pending.drain(..) {
            world.extend(answers(&effect));
            all.push(effect);
        }
        // A relay delivers once it runs and knows the verdict.
        let has_verdict = all.iter().any(|effect| matches!(effect, Effect::CloseFromAgent | Effect::EndLocally { .. }));
        if has_verdict && all.contains(&Effect::StartRelay) && !delivered {
            delivered = true;
            world.push(Event::RelayEnded(RelayEnd::Delivered));
        }
        if matches!(all.last(), Some(Effect::Done(_))) {
            return all;
        }
        rounds += 1;
        assert!(rounds < 2000, "no end: {machine:?}\n{all:?}");
        let choice = choices.next();
        let event = match choice.and_then(trouble) {
            Some(event) => event,
            None if world.is_empty() => Event::Time(Timer::Overdue),
            None => world.remove(usize::from(choice.unwrap_or(0)) % world.len()),
        };
        pending = acts(machine.step(event));
    }
}

/// What an effect leads to when all goes well.
fn answers(effect: &Effect) -> Vec<Event> {
    match effect {
        Effect::CreatePod => vec![Event::PodCreated],
        Effect::Connect { .. } => vec![ready(Phase::Waiting)],
        Effect::SendPlan => vec![Event::PlanAccepted],
        Effect::Acknowledge => vec![Event::Acknowledged(AckOutcome::Running)],
        Effect::SendGo => vec![Event::AgentRuns, Event::ShimReady, Event::AgentClosed],
        Effect::SendFail(_) => vec![Event::AgentClosed, Event::Time(Timer::Drain)],
        Effect::AskGitlab => vec![Event::GitlabStatus(GitlabStatus::Running)],
        Effect::DeletePod => vec![Event::PodDeleted],
        Effect::AskFinalEvents => vec![Event::FinalEvents(Vec::new()), Event::Time(Timer::FinalEvents)],
        _ => Vec::new(),
    }
}

/// Troubles begin here.
const TROUBLE: u8 = 200;

fn troubles() -> Vec<Event> {
    vec![
        Event::AgentLost,
        Event::AgentUnreachable(pod_deleted()),
        Event::PodNotCreated(pod_deleted()),
        Event::CancelRequested,
        cannot_go_on(),
        gone(),
        Event::Time(Timer::Slow),
        Event::Time(Timer::Start),
        Event::Stop("SIGTERM".into()),
        Event::RelayEnded(RelayEnd::GaveUp { message: "x".into() }),
        Event::RelayEnded(RelayEnd::Aborted(GoneReason::TakenBack)),
        Event::Acknowledged(AckOutcome::Gone(GoneReason::TakenBack)),
        Event::Acknowledged(AckOutcome::Canceling),
        Event::PlanRefused("x".into()),
        Event::Time(Timer::Drain),
        Event::GoneWhilePending(GoneReason::TakenBack),
        ready(Phase::Running),
        ready(Phase::Planned),
        ready(Phase::Closed),
        Event::Leave,
        Event::Time(Timer::HandOver),
        Event::Time(Timer::Leave),
        build_is(ContainerState::Running),
        Event::Time(Timer::ShimHello),
        Event::Time(Timer::Steady),
        Event::Time(Timer::Find),
        Event::AgentOwned,
        Event::AgentReported,
        Event::AgentMet(Phase::Waiting),
        Event::AgentBusy(Duration::from_secs(3)),
        Event::Time(Timer::Claim),
        Event::GitlabStatus(GitlabStatus::Waiting),
        Event::GitlabStatus(GitlabStatus::Unknown { message: "x".into() }),
        Event::GitlabUnusable,
        seen(ended(0, "Completed"), ContainerState::Running),
        seen(ended(137, "OOMKilled"), ContainerState::Running),
    ]
}

fn trouble(choice: u8) -> Option<Event> {
    troubles().get(usize::from(choice.checked_sub(TROUBLE)?)).cloned()
}

fn count(effects: &[Effect], wanted: impl Fn(&Effect) -> bool) -> usize {
    effects.iter().filter(|effect| wanted(effect)).count()
}

#[test]
fn a_good_job() {
    let effects = live(&[]);
    assert_eq!(
        effects,
        [
            Effect::CreatePod,
            CONNECT,
            Effect::SendPlan,
            Effect::Acknowledge,
            Effect::StartRelay,
            Effect::SendGo,
            Effect::CloseFromAgent,
            Effect::SendReported,
            Effect::DeletePod,
            Effect::Done(JobEnd::Reported(None)),
        ]
    );
}

#[test]
fn a_shim_that_says_nothing_ends_the_job() {
    let (mut machine, _) = taken();
    for event in [Event::PodCreated, build_is(ContainerState::Running), Event::Time(Timer::ShimHello)] {
        machine.acts(event);
    }
    assert!(!machine.awaits_shim(), "the agent has to be there first");
    machine.acts(ready(Phase::Waiting));
    machine.acts(Event::PlanAccepted);
    assert!(machine.awaits_shim());
    let effects = machine.acts(Event::Time(Timer::ShimHello));
    assert!(matches!(effects.as_slice(), [Effect::SendFail(Ending::ShimSilent { .. })]), "{effects:?}");
    assert!(!machine.awaits_shim());
}

#[test]
fn a_build_container_that_cannot_execute_the_shim_is_named() {
    for (shim, exit_code, named) in [(false, 126, true), (false, 1, false), (true, 126, false)] {
        let (mut machine, _) = taken();
        for event in [Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted] {
            machine.acts(event);
        }
        if shim {
            machine.acts(Event::ShimReady);
        }
        let effects = machine.acts(build_is(ended(exit_code, "Error")));
        let silent = matches!(effects.as_slice(), [Effect::SendFail(Ending::ShimSilent { .. })]);
        assert_eq!(silent, named, "{effects:?}");
    }
}

#[test]
fn nothing_runs_before_gitlab_knows() {
    let (mut machine, _) = taken();
    machine.acts(Event::PodCreated);
    machine.acts(ready(Phase::Waiting));
    assert_eq!(machine.acts(Event::PlanAccepted), [Effect::Acknowledge]);
    assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay, Effect::SendGo]);
}

#[test]
fn a_runner_that_stops_lets_gitlab_begin_anew_at_once_what_has_not_begun() {
    for stops in [Event::Stop("SIGTERM".into()), Event::Leave] {
        let (mut machine, _) = taken();
        machine.acts(Event::PodCreated);
        assert_eq!(machine.acts(stops), [ends(never_began()), Effect::Acknowledge]);
        assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay]);
        assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
        let end = JobEnd::Reported(Some(never_began()));
        assert_eq!(machine.acts(Event::PodDeleted), [Effect::Done(end)]);
    }
}

#[test]
fn a_running_job_is_left_to_its_agent() {
    let (mut machine, _) = taken();
    for event in [Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted] {
        machine.acts(event);
    }
    assert_eq!(machine.acts(Event::Leave), []);
    assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay, Effect::SendGo]);
    assert_eq!(machine.acts(Event::AgentRuns), [Effect::Done(JobEnd::HandedOver)]);
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

#[test]
fn a_job_that_waits_for_its_pod_ends_with_its_runner() {
    let mut machine = after(acknowledged_early());
    assert_eq!(machine.acts(Event::Leave), [ends(never_began())]);
    assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
    let end = JobEnd::Reported(Some(never_began()));
    assert_eq!(machine.acts(Event::PodDeleted), [Effect::Done(end)]);
    // GitLab tries again by itself what ends so, if it takes the reason and has not done it yet.
    for ending in [never_began(), never_handed()] {
        assert_eq!(ending.reason(), Some(FailureReason::SchedulerFailure));
        assert!(ending.verdict().message.ends_with("GitLab may try it again by itself"), "{ending:?}");
    }
}

/// Of a job that GitLab shows as running, only the pod tells the next manager.
#[test]
fn the_pod_of_a_job_stays_that_gitlab_could_not_be_told_about() {
    let early = || acknowledged_early().into_iter().chain([Event::Leave]);
    let comes_late =
        || [Event::Time(Timer::Slow), Event::Acknowledged(AckOutcome::Running), Event::Leave, Event::PodCreated];
    let dies = || acknowledged_early().into_iter().chain([cannot_go_on(), Event::Leave]);
    for mut machine in [after(early()), after(comes_late()), after(dies())] {
        let mut effects = machine.acts(Event::Time(Timer::HandOver));
        effects.extend(machine.acts(Event::Time(Timer::Leave)));
        assert_eq!(effects, [Effect::Done(JobEnd::LeftToNext)]);
    }
    let mut gone = after(acknowledged_early().into_iter().chain([gone(), Event::Leave]));
    let end = gone.acts(Event::Time(Timer::Leave));
    assert!(matches!(end.as_slice(), [Effect::Done(JobEnd::Undelivered(_))]), "{end:?}");
}

#[test]
fn a_pod_that_comes_while_the_runner_leaves_goes_again() {
    let mut machine = after([Event::Time(Timer::Slow), Event::Acknowledged(AckOutcome::Running), Event::Leave]);
    assert_eq!(machine.acts(Event::PodCreated), []);
    assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
    let mut machine = after([Event::Leave]);
    assert_eq!(machine.acts(Event::PodCreated), []);
    let over = GoneReason::Over(RemoteStatus::Canceled);
    assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Gone(over.clone()))), [Effect::DeletePod]);
    assert_eq!(machine.acts(Event::PodDeleted), [Effect::Done(JobEnd::Dropped(over))]);
}

#[test]
fn a_plan_on_its_way_has_its_time_and_then_the_pod_goes() {
    let handed = || after(acknowledged_early().into_iter().chain([ready(Phase::Waiting), Event::Leave]));
    let mut in_time = handed();
    assert_eq!(in_time.acts(Event::PlanAccepted), [Effect::SendGo]);
    assert_eq!(in_time.acts(Event::AgentRuns), [Effect::Done(JobEnd::HandedOver)]);
    let mut late = handed();
    assert_eq!(late.acts(Event::Time(Timer::HandOver)), [ends(never_began())]);
    assert_eq!(late.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
}

#[test]
fn an_agent_that_may_not_start_any_more_is_told_so() {
    let mut machine = after([Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted, Event::Leave]);
    assert_eq!(machine.acts(Event::Time(Timer::HandOver)), [Effect::SendFail(never_began())]);
    assert_eq!(machine.acts(Event::AgentClosed), [Effect::CloseFromAgent]);
    assert_eq!(machine.acts(Event::Time(Timer::Leave)), [Effect::Done(JobEnd::HandedOver)]);
}

#[test]
fn nothing_holds_up_a_runner_that_leaves() {
    let unanswered = "the runner has ended before GitLab had answered";
    for (events, end) in [
        // Neither GitLab nor the API server answers.
        (vec![], JobEnd::Undelivered(unanswered.into())),
        (vec![Event::PodCreated], JobEnd::LeftToNext),
        (vec![Event::Time(Timer::Slow)], JobEnd::Undelivered(unanswered.into())),
        (acknowledged_early().into(), JobEnd::LeftToNext),
        // The agent was told to start, and its connection broke before it could say that it has.
        (
            vec![
                Event::PodCreated,
                ready(Phase::Waiting),
                Event::PlanAccepted,
                Event::Acknowledged(AckOutcome::Running),
                Event::AgentLost,
            ],
            JobEnd::HandedOver,
        ),
    ] {
        let mut machine = after(events.clone());
        let mut effects = machine.acts(Event::Leave);
        effects.extend(machine.acts(Event::Time(Timer::HandOver)));
        effects.extend(machine.acts(Event::Time(Timer::Leave)));
        assert_eq!(effects.last(), Some(&Effect::Done(end)), "{events:?}");
    }
}

#[test]
fn a_pod_has_its_time_to_start_and_no_more() {
    let late = || Event::Time(Timer::Start);
    let agent = [ready(Phase::Waiting), Event::PlanAccepted, Event::AgentRuns];
    let ends = |more: &[Event], last: Event| {
        let mut machine = after(acknowledged_early().into_iter().chain(agent.clone()).chain(more.to_vec()));
        matches!(machine.acts(last).as_slice(), [Effect::SendFail(_)])
    };
    assert!(ends(&[], late()));
    assert!(!ends(&[Event::ShimReady], late()));
    // Who looks for the agent keeps the same limit and knows the cause; an agent that is found at
    // the last moment comes too late.
    let mut machine = after(acknowledged_early());
    assert_eq!(machine.acts(late()), []);
    assert!(matches!(machine.acts(ready(Phase::Waiting)).first(), Some(Effect::EndLocally { .. })));
}

/// A service that has not started is no less late than a build container; the watch may be behind,
/// so the pod itself is asked.
#[test]
fn services_have_the_same_time_to_start() {
    let with_service = |state| {
        let mut facts = PodFacts { phase: facts::Phase::Running, ..PodFacts::default() };
        facts.containers = vec![container("svc-0", state)];
        facts
    };
    let looked = |facts| Event::PodLooked(Some(Box::new(facts)));
    let machine = || {
        let (mut machine, _) = Machine::taken(Terms { services: Some(vec!["svc-0".into()]), ..terms() });
        let events = acknowledged_early().into_iter();
        for event in events.chain([ready(Phase::Waiting), Event::PlanAccepted, Event::AgentRuns, Event::ShimReady]) {
            machine.step(event);
        }
        machine
    };
    let mut late = machine();
    assert_eq!(late.acts(Event::Time(Timer::Start)), [Effect::LookAtPod]);
    assert_eq!(late.step(Event::PodLooked(None)), [Effect::Arm(Timer::Look, LOOK_AGAIN)]);
    assert_eq!(late.acts(Event::Time(Timer::Look)), [Effect::LookAtPod]);
    assert_eq!(late.acts(looked(with_service(ContainerState::Running))), []);
    let effects = late.acts(looked(with_service(ContainerState::default())));
    let [Effect::SendFail(Ending::PodStartTimeout { detail, setting, .. })] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!((detail.as_str(), *setting), ("these services have not started: svc-0", StartSetting::PrepareTimeout));

    let mut started = machine();
    let pod_state = PodState::Present(Arc::new(with_service(ContainerState::Running)));
    assert_eq!(started.acts(Event::PodSeen(pod_state)), [Effect::FollowLogs, Effect::SendServicesStarted]);
    assert_eq!(started.acts(Event::Time(Timer::Start)), []);
}

#[test]
fn services_that_end_or_do_not_answer_are_shown_with_their_log() {
    let (mut machine, _) = Machine::taken(Terms { services: Some(vec!["db".into()]), ..terms() });
    let events = acknowledged_early().into_iter();
    for event in events.chain([ready(Phase::Waiting), Event::PlanAccepted, Event::AgentRuns, Event::ShimReady]) {
        machine.step(event);
    }
    let mut before = machine.clone();
    let end = ContainerEnd { exit_code: 3, ..ContainerEnd::default() };
    let mut dead = PodFacts { phase: facts::Phase::Running, ..PodFacts::default() };
    dead.containers = vec![container("db", ContainerState::Terminated(end))];
    let effects = machine.acts(Event::PodSeen(PodState::Present(Arc::new(dead.clone()))));
    let ended = EndedService { container: "db".into(), how: "exit code 3".into() };
    let told = [Effect::FollowLogs, Effect::SendServicesStarted, Effect::SendServiceEnded(ended.clone())];
    let [Effect::AskLog(news), rest @ ..] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((news.container.as_str(), rest), ("db", &told[..]));
    dead.resource_version = "2".into();
    assert_eq!(machine.acts(Event::PodSeen(PodState::Present(Arc::new(dead.clone())))), [], "once");
    // The agent gives the service up; the end of its log is shown once, whatever comes first, and
    // then the job ends.
    let silent = |name: &str| {
        Event::ServiceSilent(SilentService {
            container: name.into(),
            message: "it does not answer".into(),
            fatal: true,
        })
    };
    let read = |news: &ServiceNews| Event::LogRead(news.clone(), Ok(vec!["last words".into()]));
    let not_ready = |name: &str| Ending::ServiceNotReady { service: name.into(), message: "it does not answer".into() };
    let mut late = machine.clone();
    let shown = machine.acts(read(news));
    assert!(matches!(shown.as_slice(), [Effect::ShowNotes(notes)] if notes.len() == 2), "{shown:?}");
    assert_eq!(machine.clone().acts(silent("db")), [Effect::SendFail(not_ready("db"))]);
    assert_eq!(late.acts(silent("db")), []);
    let [Effect::ShowNotes(_), Effect::SendFail(ending)] = &late.acts(read(news))[..] else { panic!() };
    assert_eq!(*ending, not_ready("db"));

    // One that is given up and dies before its log is read: that is shown once, and the job ends.
    let effects = before.acts(silent("db"));
    let [Effect::AskLog(news)] = effects.as_slice() else { panic!("{effects:?}") };
    let effects = before.acts(Event::PodSeen(PodState::Present(Arc::new(dead))));
    let [Effect::ShowNotes(notes), rest @ ..] = effects.as_slice() else { panic!("{effects:?}") };
    let lines: Vec<&str> = notes.iter().map(|line| line.text.as_str()).collect();
    assert_eq!((lines.as_slice(), rest), (&["Service db has ended while the job ran: exit code 3"][..], &told[..]));
    let [Effect::ShowNotes(_), Effect::SendFail(ending)] = &before.acts(read(news))[..] else { panic!() };
    assert_eq!(*ending, not_ready("db"));

    // One that lives and does not answer is shown likewise.
    let effects = machine.acts(silent("web"));
    let [Effect::AskLog(news)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(machine.acts(silent("web")), []);
    let [Effect::ShowNotes(_), Effect::SendFail(ending)] = &machine.acts(read(news))[..] else { panic!() };
    assert_eq!(*ending, not_ready("web"));

    // A new connection is told again.
    late = machine.clone();
    late.acts(Event::AgentLost);
    let told = [Effect::SendServicesStarted, Effect::SendServiceEnded(ended), Effect::SendFail(not_ready("web"))];
    assert_eq!(late.acts(ready(Phase::Running)), told);
}

#[test]
fn a_connection_that_ends_before_the_first_word_is_made_again() {
    let (mut machine, _) = taken();
    machine.acts(Event::PodCreated);
    assert_eq!(machine.acts(Event::AgentLost), [Effect::Connect { resume: false, pause: true }]);
    assert_eq!(machine.acts(ready(Phase::Waiting)), [Effect::SendPlan]);
}

#[test]
fn the_rest_of_a_closed_trace_is_fetched_over_a_new_connection() {
    let (mut machine, _) = taken();
    for event in
        [Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted, Event::Acknowledged(AckOutcome::Running)]
    {
        machine.acts(event);
    }
    assert_eq!(machine.acts(Event::AgentClosed), [Effect::CloseFromAgent]);
    assert_eq!(machine.acts(Event::AgentLost), [RECONNECT]);
    assert_eq!(machine.acts(ready(Phase::Closed)), []);
    // This one lasts.
    machine.acts(Event::Time(Timer::Steady));
    assert_eq!(machine.acts(Event::AgentLost), [Effect::Connect { resume: true, pause: false }]);
    assert_eq!(machine.acts(Event::AgentUnreachable(pod_deleted())), [Effect::EndTrace]);
    assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
}

#[test]
fn a_job_that_has_ended_is_delivered_and_its_pod_removed_before_the_runner_leaves() {
    for bad_news in [Event::AgentClosed, gone()] {
        let (mut machine, _) = taken();
        for event in [Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted] {
            machine.acts(event);
        }
        for event in [Event::Acknowledged(AckOutcome::Running), bad_news, Event::Time(Timer::Drain)] {
            machine.acts(event);
        }
        let mut effects = machine.acts(Event::Leave);
        effects.extend(machine.acts(Event::RelayEnded(RelayEnd::Delivered)));
        assert_eq!(count(&effects, |effect| *effect == Effect::DeletePod), 1);
        assert!(matches!(machine.acts(Event::PodDeleted).as_slice(), [Effect::Done(JobEnd::Reported(_))]));
    }
}

#[test]
fn an_agent_that_has_reported_by_itself_is_not_contradicted() {
    let (mut machine, _) = taken();
    for event in [
        Event::PodCreated,
        ready(Phase::Waiting),
        Event::PlanAccepted,
        Event::Acknowledged(AckOutcome::Running),
        Event::AgentLost,
    ] {
        machine.acts(event);
    }
    let over = seen(ended(0, "Completed"), ContainerState::Running);
    assert_eq!(machine.acts(over), [Effect::DeletePod]);
    assert_eq!(machine.acts(Event::PodDeleted), [Effect::Done(JobEnd::Reported(None))]);
}

#[test]
fn a_broken_stream_is_not_a_verdict() {
    let (mut machine, _) = taken();
    for event in
        [Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted, Event::Acknowledged(AckOutcome::Running)]
    {
        machine.acts(event);
    }
    assert_eq!(machine.acts(Event::AgentLost), [RECONNECT]);
    assert_eq!(machine.acts(Event::CancelRequested), []);
    assert_eq!(machine.acts(ready(Phase::Running)), [Effect::SendCancel { force: false }]);
}

/// It was looked for until the job's own time was over, not its pod's.
#[test]
fn an_agent_that_is_lost_for_good_has_had_the_time_of_its_job() {
    let late = || {
        let (seconds, setting, detail) = (332, StartSetting::PollTimeout, "away".to_owned());
        Event::AgentUnreachable(Ending::PodStartTimeout { seconds, setting, detail })
    };
    let mut machine = after([Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted, Event::AgentLost]);
    let ending = Ending::TimedOut { seconds: 3600 };
    assert_eq!(machine.acts(late()), [Effect::EndLocally { ending, of_agent: true }]);
    let mut machine = after([Event::PodCreated]);
    let effects = machine.acts(late());
    let [Effect::EndLocally { ending: Ending::PodStartTimeout { setting: StartSetting::PrepareTimeout, .. }, .. }, _] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
}

/// Its manager may have been cut off while everything started.
#[test]
fn an_agent_out_of_reach_may_have_begun_when_its_pods_time_to_start_is_over() {
    let cut_off = || {
        let mut machine = after([Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted]);
        machine.acts(Event::Acknowledged(AckOutcome::Running));
        machine.acts(Event::AgentLost);
        assert_eq!(machine.acts(Event::Time(Timer::Start)), []);
        machine
    };
    let mut begun = cut_off();
    begun.acts(Event::ShimReady);
    assert_eq!(begun.acts(ready(Phase::Running)), []);
    let [Effect::SendFail(Ending::PodStartTimeout { .. })] = cut_off().acts(ready(Phase::Running))[..] else {
        panic!()
    };
}

#[test]
fn what_a_dying_agent_still_gives_is_taken_first() {
    let (mut machine, _) = taken();
    for event in [Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted] {
        machine.acts(event);
    }
    machine.acts(Event::Acknowledged(AckOutcome::Running));
    let ending = Ending::ContainerOutOfMemory { container: "helper".into(), limit: None };
    assert_eq!(machine.acts(seen(ended(137, "OOMKilled"), ContainerState::Running)), []);
    assert_eq!(machine.acts(Event::AgentLost), [Effect::EndLocally { ending, of_agent: true }]);
}

/// A job of which this manager knows nothing but its pod, and perhaps a ticket.
fn adopted(is_known: bool) -> Machine {
    Machine::adopted(Terms { services: None, is_known, ..terms() })
}

fn found(phase: Phase) -> Event {
    Event::AgentReady {
        phase,
        time: Some(JobTime { timeout: Duration::from_secs(100), left: Duration::from_secs(60) }),
    }
}

const FIND: Effect = Effect::Connect { resume: true, pause: false };

fn runs() -> Event {
    seen(ContainerState::Running, ContainerState::Running)
}

#[test]
fn a_job_that_runs_goes_on_under_its_new_manager() {
    let mut machine = adopted(false);
    assert_eq!(machine.acts(Event::PodSeen(PodState::Unknown)), []);
    assert_eq!(machine.acts(runs()), [FIND]);
    assert_eq!(machine.acts(found(Phase::Running)), [Effect::Acknowledge]);
    assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay]);
    assert_eq!(machine.acts(Event::AgentClosed), [Effect::CloseFromAgent]);
    assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::SendReported, Effect::DeletePod]);
    assert_eq!(machine.acts(Event::PodDeleted), [Effect::Done(JobEnd::Reported(None))]);
}

#[test]
fn a_job_that_nobody_has_let_begin_begins_once_gitlab_knows() {
    let mut machine = adopted(true);
    machine.acts(runs());
    assert_eq!(machine.acts(found(Phase::Planned)), [Effect::Acknowledge]);
    assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay, Effect::SendGo]);

    // GitLab has given it to somebody else.
    let mut machine = adopted(true);
    machine.acts(runs());
    machine.acts(found(Phase::Planned));
    let gone = Event::Acknowledged(AckOutcome::Gone(GoneReason::TakenBack));
    assert_eq!(machine.acts(gone), [Effect::SendCancel { force: true }, Effect::DeletePod]);
}

#[test]
fn a_job_that_was_reported_is_not_reported_again() {
    let over = || GoneReason::Over(gantry_gitlab::RemoteStatus::Success);
    let mut machine = adopted(false);
    machine.acts(runs());
    machine.acts(found(Phase::Closed));
    machine.acts(Event::AgentClosed);
    let effects = machine.acts(Event::Acknowledged(AckOutcome::Gone(over())));
    assert_eq!(effects, [Effect::SendReported, Effect::DeletePod]);
    assert_eq!(machine.acts(Event::PodDeleted), [Effect::Done(JobEnd::Reported(None))]);

    // The agent did it by itself.
    let mut machine = adopted(false);
    assert_eq!(machine.acts(seen(ended(0, "Completed"), ContainerState::Running)), [Effect::DeletePod]);
}

#[test]
fn gitlab_begins_a_job_without_a_plan_anew_at_once() {
    let ends = Effect::EndLocally { ending: never_handed(), of_agent: true };
    for agent in [true, false] {
        for (status, effects) in [
            // It takes a final state only of a job that it shows as running.
            (GitlabStatus::Waiting, [ends.clone(), Effect::Acknowledge]),
            (GitlabStatus::Running, [Effect::StartRelay, ends.clone()]),
        ] {
            let mut machine = adopted(true);
            if agent {
                machine.acts(runs());
                assert_eq!(machine.acts(found(Phase::Waiting)), [Effect::AskGitlab]);
            } else {
                // Its status may be behind: an agent is looked for all the same, for a moment.
                machine.acts(seen(ContainerState::default(), ContainerState::default()));
                assert_eq!(machine.acts(Event::Time(Timer::Find)), [Effect::AskGitlab]);
                if status == GitlabStatus::Running {
                    // A plan may have come all the same.
                    let longer = [Effect::LookAtPod, Effect::Arm(Timer::Find, super::limits::FIND_RUNNING)];
                    assert_eq!(machine.step(Event::GitlabStatus(GitlabStatus::Running)), longer);
                    assert_eq!(machine.acts(Event::PodLooked(None)), []);
                    // The watch was behind: the agent had come, and has died.
                    let mut dead = machine.clone();
                    let facts = PodFacts {
                        node: Some("n".into()),
                        containers: vec![container(HELPER, ended(137, "Error"))],
                        ..PodFacts::default()
                    };
                    assert_eq!(dead.acts(Event::PodLooked(Some(Box::new(facts)))), [Effect::AskGitlab]);
                    let effects = dead.acts(Event::GitlabStatus(GitlabStatus::Running));
                    assert!(!effects.contains(&ends), "{effects:?}");
                    assert_eq!(machine.acts(Event::Time(Timer::Find)), [Effect::AskGitlab]);
                }
            }
            assert_eq!(machine.acts(Event::GitlabStatus(status.clone())), effects);
            if status == GitlabStatus::Waiting {
                assert_eq!(machine.acts(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay]);
            }
            assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
        }
    }
    let unscheduled = PodFacts {
        name: "p".into(),
        containers: vec![container(HELPER, ContainerState::default())],
        ..PodFacts::default()
    };
    let mut machine = adopted(true);
    assert_eq!(machine.acts(Event::PodSeen(PodState::Present(Arc::new(unscheduled)))), [Effect::AskGitlab]);
}

#[test]
fn a_dead_pod_is_reported_with_its_cause_if_there_is_a_ticket() {
    let oom = || seen(ended(137, "OOMKilled"), ContainerState::Running);
    let mut machine = adopted(true);
    assert_eq!(machine.acts(oom()), [Effect::AskGitlab]);
    let effects = machine.acts(Event::GitlabStatus(GitlabStatus::Running));
    let [Effect::StartRelay, Effect::EndLocally { ending: Ending::ContainerOutOfMemory { .. }, of_agent: true }] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(machine.acts(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
    assert_eq!(adopted(false).acts(oom()), [Effect::Done(JobEnd::Unknown)]);
    assert_eq!(adopted(false).acts(gone()), [Effect::Done(JobEnd::Unknown)]);
}

#[test]
fn a_job_of_another_manager_is_not_touched() {
    let mut machine = adopted(true);
    machine.acts(runs());
    assert_eq!(machine.acts(Event::AgentOwned), [Effect::Done(JobEnd::Owned)]);
    // A manager that slept while another one took its job over.
    let mut machine = after([Event::PodCreated, ready(Phase::Waiting), Event::PlanAccepted]);
    machine.acts(Event::Acknowledged(AckOutcome::Running));
    assert_eq!(machine.acts(Event::AgentLost), [RECONNECT]);
    assert_eq!(machine.acts(Event::AgentOwned), [Effect::Done(JobEnd::Owned)]);
}

/// A manager that has slept has told GitLab that the job runs, and only then learns that another
/// has the agent: one of them ends the job, which is who has the agent.
#[test]
fn a_job_whose_plan_has_not_left_its_manager_is_ended_by_whoever_has_its_agent() {
    let mut machine = after(acknowledged_early());
    assert_eq!(machine.acts(Event::AgentOwned), [Effect::Done(JobEnd::Owned)]);
    let mut found = adopted(true);
    found.acts(runs());
    assert_eq!(found.acts(Event::AgentMet(Phase::Waiting)), [Effect::Greet]);
    assert_eq!(found.acts(ready(Phase::Waiting)), [Effect::AskGitlab]);
    let [Effect::StartRelay, Effect::EndLocally { ending: Ending::NeverBegun { .. }, .. }] =
        found.acts(Event::GitlabStatus(GitlabStatus::Running))[..]
    else {
        panic!()
    };
    // Who does not know the job could not end it, and does not claim its agent.
    let mut unknown = adopted(false);
    unknown.acts(runs());
    assert_eq!(unknown.acts(Event::AgentMet(Phase::Waiting)), [Effect::Done(JobEnd::Unknown)]);
}

#[test]
fn an_agent_without_a_plan_is_left_to_a_manager_that_may_live() {
    let found = |manager_may_live| {
        let mut machine = Machine::adopted(Terms { services: None, manager_may_live, ..terms() });
        machine.acts(runs());
        machine
    };
    assert_eq!(found(true).acts(Event::AgentMet(Phase::Waiting)), [Effect::Done(JobEnd::TooEarly)]);
    assert_eq!(found(true).acts(Event::Time(Timer::Find)), [Effect::Done(JobEnd::TooEarly)]);
    let ended = seen(ended(137, "OOMKilled"), ContainerState::Running);
    assert_eq!(found(true).acts(ended), [Effect::Done(JobEnd::TooEarly)]);
    assert_eq!(found(true).acts(Event::AgentMet(Phase::Planned)), [Effect::Greet]);
    assert_eq!(found(false).acts(Event::AgentMet(Phase::Waiting)), [Effect::Greet]);
}

#[test]
fn an_agent_that_hears_another_manager_is_asked_again_for_a_moment_only() {
    let mut machine = adopted(true);
    machine.acts(runs());
    assert_eq!(machine.acts(Event::AgentMet(Phase::Running)), [Effect::Greet]);
    let wait = Duration::from_secs(3);
    for _ in 0..3 {
        assert_eq!(machine.step(Event::AgentBusy(wait)), [Effect::Arm(Timer::Claim, wait)]);
        assert_eq!(machine.acts(Event::Time(Timer::Claim)), [Effect::Greet]);
    }
    assert_eq!(machine.acts(Event::AgentBusy(wait)), [Effect::Done(JobEnd::Owned)]);
}

/// What the job has named may have to be masked, and who has only a ticket does not know what.
#[test]
fn the_cause_of_a_dead_pod_names_nothing_of_the_job() {
    let mut machine = adopted(true);
    let secret = "canary";
    let mut facts = PodFacts { name: "p".into(), node: Some("n".into()), ..PodFacts::default() };
    let waiting = Words { reason: "InvalidImageName".into(), message: secret.into() };
    facts.containers =
        vec![ContainerFacts { image: secret.into(), ..container(HELPER, ContainerState::Waiting(waiting)) }];
    machine.acts(Event::PodSeen(PodState::Present(Arc::new(facts))));
    let effects = machine.acts(Event::GitlabStatus(GitlabStatus::Running));
    assert!(!format!("{effects:?}").contains(secret), "{effects:?}");
    assert!(format!("{effects:?}").contains("image of container helper"), "{effects:?}");
}

#[test]
fn what_a_found_pod_showed_before_is_no_news() {
    let mut pulling = PodFacts { node: Some("n".into()), ..PodFacts::default() };
    pulling.containers = vec![
        container(HELPER, ContainerState::Running),
        container(BUILD, ContainerState::Waiting(Words { reason: "ImagePullBackOff".into(), message: String::new() })),
    ];
    let pod_state = |facts: &PodFacts| Event::PodSeen(PodState::Present(Arc::new(facts.clone())));
    let shows = |effects: Vec<Effect>| effects.iter().any(|effect| matches!(effect, Effect::ShowWaiting(_)));
    let mut machine = adopted(true);
    assert!(!shows(machine.step(pod_state(&pulling))));
    assert!(!shows(machine.step(found(Phase::Running))));
    pulling.unscheduled = Some(Words { reason: "Unschedulable".into(), message: String::new() });
    assert!(shows(machine.step(pod_state(&pulling))));
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

#[test]
fn the_cluster_is_asked_before_a_job_ends_for_want_of_its_pod() {
    let (mut machine, _) = asking();
    machine.acts(Event::PodCreated);
    assert_eq!(machine.acts(cannot_go_on()), [Effect::AskFinalEvents]);
    let said = vec![warning("Failed", "Error: no"), warning("FailedMount", "no such volume")];
    let told = HeadLine::warning("Event retrieved from the cluster: no such volume");
    let ending = Ending::ContainerConfig { container: BUILD.into(), message: "CreateContainerError: no".into() };
    let expected = [Effect::KeepFinalLines(vec![told]), ends(ending), Effect::Acknowledge];
    assert_eq!(machine.acts(Event::FinalEvents(said)), expected);
    // One that says nothing holds up nothing.
    let (mut machine, _) = asking();
    machine.acts(Event::PodCreated);
    machine.acts(cannot_go_on());
    assert!(matches!(machine.acts(Event::Time(Timer::FinalEvents)).first(), Some(Effect::EndLocally { .. })));
}

#[test]
fn a_reason_for_waiting_is_shown_soon() {
    let (mut machine, _) = taken();
    machine.acts(Event::PodCreated);
    let unscheduled = Some(Words { reason: "Unschedulable".into(), message: "no node".into() });
    let pod_state = PodState::Present(Arc::new(PodFacts { unscheduled, ..PodFacts::default() }));
    let soon = Effect::Arm(Timer::Slow, Duration::from_secs(1));
    assert!(machine.step(Event::PodSeen(pod_state)).contains(&soon));
}

#[test]
fn a_wait_is_explained_by_events_or_by_what_is_known_without_them() {
    let terms = || Terms { volumes: vec!["config map \"a\"".into()], ..terms() };
    let waiting = PodFacts { node: Some("n".into()), sandboxed: Some(false), ..PodFacts::default() };
    let waiting = PodFacts { containers: vec![container(BUILD, ContainerState::default())], ..waiting };
    let pod_state = || Event::PodSeen(PodState::Present(Arc::new(waiting.clone())));
    let shown = |effects: Vec<Effect>| {
        let lines = effects.into_iter().find_map(|effect| match effect {
            Effect::ShowWaiting(lines) => Some(lines),
            _ => None,
        });
        lines.unwrap_or_default()
    };
    let (mut machine, _) = Machine::taken(Terms { asks_events: true, ..terms() });
    machine.acts(Event::PodCreated);
    machine.acts(pod_state());
    assert!(machine.step(Event::Time(Timer::Events)).contains(&Effect::AskEvents));
    let lines = shown(machine.step(Event::Events(Ok(vec![warning("FailedMount", "not found")]))));
    assert_eq!(lines[1..], ["\tFailedMount: \"not found\""]);
    let (mut machine, _) = Machine::taken(terms());
    machine.acts(Event::PodCreated);
    machine.acts(pod_state());
    let lines = shown(machine.step(Event::Time(Timer::Events)));
    assert_eq!(lines[1..], ["\tthe node has not mounted its volumes or set up its network yet: config map \"a\""]);
}

fn any_choices() -> impl Strategy<Value = Vec<u8>> {
    let last = TROUBLE + u8::try_from(troubles().len()).unwrap();
    proptest::collection::vec(prop_oneof![3 => 0_u8..8, 1 => TROUBLE..last], 0..60)
}

/// What must hold of all effects of a life, whatever happened in it.
fn check(effects: &[Effect], choices: &[u8]) -> Result<(), TestCaseError> {
    let happened = |event: &Event| choices.iter().any(|choice| trouble(*choice).as_ref() == Some(event));
    let place = |wanted: &Effect| effects.iter().position(|effect| effect == wanted);
    let first = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
    let Some(Effect::Done(end)) = effects.last() else { panic!("no end") };
    prop_assert_eq!(count(effects, |effect| matches!(effect, Effect::Done(_))), 1);
    // A verdict never gets better, since there is one at most, and a report needs one unless
    // somebody else has reported.
    let verdicts = count(effects, |effect| matches!(effect, Effect::CloseFromAgent | Effect::EndLocally { .. }));
    prop_assert!(verdicts <= 1);
    if let JobEnd::Reported(Some(ending)) = end {
        let is_that = |effect: &Effect| matches!(effect, Effect::EndLocally { ending: told, .. } if told == ending);
        prop_assert_eq!(count(effects, is_that), 1);
    }
    // Once for a short silence of a pod, and once for what is concluded from a long one.
    prop_assert!(count(effects, |effect| *effect == Effect::AskGitlab) <= 2);
    for once in [Effect::Acknowledge, Effect::StartRelay, Effect::DeletePod, Effect::SendGo] {
        let often = count(effects, |effect| *effect == once);
        // A connection that broke may have swallowed the word to start.
        prop_assert!(often <= 1 || once == Effect::SendGo, "{:?} {}", once, often);
    }
    // What is there of the trace goes before its verdict, and nothing starts before GitLab knows.
    if let (Some(delivered), Some(relay)) = (place(&Effect::SendReported), place(&Effect::StartRelay)) {
        prop_assert!(relay < delivered);
    }
    if let Some(go) = place(&Effect::SendGo) {
        prop_assert!(place(&Effect::StartRelay).is_some_and(|relay| relay < go));
    }
    let left = matches!(end, JobEnd::HandedOver | JobEnd::Owned | JobEnd::Unknown | JobEnd::TooEarly);
    let hurried = happened(&Event::Leave) && happened(&Event::Time(Timer::Leave));
    let connected = first(|effect| matches!(effect, Effect::Connect { .. })).is_some();
    let was_made = connected && !happened(&Event::PodNotCreated(pod_deleted()));
    if was_made && !left && !hurried {
        prop_assert!(place(&Effect::DeletePod).is_some(), "{:?}", effects);
    }
    if *end == JobEnd::Owned {
        prop_assert!(happened(&Event::AgentOwned));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// For any order of events: the job ends, with one verdict at most; a pod that was made is
    /// deleted.
    #[test]
    fn any_order_of_events(choices in any_choices()) {
        check(&live(&choices), &choices)?;
    }

    /// The same where bad news wait for what the cluster knows about them.
    #[test]
    fn any_order_of_events_with_final_ones(choices in any_choices()) {
        let (machine, effects) = asking();
        check(&live_on(machine, effects, &choices), &choices)?;
    }

    /// The same of a job that was found.
    #[test]
    fn any_order_of_events_after_an_adoption(choices in any_choices(), is_known: bool) {
        let mut machine = adopted(is_known);
        let first = acts(machine.step(runs()));
        let effects = live_on(machine, first, &choices);
        check(&effects, &choices)?;
        let created = count(&effects, |effect| matches!(effect, Effect::CreatePod | Effect::SendPlan));
        prop_assert_eq!(created, 0);
    }
}
