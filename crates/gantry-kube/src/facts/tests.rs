#![expect(
    clippy::needless_pass_by_value,
    reason = "JSON that is written where it is used reads better without references"
)]

use gantry_core::{Ending, FailureReason};
use serde_json::{Value, json};

use super::*;

const INTEREST: [&str; 2] = ["helper", "build"];

/// A pod with the containers `helper`, `db` and `build`, and that status.
fn pod(status: Value) -> ObservedPod {
    serde_json::from_value(json!({
        "metadata": {"name": "job-7", "namespace": "ci", "uid": "u-1", "resourceVersion": "12"},
        "spec": {
            "nodeName": "node-a",
            "containers": [
                {"name": "helper", "image": "registry.example.com/helper:1"},
                {"name": "db", "image": "postgres:17"},
                {"name": "build", "image": "rust:1", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}},
            ],
        },
        "status": status,
    }))
    .unwrap()
}

fn facts(status: Value) -> PodFacts {
    PodFacts::digest(&pod(status), None)
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn ended(exit_code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": null, "finishedAt": null}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-02T03:04:05Z"}})
}

/// Statuses of the three containers.
fn containers(helper: Value, db: Value, build: Value) -> Value {
    let one = |name: &str, image: &str, state: Value| json!({"name": name, "image": image, "imageID": "", "ready": false, "restartCount": 0, "state": state});
    json!([one("helper", "h", helper), one("db", "d", db), one("build", "b", build)])
}

fn with_build(state: Value) -> Value {
    json!({"phase": "Pending", "containerStatuses": containers(running(), running(), state)})
}

#[test]
fn a_new_pod_waits_for_nothing_in_particular() {
    let mut new = pod(json!({"phase": "Pending"}));
    new.spec.as_mut().unwrap().node_name = None;
    let facts = PodFacts::digest(&new, None);
    assert_eq!((facts.node.as_deref(), facts.phase), (None, Phase::Pending));
    assert_eq!(facts.containers.len(), 3);
    assert_eq!(pending_reasons(&facts), Vec::<String>::new());
    assert_eq!(terminal(&facts, &INTEREST), None);
    assert!(!services_started(&facts, &["db"]) && services_started(&facts, &[]));
}

