//! Pods: services, images, and what the cluster does to a job.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::{script, script_and_after};
use gantry_tests::{Job, Runner, RunnerOptions, World, trace};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("containers: a service is reached under its alias", service),
        Test::new("containers: sources come while the build image is pulled", early_sources),
        Test::new("containers: a missing build image", |world| {
            missing_image(world, json!({"image": {"name": "missing-build:1"}}))
        }),
        Test::new("containers: a missing service image", |world| {
            missing_image(world, json!({"services": [{"name": "missing-service:1", "alias": "db"}]}))
        }),
        Test::new("containers: an image name that is none", |world| {
            failing_start(
                world,
                json!({"image": {"name": "No Such Image!"}}),
                "runner_configuration_error",
                "No Such Image!",
            )
        }),
        Test::new("containers: a missing helper image", missing_helper),
        Test::new("containers: no node fits", unschedulable),
        Test::new("containers: the pod is deleted", pod_deleted),
        Test::new("containers: the pod is deleted while it starts", pod_deleted_early),
        Test::new("containers: the pod is evicted", evicted),
        Test::new("containers: the build container is out of memory", |world| out_of_memory(world, "build")),
        Test::new("containers: the helper container is out of memory", |world| out_of_memory(world, "helper")),
        Test::new("containers: a script is out of memory", script_out_of_memory),
    ]
}

async fn service(world: Rc<World>) -> anyhow::Result<()> {
    let server = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 17101, Listen => 5, ReuseAddr => 1) or die $!; \
        while (my $c = $s->accept) { print $c \"hello from $ENV{GREETER}\\n\"; close $c }";
    let mut job = script(&[
        "for try in $(seq 1 100); do exec 3<>/dev/tcp/greeter/17101 && break; sleep 0.1; done 2>/dev/null",
        "cat <&3",
    ]);
    job["services"] = json!([{
        "name": "perl:5", "alias": "greeter", "entrypoint": ["perl"], "command": ["-e", server],
        "variables": [{"key": "GREETER", "value": "the service"}],
    }]);
    let (job, log) = world.run(&job, BOUND).await?;
    ensure!(job.status == "success" && log.contains("\nhello from the service"), "{job:?}\n{log}");
    Ok(())
}

/// The build image takes 12 s to pull.
async fn early_sources(world: Rc<World>) -> anyhow::Result<()> {
    let mut job = script(&["cat number.txt", "echo in the script", "for i in $(seq 600); do echo tick; sleep 1; done"]);
    job["repo"] = json!("group/project");
    job["image"] = json!({"name": "slower-build:1"});
    let runner = world.runner()?;
    let id = world.post_job(runner, &job).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    let pod = world.pod_of(runner, id, BOUND).await?;
    let pods = world.kube.pods(&runner.namespace).await?;
    let pod = pods.iter().find(|object| object.pointer("/metadata/name").and_then(Value::as_str) == Some(&pod));
    let pod = pod.context("the pod has gone")?;
    let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array).context("no statuses")?;
    let build = containers.iter().find(|status| status["name"] == "build").context("no status of build")?;
    let started = build.pointer("/state/running/startedAt").and_then(Value::as_str).context("build does not run")?;
    let raw = world.gitlab.raw_trace(id).await?;
    let fetched = trace::stamp_of(&raw, "Checking out").context("no checkout")?;
    ensure!(fetched[..19] < started[..19], "sources at {fetched}, build container at {started}");
    world.gitlab.cancel(id, false).await?;
    world.ended(id, BOUND).await.map(drop)
}

async fn missing_image(world: Rc<World>, extra: Value) -> anyhow::Result<()> {
    failing_start(world, extra, "runner_configuration_error", "missing-").await
}

async fn failing_start(world: Rc<World>, extra: Value, reason: &str, words: &str) -> anyhow::Result<()> {
    let mut job = script(&["echo reached"]);
    job.as_object_mut().context("an object")?.extend(extra.as_object().cloned().unwrap_or_default());
    let (job, log) = world.run(&job, Duration::from_secs(30)).await?;
    failed(&job, &log, reason, words)?;
    ensure!(!log.contains("\nreached"), "the script ran:\n{log}");
    Ok(())
}

