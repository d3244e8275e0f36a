//! The shared watch.

use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::{PodState, PodWatch, limits};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    said,
    server::{Answer, World, job, on_node, reference, with_status},
};

/// Longest time any of these waits may take on the paused clock.
const BOUND: Duration = Duration::from_secs(120);

/// What is said when the driver begins to poll, and when it needs not any more.
const POLLED: &str = "every pod is polled instead";
const GRANTED: &str = "can be listed and watched now";

async fn node(watch: &mut PodWatch) -> String {
    let found = watch.until(|pod_state| pod_state.facts().and_then(|facts| facts.node.clone()));
    timeout(BOUND, found).await.expect("no node was seen").expect("the driver has ended")
}

async fn ended(watch: &mut PodWatch, pod: &str) -> Ending {
    let found = watch.until(|pod_state| pod_state.terminal(pod, &["helper", "build"]));
    timeout(BOUND, found).await.expect("no end was seen").expect("the driver has ended")
}

#[tokio::test(start_paused = true)]
async fn all_pods_share_one_list_and_one_watch() {
    let world = World::default();
    let cluster = world.cluster();
    let mut watches = Vec::new();
    for index in 0..20 {
        let pod = world.put(job(&format!("job-{index}")));
        watches.push((cluster.watch_pod(&reference(&pod)), pod));
    }
    for (watch, pod) in &mut watches {
        assert!(timeout(BOUND, watch.until(|pod_state| pod_state.facts().map(|_| ()))).await.unwrap().is_some());
        world.put(on_node(pod.clone()));
    }
    for (watch, _) in &mut watches {
        assert_eq!(node(watch).await, "node-a");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.lock().requests.len(), 2, "{:?}", world.lock().requests);
    assert!(world.lock().requests.iter().all(|request| request.contains("labelSelector=gantry.dev%2Ffleet%3Da")));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_is_listed_again() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(job("a"));
    world.lock().watches.push_back(Answer::Status(410, "Expired", "too old resource version"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    assert!(watch.changed().await.is_some());
    world.put(on_node(pod));
    assert_eq!(node(&mut watch).await, "node-a");
    assert_eq!(world.requests("watch="), 2);
    assert_eq!(world.lock().requests.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_is_resumed_from_its_version() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(job("a"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.end_watches();
    world.lock().watches.extend([Answer::Lost, Answer::Status(500, "InternalError", "later")]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.put(on_node(pod));
    assert_eq!(node(&mut watch).await, "node-a");
    assert_eq!((world.requests("watch="), world.requests("limit=")), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_asked_for_again() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(job("a"));
    let _watch = cluster.watch_pod(&reference(&pod));
    tokio::time::sleep(limits::WATCH_SILENCE * 2 + Duration::from_secs(20)).await;
    assert_eq!((world.requests("watch="), world.requests("limit=")), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_proven_gone() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(job("a"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    world.remove("a");
    assert_eq!(ended(&mut watch, "a").await, Ending::PodDeleted { pod: "a".into() });
    assert!(matches!(watch.current(), PodState::Gone(Some(_))));
    assert_eq!(world.requests("GET /api/v1/namespaces/ci/pods/a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_nobody_watches_any_more_is_not_asked_for() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(job("a"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    world.remove("a");
    tokio::time::sleep(limits::LEFT / 2).await;
    drop(watch);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.requests("GET /api/v1/namespaces/ci/pods/a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_vanished_while_nobody_looked_is_proven_gone() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(job("a"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.end_watches();
    world.lock().watches.push_back(Answer::Status(410, "Expired", "too old resource version"));
    world.remove("a");
    // A successor of the same name is another pod.
    world.put(job("a"));
    assert_eq!(ended(&mut watch, "a").await, Ending::PodDeleted { pod: "a".into() });
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_pod_outlive_it() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = world.put(on_node(job("a")));
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"});
    world.put(with_status(pod, evicted));
    world.remove("a");
    let expected = Ending::PodDisrupted { pod: "a".into(), message: "Evicted: low on disk".into() };
    assert_eq!(ended(&mut watch, "a").await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_gone_before_it_was_watched_is_found_out() {
    let world = World::default();
    let cluster = world.cluster();
    let pod = reference(&world.put(job("a")));
    world.remove("a");
    let mut watch = cluster.watch_pod(&pod);
    let start = Instant::now();
    assert_eq!(ended(&mut watch, "a").await, Ending::PodDeleted { pod: "a".into() });
    assert!(start.elapsed() >= limits::FIRST_STATUS);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_selector_does_not_show_is_looked_up() {
    let world = World::default();
    let cluster = world.cluster();
    let mut hidden = job("a");
    hidden["metadata"]["labels"]["hidden"] = json!("yes");
    let pod = world.put(hidden);
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    world.put(on_node(pod));
    assert_eq!(node(&mut watch).await, "node-a");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_watch_pods_are_polled_until_it_is_granted() {
    let world = World::default();
    let cluster = world.cluster();
    world.lock().lists.push_back(Answer::Status(403, "Forbidden", "cannot list resource"));
    let pod = world.put(job("a"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    world.put(on_node(pod.clone()));
    assert_eq!(node(&mut watch).await, "node-a");
    assert_eq!(world.requests("watch="), 0);
    let polls = world.requests("/pods/a");
    assert!(polls >= 1);

    tokio::time::sleep(limits::WATCH_REFUSED_RETRY * 2).await;
    assert_eq!(world.requests("limit="), 2);
    let polls = world.requests("/pods/a");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.requests("/pods/a"), polls, "it is still polled");
    world.remove("a");
    assert_eq!(ended(&mut watch, "a").await, Ending::PodDeleted { pod: "a".into() });
}

/// Waits until the watch has been asked for so often, and a little more.
async fn watched(world: &World, times: usize) {
    let asked = async {
        while world.requests("watch=") < times {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(1)).await;
    };
    timeout(limits::WATCH_REFUSED_RETRY * 2, asked).await.expect("the watch is not asked for");
}

#[tokio::test(start_paused = true)]
async fn with_the_right_to_list_only_pods_are_polled_until_the_watch_is_live() {
    said::listen();
    let world = World::default();
    let cluster = world.cluster();
    let refused = Answer::Status(403, "Forbidden", "cannot watch resource");
    world.lock().watches.extend([refused.clone(), refused, Answer::Hang]);
    let pod = world.put(job("a"));
    let mut hidden = job("b");
    hidden["metadata"]["labels"]["hidden"] = json!("yes");
    let hidden = world.put(hidden);
    let mut watch = cluster.watch_pod(&reference(&pod));
    let mut watch_hidden = cluster.watch_pod(&reference(&hidden));

    // The second is refused too, and the third has not been answered.
    for watches in [2, 3] {
        watched(&world, watches).await;
        world.put(with_status(pod.clone(), json!({"message": watches.to_string()})));
        let seen = watch.until(|state| state.facts().filter(|facts| facts.message == watches.to_string()).map(drop));
        timeout(limits::REQUEST / 2, seen).await.expect("it is not polled").unwrap();
        assert_eq!((said::count(POLLED), said::count(GRANTED)), (1, 0));
    }

    watched(&world, 4).await;
    assert_eq!((said::count(POLLED), said::count(GRANTED)), (1, 1));
    let polls = world.requests("/pods/a");
    world.put(on_node(pod));
    world.put(on_node(hidden));
    assert_eq!((node(&mut watch).await, node(&mut watch_hidden).await), ("node-a".to_owned(), "node-a".to_owned()));
    assert_eq!(world.requests("/pods/a"), polls, "it is still polled");
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_user_and_nobody_waits_for_a_driver_that_has_ended() {
    let world = World::default();
    let pod = reference(&world.put(job("a")));
    let client = world.cluster();
    let watch = client.watch_pod(&pod);
    drop(client);
    let mut still_works = watch;
    still_works.changed().await.unwrap();
    drop(still_works);

    let (cluster, driver) = world.cluster_and_driver();
    let driver = tokio::spawn(driver);
    drop(cluster);
    timeout(BOUND, driver).await.unwrap().unwrap();

    let (cluster, driver) = world.cluster_and_driver();
    drop(driver);
    assert!(cluster.watch_pod(&pod).changed().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_what_is_known_and_ends_with_the_driver() {
    use futures::StreamExt as _;
    let world = World::default();
    let (cluster, driver) = world.cluster_and_driver();
    let driver = tokio::spawn(driver);
    let pod = world.put(job("a"));
    let mut watch = cluster.watch_pod(&reference(&pod));
    watch.changed().await.unwrap();
    let mut stream = std::pin::pin!(watch.into_stream());
    assert!(matches!(stream.next().await, Some(PodState::Present(facts)) if facts.node.is_none()));
    world.put(on_node(pod));
    assert!(matches!(stream.next().await, Some(PodState::Present(facts)) if facts.node.is_some()));
    driver.abort();
    assert_eq!(timeout(BOUND, stream.next()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_not_accepted_for_a_while_do_not_stop_the_watch() {
    let world = World::default();
    let cluster = world.cluster();
    world.lock().lists.extend(vec![Answer::Status(401, "Unauthorized", "Unauthorized"); 3]);
    let pod = world.put(on_node(job("a")));
    let mut watch = cluster.watch_pod(&reference(&pod));
    let start = Instant::now();
    assert_eq!(node(&mut watch).await, "node-a");
    assert!(start.elapsed() < limits::FIRST_STATUS && world.requests("limit=") == 4);
}
