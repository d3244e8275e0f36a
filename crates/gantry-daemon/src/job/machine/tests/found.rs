//! Jobs of other managers whose pods are found.

use super::*;

const FIND: Effect = Effect::Connect { resume: true, pause: false };

fn found(phase: Phase) -> Event {
    Event::AgentReady {
        phase,
        time: Some(JobTime { timeout: Duration::from_secs(100), left: Duration::from_secs(60) }),
    }
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