async fn missing_helper(world: Rc<World>) -> anyhow::Result<()> {
    let helper_image = "missing-helper:1".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { helper_image, ..RunnerOptions::new("missing-helper") }).await?;
    let (job, log) = world.run_on(&runner, &script(&["echo reached"]), Duration::from_secs(30)).await?;
    failed(&job, &log, "runner_configuration_error", "missing-helper:1")
}

async fn unschedulable(world: Rc<World>) -> anyhow::Result<()> {
    let kubernetes =
        "    poll_timeout = 4\n    [runners.kubernetes.node_selector]\n      disk = \"floppy\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { kubernetes, ..RunnerOptions::new("unschedulable") }).await?;
    let (job, log) = world.run_on(&runner, &script(&["echo reached"]), Duration::from_secs(30)).await?;
    failed(&job, &log, "runner_system_failure", "nodes are available")?;
    ensure!(log.contains("timed out waiting for pod to start"), "{log}");
    Ok(())
}

/// A job whose script runs, and its pod.
async fn running(world: &World) -> anyhow::Result<(u64, String)> {
    let id = world.script(&["echo in the script", "sleep 600"]).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    Ok((id, world.pod_of(world.runner()?, id, BOUND).await?))
}

async fn pod_deleted(world: Rc<World>) -> anyhow::Result<()> {
    let (id, pod) = running(&world).await?;
    world.kube.delete_pod(&world.runner()?.namespace, &pod).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    failed(&job, &log, "runner_system_failure", "was deleted from outside")
}

async fn pod_deleted_early(world: Rc<World>) -> anyhow::Result<()> {
    let mut job = script(&["echo reached"]);
    job["image"] = json!({"name": "slow-deleted:1"});
    let runner = world.runner()?;
    let id = world.post_job(runner, &job).await?;
    let pod = world.pod_of(runner, id, BOUND).await?;
    world.kube.delete_pod(&runner.namespace, &pod).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    failed(&job, &log, "runner_system_failure", "was deleted from outside")
}

async fn evicted(world: Rc<World>) -> anyhow::Result<()> {
    let (id, pod) = running(&world).await?;
    world.kube.evict(&world.runner()?.namespace, &pod).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    failed(&job, &log, "runner_system_failure", "low on resource: ephemeral-storage")
}

async fn out_of_memory(world: Rc<World>, container: &'static str) -> anyhow::Result<()> {
    let (id, pod) = running(&world).await?;
    world.kube.out_of_memory(&world.runner()?.namespace, &pod, container).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    failed(&job, &log, "runner_system_failure", &format!("container {container} was OOM-killed"))
}

async fn script_out_of_memory(world: Rc<World>) -> anyhow::Result<()> {
    let kubernetes = "    memory_limit = \"96Mi\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { kubernetes, ..RunnerOptions::new("memory") }).await?;
    let job = script_and_after(&["perl -e 'my $x = q(x) x 200_000_000; sleep 60'"], &["echo status=$CI_JOB_STATUS"]);
    let (job, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(job.status == "failed", "{job:?}\n{log}");
    ensure!(log.contains("OOM-killed") || log.contains("for want of memory") || log.contains("exit code 137"), "{log}");
    Ok(())
}

/// The job failed for this reason, and its last line has these words.
fn failed(job: &Job, log: &str, reason: &str, words: &str) -> anyhow::Result<()> {
    let last = log.trim_end().lines().last().unwrap_or_default();
    let is_right = job.status == "failed" && job.failure_reason.as_deref() == Some(reason);
    ensure!(is_right, "not failed with {reason}: {job:?}\n{log}");
    ensure!(last.starts_with("ERROR: Job failed"), "the last line is {last:?}:\n{log}");
    ensure!(log.contains(words), "the log lacks {words:?}:\n{log}");
    Ok(())
}
