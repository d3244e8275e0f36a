//! GitLab's own Helm chart with nothing set but our image: what it renders, on a cluster, before a
//! GitLab that is reached by https.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_tests::suite::Test;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Kubectl, Need, TlsFront, World, until};
use serde_json::json;

use crate::chart::Talker;
use crate::connections::address;

const BOUND: Duration = Duration::from_secs(100);

const RENDERED: &str = include_str!("gitlab_chart.yaml");

/// Probes of the life of a container that are enough to believe them.
const PROBED: Duration = Duration::from_secs(8);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("gitlab chart: registers, is probed, runs jobs, and is replaced under one", installed)
            .needs(Need::OwnImages),
    ]
}

async fn installed(world: Rc<World>) -> anyhow::Result<()> {
    let namespace = world.namespace("gitlab-chart");
    let tag = "gitlab-chart-runner";
    let token = world.gitlab.create_runner(tag).await?;
    world.keep_secret(&token);
    let front = TlsFront::start(world.cluster().host, address(world.gitlab.url())?).await?;
    let filled = [
        ("$NAMESPACE", namespace.clone()),
        ("$GITLAB", format!("{}/", front.url())),
        ("$TOKEN", token),
        ("$HOST", world.cluster().host.to_string()),
        ("$CERTIFICATE", STANDARD.encode(front.certificate())),
    ];
    let objects = filled.iter().fold(RENDERED.to_owned(), |text, (name, value)| text.replace(name, value));
    let all = Kubectl::new(world.cluster().kubeconfig());
    all.run(&["create", "namespace", &namespace]).await?;
    all.feed(&["apply", "--namespace", &namespace, "--filename=-"], &objects).await?;
    let kubectl = async |args: &[&str]| all.run(&[&["--namespace", &namespace], args].concat()).await;
    let rolled_out = async || {
        let status = kubectl(&["rollout", "status", "deployment/ci-gitlab-runner", "--timeout=90s"]).await;
        match status {
            Ok(_) => Ok(()),
            Err(error) => {
                let logs = kubectl(&["logs", "deployment/ci-gitlab-runner"]).await;
                let pods = kubectl(&["describe", "pods"]).await;
                Err(error.context(format!("{logs:?}\n{pods:?}")))
            }
        }
    };
    rolled_out().await?;

    let mut job = script(&["echo in the chart"]);
    job["tags"] = json!([tag]);
    job["image"] = json!({"name": IMAGE});
    let (first, log) = world.run(&job, BOUND).await?;
    ensure!(first.status == "success" && log.contains("\nin the chart\n"), "{first:?}\n{log}");
    // The chart's own look: by the process's name and by `verify`.
    kubectl(&["exec", "deployment/ci-gitlab-runner", "--", "/bin/bash", "/configmaps/check-live"]).await?;
    let pod = "--output=jsonpath={range .items[*]}{.status.podIP} {.status.startTime} \
               {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}{end}";
    let shown = kubectl(&["get", "pods", "--selector=app=ci-gitlab-runner", pod]).await?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    let [ip, started, "0", "true"] = words[..] else { anyhow::bail!("restarted, or not ready: {shown}") };
    let started: jiff::Timestamp = started.parse()?;
    until("some probes", BOUND, async || {
        let lives = jiff::Timestamp::now().duration_since(started);
        Ok(if lives.unsigned_abs() > PROBED { Ok(()) } else { Err(lives.to_string()) })
    })
    .await?;
    let metrics = gantry_tests::http::client()?.get(format!("http://{ip}:9252/metrics")).send().await?.text().await?;
    ensure!(metrics.contains("gitlab_runner_concurrent 10"), "{metrics}");

    // The hook before the stop takes the runner's manager off GitLab's list, and the next pod
    // registers it again.
    let talker = Talker::begin(&world, tag).await?;
    kubectl(&["rollout", "restart", "deployment/ci-gitlab-runner"]).await?;
    rolled_out().await?;
    talker.is_whole(&world).await?;
    let restarts = "--output=jsonpath={.items[*].status.containerStatuses[0].restartCount}";
    let restarts = kubectl(&["get", "pods", "--selector=app=ci-gitlab-runner", restarts]).await?;
    ensure!(restarts.split_whitespace().all(|count| count == "0"), "a probe has failed: {restarts}");
    kubectl(&["delete", "deployments,pods", "--all"]).await.map(drop)
}
