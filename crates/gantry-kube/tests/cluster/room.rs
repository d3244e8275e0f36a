//! Waiting for room, what the watch knows of all pods, and marks on pods.

use std::time::Duration;

use gantry_kube::{CreateError, Fault, Marked, PodFacts, ShortageKind, limits};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::server::{Answer, World, job, parsed, reference};

const QUOTA: &str = "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3";

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_used_up_is_waited_for_and_shown() {
    let world = World::default();
    let later = r#"{"kind": "Status", "message": "not now", "reason": "Forbidden", "code": 403, "details": {"retryAfterSeconds": 2}}"#;
    world.lock().creates.extend([Answer::Status(403, "Forbidden", QUOTA), Answer::Raw(403, later)]);
    let (cluster, wanted, begun) = (world.cluster(), parsed(&job("a")), Instant::now());
    let mut told = Vec::new();
    let deadline = begun + Duration::from_secs(60);
    let create = cluster.create_pod(&wanted, deadline, |error| told.push((error.message.clone(), error.fault)));
    let look = async {
        sleep(Duration::from_secs(1)).await;
        let first = cluster.shortage();
        sleep(limits::QUOTA_RETRY).await;
        [first, cluster.shortage()].map(|shortage| shortage.map(|shortage| shortage.kind))
    };
    let (made, kinds) = tokio::join!(create, look);
    made.unwrap();
    assert_eq!(kinds, [Some(ShortageKind::Quota), Some(ShortageKind::Server)]);
    assert_eq!(told, [(QUOTA.to_owned(), Fault::Throttled), ("not now".to_owned(), Fault::Throttled)]);
    assert_eq!(cluster.shortage(), None);
    assert!(begun.elapsed() >= limits::QUOTA_RETRY + Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_waited_for_no_longer_than_the_pod_has() {
    let world = World::default();
    world.lock().creates.extend(vec![Answer::Status(403, "Forbidden", QUOTA); 100]);
    let cluster = world.cluster();
    let deadline = Instant::now() + Duration::from_secs(30);
    let error = cluster.create_pod(&parsed(&job("a")), deadline, |_| ()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the pod could not be created within 30 s (see poll_timeout and prepare_timeout): {QUOTA}")
    );
    assert_eq!(cluster.shortage(), None);
    // One that is too small is not waited for at all.
    let small = "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0";
    world.lock().creates.push_front(Answer::Status(403, "Forbidden", small));
    let error = cluster.create_pod(&parsed(&job("a")), Instant::now() + limits::REQUEST, |_| ()).await.unwrap_err();
    assert_eq!(error, CreateError::Refused { message: small.into() });
}

#[tokio::test(start_paused = true)]
async fn no_more_pods_of_a_fleet_than_there_may_be_whoever_makes_them() {
    let world = World::default();
    let others = world.put(job("of-another-manager"));
    let cluster = world.cluster();
    cluster.watch_all();
    cluster.bound("a", Some(2));
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(60);
    let make = async |name: &str| {
        let mut told = Vec::new();
        let wanted = parsed(&job(name));
        let made = cluster.create_pod(&wanted, deadline, |error| told.push(error.message.clone())).await;
        (made.map(|_| begun.elapsed()), told)
    };
    let go = async {
        sleep(Duration::from_secs(20)).await;
        let shortage = cluster.shortage();
        world.remove(others["metadata"]["name"].as_str().unwrap());
        shortage
    };
    // Both at once: neither is counted yet when the other looks.
    let ((first, _), (second, told), shortage) = tokio::join!(make("a"), make("b"), go);
    assert!(first.unwrap() < Duration::from_secs(1));
    let waited = second.unwrap();
    assert!(waited >= Duration::from_secs(20) && waited < Duration::from_secs(22), "{waited:?}");
    let words = "2 jobs of the fleet have pods already (fleet_concurrent in [gantry])";
    assert_eq!((told, shortage.unwrap().message.as_str()), (vec![words.to_owned()], words));
    cluster.bound("a", None);
    assert!(make("c").await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn all_pods_are_seen_without_being_asked_for_and_whether_they_are_is_known() {
    let world = World::default();
    let cluster = world.cluster();
    let coverage = cluster.coverage();
    let live = || coverage.borrow().is_live();
    world.put(job("a"));
    sleep(Duration::from_secs(1)).await;
    assert!(!live() && world.lock().requests.is_empty(), "nobody has asked to watch");
    cluster.watch_all();
    sleep(Duration::from_secs(1)).await;
    let mut pod = job("b");
    pod["metadata"]["annotations"]["gantry.dev/ticket"] = json!("x".repeat(limits::MARK + 1));
    world.put(pod);
    sleep(Duration::from_secs(1)).await;
    let seen = cluster.seen_pods();
    assert_eq!(seen.iter().map(|facts| facts.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let marks = |facts: &PodFacts| facts.marks.keys().cloned().collect::<Vec<_>>();
    assert_eq!(marks(&seen[1]), ["gantry.dev/claim", "gantry.dev/fleet"]);
    assert!(live());
    let down = Answer::Status(503, "ServiceUnavailable", "down");
    world.lock().watches.extend(vec![down; 3]);
    world.end_watches();
    sleep(Duration::from_millis(500)).await;
    assert!(!live());
    sleep(Duration::from_secs(20)).await;
    assert!(live());
    assert_eq!(world.requests("limit="), 1);
}

#[tokio::test(start_paused = true)]
async fn marks_are_written_on_this_pod_as_it_was_seen_or_not_at_all() {
    let world = World::default();
    let cluster = world.cluster();
    let (first, other) = (world.put(job("a")), reference(&world.put(job("b"))));
    let pod = reference(&first);
    let version = first["metadata"]["resourceVersion"].as_str();
    let marks = [("gantry.dev/owner", "me")];
    let Marked::Done(found) = cluster.annotate(&pod, &marks, version).await.unwrap() else { panic!("not written") };
    assert_eq!(found.metadata.annotations.unwrap()["gantry.dev/owner"], "me");
    assert!(matches!(cluster.annotate(&pod, &marks, version).await.unwrap(), Marked::Changed));
    assert!(matches!(cluster.annotate(&pod, &marks, None).await.unwrap(), Marked::Done(_)));
    let successor = gantry_kube::PodRef { name: "a".to_owned(), uid: other.uid };
    assert!(matches!(cluster.annotate(&successor, &marks, None).await.unwrap(), Marked::Changed));
    world.remove("a");
    assert!(matches!(cluster.annotate(&pod, &marks, None).await.unwrap(), Marked::Changed));
    world.lock().patches.push_back(Answer::Status(403, "Forbidden", "cannot patch resource"));
    assert_eq!(cluster.annotate(&pod, &marks, None).await.unwrap_err().fault, Fault::Forbidden);
}
