//! The two deployments of the first users, as they wrote them: on a machine outside of the cluster,
//! registered with flags; and as a Deployment that registers itself with the variables of a
//! `ConfigMap`.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::prometheus::Prometheus;
use gantry_tests::suite::Test;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Job, Kubectl, Need, Process, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(100);

/// A command that asks GitLab once.
const QUICK: Duration = Duration::from_secs(20);

/// What the first users give their runner.
const TAG: &str = "k8s-runner";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("deployment: outside of the cluster, registered with flags", outside),
        Test::new("deployment: the manifests in a restricted namespace", restricted).needs(Need::Kubectl),
        Test::new("deployment: the manifests", manifests).needs(Need::OwnImages),
        Test::new("deployment: a token from a Secret, credentials of the pod that rotate", in_cluster)
            .needs(Need::OwnImages)
            .takes(Duration::from_secs(900)),
    ]
}

/// A file with the certificate of the cluster's authority, where the users' commands name one.
fn ca_file(world: &World, dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("ca.crt");
    std::fs::write(&path, world.kube.ca_pem())?;
    Ok(path.display().to_string())
}

async fn outside(world: Rc<World>) -> anyhow::Result<()> {
    let namespace = world.namespace("outside");
    let token = world.kube.account(&namespace).await?;
    world.keep_secret(&token);
    let dir = world.dir().join("outside");
    std::fs::create_dir(&dir)?;
    let config = dir.join("config.toml").display().to_string();
    let env = [("CONFIG_FILE", config.as_str()), ("LISTEN_ADDRESS", "127.0.0.1:0")];
    let gantry = async |name: &str, args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Process::start_with(name, world.dir(), &world.binaries().gantry, &args, &env)
    };
    let tag = "outside-runner";
    let ca_file = ca_file(&world, &dir)?;
    let register = gantry(
        "outside-register",
        &[
            "register",
            "--non-interactive",
            "--url",
            world.gitlab.url(),
            "--registration-token",
            world.registration_token(),
            "--executor",
            "kubernetes",
            "--description",
            "kubernetes-runner",
            "--tag-list",
            tag,
            "--kubernetes-host",
            world.kube.url(),
            "--kubernetes-ca-file",
            &ca_file,
            "--kubernetes-bearer_token",
            &token,
        ],
    )
    .await?;
    succeeded(&register).await?;
    let run = gantry("outside-run", &["run"]).await?;
    world.keep_log(run.log_path());
    let mut job = script(&["cat number.txt", "echo ran outside"]);
    job["repo"] = json!("group/project");
    job["tags"] = json!([tag]);
    // Without a namespace in the configuration jobs go to the one of the token.
    job["image"] = json!({"name": "debian:12"});
    let (job, log) = world.run(&job, BOUND).await?;
    ensure!(job.status == "success" && log.contains("\nran outside"), "{job:?}\n{log}");
    ensure!(log.contains(&format!("Using Kubernetes namespace: {namespace}")), "{log}");
    let unregister = gantry("outside-unregister", &["unregister", "--name", "kubernetes-runner"]).await?;
    succeeded(&unregister).await?;
    ensure!(!std::fs::read_to_string(&config)?.contains("[[runners]]"), "the runner is still in the configuration");
    ensure!(!world.gitlab.has_runner("kubernetes-runner").await?, "GitLab still has the runner");
    run.end();
    Ok(())
}

async fn succeeded(process: &Process) -> anyhow::Result<()> {
    let status = process.wait(QUICK).await?;
    ensure!(status.success(), "{status}:\n{}", process.log());
    Ok(())
}

/// A kustomization on top of one of the project's, in a namespace of its own and with what users
/// must change.
pub(crate) struct Overlay {
    namespace: String,
    kubectl: Kubectl,
}

impl Overlay {
    /// Applies it with these values of the `ConfigMap`.
    async fn apply(world: &World, name: &str, base: &str, values: &Value, extra: &str) -> anyhow::Result<Self> {
        let namespace = world.namespace(name);
        let kubectl = Kubectl::new(world.cluster().kubeconfig());
        let dir = world.dir().join(format!("{name}-overlay"));
        std::fs::create_dir(&dir)?;
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no project")?;
        let base = relative(&dir, &project.join("config/kubernetes").join(base));
        let values: serde_json::Map<String, Value> = values.as_object().cloned().unwrap_or_default();
        let patch =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gitlab-runner-cfg"}, "data": values});
        std::fs::write(dir.join("config.json"), patch.to_string())?;
        let text = format!(
            "namespace: {namespace}\nresources: [{}]\npatches:\n  - path: config.json\n{extra}",
            base.display()
        );
        std::fs::write(dir.join("kustomization.yaml"), text)?;
        kubectl.run(&["apply", "--kustomize", &dir.display().to_string()]).await?;
        Ok(Self { namespace, kubectl })
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(args);
        self.kubectl.run(&all).await
    }

