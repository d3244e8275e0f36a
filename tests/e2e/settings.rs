//! Settings that change what is made around a pod, and how long it stays.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, Runner, RunnerOptions, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::causes::{grant, granted, with};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("settings: pull policies are tried in turn", pull_policies).needs(Need::Faults),
        Test::new("settings: a namespace for each job", namespaces),
        Test::new("settings: a disruption budget", budget),
        Test::new("settings: tries of requests", tries).needs(Need::Faults),
        Test::new("settings: what a pod needs is awaited", awaited),
        Test::new("settings: a token of the job's own", token),
        Test::new("settings: patches of the pod", patches),
        Test::new("settings: resources of the whole pod", pod_resources).needs(Need::PodResources),
        Test::new("settings: sh although there is a bash", posix_shell),
        Test::new("settings: the pod of a failed job is kept", kept),
    ]
}

async fn order(world: &World, fault: &Value) -> anyhow::Result<String> {
    let (status, ordered) = world.kube.ask(Method::POST, "/sim/faults", Some(fault)).await?;
    ensure!(status.is_success(), "{ordered}");
    Ok(format!("/sim/faults/{}", ordered["id"]))
}

async fn pull_policies(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "policies", "    pull_policy = [\"always\", \"if-not-present\"]\n").await?;
    let mut job = script(&["echo ran"]);
    let image = world.unique("stubborn:{run}");
    job["image"] = json!({"name": image});
    let fault = json!({"kind": "image-pull-error", "image": image, "reason": "ErrImagePull", "message": "registry is away",
        "count": 1});
    let fault = order(&world, &fault).await?;
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    world.kube.ask(Method::DELETE, &fault, None).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    let failed = format!("WARNING: Failed to pull image {image:?} for container \"build\" with policy \"Always\": ");
    let next = format!("Attempt #2: Trying \"IfNotPresent\" pull policy for {image:?} image for container \"build\"");
    for text in [failed.as_str(), next.as_str(), "\nran"] {
        ensure!(log.contains(text), "the log lacks {text:?}:\n{log}");
    }
    // Where no policy helps, the job ends as it does with one.
    job["image"] = json!({"name": "missing-whatever:1"});
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.failure_reason.as_deref() == Some("runner_configuration_error"), "{ended:?}\n{log}");
    ensure!(log.contains("Attempt #2") && !log.contains("Attempt #3"), "{log}");
    Ok(())
}

/// Where roles of the whole cluster and their bindings are.
const EVERYWHERE: [&str; 2] =
    ["/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"];

/// Grants something in the whole cluster, until [`revoke_everywhere`].
pub(crate) async fn grant_everywhere(world: &World, runner: &Runner, rules: &Value) -> anyhow::Result<()> {
    let name = format!("everywhere-{}", runner.namespace);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "Group", "name": format!("system:serviceaccounts:{}", runner.namespace)}]});
    for (path, object) in EVERYWHERE.into_iter().zip([role, binding]) {
        let (status, made) = world.kube.ask(Method::POST, path, Some(&object)).await?;
        ensure!(status.is_success(), "{made}");
    }
    granted(world, runner, rules).await
}

pub(crate) async fn revoke_everywhere(world: &World, runner: &Runner) -> anyhow::Result<()> {
    for path in EVERYWHERE {
        world.kube.ask(Method::DELETE, &format!("{path}/everywhere-{}", runner.namespace), None).await?;
    }
    Ok(())
}

async fn namespaces(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "per-job", "    namespace_per_job = true\n").await?;
    let job = script(&["echo ran in $GANTRY_NS"]);
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(
        ended.status == "failed" && log.contains("grant create, get, list and delete on namespaces"),
        "{ended:?}\n{log}"
    );
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create", "get", "list", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete", "patch"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]},
    ]);
    grant_everywhere(&world, &runner, &rules).await?;
    let outcome = namespace_of_a_job(&world, &runner).await;
    // They do not go with the namespace.
    revoke_everywhere(&world, &runner).await?;
    outcome
}

