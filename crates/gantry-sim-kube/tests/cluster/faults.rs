//! Faults on demand, as clients feel them.

use std::time::Duration;

use futures::StreamExt;
use kube::api::{AttachParams, DeleteParams, ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::{LOOK, TIMEOUT, World, never, sh, state};

fn code<T>(result: kube::Result<T>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}

#[tokio::test]
async fn requests_are_refused_as_ordered() {
    let world = World::new().await;
    world
        .fault(json!({"kind": "refuse", "verb": "list", "resource": "pods", "namespace": "ci", "status": 429,
            "retryAfter": 7, "count": 1}))
        .await;
    let answer = world.raw(http::Request::get("/api/v1/namespaces/ci/pods"), &Value::Null).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(code(world.pods().list(&ListParams::default()).await), 200);
    let down = world.fault(json!({"kind": "refuse", "resource": "pods*", "status": 500, "message": "away"})).await;
    let answer = world.raw(http::Request::get("/api/v1/namespaces/ci/pods/p"), &Value::Null).await;
    assert_eq!(answer.status().as_u16(), 500);
    assert!(answer.body().contains(r#""message":"away""#), "{}", answer.body());
    world.mend(down).await;
    assert_eq!(code(world.pods().get("p").await), 404);
    let order =
        json!({"kind": "refuse", "verb": "get", "status": 403, "body": "<p>no</p>", "contentType": "text/html"});
    world.fault(order).await;
    let answer = world.raw(http::Request::get("/api/v1/namespaces/ci/pods/p"), &Value::Null).await;
    assert_eq!((answer.status().as_u16(), answer.body().as_str()), (403, "<p>no</p>"));
    assert_eq!(answer.headers()["content-type"], "text/html");
    world.stop().await;
}

#[tokio::test]
async fn an_answer_can_get_lost_behind_its_effect() {
    let world = World::new().await;
    world.fault(json!({"kind": "lose-answer", "verb": "create", "resource": "pods"})).await;
    let pod =
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": never(&json!([sh("a", "true")]))})).unwrap();
    let lost = world.pods().create(&kube::api::PostParams::default(), &pod).await;
    assert!(matches!(lost, Err(error) if !matches!(error, kube::Error::Api(_))));
    assert!(world.pods().get("p").await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn images_and_nodes_can_be_withheld() {
    let world = World::new().await;
    let missing = world.fault(json!({"kind": "image-pull-error", "image": "a:*", "message": "unauthorized"})).await;
    let slow = world.fault(json!({"kind": "slow-pull", "image": "b:*"})).await;
    let nowhere = world.fault(json!({"kind": "unschedulable", "pod": "p", "message": "1 node is on fire"})).await;
    world.pod("p", never(&json!([sh("a", "true"), sh("b", "sleep 600")]))).await;
    let pod = world.until("p", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    assert!(pod["status"]["conditions"][0]["message"].as_str().unwrap_or("").contains("node is on fire"));
    world.mend(nowhere).await;
    // Nothing of a pod is reported while it pulls, so the failed pull shows with the next look.
    world.until("p", |pod| pod["spec"]["nodeName"].is_string()).await;
    world.mend(slow).await;
    let pod = world.until("p", |pod| state(pod, "a")["waiting"]["reason"] == "ImagePullBackOff").await;
    assert!(state(&pod, "a")["waiting"]["message"].as_str().unwrap_or("").ends_with("unauthorized"));
    world.until("p", |pod| !state(pod, "b")["running"].is_null()).await;
    world.mend(missing).await;
    world.stop().await;
}

#[tokio::test]
async fn accidents_can_be_ordered_before_the_pod_exists() {
    let world = World::new().await;
    world.fault(json!({"kind": "evict", "pod": "goes-*", "message": "no room"})).await;
    world.fault(json!({"kind": "oom-kill", "pod": "starves", "container": "b"})).await;
    world.pod("goes-away", never(&json!([sh("a", "sleep 600")]))).await;
    world.pod("starves", never(&json!([sh("a", "true"), sh("b", "sleep 600")]))).await;
    assert_eq!(world.phase("goes-away", "Failed").await["status"]["message"], "no room");
    let pod = world.phase("starves", "Failed").await;
    assert_eq!(state(&pod, "b")["terminated"]["reason"], "OOMKilled");
    assert_eq!(state(&pod, "a")["terminated"]["reason"], "Completed");
    world.stop().await;
}

async fn exec(world: &World, script: &str) -> kube::api::AttachedProcess {
    let params = AttachParams::default().container("a").stdin(true).stdout(true).stderr(true);
    world.pods().exec("p", ["sh", "-c", script], &params).await.expect("exec")
}

/// Waits until the stream is gone, without a word about how the command ended.
async fn broken(process: &mut kube::api::AttachedProcess) {
    let status = process.take_status().expect("a status");
    assert!(tokio::time::timeout(TIMEOUT, status).await.expect("the stream breaks").is_none());
}

#[tokio::test]
async fn streams_break_after_as_many_bytes_as_ordered() {
    let world = World::new().await;
    world.pod("p", never(&json!([sh("a", "sleep 600")]))).await;
    assert!(crate::exec::until_it_works(&world, "p", "a").await);
    world.fault(json!({"kind": "stream-cut", "pod": "p", "after": 10, "count": 1})).await;
    let mut process = exec(&world, "printf 123456789012345; sleep 600").await;
    let mut out = [0; 10];
    let mut read = process.stdout().expect("output");
    tokio::time::timeout(TIMEOUT, read.read_exact(&mut out)).await.expect("in time").expect("output");
    assert_eq!(&out, b"1234567890");
    broken(&mut process).await;
    // A stalled one gives as much, and then nothing, not even an end.
    world.fault(json!({"kind": "stream-stall", "pod": "p", "after": 5, "count": 1})).await;
    let mut process = exec(&world, "printf 123456789012345").await;
    let mut read = process.stdout().expect("output");
    let mut some = [0; 5];
    tokio::time::timeout(TIMEOUT, read.read_exact(&mut some)).await.expect("in time").expect("output");
    assert_eq!(&some, b"12345");
    assert!(tokio::time::timeout(Duration::from_millis(300), read.read_u8()).await.is_err(), "nothing more comes");
    world.stop().await;
}

#[tokio::test]
async fn watches_end_when_told_and_with_410_if_wanted() {
    let world = World::new().await;
    let params = WatchParams::default().timeout(60);
    for gone in [false, true] {
        let pods = world.pods();
        let mut events = pods.watch(&params, "0").await.expect("a watch").boxed();
        // The watch is there when its first event is.
        world.pod(&format!("p-{gone}"), never(&json!([sh("a", "true")]))).await;
        tokio::time::timeout(TIMEOUT, events.next()).await.expect("in time").expect("an event").expect("an event");
        world.fault(json!({"kind": "watch-close", "resource": "pods", "gone": gone})).await;
        let rest = tokio::time::timeout(TIMEOUT, events.collect::<Vec<_>>()).await.expect("the watch ends");
        let last = rest.last().and_then(|event| event.as_ref().ok());
        assert_eq!(matches!(last, Some(WatchEvent::Error(status)) if status.code == 410), gone);
    }
    world.stop().await;
}

#[tokio::test]
async fn kubelet_can_be_away_for_a_while() {
    let world = World::new().await;
    world.pod("p", never(&json!([sh("a", "until test -e /tmp/go; do sleep 0.02; done")]))).await;
    world.until("p", |pod| !state(pod, "a")["running"].is_null()).await;
    // The container ends once the stream has broken: not before, and while nobody looks.
    let mut process = exec(&world, "echo up; cat; touch /tmp/go; sleep 600").await;
    let mut out = [0; 3];
    let mut read = process.stdout().expect("output");
    tokio::time::timeout(TIMEOUT, read.read_exact(&mut out)).await.expect("in time").expect("output");
    let away = world.fault(json!({"kind": "kubelet-restart", "seconds": 600})).await;
    broken(&mut process).await;
    let answer = world.raw(http::Request::get("/api/v1/namespaces/ci/pods/p/log"), &Value::Null).await;
    assert_eq!(answer.status().as_u16(), 500);
    assert!(answer.body().contains("connect: connection refused"), "{}", answer.body());
    let pod = serde_json::to_value(world.pods().get("p").await.expect("the pod")).unwrap();
    assert_eq!(pod["status"]["phase"], "Running", "nobody tells the API server");
    world.mend(away).await;
    world.phase("p", "Succeeded").await;
    world.stop().await;
}

#[tokio::test]
async fn a_restarted_api_server_closes_everything_and_comes_back() {
    let world = World::new().await;
    world.pod("p", never(&json!([sh("a", "sleep 600")]))).await;
    assert!(crate::exec::until_it_works(&world, "p", "a").await);
    let pods = world.pods();
    let mut events = pods.watch(&WatchParams::default().timeout(60), "0").await.expect("a watch").boxed();
    tokio::time::timeout(TIMEOUT, events.next()).await.expect("in time").expect("an event").expect("an event");
    let mut process = exec(&world, "echo up; sleep 600").await;
    let mut read = process.stdout().expect("output");
    tokio::time::timeout(TIMEOUT, read.read_exact(&mut [0; 3])).await.expect("in time").expect("output");
    let order = json!({"kind": "api-restart", "seconds": 0.3, "compact": true});
    let request = http::Request::post("/sim/faults").header("content-type", "application/json");
    let request = request.body(order.to_string().into_bytes()).expect("a request");
    // The answer may get lost too.
    let _ = world.admin().request::<Value>(request).await;
    tokio::time::timeout(TIMEOUT, events.collect::<Vec<_>>()).await.expect("the watch ends");
    broken(&mut process).await;
    let back = tokio::time::timeout(TIMEOUT, async {
        while world.pods().get("p").await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    });
    back.await.expect("the server comes back");
    // What was before cannot be followed any more.
    let mut events = pods.watch(&WatchParams::default().timeout(60), "1").await.expect("a watch").boxed();
    let first = tokio::time::timeout(TIMEOUT, events.next()).await.expect("in time").expect("an event");
    assert!(matches!(first, Ok(WatchEvent::Error(status)) if status.code == 410));
    world.stop().await;
}

#[tokio::test]
async fn a_lost_node_leaves_its_pods_unknown_until_it_comes_back() {
    let world = World::new().await;
    world.pod("p", never(&json!([sh("a", "sleep 600")]))).await;
    world.until("p", |pod| !state(pod, "a")["running"].is_null()).await;
    let lost = world.fault(json!({"kind": "node-loss", "detect": 0})).await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(world.admin());
    let ready = async |wanted: &str| {
        let found = tokio::time::timeout(TIMEOUT, async {
            loop {
                let node = serde_json::to_value(nodes.get("gantry-sim").await.expect("the node")).unwrap();
                let conditions = node["status"]["conditions"].as_array().expect("conditions").clone();
                if conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == wanted) {
                    return node;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        found.await.expect("the node's condition")
    };
    let node = ready("Unknown").await;
    assert!(node["spec"]["taints"].to_string().contains("node.kubernetes.io/unreachable"));
    let is_unready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "False")
    };
    world.until("p", is_unready).await;
    // A deletion waits for the node.
    world.pods().delete("p", &DeleteParams::default()).await.expect("marked");
    // Meanwhile the cluster goes on with everything else.
    world.pod("other", never(&json!([sh("a", "true")]))).await;
    let other = world.until("other", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    let why = other["status"]["conditions"][0]["message"].as_str().unwrap_or("");
    assert!(why.contains("untolerated taint {node.kubernetes.io/unreachable: }"), "{why}");
    let pod = world.pods().get("p").await.expect("nobody has confirmed that it is gone");
    assert!(pod.metadata.deletion_timestamp.is_some());
    world.mend(lost).await;
    ready("True").await;
    tokio::time::timeout(TIMEOUT, async {
        while world.pods().get_opt("p").await.expect("an answer").is_some() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .expect("the pod goes when its node is back");
    world.stop().await;
}
