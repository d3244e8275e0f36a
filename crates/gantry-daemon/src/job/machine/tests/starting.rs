//! Until everything of a job's pod is there.

use super::super::limits::LOOK_AGAIN;
use super::*;

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
