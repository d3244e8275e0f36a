use gantry_relay::GoneReason;
use proptest::prelude::*;

use super::leaving::never_began;
use super::*;

/// Runs one job against a world that answers every effect, in an order that `choices` decides, with troubles thrown in. Returns all
/// effects.
fn live(choices: &[u8]) -> Vec<Effect> {
    let (mut machine, mut pending) = Machine::start();
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
        let has_verdict = all.iter().any(|effect| matches!(effect, Effect::CloseFromAgent | Effect::EndLocally(_)));
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
            None if world.is_empty() => Event::Overdue(Ending::TimedOut { seconds: 1 }),
            None => world.remove(usize::from(choice.unwrap_or(0)) % world.len()),
        };
        pending = machine.step(event);
    }
}

/// What an effect leads to when all goes well.
fn answers(effect: &Effect) -> Vec<Event> {
    match effect {
        Effect::CreatePod => vec![Event::PodCreated],
        Effect::Connect => vec![Event::AgentReady(Phase::Waiting)],
        Effect::SendPlan => vec![Event::PlanAccepted],
        Effect::Acknowledge => vec![Event::Acknowledged(AckOutcome::Running)],
        Effect::SendGo => vec![Event::AgentRuns, Event::ShimReady, Event::AgentClosed],
        Effect::SendFail(_) => vec![Event::AgentClosed, Event::DrainTimeout],
        Effect::DeletePod => vec![Event::PodDeleted],
        _ => Vec::new(),
    }
}

fn trouble(choice: u8) -> Option<Event> {
    let ending = || Ending::PodDeleted { pod: "p".into() };
    Some(match choice {
        200 => Event::AgentLost,
        201 => Event::AgentUnreachable(ending()),
        202 => Event::PodNotCreated(ending()),
        203 => Event::CancelRequested,
        204 => Event::Doomed(ending()),
        205 => Event::PodEnded(ending()),
        206 => Event::Slow,
        207 => Event::StartTimeout(ending()),
        208 => Event::Stop("SIGTERM".into()),
        209 => Event::RelayEnded(RelayEnd::GaveUp { message: "x".into() }),
        210 => Event::RelayEnded(RelayEnd::Aborted(GoneReason::TakenBack)),
        211 => Event::Acknowledged(AckOutcome::Gone(GoneReason::TakenBack)),
        212 => Event::Acknowledged(AckOutcome::Canceling),
        213 => Event::ServicesStarted,
        214 => Event::PlanRefused("x".into()),
        215 => Event::DrainTimeout,
        216 => Event::GoneWhilePending(GoneReason::TakenBack),
        217 => Event::AgentReady(Phase::Running),
        218 => Event::AgentReady(Phase::Planned),
        219 => Event::AgentReady(Phase::Closed),
        220 => Event::Leave,
        221 => Event::HandOverTimeout,
        222 => Event::LeaveTimeout,
        223 => Event::BuildRuns,
        224 => Event::ShimSilent,
        _ => return None,
    })
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
            Effect::Connect,
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
    let (mut machine, _) = Machine::start();
    for event in [Event::PodCreated, Event::BuildRuns, Event::ShimSilent] {
        machine.step(event);
    }
    assert!(!machine.awaits_shim(), "the agent has to be there first");
    machine.step(Event::AgentReady(Phase::Waiting));
    machine.step(Event::PlanAccepted);
    assert!(machine.awaits_shim());
    let effects = machine.step(Event::ShimSilent);
    assert!(matches!(effects.as_slice(), [Effect::SendFail(Ending::ShimSilent { .. })]), "{effects:?}");
    assert!(!machine.awaits_shim());
}

#[test]
fn a_build_container_that_cannot_execute_the_shim_is_named() {
    for (shim, exit_code, named) in [(false, 126, true), (false, 1, false), (true, 126, false)] {
        let (mut machine, _) = Machine::start();
        for event in [Event::PodCreated, Event::AgentReady(Phase::Waiting), Event::PlanAccepted] {
            machine.step(event);
        }
        if shim {
            machine.step(Event::ShimReady);
        }
        let died = Ending::ContainerDied { container: "build".into(), exit_code, reason: "Error".into() };
        let effects = machine.step(Event::Doomed(died));
        let silent = matches!(effects.as_slice(), [Effect::SendFail(Ending::ShimSilent { .. })]);
        assert_eq!(silent, named, "{effects:?}");
    }
}