async fn namespace_of_a_job(world: &World, runner: &Runner) -> anyhow::Result<()> {
    let id = world.post_job(runner, &script(&["echo ran", "sleep 6"])).await?;
    world.gitlab.wait_for_text(id, "\nran", BOUND).await?;
    let namespace = format!("ci-job-{id}");
    let pods = world.kube.pods(&namespace).await?;
    ensure!(pods.len() == 1, "{} pods in {namespace}", pods.len());
    let (ended, log) = world.ended(id, BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    let line = format!("Using Kubernetes namespace: {namespace}");
    ensure!(log.contains(&line), "{log}");
    until("the namespace to go", BOUND, async || {
        let (status, _) = world.kube.ask(Method::GET, &format!("/api/v1/namespaces/{namespace}"), None).await?;
        Ok(if status == StatusCode::NOT_FOUND { Ok(()) } else { Err(format!("{status}")) })
    })
    .await
}

async fn budget(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "budget", "    pod_disruption_budget = true\n").await?;
    let (ended, log) = world.run_on(&runner, &script(&["echo ran", "sleep 1"]), BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    ensure!(log.contains("The pod has no disruption budget: grant create on poddisruptionbudgets (policy)"), "{log}");
    let rules = json!([{"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["create"]}]);
    grant(&world, &runner, &rules).await?;
    let id = world.post_job(&runner, &script(&["echo ran", "sleep 6"])).await?;
    world.gitlab.wait_for_text(id, "\nran", BOUND).await?;
    let path = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", runner.namespace);
    let (status, _) = world.kube.ask(Method::GET, &path, None).await?;
    if status == StatusCode::NOT_FOUND {
        // Kubernetes has this version since 1.21.
        return world.ended(id, BOUND).await.map(drop);
    }
    // No job waits for its budget, so its script may be quicker.
    until("the budget of the pod", BOUND, async || {
        let (_, list) = world.kube.ask(Method::GET, &path, None).await?;
        let found = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        let owner = found.first().and_then(|budget| budget.pointer("/metadata/ownerReferences/0/kind"));
        let is_there = found.len() == 1 && owner == Some(&json!("Pod"));
        Ok(if is_there { Ok(()) } else { Err(list.to_string()) })
    })
    .await?;
    world.ended(id, BOUND).await?;
    until("the budget to go", BOUND, async || {
        let (_, list) = world.kube.ask(Method::GET, &path, None).await?;
        let left = list["items"].as_array().map_or(0, Vec::len);
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} budgets")) })
    })
    .await
}

async fn tries(world: Rc<World>) -> anyhow::Result<()> {
    let config = "    retry_limit = 2\n    retry_limits = { \"for now\" = 3 }\n";
    let runner = with(&world, "tries", config).await?;
    for (status, message, count) in [(503, "etcd is away", 2), (400, "not for now", 3)] {
        let fault = json!({"kind": "refuse", "verb": "create", "resource": "pods", "namespace": runner.namespace,
            "status": status, "message": message});
        let fault = order(&world, &fault).await?;
        let (ended, log) = world.run_on(&runner, &script(&["echo never"]), BOUND).await?;
        world.kube.ask(Method::DELETE, &fault, None).await?;
        let text = format!("{message} (given up after {count} tries, see retry_limit and retry_limits)");
        ensure!(ended.status == "failed" && log.contains(&text), "{ended:?}: the log lacks {text:?}:\n{log}");
    }
    Ok(())
}

async fn awaited(world: Rc<World>) -> anyhow::Result<()> {
    let config = "    image_pull_secrets = [\"not-there\"]\n    resource_availability_check_max_attempts = 1\n";
    let runner = with(&world, "awaited", config).await?;
    let (ended, log) = world.run_on(&runner, &script(&["echo ran"]), BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    ensure!(log.contains("has no effect: grant get on serviceaccounts and secrets"), "{log}");
    grant(
        &world,
        &runner,
        &json!([{"apiGroups": [""], "resources": ["secrets", "serviceaccounts"], "verbs": ["get"]}]),
    )
    .await?;
    let (ended, log) = world.run_on(&runner, &script(&["echo never"]), BOUND).await?;
    let text = "Timed out while waiting for ImagePullSecret/not-there to be present in the cluster";
    ensure!(ended.failure_reason.as_deref() == Some("runner_system_failure") && log.contains(text), "{ended:?}\n{log}");
    Ok(())
}

async fn token(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "own-token", "    bearer_token_overwrite_allowed = true\n").await?;
    let mut job = script(&["echo ran"]);
    for (token, status) in [("nobodys-token-at-all", "failed"), (runner.account_token.as_str(), "success")] {
        job["variables"] = json!([{"key": "KUBERNETES_BEARER_TOKEN", "value": token, "masked": true}]);
        let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
        ensure!(ended.status == status, "{ended:?}\n{log}");
        let is_blamed = log.contains("the token in the job's KUBERNETES_BEARER_TOKEN is not accepted");
        ensure!(is_blamed == (status == "failed") && !log.contains("the runner's credentials"), "{log}");
        ensure!(log.contains("\"BearerToken\" overwritten with \"XXXXXXXX...\"") && !log.contains(token), "{log}");
    }
    Ok(())
}

/// One of each type.
const PATCHES: &str = r#"
    [runners.kubernetes.node_tolerations]
      "configured" = "NoSchedule"
    [[runners.kubernetes.host_aliases]]
      ip = "192.0.2.1"
      hostnames = ["configured"]
    [[runners.kubernetes.pod_spec]]
      name = "env"
      patch = '''
        containers:
        - name: build
          env: [{name: PATCHED, value: "by the operator"}]
        tolerations: [{key: patched, operator: Exists}]
        hostAliases: [{ip: 192.0.2.2, hostnames: [patched]}]
      '''
    [[runners.kubernetes.pod_spec]]
      name = "grace"
      patch_type = "merge"
      patch = "terminationGracePeriodSeconds: 3"
    [[runners.kubernetes.pod_spec]]
      name = "hostname"
      patch_type = "json"
      patch = '[{"op": "add", "path": "/hostname", "value": "patched"}]'
"#;

async fn patches(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "patches", PATCHES).await?;
    let mut job = script(&["echo it is \"$PATCHED\"", "sleep 3"]);
    let (_, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(log.contains("\nit is \n"), "{log}");
    job["variables"] = json!([{"key": "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "value": "true", "public": true}]);
    let id = world.post_job(&runner, &job).await?;
    world.gitlab.wait_for_text(id, "\nit is by the operator\n", BOUND).await?;
    let pod = world.pod_of(&runner, id, BOUND).await?;
    let pods = world.kube.pods(&runner.namespace).await?;
    let pod = pods.iter().find(|object| object.pointer("/metadata/name") == Some(&json!(pod))).context("no pod")?;
    let spec = &pod["spec"];
    let has = |list: &str, key: &str, value: &str| {
        spec[list].as_array().is_some_and(|all| all.iter().any(|one| one[key] == value))
    };
    // As Kubernetes' own types say: addresses are a key to merge by, and tolerations have none.
    let is_merged = has("hostAliases", "ip", "192.0.2.1") && has("hostAliases", "ip", "192.0.2.2");
    let is_replaced = has("tolerations", "key", "patched") && !has("tolerations", "key", "configured");
    ensure!(is_merged && is_replaced, "a strategic patch: {spec}");
    ensure!(spec["terminationGracePeriodSeconds"] == 3, "a merge patch: {spec}");
    ensure!(spec["hostname"] == "patched", "a JSON patch: {spec}");
    let (ended, log) = world.ended(id, BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    Ok(())
}

/// How long a job may take whose pod has no memory left: its agent has to wait for each page too.
const UNDER_PRESSURE: Duration = Duration::from_mins(4);

const POD_RESOURCES: &str = r#"    pod_cpu_request = "100m"
    pod_cpu_limit = "1"
    pod_memory_request = "64Mi"
    pod_memory_limit = "160Mi"
    pod_memory_limit_overwrite_max_allowed = "320Mi"
"#;

/// No container has a limit of its own: what all of them use together is held by that of the pod.
async fn pod_resources(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "whole-pod", POD_RESOURCES).await?;
    // It holds everything in memory, as one line.
    let fill = "head -c 200000000 /dev/zero | tail -n 1 | wc -c";
    let mut job = script(&["echo ran", "sleep 2", fill]);
    let id = world.post_job(&runner, &job).await?;
    world.gitlab.wait_for_text(id, "\nran\n", BOUND).await?;
    let name = world.pod_of(&runner, id, BOUND).await?;
    let pods = world.kube.pods(&runner.namespace).await?;
    let pod = pods.iter().find(|pod| pod.pointer("/metadata/name") == Some(&json!(name))).context("no pod")?;
    let expected = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "160Mi"}});
    ensure!(pod["spec"]["resources"] == expected, "{}", pod["spec"]["resources"]);
    ensure!(pod["status"]["qosClass"] == "Burstable", "{}", pod["status"]);
    let (ended, log) = world.ended(id, UNDER_PRESSURE).await?;
    ensure!(ended.failure_reason.as_deref() == Some("script_failure"), "{ended:?}\n{log}");
    for text in ["were OOMKilled", "pod_memory_limit"] {
        ensure!(log.contains(text) && !log.contains("\n200000000\n"), "{text:?}:\n{log}");
    }
    job["variables"] = json!([{"key": "KUBERNETES_POD_MEMORY_LIMIT", "value": "320Mi", "public": true}]);
    let (ended, log) = world.run_on(&runner, &job, UNDER_PRESSURE).await?;
    ensure!(ended.status == "success" && log.contains("\n200000000\n"), "{ended:?}\n{log}");
    Ok(())
}

async fn posix_shell(world: Rc<World>) -> anyhow::Result<()> {
    let runner = "  shell = \"sh\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { runner, ..RunnerOptions::new("posix") }).await?;
    let job = script(&["tr '\\0' '\\n' < /proc/$$/cmdline | head -n 1"]);
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.status == "success" && log.contains("/sh\n") && !log.contains("bash\n"), "{ended:?}\n{log}");
    Ok(())
}

async fn kept(world: Rc<World>) -> anyhow::Result<()> {
    let runner = "  [runners.gantry]\n    keep_failed_pods = \"8s\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { runner, ..RunnerOptions::new("kept") }).await?;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]);
    grant(&world, &runner, &rules).await?;
    let id = world.post_job(&runner, &script(&["echo evidence > /tmp/evidence", "exit 7"])).await?;
    let (ended, log) = world.ended(id, BOUND).await?;
    let pod = log.split("--namespace ").nth(1).and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default().to_owned();
    ensure!(ended.status == "failed" && log.contains("The pod is kept for 8s"), "{ended:?}\n{log}");
    let found = world.kube.exec(&runner.namespace, &pod, "build", "cat /tmp/evidence").await?;
    ensure!(found.contains("evidence"), "{found}");
    // Its place is free meanwhile, and a job that goes well is not kept.
    let (ended, log) = world.run_on(&runner, &script(&["echo well"]), BOUND).await?;
    ensure!(ended.status == "success" && !log.contains("is kept"), "{ended:?}\n{log}");
    until("the pod to go", BOUND, async || {
        let left = world.kube.pods(&runner.namespace).await?.len();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} pods")) })
    })
    .await
}
