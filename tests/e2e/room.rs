//! No room for pods: jobs wait where they can be seen to wait, more are not asked for, and none
//! fails for that.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Need, Runner, RunnerOptions, World, until};
use reqwest::Method;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(120);

/// No node is like this.
const NOWHERE: &str =
    "    poll_timeout = 20\n    [runners.kubernetes.node_selector]\n      \"gantry.dev/nowhere\" = \"yes\"\n";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("room: a quota that is used up", quota),
        Test::new("room: an API server that asks to come again", come_again).needs(Need::Faults),
        Test::new("room: no node", no_node),
        Test::new("room: a fleet with as many jobs as it may have", fleet),
    ]
}

/// Waits until a runner says that it asks for no jobs, for this reason.
pub(crate) async fn is_held(runner: &Runner, reason: &str) -> anyhow::Result<()> {
    until(&format!("no jobs to be asked for: {reason}"), BOUND, async || {
        let held = runner.metric("gantry_job_requests_held", &format!("reason=\"{reason}\"")).await?;
        Ok(if held == Some(1.0) { Ok(()) } else { Err(format!("{held:?}")) })
    })
    .await?;
    runner.process.wait_for_line("No jobs are asked for: ", BOUND).await.map(drop)
}

/// Lets a namespace have so many pods, from now on.
async fn bound_pods(world: &World, runner: &Runner, (name, most): (&str, &str)) -> anyhow::Result<()> {
    let quota = json!({"metadata": {"name": name}, "spec": {"hard": {"pods": most}}});
    let path = format!("/api/v1/namespaces/{}/resourcequotas", runner.namespace);
    let (status, answer) = world.kube.ask(Method::POST, &path, Some(&quota)).await?;
    ensure!(status.is_success(), "{answer}");
    until("the quota to be in force", BOUND, async || {
        let (_, quota) = world.kube.ask(Method::GET, &format!("{path}/{name}"), None).await?;
        Ok(if quota["status"]["hard"]["pods"] == most { Ok(()) } else { Err(quota["status"].to_string()) })
    })
    .await
}

/// Takes the only place for a pod that a runner has.
pub(crate) async fn no_room(world: &World, runner: &Runner) -> anyhow::Result<()> {
    let taken = json!({"metadata": {"name": "in-the-way"},
        "spec": {"containers": [{"name": "idle", "image": IMAGE, "command": ["sleep", "600"]}]}});
    world.kube.create_pod(&runner.namespace, &taken).await?;
    bound_pods(world, runner, ("one-pod", "1")).await
}

async fn quota(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("quota")).await?;
    bound_pods(&world, &runner, ("two-pods", "2")).await?;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(world.post_job(&runner, &script(&["echo in the script", "sleep 8"])).await?);
    }
    is_held(&runner, "quota").await?;
    let late = world.post_job(&runner, &script(&["echo late"])).await?;
    let mut waited = 0;
    for id in jobs.into_iter().chain([late]) {
        let (job, log) = world.ended(id, BOUND).await?;
        ensure!(job.status == "success", "{job:?}\n{log}");
        waited += usize::from(log.contains("exceeded quota: two-pods"));
    }
    ensure!(waited > 0, "no log says what its job has waited for");
    world.no_pods(&runner).await
}

async fn come_again(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("come-again")).await?;
    let order = json!({"kind": "refuse", "verb": "create", "resource": "pods", "namespace": runner.namespace, "count": 4,
        "status": 403, "retryAfter": 2, "message": "admission webhook \"budget\" denied the request: come again"});
    let (status, answer) = world.kube.ask(Method::POST, "/sim/faults", Some(&order)).await?;
    ensure!(status.is_success(), "{answer}");
    let id = world.post_job(&runner, &script(&["echo in the script"])).await?;
    is_held(&runner, "api_server").await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success" && log.contains("denied the request: come again"), "{job:?}\n{log}");
    runner.process.wait_for_line("Jobs are asked for again", BOUND).await.map(drop)
}

async fn no_node(world: Rc<World>) -> anyhow::Result<()> {
    let options = RunnerOptions { kubernetes: NOWHERE.to_owned(), ..RunnerOptions::new("no-node") };
    let runner = Runner::start(&world, &options).await?;
    let id = world.post_job(&runner, &script(&["echo never"])).await?;
    is_held(&runner, "unschedulable").await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.failure_reason.as_deref() == Some("runner_system_failure"), "{job:?}\n{log}");
    runner.process.wait_for_line("Jobs are asked for again", BOUND).await.map(drop)
}

async fn fleet(world: Rc<World>) -> anyhow::Result<()> {
    let global = "[gantry]\n  fleet = \"bounded\"\n  fleet_concurrent = 2\n".to_owned();
    let first =
        Runner::start(&world, &RunnerOptions { global: global.clone(), ..RunnerOptions::new("bounded") }).await?;
    let place = Some(first.place());
    let second = Runner::start(&world, &RunnerOptions { global, place, ..RunnerOptions::new("bounded-two") }).await?;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(world.post_job(&first, &script(&["echo in the script", "sleep 3"])).await?);
    }
    let mut most = 0;
    until("all jobs to end", BOUND, async || {
        let pods = world.kube.pods(&first.namespace).await?;
        let takes_room = |pod: &&Value| {
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            pod["metadata"]["deletionTimestamp"].is_null() && !matches!(phase, "Succeeded" | "Failed")
        };
        most = most.max(pods.iter().filter(takes_room).count());
        let mut left = 0;
        for id in &jobs {
            left += usize::from(!world.gitlab.job(*id).await?.is_final());
        }
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} jobs, at most {most} pods")) })
    })
    .await?;
    // Two replicas that look in the same moment may make one more.
    ensure!((2..=3).contains(&most), "{most} pods at once");
    for id in jobs {
        let (job, log) = world.ended(id, BOUND).await?;
        ensure!(job.status == "success", "{job:?}\n{log}");
    }
    let held = [&first, &second].map(|runner| runner.process.log().contains("jobs (fleet_concurrent in [gantry])"));
    ensure!(held.contains(&true), "nobody says why no jobs are asked for");
    world.no_pods(&first).await
}