#[test]
fn nothing_runs_before_gitlab_knows() {
    let (mut machine, _) = Machine::start();
    machine.step(Event::PodCreated);
    machine.step(Event::AgentReady(Phase::Waiting));
    assert_eq!(machine.step(Event::PlanAccepted), [Effect::Acknowledge]);
    assert_eq!(machine.step(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay, Effect::SendGo]);
}

#[test]
fn a_stop_before_the_acknowledgement_gives_the_job_back() {
    let (mut machine, _) = Machine::start();
    machine.step(Event::PodCreated);
    assert_eq!(machine.step(Event::Stop("SIGTERM".into())), [Effect::DeletePod]);
    assert_eq!(machine.step(Event::PodDeleted), [Effect::Done(JobEnd::GivenBack)]);
}

#[test]
fn a_running_job_is_left_to_its_agent() {
    let (mut machine, _) = Machine::start();
    for event in [Event::PodCreated, Event::AgentReady(Phase::Waiting), Event::PlanAccepted] {
        machine.step(event);
    }
    assert_eq!(machine.step(Event::Leave), []);
    assert_eq!(machine.step(Event::Acknowledged(AckOutcome::Running)), [Effect::StartRelay, Effect::SendGo]);
    assert_eq!(machine.step(Event::AgentRuns), [Effect::Done(JobEnd::HandedOver)]);
}

/// A machine to which these things have happened.
fn after(events: impl IntoIterator<Item = Event>) -> Machine {
    let (mut machine, _) = Machine::start();
    for event in events {
        machine.step(event);
    }
    machine
}

/// A job that GitLab shows as running although its pod has no plan: it waits for a node, or for an image.
fn acknowledged_early() -> [Event; 3] {
    [Event::PodCreated, Event::Slow, Event::Acknowledged(AckOutcome::Running)]
}

#[test]
fn a_job_that_waits_for_its_pod_ends_with_its_runner() {
    let mut machine = after(acknowledged_early());
    assert_eq!(machine.step(Event::Leave), [Effect::EndLocally(never_began()), Effect::DeletePod]);
    assert_eq!(machine.step(Event::PodDeleted), []);
    let end = JobEnd::Reported(Some(never_began()));
    assert_eq!(machine.step(Event::RelayEnded(RelayEnd::Delivered)), [Effect::Done(end)]);
    assert_eq!(never_began().reason(), Some(gantry_core::FailureReason::RunnerSystemFailure));
}

#[test]
fn a_pod_that_comes_while_the_runner_leaves_goes_again() {
    let mut machine = after([Event::Slow, Event::Acknowledged(AckOutcome::Running), Event::Leave]);
    assert_eq!(machine.step(Event::PodCreated), [Effect::DeletePod]);
    let mut machine = after([Event::Leave]);
    assert_eq!(machine.step(Event::PodCreated), [Effect::DeletePod]);
    assert_eq!(machine.step(Event::PodDeleted), [Effect::Done(JobEnd::GivenBack)]);
}

#[test]
fn a_plan_on_its_way_has_its_time_and_then_the_pod_goes() {
    let handed = || after(acknowledged_early().into_iter().chain([Event::AgentReady(Phase::Waiting), Event::Leave]));
    let mut in_time = handed();
    assert_eq!(in_time.step(Event::PlanAccepted), [Effect::SendGo]);
    assert_eq!(in_time.step(Event::AgentRuns), [Effect::Done(JobEnd::HandedOver)]);
    let mut late = handed();
    assert_eq!(late.step(Event::HandOverTimeout), [Effect::EndLocally(never_began()), Effect::DeletePod]);
}

#[test]
fn an_agent_that_may_not_start_any_more_is_told_so() {
    let mut machine = after([Event::PodCreated, Event::AgentReady(Phase::Waiting), Event::PlanAccepted, Event::Leave]);
    assert_eq!(machine.step(Event::HandOverTimeout), [Effect::SendFail(never_began())]);
    assert_eq!(machine.step(Event::AgentClosed), [Effect::CloseFromAgent]);
    assert_eq!(machine.step(Event::LeaveTimeout), [Effect::Done(JobEnd::HandedOver)]);
}