#[test]
fn the_scheduler_is_quoted() {
    let facts = facts(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."},
    ]}));
    assert_eq!(pending_reasons(&facts), [r#"Unschedulable: "0/3 nodes are available: 3 Insufficient cpu.""#]);
    assert_eq!(terminal(&facts, &INTEREST), None);
}

#[test]
fn a_running_pod_is_fine() {
    let facts = facts(json!({"phase": "Running", "containerStatuses": containers(running(), running(), running())}));
    assert_eq!(pending_reasons(&facts), Vec::<String>::new());
    assert_eq!(terminal(&facts, &INTEREST), None);
    assert!(services_started(&facts, &["db"]));
}

#[test]
fn ordinary_waiting_is_not_a_reason() {
    let facts = facts(with_build(waiting("ContainerCreating", "")));
    assert_eq!(pending_reasons(&facts), Vec::<String>::new());
    assert_eq!(terminal(&facts, &INTEREST), None);
}

#[test]
fn the_first_failed_pull_is_told_and_forgiven_the_second_is_not() {
    let words = "failed to pull and unpack image: i/o timeout";
    let failed = with_build(waiting("ErrImagePull", words));
    let backing_off = with_build(waiting("ImagePullBackOff", "Back-off pulling image"));

    let first = facts(failed.clone());
    assert_eq!(pending_reasons(&first), [format!("ErrImagePull (container build): {words:?}")]);
    assert_eq!(terminal(&first, &INTEREST), None);
    // The same object seen again is the same failure.
    let again = PodFacts::digest(&pod(failed.clone()), Some(&first));
    assert_eq!(terminal(&again, &INTEREST), None);
    let waits = PodFacts::digest(&pod(backing_off), Some(&again));
    assert_eq!(terminal(&waits, &INTEREST), None);

    let second = PodFacts::digest(&pod(failed), Some(&waits));
    let ending = terminal(&second, &INTEREST).unwrap();
    assert_eq!(ending.reason(), Some(FailureReason::RunnerExternalDependencyFailure));
    assert_eq!(
        ending,
        Ending::ImagePull {
            container: "build".into(),
            image: "rust:1".into(),
            message: format!("ErrImagePull: {words}")
        }
    );
}

#[test]
fn a_registrys_last_word_is_not_waited_for() {
    for (reason, words) in [
        ("ErrImagePull", "pull access denied"),
        ("ImagePullBackOff", "Back-off pulling image: ErrImagePull: not found"),
    ] {
        let ending = terminal(&facts(with_build(waiting(reason, words))), &INTEREST).unwrap();
        assert_eq!(ending.reason(), Some(FailureReason::RunnerConfigurationError), "{reason}");
    }
}

#[test]
fn a_pull_that_works_in_the_end_is_forgotten() {
    let first = facts(with_build(waiting("ErrImagePull", "i/o timeout")));
    let started = PodFacts::digest(&pod(with_build(running())), Some(&first));
    assert_eq!(started.container("build").map(|container| container.pull_failures), Some(0));
}

#[test]
fn another_pod_of_the_same_name_inherits_nothing() {
    let first = facts(with_build(waiting("ErrImagePull", "")));
    let mut other = pod(with_build(waiting("ErrImagePull", "")));
    other.metadata.uid = Some("u-2".into());
    let other = PodFacts::digest(&other, Some(&first));
    assert_eq!(terminal(&other, &INTEREST), None);
}

#[test]
fn some_reasons_to_wait_never_pass() {
    for reason in ["InvalidImageName", "ErrImageNeverPull"] {
        let ending = terminal(&facts(with_build(waiting(reason, "m"))), &INTEREST);
        assert!(matches!(ending, Some(Ending::ImagePull { .. })), "{reason}");
    }
    for reason in ["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"] {
        let ending = terminal(&facts(with_build(waiting(reason, "m"))), &INTEREST);
        let expected = Ending::ContainerConfig { container: "build".into(), message: format!("{reason}: m") };
        assert_eq!(ending, Some(expected), "{reason}");
    }
}

#[test]
fn a_service_that_cannot_start_does_not_end_the_job() {
    let status = json!({
        "phase": "Running",
        "containerStatuses": containers(running(), waiting("CreateContainerConfigError", "no secret"), running()),
    });
    let facts = facts(status);
    assert_eq!(terminal(&facts, &INTEREST), None);
    assert!(!services_started(&facts, &["db"]));
    let ending = unstartable(&facts, &["db"]).expect("who waits for it waits in vain");
    assert_eq!(ending.reason(), Some(FailureReason::RunnerConfigurationError));
    assert_eq!(unstartable(&facts, &INTEREST), None);
    assert_eq!(pending_reasons(&facts), [r#"CreateContainerConfigError (container db): "no secret""#]);
}

#[test]
fn a_service_whose_command_is_not_found_was_not_started() {
    let facts = facts(
        json!({"phase": "Running", "containerStatuses": containers(running(), ended(128, "StartError"), running())}),
    );
    assert!(!services_started(&facts, &["db"]));
    assert!(
        matches!(unstartable(&facts, &["db"]), Some(Ending::ContainerConfig { container, .. }) if container == "db")
    );
    assert_eq!(terminal(&facts, &INTEREST), None);
}

#[test]
fn a_service_that_has_ended_was_started() {
    let status =
        json!({"phase": "Running", "containerStatuses": containers(running(), ended(0, "Completed"), running())});
    let facts = facts(status);
    assert!(services_started(&facts, &["db"]));
    assert_eq!(terminal(&facts, &INTEREST), None);
}

#[test]
fn a_build_container_that_ends_has_died() {
    let end = |code, reason: &str| terminal(&facts(with_build(ended(code, reason))), &INTEREST);
    assert_eq!(
        end(0, "Completed"),
        Some(Ending::ContainerDied {
            container: "build".into(),
            exit_code: 0,
            reason: "Completed".into(),
            entrypoint: None
        })
    );
    let out_of_memory = Ending::ContainerOutOfMemory { container: "build".into(), limit: Some("64Mi".into()) };
    assert_eq!(end(137, "OOMKilled"), Some(out_of_memory));
    assert!(matches!(end(128, "StartError"), Some(Ending::ContainerConfig { .. })));
}

#[test]
fn an_entrypoint_that_ends_says_why() {
    let said = |printed: &str| {
        let mut pod = pod(with_build(json!({"terminated": {
            "exitCode": 2, "reason": "Error", "message": printed, "startedAt": null, "finishedAt": null,
        }})));
        let build = &mut pod.spec.as_mut().unwrap().containers[2];
        build.termination_message_policy = Some("FallbackToLogsOnError".to_owned());
        build.args = serde_json::from_value(json!(["sh"])).unwrap();
        terminal(&PodFacts::digest(&pod, None), &INTEREST).unwrap().verdict().message
    };
    let short = said("usage: tool FILE\nsh: no such file\n\n");
    assert!(
        short.contains("exit code 2, reason Error; an entrypoint starts it (FF_KUBERNETES_HONOR_ENTRYPOINT)"),
        "{short}"
    );
    assert!(short.ends_with("the last that it printed: \"sh: no such file\""), "{short}");
    // Nobody would recognise a part of a masked value.
    let long = said(&format!("{} hunter2-and-more", "x".repeat(290)));
    assert!(long.ends_with("the last that it printed: \"(a line of more than 300 characters)\""), "{long}");
}

#[test]
fn a_failed_init_container_counts_and_a_finished_one_does_not() {
    let with_init = |code: i32| {
        let mut pod = pod(json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "prepare", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": ended(code, "Error")},
        ]}));
        pod.spec.as_mut().unwrap().init_containers =
            Some(vec![serde_json::from_value(json!({"name": "prepare", "image": "i"})).unwrap()]);
        terminal(&PodFacts::digest(&pod, None), &INTEREST)
    };
    assert_eq!(with_init(0), None);
    assert!(matches!(with_init(1), Some(Ending::ContainerDied { container, .. }) if container == "prepare"));
}

