//! Any order of events, by chance: a job ends, with one verdict at most.

use super::*;

/// Troubles begin here.
const TROUBLE: u8 = 200;

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