    /// Removes the runner and what it has left to itself: a job that reports without a manager
    /// leaves its pod to the next one.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        self.kubectl(&["delete", "deployments,pods", "--all"]).await.map(drop)
    }

    /// Waits until the Deployment is ready and the pod before it is gone, and returns the address
    /// of its pod. A pod that is being ended has nothing to do with a rollout any more, but it asks
    /// GitLab for jobs until the hook that takes it off the list is done.
    pub(crate) async fn ready(&self) -> anyhow::Result<String> {
        let status = self.kubectl(&["rollout", "status", "deployment/runner", "--timeout=90s"]).await;
        if let Err(error) = status {
            let logs = self.kubectl(&["logs", "deployment/runner", "--all-containers"]).await;
            let pods = self.kubectl(&["describe", "pods"]).await;
            return Err(error.context(format!("{logs:?}\n{pods:?}")));
        }
        let path = "--output=jsonpath={.items[*].status.podIP}";
        until("the pod before the rollout to be gone", BOUND, async || {
            let addresses = self.kubectl(&["get", "pods", "--selector=app=runner", path]).await?;
            let is_one = addresses.split_whitespace().count() == 1;
            Ok(if is_one { Ok(addresses.trim().to_owned()) } else { Err(addresses) })
        })
        .await
    }
}

/// The way from one directory to another, which kustomize wants.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let up = from.components().count() - 1;
    std::iter::repeat_n("..", up).collect::<PathBuf>().join(to.strip_prefix("/").unwrap_or(to))
}

/// A job for the runner of the manifests.
pub(crate) fn job(lines: &[&str]) -> Value {
    let mut job = script(lines);
    job["tags"] = json!([TAG]);
    job["image"] = json!({"name": IMAGE});
    job
}

/// The runner's own pod, under the strictest level of Pod Security. Nothing is kept.
async fn restricted(world: Rc<World>) -> anyhow::Result<()> {
    let namespace = world.namespace("restricted");
    let kubectl = Kubectl::new(world.cluster().kubeconfig());
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    kubectl.feed(&["create", "--filename=-"], &object.to_string()).await?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no project")?;
    for way in ["base", "in-cluster"] {
        let path = project.join("config/kubernetes").join(way).display().to_string();
        let all = kubectl.run(&["kustomize", &path]).await?;
        let list = kubectl.feed(&["create", "--dry-run=client", "--output=json", "--filename=-"], &all).await?;
        let objects: Vec<Value> = serde_json::Deserializer::from_str(&list).into_iter().collect::<Result<_, _>>()?;
        let listed = objects.iter().flat_map(|object| object["items"].as_array().cloned().unwrap_or_default());
        let mut each = listed.chain(objects.iter().cloned());
        let deployment = each.find(|object| object["kind"] == "Deployment").context("no Deployment")?;
        let mut spec = deployment["spec"]["template"]["spec"].clone();
        // The account is of another namespace.
        spec.as_object_mut().context("no spec")?.remove("serviceAccountName");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": way}, "spec": spec});
        let create = ["create", "--namespace", &namespace, "--dry-run=server", "--filename=-"];
        kubectl.feed(&create, &pod.to_string()).await.context(way)?;
    }
    Ok(())
}

/// The manifests at work with these settings beside those that users must change, and the address
/// of the runner's pod.
pub(crate) async fn deployed(world: &World, name: &str, more: Value) -> anyhow::Result<(Overlay, String)> {
    let namespace = world.namespace_name(name);
    let mut values = json!({
        "CI_SERVER_URL": format!("{}/", world.gitlab.url()),
        "REGISTRATION_TOKEN": world.registration_token(),
        "KUBERNETES_NAMESPACE": namespace,
        "KUBERNETES_HOST": world.kube.url(),
    });
    if let (Some(values), Value::Object(more)) = (values.as_object_mut(), more) {
        values.extend(more);
    }
    let overlay = Overlay::apply(world, name, "base", &values, "").await?;
    // As the first users do: the token of the account goes into the settings, and the Deployment
    // starts again.
    let token = overlay.kubectl(&["create", "token", "runner-executor"]).await?.trim().to_owned();
    world.keep_secret(&token);
    let patch = json!({"data": {"KUBERNETES_BEARER_TOKEN": token}}).to_string();
    overlay.kubectl(&["patch", "configmap", "gitlab-runner-cfg", "--patch", &patch]).await?;
    overlay.kubectl(&["rollout", "restart", "deployment/runner"]).await?;
    let address = overlay.ready().await?;
    Ok((overlay, address))
}