#[test]
fn nothing_holds_up_a_runner_that_leaves() {
    let unanswered = "the runner has ended before GitLab had answered";
    for (events, end) in [
        // Neither GitLab nor the API server answers.
        (vec![], JobEnd::GivenBack),
        (vec![Event::Slow], JobEnd::Undelivered(unanswered.into())),
        (acknowledged_early().into(), JobEnd::Undelivered(unanswered.into())),
        // The agent was told to start, and its connection broke before it could say that it has.
        (
            vec![
                Event::PodCreated,
                Event::AgentReady(Phase::Waiting),
                Event::PlanAccepted,
                Event::Acknowledged(AckOutcome::Running),
                Event::AgentLost,
            ],
            JobEnd::HandedOver,
        ),
    ] {
        let mut machine = after(events.clone());
        let mut effects = machine.step(Event::Leave);
        effects.extend(machine.step(Event::HandOverTimeout));
        effects.extend(machine.step(Event::LeaveTimeout));
        assert_eq!(effects.last(), Some(&Effect::Done(end)), "{events:?}");
    }
}

#[test]
fn a_pod_has_its_time_to_start_and_no_more() {
    let late = || Event::StartTimeout(Ending::PodStartTimeout { seconds: 15, detail: String::new() });
    let agent = [Event::AgentReady(Phase::Waiting), Event::PlanAccepted, Event::AgentRuns];
    let ends = |more: &[Event], last: Event| {
        let mut machine = after(acknowledged_early().into_iter().chain(agent.clone()).chain(more.to_vec()));
        matches!(machine.step(last).as_slice(), [Effect::SendFail(_)])
    };
    assert!(ends(&[], late()));
    assert!(!ends(&[Event::ShimReady], late()));
    // A service that has not started is no less late than a build container.
    let Event::StartTimeout(ending) = late() else { unreachable!() };
    assert!(ends(&[Event::ShimReady], Event::ServicesLate(ending.clone())));
    assert!(!ends(&[Event::ShimReady, Event::ServicesStarted], Event::ServicesLate(ending)));
    // Who looks for the agent keeps the same limit and knows the cause; an agent that is found at the last moment comes too late.
    let mut machine = after(acknowledged_early());
    assert_eq!(machine.step(late()), []);
    assert!(matches!(machine.step(Event::AgentReady(Phase::Waiting)).first(), Some(Effect::EndLocally(_))));
}

#[test]
fn a_connection_that_ends_before_the_first_word_is_made_again() {
    let (mut machine, _) = Machine::start();
    machine.step(Event::PodCreated);
    assert_eq!(machine.step(Event::AgentLost), [Effect::Connect]);
    assert_eq!(machine.step(Event::AgentReady(Phase::Waiting)), [Effect::SendPlan]);
}

#[test]
fn the_rest_of_a_closed_trace_is_fetched_over_a_new_connection() {
    let (mut machine, _) = Machine::start();
    for event in [
        Event::PodCreated,
        Event::AgentReady(Phase::Waiting),
        Event::PlanAccepted,
        Event::Acknowledged(AckOutcome::Running),
    ] {
        machine.step(event);
    }
    assert_eq!(machine.step(Event::AgentClosed), [Effect::CloseFromAgent]);
    assert_eq!(machine.step(Event::AgentLost), [Effect::Connect]);
    assert_eq!(machine.step(Event::AgentReady(Phase::Closed)), []);
    assert_eq!(machine.step(Event::AgentLost), [Effect::Connect]);
    let gone = Ending::PodDeleted { pod: "p".into() };
    assert_eq!(machine.step(Event::AgentUnreachable(gone)), [Effect::EndTrace]);
    assert_eq!(machine.step(Event::RelayEnded(RelayEnd::Delivered)), [Effect::DeletePod]);
}

