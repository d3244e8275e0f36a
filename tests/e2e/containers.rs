//! When the containers of a pod start, where that cannot be said in `cases/containers.toml`.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, World, trace, until};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    let early = Test::new("containers: sources come while the build image is pulled", early_sources);
    vec![early.needs(Need::SlowImages)]
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