async fn manifests(world: Rc<World>) -> anyhow::Result<()> {
    let (overlay, address) = deployed(&world, "manifests", json!({})).await?;
    let prometheus = Prometheus::start(world.dir(), &format!("{address}:9100")).await?;

    // Four at once, of six.
    let mut jobs = Vec::new();
    for number in 0..6 {
        jobs.push(world.gitlab.post_job(&job(&[&format!("echo job {number}"), "sleep 6"])).await?);
    }
    let mut most = 0;
    until("all six to end", BOUND, async || {
        let shown = world.gitlab.jobs_of(&jobs).await?;
        let count = |is_so: fn(&Job) -> bool| shown.iter().filter(|job| is_so(job)).count();
        let (running, ended) = (count(|job| job.assigned && !job.is_final()), count(|job| job.status == "success"));
        most = most.max(running);
        ensure!(running <= 4, "{running} jobs at once");
        Ok(if ended == 6 { Ok(()) } else { Err(format!("{running} run, {ended} have ended")) })
    })
    .await?;
    ensure!(most == 4, "never more than {most} at once");
    let query = "sum(gitlab_runner_job_duration_seconds_count)";
    until(query, BOUND, async || {
        let value = prometheus.query(query).await?;
        Ok(if value == Some(6.0) { Ok(()) } else { Err(format!("{value:?}")) })
    })
    .await?;
    let concurrent = prometheus.query("gitlab_runner_concurrent").await?;
    ensure!(concurrent == Some(4.0), "gitlab_runner_concurrent is {concurrent:?}");

    // A rollout in the middle of a job costs nothing, and the runner that goes takes itself off
    // GitLab's list.
    let talk = "for i in $(seq 12); do echo line $i; sleep 1; done";
    let id = world.gitlab.post_job(&job(&["echo in the script", talk])).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    overlay.kubectl(&["delete", "deployment", "runner", "--wait=false"]).await?;
    until("the runner to take itself off", BOUND, async || {
        let there = world.gitlab.has_runner(&address).await?;
        Ok(if there { Err("it is still there".to_owned()) } else { Ok(()) })
    })
    .await?;
    let job = world.gitlab.wait_final(id, Duration::from_secs(200)).await?;
    let log = world.gitlab.text(id).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    crate::output::is_complete(&log, "line", 12)?;
    overlay.remove().await
}

/// Where the pod finds its own credentials.
const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Lifetime of the token among them: the shortest that an API server gives. The kubelet renews it
/// after four fifths.
const LIFETIME: u64 = 600;

async fn in_cluster(world: Rc<World>) -> anyhow::Result<()> {
    let namespace = world.namespace_name("in-cluster");
    let tag = "in-cluster-runner";
    let token = world.gitlab.create_runner(tag).await?;
    world.keep_secret(&token);
    let values = json!({
        "CI_SERVER_URL": format!("{}/", world.gitlab.url()),
        "KUBERNETES_NAMESPACE": namespace,
    });
    let overlay = Overlay::apply(&world, "in-cluster", "in-cluster", &values, &short_lived_token()).await?;
    let literal = format!("--from-literal=CI_SERVER_TOKEN={token}");
    overlay.kubectl(&["create", "secret", "generic", "gitlab-runner-secrets", &literal]).await?;
    overlay.kubectl(&["rollout", "restart", "deployment/runner"]).await?;
    overlay.ready().await?;
    let mut job = script(&["echo in the cluster"]);
    job["tags"] = json!([tag]);
    let (first, log) = world.run(&job, BOUND).await?;
    ensure!(first.status == "success", "{first:?}\n{log}");
    let token = overlay.kubectl(&["exec", "deployment/runner", "--", "cat", &format!("{CREDENTIALS}/token")]).await?;
    world.keep_secret(&token);
    let kube = world.kube.with_token(&token)?;
    until("the first token to be of no use", Duration::from_secs(LIFETIME + 120), async || {
        let (status, _) = kube.ask(Method::GET, &format!("/api/v1/namespaces/{namespace}/pods"), None).await?;
        Ok(if status == StatusCode::UNAUTHORIZED { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
    let (second, log) = world.run(&job, BOUND).await?;
    ensure!(second.status == "success", "with a renewed token: {second:?}\n{log}");
    overlay.remove().await
}

/// What Kubernetes mounts by itself, with a shorter life.
fn short_lived_token() -> String {
    let projected = json!({"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": LIFETIME}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]});
    let mount = json!({"name": "token", "mountPath": CREDENTIALS, "readOnly": true});
    let patch = json!([
        {"op": "replace", "path": "/spec/template/spec/automountServiceAccountToken", "value": false},
        {"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "token", "projected": projected}},
        {"op": "add", "path": "/spec/template/spec/containers/0/volumeMounts/-", "value": mount},
    ]);
    format!("  - target: {{ kind: Deployment, name: runner }}\n    patch: '{patch}'\n")
}
