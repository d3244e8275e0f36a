//! Making, looking at and removing pods.

use std::time::Duration;

use gantry_kube::{CreateError, Fault, LeftoverPod, PodNow, PodRef, limits, rights};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How long creating is tried.
const LIMIT: Duration = Duration::from_secs(120);

fn deadline() -> Instant {
    Instant::now() + LIMIT
}

use crate::server::{Answer, World, job, parsed, reference};

async fn create(world: &World, name: &str, deadline: Instant) -> Result<PodRef, CreateError> {
    world.cluster().create_pod(&parsed(&job(name)), deadline, |_| ()).await
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_is_one_pod() {
    let world = World::default();
    world.lock().creates.push_back(Answer::Lost);
    let made = create(&world, "a", deadline()).await.unwrap();
    assert_eq!(made, reference(&world.lock().pods["a"]));
    assert_eq!(world.requests("POST "), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_that_pass_are_tried_again() {
    let world = World::default();
    world.lock().creates.extend([
        Answer::Status(429, "TooManyRequests", "slow down"),
        Answer::Status(500, "InternalError", "failed calling webhook"),
        Answer::Status(409, "Conflict", "the quota was being updated"),
        Answer::Hang,
    ]);
    create(&world, "a", deadline()).await.unwrap();
    assert_eq!(world.requests("POST "), 5);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_in_the_servers_words_and_at_once() {
    let world = World::default();
    world.lock().creates.push_back(Answer::Status(403, "Forbidden", "violates PodSecurity"));
    let error = create(&world, "a", deadline()).await.unwrap_err();
    assert_eq!(error, CreateError::Refused { message: "violates PodSecurity".into() });
    assert_eq!(world.requests("POST "), 1);
    world.lock().creates.push_back(Answer::Status(401, "Unauthorized", "Unauthorized"));
    let error = create(&world, "a", deadline()).await.unwrap_err();
    assert_eq!(error, CreateError::Unauthenticated { message: "Unauthorized".into() });
    let said = error.ending().verdict().message;
    assert!(
        said.ends_with("Unauthorized; the runner's credentials for the cluster are not accepted: have they expired?")
    );
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_stays_away_is_given_up() {
    let world = World::default();
    world.lock().creates.extend(vec![Answer::Status(503, "ServiceUnavailable", "etcd is down"); 200]);
    let start = Instant::now();
    let (cluster, wanted, mut told) = (world.cluster(), parsed(&job("a")), Vec::new());
    let create = cluster.create_pod(&wanted, deadline(), |error| told.push(error.message.clone()));
    let error = create.await.unwrap_err();
    assert!(matches!(&error, CreateError::Unreachable { message, .. } if message == "etcd is down"), "{error}");
    assert!(told.len() > 10 && told.iter().all(|message| message == "etcd is down"), "{told:?}");
    let took = start.elapsed();
    assert!(took <= LIMIT && took + Duration::from_secs(10) > LIMIT, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_answers_is_given_up_in_time() {
    let world = World::default();
    world.lock().creates.extend([Answer::Status(409, "Conflict", "the quota was being updated"), Answer::Hang]);
    let start = Instant::now();
    let error = create(&world, "a", start + Duration::from_secs(15)).await.unwrap_err();
    let words =
        "the pod could not be created within 15 s (see poll_timeout and prepare_timeout): the quota was being updated";
    assert_eq!((error.to_string().as_str(), start.elapsed()), (words, Duration::from_secs(15)));
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_says_is_told_as_what_it_is() {
    let world = World::default();
    let page = "<html><title>Access denied</title></html>";
    world.lock().creates.extend([Answer::Raw(503, ""), Answer::Raw(403, page)]);
    let (cluster, wanted, mut told) = (world.cluster(), parsed(&job("a")), Vec::new());
    let create = cluster.create_pod(&wanted, deadline(), |error| told.push(error.message.clone()));
    let error = create.await.unwrap_err().to_string();
    let words =
        "the API server refused the pod: HTTP status 403 Forbidden: Access denied; an API server answers differently";
    assert!(error.starts_with(words), "{error}");
    assert!(told[0].starts_with("HTTP status 503 Service Unavailable without a word; "), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_pod_is_not_taken_for_ours() {
    let world = World::default();
    let mut other = job("a");
    other["metadata"]["annotations"]["gantry.dev/claim"] = json!("c-2");
    world.put(other);
    let error = create(&world, "a", deadline()).await.unwrap_err();
    assert_eq!(error, CreateError::NameTaken { name: "a".into(), namespace: "ci".into() });
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_leaving_is_waited_for() {
    let world = World::default();
    let mut leaving = job("a");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    let old = reference(&world.put(leaving));
    let cluster = world.cluster();
    let wanted = parsed(&job("a"));
    let create = cluster.create_pod(&wanted, deadline(), |_| ());
    let leave = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        world.remove("a");
    };
    let (made, ()) = tokio::join!(create, leave);
    assert_ne!(made.unwrap().uid, old.uid);
}

#[tokio::test(start_paused = true)]
async fn deleting_means_this_pod_and_no_other() {
    let world = World::default();
    let cluster = world.cluster();
    let first = reference(&world.put(job("a")));
    world.remove("a");
    cluster.delete_pod(&first, None).await.unwrap();

    let second = reference(&world.put(job("a")));
    cluster.delete_pod(&first, None).await.unwrap();
    assert!(matches!(cluster.get_pod(&second).await, PodNow::Present(_)));
    assert!(matches!(cluster.get_pod(&first).await, PodNow::Replaced));

    world.lock().deletes.extend([Answer::Status(500, "InternalError", "later"), Answer::Lost]);
    cluster.delete_pod(&second, Some(1)).await.unwrap();
    assert!(matches!(cluster.get_pod(&second).await, PodNow::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_not_granted_is_an_error() {
    let world = World::default();
    let pod = reference(&world.put(job("a")));
    world.lock().deletes.push_back(Answer::Status(403, "Forbidden", "cannot delete resource"));
    let error = world.cluster().delete_pod(&pod, None).await.unwrap_err();
    assert_eq!(
        (error.fault, error.to_string().as_str()),
        (Fault::Forbidden, r#"pod "a" could not be deleted: cannot delete resource"#)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_should_not_be_there_is_removed_once_that_is_possible() {
    let world = World::default();
    let (cluster, pod) = (world.cluster(), reference(&world.put(job("a"))));
    world.put(job("b"));
    world.lock().deletes.extend(vec![Answer::Status(503, "ServiceUnavailable", "etcd is down"); 20]);
    cluster.remove_leftover(&LeftoverPod::NotDeleted(pod)).await.unwrap();
    assert_eq!(world.lock().pods.keys().collect::<Vec<_>>(), ["b"]);

    // One that was only asked for comes late, or not at all.
    let begun = Instant::now();
    let leftover = LeftoverPod::Requested(Box::new(parsed(&job("c"))));
    let late = async {
        sleep(limits::LEFTOVER_PERIOD * 2).await;
        world.put(job("c"));
    };
    tokio::join!(async { cluster.remove_leftover(&leftover).await.unwrap() }, late);
    assert_eq!(world.lock().pods.keys().collect::<Vec<_>>(), ["b"]);
    cluster.remove_leftover(&leftover).await.unwrap();
    assert!(begun.elapsed() > limits::LATE_CREATION);

    // Somebody else's is left alone.
    let mut other = job("c");
    other["metadata"]["annotations"]["gantry.dev/claim"] = json!("c-2");
    world.put(other);
    cluster.remove_leftover(&leftover).await.unwrap();
    assert_eq!(world.lock().pods.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_not_be_removed_is_given_up() {
    let world = World::default();
    let pod = reference(&world.put(job("a")));
    world.lock().deletes.push_back(Answer::Status(403, "Forbidden", "cannot delete resource"));
    let error = world.cluster().remove_leftover(&LeftoverPod::NotDeleted(pod.clone())).await.unwrap_err();
    assert_eq!(error.fault, Fault::Forbidden);
    let begun = Instant::now();
    world.lock().deletes.extend(vec![Answer::Status(503, "ServiceUnavailable", "etcd is down"); 1000]);
    world.cluster().remove_leftover(&LeftoverPod::NotDeleted(pod)).await.unwrap_err();
    assert!(begun.elapsed() >= limits::LEFTOVER_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn rights_are_asked_for_one_by_one() {
    let cluster = World::default().cluster();
    let mut missing = Vec::new();
    for right in rights::USED {
        if !cluster.may(&right).await.unwrap() {
            missing.push(right.to_string());
        }
    }
    assert_eq!(missing, ["get on pods/exec", "create on pods/exec"]);
}
