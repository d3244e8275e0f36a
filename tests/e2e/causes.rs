//! Why a pod cannot be made or does not start: the cause is in the job log, in the words of whoever
//! knows it, and the job waits no longer than it should.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, Runner, RunnerOptions, World, until};
use reqwest::Method;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

/// So long pods have to start here, as `poll_timeout`.
const SHORT: &str = "    poll_timeout = 8\n";

/// A volume of what does not exist.
const MISSING_VOLUME: &str = "    poll_timeout = 8\n    [[runners.kubernetes.volumes.config_map]]\n      \
                              name = \"settings\"\n      mount_path = \"/settings\"\n";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("causes: what the API server answers", refusals).needs(Need::Faults),
        Test::new("causes: a volume that cannot be mounted", volume),
        Test::new("causes: events of the pod", events).needs(Need::SlowImages),
        Test::new("causes: a service that never starts", service).needs(Need::SlowImages),
        Test::new("causes: an API server that cannot be talked to", connections),
    ]
}

/// Runs a job that fails without a pod, and looks for these texts in its log.
async fn fails(world: &World, runner: &Runner, texts: &[&str]) -> anyhow::Result<()> {
    let (job, log) = world.run_on(runner, &script(&["echo never"]), BOUND).await?;
    let reason = job.failure_reason.as_deref().unwrap_or_default();
    ensure!(job.status == "failed" && reason == "runner_system_failure", "{job:?}\n{log}");
    for text in texts {
        ensure!(log.contains(text), "the log lacks {text:?}:\n{log}");
    }
    Ok(())
}

pub(crate) async fn with(world: &World, name: &str, kubernetes: &str) -> anyhow::Result<Runner> {
    Runner::start(world, &RunnerOptions { kubernetes: kubernetes.to_owned(), ..RunnerOptions::new(name) }).await
}

async fn refusals(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "refused", SHORT).await?;
    let in_vain = "the pod could not be created within 8 s (see poll_timeout and prepare_timeout): ";
    let page = "<html><head><title>Blocked</title></head><body>by the firewall</body></html>";
    for (fault, text) in [
        (json!({"status": 503, "message": "etcd has no leader"}), format!("{in_vain}etcd has no leader")),
        (
            json!({"status": 409, "message": "the quota was being updated"}),
            format!("{in_vain}the quota was being updated"),
        ),
        (json!({"status": 429, "message": "slow down", "retryAfter": 1}), format!("{in_vain}slow down")),
        (json!({"status": 500, "body": ""}), format!("{in_vain}HTTP status 500 Internal Server Error without a word")),
        (
            json!({"status": 403, "body": page, "contentType": "text/html"}),
            "HTTP status 403 Forbidden: Blocked by the firewall".into(),
        ),
        (
            json!({"status": 401, "body": "{\"error\": \"expired\"}"}),
            "HTTP status 401 Unauthorized: {\"error\": \"expired\"}".into(),
        ),
    ] {
        let mut order = fault;
        order["kind"] = json!("refuse");
        order["verb"] = json!("create");
        order["resource"] = json!("pods");
        order["namespace"] = json!(runner.namespace);
        let (status, ordered) = world.kube.ask(Method::POST, "/sim/faults", Some(&order)).await?;
        ensure!(status.is_success(), "{ordered}");
        fails(&world, &runner, &[&text]).await?;
        let path = format!("/sim/faults/{}", ordered["id"]);
        world.kube.ask(Method::DELETE, &path, None).await?;
    }
    Ok(())
}

async fn volume(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "unmounted", MISSING_VOLUME).await?;
    let events = format!("kubectl -n {} get events --field-selector involvedObject.name=runner-", runner.namespace);
    fails(&world, &runner, &["timed out waiting for pod to start (8 s, see poll_timeout): ", &events]).await?;
    let rules = json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}]);
    grant(&world, &runner, &rules).await?;
    fails(&world, &runner, &["; FailedMount: ", "\n\tFailedMount: ", r#"configmap \"settings\" not found"#]).await
}

/// All events where a job wants to see them and the runner may; otherwise a word about that.
async fn events(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "events", "").await?;
    let mut job = script(&["echo ran"]);
    job["variables"] = json!([{"key": "FF_PRINT_POD_EVENTS", "value": "true", "public": true}]);
    job["image"] = json!({"name": world.unique("slow-events:{run}")});
    let (_, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(log.contains("FF_PRINT_POD_EVENTS: the runner may not list events") && log.contains("\nran"), "{log}");
    grant(&world, &runner, &json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}])).await?;
    // Nothing is shown behind the end of a job, and one that only prints ends before the events
    // have been read.
    job["steps"] = script(&["echo ran", "sleep 3"])["steps"].clone();
    let table = ["Type     Reason", "Normal   Scheduled", "Normal   Started"];
    for name in ["slow-events-shown:{run}", "debian:12"] {
        job["image"] = json!({"name": world.unique(name)});
        let (_, log) = world.run_on(&runner, &job, BOUND).await?;
        for row in table.iter().copied().chain(name.starts_with("slow").then_some("Normal   Pulling")) {
            ensure!(log.contains(row), "{name}: the log lacks {row:?}:\n{log}");
        }
    }
    // Without the flag a pull that takes its time is told, with its image.
    job["variables"] = json!([]);
    job["steps"] = script(&["echo ran", "sleep 5"])["steps"].clone();
    job["image"] = json!({"name": world.unique("slow-events-told:{run}")});
    let (_, log) = world.run_on(&runner, &job, BOUND).await?;
    for text in ["\tPulling (container build): Pulling image", "Pulled (container build): Successfully pulled image"] {
        ensure!(log.contains(text), "the log lacks {text:?}:\n{log}");
    }
    Ok(())
}

