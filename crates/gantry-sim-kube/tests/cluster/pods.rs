//! What happens to pods: phases, reasons, volumes, and how they end.

use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, LogParams, PostParams},
};
use serde_json::{Value, json};

use crate::{TIMEOUT, World, never, sh, state};

async fn log(world: &World, pod: &str, container: &str) -> String {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.admin(), "ci");
    let params = LogParams { container: Some(container.to_owned()), ..LogParams::default() };
    pods.logs(pod, &params).await.expect("a log")
}

#[tokio::test]
async fn a_pod_runs_and_tells_how_it_ended() {
    let world = World::new().await;
    world.pod("good", never(&json!([sh("a", "echo out; echo bye > /dev/termination-log")]))).await;
    world.pod("bad", never(&json!([sh("a", "exit 4"), sh("b", "true")]))).await;
    world.pod("none", never(&json!([{"name": "a", "image": "x", "command": ["no-such-program"]}]))).await;
    let good = world.phase("good", "Succeeded").await;
    assert_eq!(state(&good, "a")["terminated"]["reason"], "Completed");
    assert_eq!(state(&good, "a")["terminated"]["message"], "bye\n");
    assert_eq!(log(&world, "good", "a").await, "out\n");
    let bad = world.phase("bad", "Failed").await;
    assert_eq!(state(&bad, "a")["terminated"]["exitCode"], 4);
    assert_eq!(state(&bad, "a")["terminated"]["reason"], "Error");
    assert_eq!(state(&bad, "b")["terminated"]["exitCode"], 0);
    let none = world.phase("none", "Failed").await;
    assert_eq!(state(&none, "a")["terminated"]["reason"], "StartError");
    assert_eq!(state(&none, "a")["terminated"]["exitCode"], 128);
    world.stop().await;
}

#[tokio::test]
async fn a_failed_pull_holds_nobody_back_and_a_slow_one_holds_the_status() {
    let world = World::with(|config| {
        config.missing_images = vec!["db:*".to_owned()];
    })
    .await;
    let slow = world.fault(json!({"kind": "slow-pull", "image": "build:*"})).await;
    let containers = json!([sh("helper", "sleep 600"), sh("db", "sleep 600"), sh("build", "sleep 600")]);
    world.pod("p", never(&containers)).await;
    // The helper runs, as exec shows, while the status still says that it waits.
    assert!(crate::exec::until_it_works(&world, "p", "helper").await);
    let pod = world.until("p", |pod| !state(pod, "helper").is_null()).await;
    assert_eq!(state(&pod, "helper")["waiting"]["reason"], "ContainerCreating");
    assert_eq!(pod["status"]["phase"], "Pending");
    world.mend(slow).await;
    let pod = world.until("p", |pod| state(pod, "db")["waiting"]["reason"] == "ImagePullBackOff").await;
    let message = state(&pod, "db")["waiting"]["message"].as_str().unwrap_or("").to_owned();
    assert!(
        message.starts_with("Back-off pulling image \"db:1\": ErrImagePull: rpc error: code = NotFound"),
        "{message}"
    );
    let pod = world.until("p", |pod| !state(pod, "build")["running"].is_null()).await;
    assert!(!state(&pod, "helper")["running"].is_null());
    assert_eq!(pod["status"]["phase"], "Pending");
    world.stop().await;
}

#[tokio::test]
async fn volumes_and_environment_are_those_of_a_real_pod() {
    let world = World::new().await;
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "c"}, "data": {"k": "from map"}})).unwrap();
    Api::<ConfigMap>::namespaced(world.admin(), "ci").create(&PostParams::default(), &map).await.expect("a map");
    let script = "cat /c/k /e/f; echo; echo \"$X\"; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
                  stat -c %a /e /sub; grep -c db /etc/hosts; test -n \"$KUBERNETES_SERVICE_HOST\" && hostname";
    let mut main = sh("a", script);
    main["env"] = json!([
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "X", "value": "$(N)-$$(N)"}]);
    main["volumeMounts"] = json!([{"name": "c", "mountPath": "/c"}, {"name": "e", "mountPath": "/e"},
        {"name": "e", "mountPath": "/sub", "subPath": "s"}]);
    let mut first = sh("i", "echo init > /e/f");
    first["volumeMounts"] = json!([{"name": "e", "mountPath": "/e"}]);
    let mut spec = never(&json!([main]));
    spec["initContainers"] = json!([first]);
    spec["volumes"] = json!([{"name": "c", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}}]);
    spec["hostAliases"] = json!([{"ip": "10.0.0.1", "hostnames": ["db"]}]);
    world.pod("full", spec).await;
    world.phase("full", "Succeeded").await;
    assert_eq!(log(&world, "full", "a").await, "from mapinit\n\nfull-$(N)\nci\n777\n777\n1\nfull\n");
    world.stop().await;
}

