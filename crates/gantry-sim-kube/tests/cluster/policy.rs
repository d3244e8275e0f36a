//! What a cluster forbids and completes: quotas, limit ranges, security levels, priorities; and
//! what it keeps running.

use gantry_sim_kube::Allocatable;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::{LOOK, TIMEOUT, World, never, sh, state};

fn api(world: &World, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    if kind == "PriorityClass" || kind == "Namespace" {
        return Api::all_with(world.admin(), &resource);
    }
    Api::namespaced_with(world.admin(), "ci", &resource)
}

async fn create(world: &World, group: &str, object: Value) {
    let kind = object["kind"].as_str().expect("a kind").to_owned();
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    api(world, group, &kind).create(&PostParams::default(), &object).await.expect("created");
}

fn core(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name}, "spec": spec})
}

/// Tries to make a pod; the answer is the refusal.
async fn refusal(world: &World, spec: Value) -> String {
    let pod = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).expect("a pod");
    match world.pods().create(&PostParams::default(), &pod).await.expect_err("refused") {
        kube::Error::Api(status) => {
            assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
            status.message.clone()
        }
        other => panic!("{other}"),
    }
}

fn with(mut container: Value, resources: &Value) -> Value {
    container["resources"] = resources.clone();
    container
}

#[tokio::test]
async fn quotas_are_enforced_and_told() {
    let world = World::new().await;
    create(&world, "", core("ResourceQuota", "q", &json!({"hard": {"pods": "2", "requests.cpu": "1"}}))).await;
    assert_eq!(
        refusal(&world, never(&json!([sh("a", "true")]))).await,
        r#"pods "x" is forbidden: failed quota: q: must specify requests.cpu for: a"#
    );
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    world.pod("one", never(&json!([with(sh("a", "sleep 600"), &cpu("600m"))]))).await;
    assert_eq!(
        refusal(&world, never(&json!([with(sh("a", "true"), &cpu("500m"))]))).await,
        r#"pods "x" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"#
    );
    let quota = api(&world, "", "ResourceQuota").get("q").await.expect("the quota");
    assert_eq!(quota.data["status"]["used"], json!({"pods": "1", "requests.cpu": "600m"}));
    world.stop().await;
}

#[tokio::test]
async fn many_at_once_do_not_pass_a_quota() {
    let world = World::new().await;
    create(&world, "", core("ResourceQuota", "q", &json!({"hard": {"pods": "3"}}))).await;
    let pod = |index: usize| {
        let spec = never(&json!([sh("a", "sleep 600")]));
        serde_json::from_value(json!({"metadata": {"name": format!("p{index}")}, "spec": spec})).expect("a pod")
    };
    let pods = world.pods();
    let params = PostParams::default();
    let all: Vec<k8s_openapi::api::core::v1::Pod> = (0..12).map(pod).collect();
    let made = futures::future::join_all(all.iter().map(|pod| pods.create(&params, pod))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 3);
    world.stop().await;
}

#[tokio::test]
async fn limit_ranges_complete_and_refuse() {
    let world = World::new().await;
    let limits = json!({"limits": [{"type": "Container", "default": {"memory": "64Mi"}, "max": {"memory": "128Mi"}}]});
    create(&world, "", core("LimitRange", "l", &limits)).await;
    let pod = world.pod("p", never(&json!([sh("a", "true")]))).await;
    let pod = serde_json::to_value(pod).unwrap();
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "64Mi"}})
    );
    let big = json!({"limits": {"memory": "1Gi"}});
    assert_eq!(
        refusal(&world, never(&json!([with(sh("a", "true"), &big)]))).await,
        r#"pods "x" is forbidden: maximum memory usage per Container is 128Mi, but limit is 1Gi"#
    );
    world.stop().await;
}

#[tokio::test]
async fn security_levels_refuse_and_warn() {
    let world = World::new().await;
    let spaces = api(&world, "", "Namespace");
    let labels = |mode: &str, level: &str| {
        Patch::Merge(json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): level}}}))
    };
    spaces.patch("ci", &PatchParams::default(), &labels("warn", "restricted")).await.expect("labelled");
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": never(&json!([sh("a", "true")]))});
    let answer = world.raw(http::Request::post("/api/v1/namespaces/ci/pods"), &pod).await;
    let warning = answer.headers()["warning"].to_str().expect("text");
    assert!(
        warning.starts_with(r#"299 - "would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation"#),
        "{warning}"
    );
    spaces.patch("ci", &PatchParams::default(), &labels("enforce", "baseline")).await.expect("labelled");
    let mut spec = never(&json!([sh("a", "true")]));
    spec["containers"][0]["securityContext"] = json!({"privileged": true});
    assert_eq!(
        refusal(&world, spec).await,
        "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"a\" must not set \
         securityContext.privileged=true)"
    );
    world.stop().await;
}

