//! The chart, as an operator installs, upgrades and removes it.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Helm, Kubectl, Need, World, until};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(100);

/// What most values can be set to, beside those that a release must have.
const VARIANTS: [&[&str]; 6] = [
    &[
        "rights.logs=true",
        "rights.pullSecrets=true",
        "rights.disruptionBudgets=true",
        "rights.resourceChecks=true",
        "rights.pausePods=true",
    ],
    // Values of a release that was made before there were rights to choose.
    &["rights=null", "metrics.annotations=false"],
    &["sessionServer.enabled=true", "certsSecret=certs", "replicas=3"],
    &["jobNamespace=default", "readEvents=false", "takeOver=false", "rights.namespacePerJob=true"],
    &["tokenSecret=mine", "runnerToken=", "onTerminate=abort"],
    &[
        "kubernetes=cpu_request = \"100m\"",
        "runner=limit = 3",
        "global=check_interval = 5",
        "gantry=fleet_concurrent = 40",
        "imagePullSecrets[0]=registry",
    ],
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("chart: every value makes objects that the API server takes", values).needs(Need::Helm),
        Test::new("chart: installed, upgraded under a running job, removed", release).needs(Need::Helm),
    ]
}

/// Where it is.
pub(crate) fn chart() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no project")?.join("config/helm/gantry"))
}

/// Arguments that set these values.
pub(crate) fn set<'a>(values: &[&'a str]) -> Vec<&'a str> {
    values.iter().flat_map(|value| ["--set-literal", value]).collect()
}

async fn values(world: Rc<World>) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(world.cluster().kubeconfig());
    let helm = Helm::new(world.cluster().kubeconfig());
    let chart = chart()?.display().to_string();
    let least = ["gitlabUrl=https://gitlab.example.com", "runnerToken=glrt-x"];
    for variant in VARIANTS {
        let mut all = set(&least);
        // Literal values are words, and these are read as numbers and switches.
        all.extend(variant.iter().flat_map(|value| {
            let is_word = ["kubernetes=", "runner=", "global=", "gantry="].iter().any(|key| value.starts_with(key));
            [if is_word { "--set-literal" } else { "--set" }, value]
        }));
        let mut lint = vec!["lint", "--strict", &chart];
        lint.extend(&all);
        helm.run(&lint).await?;
        let mut template = vec!["template", "ci", &chart];
        template.extend(&all);
        let objects = helm.run(&template).await?;
        kubectl.feed(&["apply", "--dry-run=server", "--filename=-"], &objects).await?;
    }
    let refused = helm.run(&["template", "ci", &chart, "--set", "gitlabUrl=https://gitlab.example.com"]).await;
    let refused = refused.err().context("a release without a token")?.to_string();
    ensure!(refused.contains("set runnerToken, or tokenSecret"), "{refused}");
    Ok(())
}

async fn release(world: Rc<World>) -> anyhow::Result<()> {
    let namespace = world.namespace("chart");
    let tag = "chart-runner";
    let token = world.gitlab.create_runner(tag).await?;
    world.keep_secret(&token);
    let helm = Helm::new(world.cluster().kubeconfig());
    let kubectl = Kubectl::new(world.cluster().kubeconfig());
    let chart = chart()?.display().to_string();
    let url = format!("gitlabUrl={}/", world.gitlab.url());
    let token = format!("runnerToken={token}");
    let install = ["upgrade", "ci", &chart, "--install", "--namespace", &namespace, "--wait", "--timeout=90s"];
    let mut first = install.to_vec();
    first.push("--create-namespace");
    first.extend(set(&[&url, &token, "image.tag=latest"]));
    helm.run(&first).await?;

    let talker = Talker::begin(&world, tag).await?;
    // Other settings are another Deployment: the manager that goes hands its job over.
    let mut second = install.to_vec();
    second.extend(["--reuse-values", "--set", "concurrent=7"]);
    helm.run(&second).await?;
    talker.is_whole(&world).await?;

    helm.run(&["uninstall", "ci", "--namespace", &namespace, "--wait", "--timeout=90s"]).await?;
    // Pods that were told to end may take their time.
    until("everything of the release to be gone", BOUND, async || {
        let what = "all,configmaps,secrets,roles,rolebindings";
        let left = kubectl.run(&["get", what, "--namespace", &namespace, "--output=name"]).await?;
        // What every namespace has. Before Kubernetes 1.24 its account has a token, too.
        let is_given = |name: &str| name.contains("kube-root-ca.crt") || name.starts_with("secret/default-token-");
        let ours: Vec<_> = left.lines().filter(|name| !is_given(name)).collect();
        Ok(if ours.is_empty() { Ok(()) } else { Err(format!("{ours:?}")) })
    })
    .await
}

/// A job that prints 20 lines, one a second, while its manager is replaced.
pub(crate) struct Talker {
    id: u64,
}

impl Talker {
    /// Begins one for the runner with this tag, and waits until its script runs.
    pub(crate) async fn begin(world: &World, tag: &str) -> anyhow::Result<Self> {
        let talk = "for i in $(seq 20); do echo line $i; sleep 1; done";
        let mut job = script(&["echo in the script", talk]);
        job["tags"] = json!([tag]);
        job["image"] = json!({"name": IMAGE});
        let id = world.gitlab.post_job(&job).await?;
        world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
        Ok(Self { id })
    }

    /// It has succeeded, and nothing is missing from its log.
    pub(crate) async fn is_whole(&self, world: &World) -> anyhow::Result<()> {
        let job = world.gitlab.wait_final(self.id, BOUND).await?;
        let log = world.gitlab.text(self.id).await?;
        ensure!(job.status == "success", "{job:?}\n{log}");
        crate::output::is_complete(&log, "line", 20)
    }
}