#[test]
fn a_job_that_has_ended_is_delivered_and_its_pod_removed_before_the_runner_leaves() {
    for bad_news in [Event::AgentClosed, Event::PodEnded(Ending::PodDeleted { pod: "p".into() })] {
        let (mut machine, _) = Machine::start();
        for event in [Event::PodCreated, Event::AgentReady(Phase::Waiting), Event::PlanAccepted] {
            machine.step(event);
        }
        for event in [Event::Acknowledged(AckOutcome::Running), bad_news, Event::DrainTimeout] {
            machine.step(event);
        }
        let mut effects = machine.step(Event::Leave);
        effects.extend(machine.step(Event::RelayEnded(RelayEnd::Delivered)));
        assert_eq!(count(&effects, |effect| *effect == Effect::DeletePod), 1);
        assert!(matches!(machine.step(Event::PodDeleted).as_slice(), [Effect::Done(JobEnd::Reported(_))]));
    }
}

#[test]
fn an_agent_that_has_reported_by_itself_is_not_contradicted() {
    let (mut machine, _) = Machine::start();
    for event in [
        Event::PodCreated,
        Event::AgentReady(Phase::Waiting),
        Event::PlanAccepted,
        Event::Acknowledged(AckOutcome::Running),
        Event::AgentLost,
    ] {
        machine.step(event);
    }
    let ending = Ending::ContainerDied { container: HELPER.into(), exit_code: 0, reason: "Completed".into() };
    assert_eq!(machine.step(Event::PodEnded(ending)), [Effect::DeletePod]);
    assert_eq!(machine.step(Event::PodDeleted), [Effect::Done(JobEnd::Reported(None))]);
}

#[test]
fn a_broken_stream_is_not_a_verdict() {
    let (mut machine, _) = Machine::start();
    for event in [
        Event::PodCreated,
        Event::AgentReady(Phase::Waiting),
        Event::PlanAccepted,
        Event::Acknowledged(AckOutcome::Running),
    ] {
        machine.step(event);
    }
    assert_eq!(machine.step(Event::AgentLost), [Effect::Connect]);
    assert_eq!(machine.step(Event::CancelRequested), []);
    assert_eq!(machine.step(Event::AgentReady(Phase::Running)), [Effect::SendCancel { force: false }]);
}

#[test]
fn what_a_dying_agent_still_gives_is_taken_first() {
    let (mut machine, _) = Machine::start();
    for event in [Event::PodCreated, Event::AgentReady(Phase::Waiting), Event::PlanAccepted] {
        machine.step(event);
    }
    machine.step(Event::Acknowledged(AckOutcome::Running));
    let ending = Ending::ContainerOutOfMemory { container: "helper".into(), limit: None };
    assert_eq!(machine.step(Event::PodEnded(ending.clone())), []);
    assert_eq!(machine.step(Event::AgentLost), [Effect::EndLocally(ending)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// For any order of events: the job ends; exactly one verdict if one was reported, and never two; a pod that was made is deleted;
    /// nothing is relayed before the acknowledgement; nothing starts after the end.
    #[test]
    fn any_order_of_events(choices in proptest::collection::vec(prop_oneof![3 => 0_u8..8, 1 => 200_u8..223], 0..60)) {
        let effects = live(&choices);
        let verdicts = count(&effects, |effect| matches!(effect, Effect::CloseFromAgent | Effect::EndLocally(_)));
        prop_assert!(verdicts <= 1);
        let Some(Effect::Done(end)) = effects.last() else { panic!("no end") };
        if matches!(end, JobEnd::Reported(_)) {
            prop_assert!(verdicts <= 1);
        }
        prop_assert_eq!(count(&effects, |effect| matches!(effect, Effect::Done(_))), 1);
        prop_assert!(count(&effects, |effect| *effect == Effect::Acknowledge) <= 1);
        prop_assert!(count(&effects, |effect| *effect == Effect::StartRelay) <= 1);
        prop_assert!(count(&effects, |effect| *effect == Effect::DeletePod) <= 1);
        let place = |wanted: &Effect| effects.iter().position(|effect| effect == wanted);
        if let Some(go) = place(&Effect::SendGo) {
            prop_assert!(place(&Effect::StartRelay).is_some_and(|relay| relay < go));
        }
        let left = *end == JobEnd::HandedOver;
        let hurried = choices.contains(&220) && choices.contains(&222);
        // Or in the last moment, when the agent has been told to end, or ends by itself.
        prop_assert!(!left || place(&Effect::SendGo).is_some() || hurried);
        if place(&Effect::Connect).is_some() && !choices.contains(&202) && !left && !hurried {
            prop_assert!(place(&Effect::DeletePod).is_some(), "{:?}", effects);
        }
    }
}
