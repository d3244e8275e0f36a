//! Cancelling a job where more is needed than `cases/cancel.toml` can say.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::{script, script_and_after};
use gantry_tests::{Runner, RunnerOptions, World};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("cancel: in the queue", queued), Test::new("cancel: while sources are fetched", sources)]
}

async fn queued(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions { concurrent: 1, ..RunnerOptions::new("busy") }).await?;
    let busy = world.post_job(&runner, &script(&["echo in the script", "sleep 5"])).await?;
    world.gitlab.wait_for(busy, "running", BOUND, |job| job.status == "running").await?;
    let waits = world.post_job(&runner, &script(&["echo reached"])).await?;
    world.gitlab.cancel(waits, false).await?;
    let (first, _) = world.ended(busy, BOUND).await?;
    let (next, log) = world.run_on(&runner, &script(&["echo next"]), BOUND).await?;
    ensure!(first.status == "success" && next.status == "success", "{first:?} {next:?}\n{log}");
    let job = world.gitlab.job(waits).await?;
    ensure!(job.status == "canceled" && job.trace_bytes == 0, "{job:?}");
    Ok(())
}

async fn sources(world: Rc<World>) -> anyhow::Result<()> {
    // Takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind((world.cluster().host, 0)).await?;
    let url = format!("http://{}/group/project.git", silent.local_addr()?);
    let mut job = script_and_after(&["echo reached"], &["echo after reached"]);
    job["git_info"] = json!({"repo_url": url, "ref": "main", "sha": "0".repeat(39) + "1", "ref_type": "branch",
        "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": 1});
    job["variables"] = json!([{"key": "GIT_STRATEGY", "value": "fetch"}]);
    let id = world.post_job(world.runner()?, &job).await?;
    world.gitlab.wait_for_text(id, "Fetching changes", BOUND).await?;
    world.gitlab.cancel(id, false).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "canceled", "{job:?}\n{log}");
    ensure!(!log.contains("\nreached") && !log.contains("\nafter reached"), "{log}");
    world.no_pod_of(world.runner()?, id).await
}
