//! Cancelling a job in every phase of its life.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::{script, script_and_after};
use gantry_tests::{Runner, RunnerOptions, World, until};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

/// A cancel is heard with the next update of the log, at most half a minute later; then the script gets its grace.
const SOON: Duration = Duration::from_secs(40);

/// A log that grows is sent every few seconds, and the answer says that the job is canceled; a silent one only every half minute.
const TALK: &str = "for i in $(seq 600); do echo tick; sleep 1; done";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("cancel: in the queue", queued),
        Test::new("cancel: while the pod starts, not acknowledged", starting),
        Test::new("cancel: while the build image is pulled", pulling),
        Test::new("cancel: while sources are fetched", sources),
        Test::new("cancel: during the script, after_script runs", in_script),
        Test::new("cancel: a script that ignores signals", stubborn),
        Test::new("cancel: during after_script", in_after_script),
        Test::new("cancel: forced", forced),
    ]
}

async fn pods_gone(world: &World, runner: &Runner, job: u64) -> anyhow::Result<()> {
    until(&format!("no pod of job {job}"), SOON, async || {
        let pods = world.kube.pods(&runner.namespace).await?;
        let left = pods.iter().filter(|pod| pod.to_string().contains(&format!("/jobs/{job}\""))).count();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} pods")) })
    })
    .await
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

/// The helper's image takes 5 s, so that nobody can acknowledge the job.
async fn starting(world: Rc<World>) -> anyhow::Result<()> {
    let helper_image = "slow-helper:1".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { helper_image, ..RunnerOptions::new("slow-start") }).await?;
    let id = world.post_job(&runner, &script(&["echo reached"])).await?;
    world.pod_of(&runner, id, BOUND).await?;
    ensure!(world.gitlab.job(id).await?.status == "pending");
    world.gitlab.cancel(id, false).await?;
    pods_gone(&world, &runner, id).await?;
    ensure!(!world.gitlab.text(id).await?.contains("\nreached"));
    Ok(())
}

async fn canceled(world: &World, id: u64) -> anyhow::Result<String> {
    world.gitlab.cancel(id, false).await?;
    let (job, log) = world.ended(id, SOON).await?;
    ensure!(job.status == "canceled", "{job:?}\n{log}");
    pods_gone(world, world.runner()?, id).await?;
    Ok(log)
}

async fn pulling(world: Rc<World>) -> anyhow::Result<()> {
    let mut job = script_and_after(&["echo reached"], &["echo after reached"]);
    job["image"] = json!({"name": "slowest-canceled:1"});
    let id = world.post_job(world.runner()?, &job).await?;
    world.gitlab.wait_for(id, "running", BOUND, |job| job.status == "running").await?;
    let log = canceled(&world, id).await?;
    ensure!(!log.contains("\nreached") && !log.contains("\nafter reached"), "{log}");
    Ok(())
}

async fn sources(world: Rc<World>) -> anyhow::Result<()> {
    // Takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/group/project.git", silent.local_addr()?);
    let mut job = script_and_after(&["echo reached"], &["echo after reached"]);
    job["git_info"] = json!({"repo_url": url, "ref": "main", "sha": "0".repeat(39) + "1", "ref_type": "branch",
        "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": 1});
    job["variables"] = json!([{"key": "GIT_STRATEGY", "value": "fetch"}]);
    let id = world.post_job(world.runner()?, &job).await?;
    world.gitlab.wait_for_text(id, "Fetching changes", BOUND).await?;
    let log = canceled(&world, id).await?;
    ensure!(!log.contains("\nreached") && !log.contains("\nafter reached"), "{log}");
    Ok(())
}

async fn in_script(world: Rc<World>) -> anyhow::Result<()> {
    let job = script_and_after(&["echo in the script", TALK, "echo reached"], &["echo status=$CI_JOB_STATUS"]);
    let id = world.post_job(world.runner()?, &job).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    let log = canceled(&world, id).await?;
    ensure!(log.contains("\nstatus=canceled") && !log.contains("\nreached"), "{log}");
    Ok(())
}

async fn stubborn(world: Rc<World>) -> anyhow::Result<()> {
    let id = world.script(&["trap '' TERM INT HUP", "echo in the script", TALK]).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    canceled(&world, id).await.map(drop)
}

async fn in_after_script(world: Rc<World>) -> anyhow::Result<()> {
    let job = script_and_after(&["echo in the script"], &["echo in after", TALK]);
    let mut job: Value = job;
    job["variables"] = json!([{"key": "RUNNER_AFTER_SCRIPT_TIMEOUT", "value": "15s"}]);
    let id = world.post_job(world.runner()?, &job).await?;
    world.gitlab.wait_for_text(id, "\nin after", BOUND).await?;
    canceled(&world, id).await.map(drop)
}

async fn forced(world: Rc<World>) -> anyhow::Result<()> {
    let job = script_and_after(&["echo in the script", TALK], &["echo after reached"]);
    let id = world.post_job(world.runner()?, &job).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    world.gitlab.cancel(id, true).await?;
    pods_gone(&world, world.runner()?, id).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "canceled" && !log.contains("\nafter reached"), "{job:?}\n{log}");
    Ok(())
}