#[test]
fn an_eviction_for_want_of_disk_shows_no_containers() {
    let facts = facts(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}),
    );
    assert_eq!(
        terminal(&facts, &INTEREST),
        Some(Ending::PodDisrupted {
            pod: "job-7".into(),
            message: "Evicted: The node was low on resource: ephemeral-storage.".into()
        })
    );
}

#[test]
fn the_pods_own_deadline_is_the_clusters_doing() {
    let facts = facts(
        json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than \
         the specified deadline"}),
    );
    assert!(
        matches!(terminal(&facts, &INTEREST), Some(Ending::PodDisrupted { message, .. }) if message.starts_with("DeadlineExceeded"))
    );
}

#[test]
fn a_disruption_is_proven_only_by_its_effect() {
    let disrupted = |state: Value| {
        facts(json!({
            "phase": "Running",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}],
            "containerStatuses": containers(running(), running(), state),
        }))
    };
    assert_eq!(terminal(&disrupted(running()), &INTEREST), None);
    let expected = Ending::PodDisrupted { pod: "job-7".into(), message: "EvictionByEvictionAPI: drained".into() };
    assert_eq!(terminal(&disrupted(ended(143, "Error")), &INTEREST), Some(expected.clone()));
    assert_eq!(gone("job-7", Some(&disrupted(running()))), expected);
    assert_eq!(gone("job-7", None), Ending::PodDeleted { pod: "job-7".into() });
}

#[test]
fn a_deletion_ends_what_has_no_plan_and_nothing_else() {
    let deleted = |state: Value| {
        let mut pod = pod(json!({"phase": "Running", "containerStatuses": containers(running(), running(), state)}));
        pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap());
        PodFacts::digest(&pod, None)
    };
    let expected = Some(Ending::PodDeleted { pod: "job-7".into() });
    assert_eq!(terminal(&deleted(running()), &INTEREST), None);
    assert_eq!(terminal_before_plan(&deleted(running()), &INTEREST), expected);
    assert_eq!(terminal(&deleted(ended(143, "Error")), &INTEREST), expected);
    assert!(matches!(
        terminal(&deleted(ended(137, "OOMKilled")), &INTEREST),
        Some(Ending::ContainerOutOfMemory { .. })
    ));
}

#[test]
fn a_silent_node_proves_nothing() {
    let facts = facts(
        json!({"phase": "Unknown", "reason": "NodeLost", "containerStatuses": containers(running(), running(), running())}),
    );
    assert_eq!(terminal(&facts, &INTEREST), None);
}

#[test]
fn a_pod_that_is_over_without_a_reason_is_over() {
    let facts = facts(json!({"phase": "Failed"}));
    assert!(matches!(terminal(&facts, &INTEREST), Some(Ending::PodDisrupted { .. })));
}