#[tokio::test]
async fn accidents_show_as_on_a_real_node() {
    let world = World::new().await;
    for name in ["oom", "evicted"] {
        world.pod(name, never(&json!([sh("a", "sleep 600")]))).await;
    }
    for name in ["oom", "evicted"] {
        world.until(name, |pod| !state(pod, "a")["running"].is_null()).await;
    }
    world.sim("pods/ci/oom/oom", json!({"container": "a"})).await;
    world.sim("pods/ci/evicted/evict", json!({"message": "low on disk"})).await;
    let oom = world.phase("oom", "Failed").await;
    assert_eq!(state(&oom, "a")["terminated"]["reason"], "OOMKilled");
    assert_eq!(state(&oom, "a")["terminated"]["exitCode"], 137);
    let evicted = world.phase("evicted", "Failed").await;
    assert_eq!(evicted["status"]["reason"], "Evicted");
    assert_eq!(evicted["status"]["message"], "low on disk");
    world.stop().await;
}

#[tokio::test]
async fn deadlines_end_pods() {
    let world = World::new().await;
    let mut spec = never(&json!([sh("a", "sleep 600")]));
    spec["activeDeadlineSeconds"] = json!(1);
    world.pod("late", spec).await;
    let late = world.phase("late", "Failed").await;
    assert_eq!(late["status"]["reason"], "DeadlineExceeded");
    world.stop().await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so() {
    let world = World::new().await;
    let mut main = sh("a", "true");
    main["resources"] = json!({"requests": {"cpu": "900"}});
    world.pod("big", never(&json!([main]))).await;
    let big = world.until("big", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    let message = big["status"]["conditions"][0]["message"].as_str().unwrap_or("");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
    let events: Api<Event> = Api::namespaced(world.admin(), "ci");
    let chosen = ListParams::default().fields("involvedObject.name=big,reason=FailedScheduling");
    assert_eq!(events.list(&chosen).await.expect("events").items.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn deletion_is_graceful_or_by_force() {
    let world = World::new().await;
    let trap = "trap 'echo term; sleep 0.3; exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done";
    for name in ["gentle", "forced"] {
        let mut spec = never(&json!([sh("a", trap)]));
        spec["terminationGracePeriodSeconds"] = json!(300);
        world.pod(name, spec).await;
        // A first process without a handler ignores TERM, so the trap must be set before anything
        // is deleted.
        crate::exec::until_it_succeeds(&world, name, "a", "test -e /tmp/up").await;
    }
    let pods = world.pods();
    pods.delete("gentle", &DeleteParams::default()).await.expect("deleted");
    let marked = pods.get_opt("gentle").await.expect("an answer");
    assert!(marked.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()));
    tokio::time::timeout(TIMEOUT, async {
        while pods.get_opt("gentle").await.expect("an answer").is_some() {
            tokio::time::sleep(crate::LOOK).await;
        }
    })
    .await
    .expect("the pod goes before its grace period is over");
    pods.delete("forced", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    assert!(pods.get_opt("forced").await.expect("an answer").is_none());
    world.stop().await;
}

#[tokio::test]
async fn invalid_pods_are_refused_with_every_cause() {
    let world = World::new().await;
    let spec: Value =
        json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "A"}, {"name": "b", "image": "b"}]}});
    let pod = serde_json::from_value(spec).unwrap();
    let error = world.pods().create(&PostParams::default(), &pod).await.expect_err("refused");
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.starts_with("Pod \"x\" is invalid: [spec.containers[0].name: Invalid value: \"A\""));
    world.stop().await;
}
