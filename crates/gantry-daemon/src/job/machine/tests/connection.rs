//! Connections to the agent that end, and what that proves.

use super::*;

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