/// Lets a runner do more than it needs.
pub(crate) async fn grant(world: &World, runner: &Runner, rules: &Value) -> anyhow::Result<()> {
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", runner.namespace);
    let name = json!({"name": "more", "namespace": runner.namespace});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "more"});
    let subjects = json!([{"kind": "ServiceAccount", "name": "runner", "namespace": runner.namespace}]);
    for (what, object) in [
        ("roles", json!({"metadata": name, "rules": rules})),
        ("rolebindings", json!({"metadata": name, "roleRef": role, "subjects": subjects})),
    ] {
        let (status, answer) = world.kube.ask(Method::POST, &format!("{rbac}/{what}"), Some(&object)).await?;
        ensure!(status.is_success(), "{answer}");
    }
    granted(world, runner, rules).await
}

/// Waits until the runner's account has these rights: an API server decides by what it has heard of
/// roles, which may be a moment old.
pub(crate) async fn granted(world: &World, runner: &Runner, rules: &Value) -> anyhow::Result<()> {
    let user = format!("system:serviceaccount:{}:runner", runner.namespace);
    let texts = |rule: &Value, key: &str| -> Vec<Value> { rule[key].as_array().cloned().unwrap_or_default() };
    for rule in rules.as_array().into_iter().flatten() {
        let pairs = texts(rule, "resources")
            .into_iter()
            .flat_map(|resource| texts(rule, "verbs").into_iter().map(move |verb| (resource.clone(), verb)));
        for (resource, verb) in pairs {
            let resource = resource.as_str().unwrap_or_default();
            let (resource, below) = resource.split_once('/').unwrap_or((resource, ""));
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                "user": user, "groups": [format!("system:serviceaccounts:{}", runner.namespace)],
                "resourceAttributes": {"namespace": runner.namespace, "group": rule["apiGroups"][0], "verb": verb,
                    "resource": resource, "subresource": below}}});
            until("a right to be known to the API server", BOUND, async || {
                let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
                let (_, answer) = world.kube.ask(Method::POST, path, Some(&review)).await?;
                Ok(if answer["status"]["allowed"] == true { Ok(()) } else { Err(answer.to_string()) })
            })
            .await?;
        }
    }
    Ok(())
}

/// The build container runs and would wait for it.
async fn service(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "unserved", "    poll_timeout = 10\n").await?;
    let mut job = script(&["echo never"]);
    job["services"] = json!([{"name": world.unique("slowest-service:{run}")}]);
    let (job, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(job.failure_reason.as_deref() == Some("runner_system_failure"), "{job:?}\n{log}");
    ensure!(log.contains("timed out waiting for pod to start (10 s, see poll_timeout)"), "{log}");
    Ok(())
}

async fn connections(world: Rc<World>) -> anyhow::Result<()> {
    let url = world.kube.url().to_owned();
    let plain = url.replacen("https://", "http://", 1);
    let nobody = format!("https://{}", TcpListener::bind((world.cluster().host, 0))?.local_addr()?);
    let gitlab = world.gitlab.url().replacen("http://", "https://", 1);
    let other = rcgen::generate_simple_self_signed(["elsewhere".to_owned()])?.cert.pem();
    let refused = format!(
        "the API server at {nobody} refuses connections: is it running, and is host in [runners.kubernetes] right?"
    );
    for (name, kube, ca_pem, texts) in [
        ("plain", Some(plain), None, vec!["most API servers want https".to_owned()]),
        (
            "nobody",
            Some(nobody),
            None,
            vec![
                format!("Waiting for the API server to create the pod: {refused}"),
                format!("(see poll_timeout and prepare_timeout): {refused}"),
            ],
        ),
        (
            "no-tls",
            Some(gitlab.clone()),
            None,
            vec![format!("what answers at {gitlab} does not speak TLS: check host in [runners.kubernetes]")],
        ),
        (
            "stranger",
            None,
            Some(other),
            vec![
                format!(
                    "the certificate of the API server at {url} was not signed by any of the authorities in ca_file "
                ),
                "ca.crt".to_owned(),
            ],
        ),
    ] {
        let kubernetes = SHORT.to_owned();
        let runner =
            Runner::start(&world, &RunnerOptions { kube, ca_pem, kubernetes, ..RunnerOptions::new(name) }).await?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        fails(&world, &runner, &texts).await?;
    }
    Ok(())
}