#[tokio::test]
async fn fields_that_do_not_exist_are_dropped_or_refused() {
    let world = World::new().await;
    let mut spec = never(&json!([sh("a", "true")]));
    spec["containers"][0]["comand"] = json!(["x"]);
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": spec});
    let strict = http::Request::post("/api/v1/namespaces/ci/pods?fieldValidation=Strict");
    let answer = world.raw(strict, &pod).await;
    assert_eq!(answer.status().as_u16(), 400);
    let told = r#"Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[0].comand\""#;
    assert!(answer.body().contains(told), "{}", answer.body());
    let answer = world.raw(http::Request::post("/api/v1/namespaces/ci/pods"), &pod).await;
    assert_eq!(answer.status().as_u16(), 201);
    assert_eq!(answer.headers()["warning"], r#"299 - "unknown field \"spec.containers[0].comand\"""#);
    assert!(!answer.body().contains("comand"));
    world.stop().await;
}

#[tokio::test]
async fn important_pods_take_the_place_of_others() {
    let world =
        World::with(|config| config.allocatable = Allocatable { cpu_millis: 1_000, ..config.allocatable }).await;
    let class = json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": "high"},
        "value": 1000});
    create(&world, "scheduling.k8s.io", class).await;
    let cpu = json!({"requests": {"cpu": "600m"}});
    world.pod("low", never(&json!([with(sh("a", "sleep 600"), &cpu)]))).await;
    world.until("low", |pod| !state(pod, "a")["running"].is_null()).await;
    let mut spec = never(&json!([with(sh("a", "sleep 600"), &cpu)]));
    world.pod("equal", spec.clone()).await;
    let equal = world.until("equal", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    let message = equal["status"]["conditions"][0]["message"].as_str().unwrap_or("");
    assert!(message.ends_with("No preemption victims found for incoming pod."), "{message}");
    world.pods().delete("equal", &kube::api::DeleteParams::default()).await.expect("deleted");
    spec["priorityClassName"] = json!("high");
    world.pod("high", spec.clone()).await;
    let high = world.until("high", |pod| !state(pod, "a")["running"].is_null()).await;
    assert_eq!(high["spec"]["priority"], 1000);
    assert!(world.pods().get_opt("low").await.expect("an answer").is_none());
    spec["priorityClassName"] = json!("none");
    assert_eq!(refusal(&world, spec).await, r#"pods "x" is forbidden: no PriorityClass with name none was found"#);
    world.stop().await;
}

#[tokio::test]
async fn deployments_roll_and_scale() {
    let world = World::new().await;
    let template = json!({"metadata": {"labels": {"app": "x"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [sh("a", "sleep 600")]}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": template});
    let deployment = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d"}, "spec": spec});
    create(&world, "apps", deployment).await;
    let deployments = api(&world, "apps", "Deployment");
    let rolled = async |generation: i64, replicas: u64| {
        let mut last = Value::Null;
        let done = tokio::time::timeout(TIMEOUT, async {
            loop {
                last = deployments.get("d").await.expect("the deployment").data["status"].clone();
                let all = ["replicas", "updatedReplicas", "availableReplicas"];
                if last["observedGeneration"] == generation && all.iter().all(|field| last[*field] == replicas) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        assert!(done.await.is_ok(), "{last}");
    };
    rolled(1, 2).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}}});
    deployments.patch("d", &PatchParams::default(), &Patch::Strategic(image)).await.expect("patched");
    rolled(2, 2).await;
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scale = deployments.patch_scale("d", &PatchParams::default(), &three).await.expect("scaled");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
    rolled(3, 3).await;
    deployments.delete("d", &kube::api::DeleteParams::default()).await.expect("deleted");
    tokio::time::timeout(TIMEOUT, async {
        while !world.pods().list(&kube::api::ListParams::default()).await.expect("a list").items.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .expect("its pods go too");
    world.stop().await;
}
