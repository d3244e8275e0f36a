//! When the containers of a pod start, where that cannot be said in `cases/containers.toml`.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::{script, script_and_after};
use gantry_tests::{Need, Runner, RunnerOptions, World, trace, until};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    let early = Test::new("containers: sources come while the build image is pulled", early_sources);
    vec![
        early.needs(Need::SlowImages),
        Test::new("containers: a whole job on arm64", arm64).needs(Need::Arm64),
        Test::new("containers: what an entrypoint prints is in the job log", entrypoint_output),
    ]
}

/// The helper is not in the image: it is pushed, for the machine that the container says it is.
/// Everything in the pod is emulated, so it takes its time.
async fn arm64(world: Rc<World>) -> anyhow::Result<()> {
    const SLOW: Duration = Duration::from_secs(240);
    let options = RunnerOptions { helper_image: "arm64:1".to_owned(), ..RunnerOptions::new("arm64") };
    let runner = Runner::start(&world, &options).await?;
    let lines = ["echo machine $(uname -m)", "cat number.txt > copy.txt", "sleep 0.2 & wait", "exit 3"];
    let mut job = script_and_after(&lines, &["echo after on $(uname -m)"]);
    job["repo"] = json!("group/project");
    job["image"] = json!({"name": "arm64:1"});
    job["artifacts"] =
        json!([{"paths": ["copy.txt"], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}]);
    let (ended, log) = world.run_on(&runner, &job, SLOW).await?;
    ensure!(ended.status == "failed" && ended.exit_code == Some(3), "{ended:?}\n{log}");
    for expected in ["machine aarch64", "after on aarch64"] {
        ensure!(log.lines().any(|line| line == expected), "the log lacks {expected:?}:\n{log}");
    }
    ensure!(log.contains("Checking out") && log.contains("copy.txt"), "{log}");
    let artifacts = world.gitlab.artifacts(ended.id).await?;
    ensure!(artifacts.len() == 1, "{} artifacts:\n{log}", artifacts.len());
    Ok(())
}

async fn entrypoint_output(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("entrypoint-log")).await?;
    let entrypoint = "echo getting $(printf %s-%s-%s correct horse battery); sleep 1; echo and ready >&2; exec \"$@\"";
    let mut job = script(&["sleep 3", "echo in the script"]);
    job["image"] = json!({"name": "debian:12", "entrypoint": ["bash", "-c", entrypoint, "entrypoint"]});
    job["variables"] = json!([
        {"key": "FF_KUBERNETES_HONOR_ENTRYPOINT", "value": "true", "public": true},
        {"key": "PASSWORD", "value": "correct-horse-battery", "masked": true, "public": true},
    ]);
    let (ended, refused) = world.run_on(&runner, &job, BOUND).await?;
    let line = "WARNING: What the entrypoint prints is in the log of container build only: the runner's service account has no right to get pods/log";
    ensure!(ended.status == "success" && refused.matches(line).count() == 1, "{ended:?}\n{refused}");
    world.kube.allow_logs(&runner.namespace).await?;
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.status == "success" && !log.contains("WARNING"), "{ended:?}\n{log}");
    for expected in ["getting [MASKED]", "and ready", "in the script"] {
        let count = log.lines().filter(|line| *line == expected).count();
        ensure!(count == 1, "{expected:?} is {count} times in\n{log}");
    }
    Ok(())
}

/// The build image takes 12 s to pull.
async fn early_sources(world: Rc<World>) -> anyhow::Result<()> {
    let mut job = script(&["cat number.txt", "echo in the script", "for i in $(seq 600); do echo tick; sleep 1; done"]);
    job["repo"] = json!("group/project");
    job["image"] = json!({"name": world.unique("slower-build:{run}")});
    let runner = world.runner()?;
    let id = world.post_job(runner, &job).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    let pod = world.pod_of(runner, id, BOUND).await?;
    // The kubelet tells the API server some time after it has started a container: the script may
    // be heard first.
    let started = until("the status of a build container that runs", BOUND, async || {
        let pods = world.kube.pods(&runner.namespace).await?;
        let pod = pods.iter().find(|object| object.pointer("/metadata/name").and_then(Value::as_str) == Some(&pod));
        let containers = pod.and_then(|pod| pod.pointer("/status/containerStatuses")?.as_array());
        let build = containers.and_then(|containers| containers.iter().find(|status| status["name"] == "build"));
        let started = build.and_then(|build| build.pointer("/state/running/startedAt")?.as_str());
        Ok(started.map(str::to_owned).ok_or_else(|| format!("{build:?}")))
    })
    .await?;
    let raw = world.gitlab.raw_trace(id).await?;
    let fetched = trace::stamp_of(&raw, "Checking out").context("no checkout")?;
    ensure!(fetched[..19] < started[..19], "sources at {fetched}, build container at {started}");
    world.gitlab.cancel(id, false).await?;
    world.ended(id, BOUND).await.map(drop)
}
