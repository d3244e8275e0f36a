//! Pods that use too much, and pods that are asked to go.

use std::time::Duration;

use gantry_sim_kube::Config;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{LOOK, TIMEOUT, World, never, sh, state};

fn quick(config: &mut Config) {
    config.eviction_period = Duration::from_millis(100);
}

fn limited(mut container: Value, limits: &Value) -> Value {
    container["resources"] = json!({"limits": limits});
    container
}

#[tokio::test]
async fn who_writes_too_much_is_evicted_with_kubelets_words() {
    let world = World::with(quick).await;
    let limit = json!({"ephemeral-storage": "10Mi"});
    let fill = |place: &str| format!("head -c 20000000 /dev/zero > {place}; sleep 600");
    let mut volume = sh("a", &fill("/e/f"));
    volume["volumeMounts"] = json!([{"name": "e", "mountPath": "/e"}]);
    let mut spec = never(&json!([volume]));
    spec["volumes"] = json!([{"name": "e", "emptyDir": {"sizeLimit": "10Mi"}}]);
    world.pod("volume", spec.clone()).await;
    spec["volumes"] = json!([{"name": "e", "emptyDir": {}}]);
    spec["containers"][0] = limited(spec["containers"][0].clone(), &limit);
    world.pod("both", spec).await;
    world.pod("layer", never(&json!([limited(sh("a", &fill("/tmp/f")), &limit)]))).await;
    world
        .pod("little", never(&json!([limited(sh("a", "head -c 1000000 /dev/zero > /tmp/f; sleep 600"), &limit)])))
        .await;
    let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ";
    for (name, message) in
        [("volume", "Usage of EmptyDir volume \"e\" exceeds the limit \"10Mi\". "), ("both", whole), ("layer", whole)]
    {
        let pod = world.phase(name, "Failed").await;
        assert_eq!(pod["status"]["reason"], "Evicted");
        assert_eq!(pod["status"]["message"], message);
        assert_eq!(state(&pod, "a")["terminated"]["exitCode"], 137);
    }
    let events: Api<Event> = Api::namespaced(world.admin(), "ci");
    let chosen = ListParams::default().fields("involvedObject.name=volume,reason=Evicted");
    assert_eq!(events.list(&chosen).await.expect("events").items.len(), 1);
    // It may have started later than the others ended; once it runs it stays.
    world.phase("little", "Running").await;
    world.stop().await;
}

#[tokio::test]
async fn older_kubelets_leave_nothing_but_the_reason() {
    let world = World::with(|config| {
        *config = config.clone().like_1_20();
        quick(config);
    })
    .await;
    let fill = "head -c 20000000 /dev/zero > /tmp/f; sleep 600";
    world.pod("p", never(&json!([limited(sh("a", fill), &json!({"ephemeral-storage": "10Mi"}))]))).await;
    let pod = world.phase("p", "Failed").await;
    let status = pod["status"].as_object().expect("a status");
    assert!(status.keys().all(|key| ["message", "phase", "reason", "startTime"].contains(&key.as_str())), "{status:?}");
    world.stop().await;
}

async fn evict(world: &World, name: &str, version: &str) -> Result<Value, (u16, String)> {
    let body = json!({"kind": "Eviction", "apiVersion": version, "metadata": {"name": name, "namespace": "ci"}});
    let request = http::Request::post(format!("/api/v1/namespaces/ci/pods/{name}/eviction"));
    let answer = world.raw(request, &body).await;
    let status: Value = serde_json::from_str(answer.body()).expect("JSON");
    if answer.status().is_success() {
        return Ok(status);
    }
    Err((answer.status().as_u16(), status["message"].as_str().unwrap_or("").to_owned()))
}

#[tokio::test]
async fn an_eviction_is_a_graceful_deletion_that_says_why() {
    let world = World::new().await;
    let script =
        "trap 'until test -e /tmp/go; do sleep 0.02; done; exit 0' TERM; touch /tmp/up; while :; do sleep 0.05; done";
    for (name, version) in [("new", "policy/v1"), ("old", "policy/v1beta1")] {
        let mut spec = never(&json!([sh("a", script)]));
        spec["terminationGracePeriodSeconds"] = json!(300);
        world.pod(name, spec).await;
        crate::exec::until_it_succeeds(&world, name, "a", "test -e /tmp/up").await;
        assert_eq!(evict(&world, name, version).await.expect("evicted")["status"], "Success");
        let pod = serde_json::to_value(world.pods().get(name).await.expect("it is still there")).unwrap();
        assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 300);
        let conditions = pod["status"]["conditions"].as_array().expect("conditions");
        let condition = conditions.iter().find(|one| one["type"] == "DisruptionTarget").expect("the condition");
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
        crate::exec::run(&world, name, "a", "touch /tmp/go").await;
        tokio::time::timeout(TIMEOUT, async {
            while world.pods().get_opt(name).await.expect("an answer").is_some() {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
        .expect("the pod goes");
    }
    assert_eq!(evict(&world, "new", "policy/v1").await.expect_err("it is gone").0, 404);
    assert_eq!(evict(&world, "new", "policy/v7").await.expect_err("no such version").0, 400);
    world.stop().await;
}

#[tokio::test]
async fn a_disruption_budget_is_kept() {
    let world = World::new().await;
    let pod = world.pod("p", never(&json!([sh("a", "sleep 600")]))).await;
    drop(pod);
    let labels = json!({"metadata": {"labels": {"app": "x"}}});
    let by = kube::api::PatchParams::default();
    world.pods().patch("p", &by, &kube::api::Patch::Merge(labels)).await.expect("patched");
    world.until("p", |pod| !state(pod, "a")["running"].is_null()).await;
    let budget = serde_json::from_value(json!({"metadata": {"name": "b"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "x"}}}}))
    .unwrap();
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> = Api::namespaced(world.admin(), "ci");
    budgets.create(&kube::api::PostParams::default(), &budget).await.expect("a budget");
    let (code, message) = evict(&world, "p", "policy/v1").await.expect_err("the budget forbids it");
    assert_eq!((code, message.as_str()), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
    budgets.delete("b", &kube::api::DeleteParams::default()).await.expect("deleted");
    assert!(evict(&world, "p", "policy/v1").await.is_ok());
    world.stop().await;
}
