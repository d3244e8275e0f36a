//! The end of the runner, in each part of a job's life.

use super::*;

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
