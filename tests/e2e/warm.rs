//! Before a runner takes jobs: a trial pod, and pods that keep room for those of jobs.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, World, until};
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::causes::grant;
use crate::settings::{grant_everywhere, revoke_everywhere};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("warm: a runner proves itself before it takes jobs", proof),
        Test::new("warm: pause pods follow the jobs", pause_pods),
    ]
}

async fn proof(world: Rc<World>) -> anyhow::Result<()> {
    let verify = "  [runners.experimental.boot_verify]\n    enabled = true\n    acquire_max_backoff = \"2s\"\n";
    let (runner, helper_image) = (verify.to_owned(), "missing-boot:1".to_owned());
    let options = RunnerOptions { runner, helper_image, ..RunnerOptions::new("proof") };
    let runner = Runner::launch(&world, &options).await?;
    let mut job = script(&["echo ran"]);
    job["image"] = json!({"name": "busybox:1"});
    let id = world.post_job(&runner, &job).await?;
    runner.process.wait_for_line("takes no jobs, as boot_verify demands", BOUND).await?;
    let (status, text) = runner.get("/health/ready").await?;
    ensure!(
        status == 503 && text.starts_with("boot-verify pending\n") && text.contains("missing-boot:1"),
        "{status}: {text}"
    );
    let waiting = world.gitlab.job(id).await?;
    ensure!(waiting.status == "pending", "{waiting:?}");
    // The file is read again, and the runner with another image is tried at once.
    let text = std::fs::read_to_string(&runner.config)?;
    std::fs::write(&runner.config, text.replace("missing-boot:1", "helper:1"))?;
    let (ended, log) = world.ended(id, BOUND).await?;
    ensure!(ended.status == "success" && log.contains("\nran"), "{ended:?}\n{log}");
    let (status, text) = runner.get("/health/ready").await?;
    ensure!(status == 200, "{status}: {text}");
    // No trial pod is left, and a change of the file does not ask for another one.
    world.no_pods(&runner).await?;
    let tried = |log: &str| log.matches("boot_verify: a trial pod of runner").count();
    ensure!(tried(&runner.process.log()) == 1, "{}", runner.process.log());
    let text = std::fs::read_to_string(&runner.config)?;
    std::fs::write(&runner.config, text.replace("check_interval = 1", "check_interval = 2"))?;
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.status == "success" && tried(&runner.process.log()) == 1, "{ended:?}\n{log}");
    Ok(())
}

const POLICY: &str = r#"
    [runners.kubernetes.autoscaler]
      pause_pod_image = "localhost/gantry-test/pause:1"
      [[runners.kubernetes.autoscaler.policy]]
        idle_count = 1
        idle_time = "1s"
        scale_factor = 2.0
"#;

const CLASS: &str = "/apis/scheduling.k8s.io/v1/priorityclasses/gitlab-runner-idle-capacity";

async fn pause_pods(world: Rc<World>) -> anyhow::Result<()> {
    let mut runner =
        Runner::start(&world, &RunnerOptions { kubernetes: POLICY.to_owned(), ..RunnerOptions::new("pause") }).await?;
    runner.process.wait_for_line("grant list, create, patch and delete on deployments (apps)", BOUND).await?;
    grant_everywhere(
        &world,
        &runner,
        &json!([{"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": ["create"]}]),
    )
    .await?;
    let deployments =
        json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "create", "patch", "delete"]}]);
    grant(&world, &runner, &deployments).await?;
    let outcome = with_rights(&world, &mut runner).await;
    revoke_everywhere(&world, &runner).await?;
    world.kube.ask(Method::DELETE, CLASS, None).await?;
    outcome
}

async fn with_rights(world: &World, runner: &mut Runner) -> anyhow::Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", runner.namespace);
    let have = async |runner: &Runner, count: usize| {
        until(&format!("{count} pause pods"), BOUND, async || {
            let (_, list) = world.kube.ask(Method::GET, &path, None).await?;
            let replicas = list.pointer("/items/0/spec/replicas").and_then(Value::as_u64);
            let pods = world.kube.pods(&runner.namespace).await?;
            let label = "/metadata/labels/runner.gitlab.com~1pause-pod";
            let pause: Vec<&Value> = pods.iter().filter(|pod| pod.pointer(label).is_some()).collect();
            let is_low = pause.iter().all(|pod| pod.pointer("/spec/priority") == Some(&json!(-1)));
            let is_so = replicas == u64::try_from(count).ok() && pause.len() == count && is_low;
            Ok(if is_so { Ok(()) } else { Err(format!("{replicas:?} replicas, {} pods: {list}", pause.len())) })
        })
        .await
    };
    have(runner, 1).await?;
    let id = world.post_job(runner, &script(&["sleep 600"])).await?;
    have(runner, 2).await?;
    let wanted = runner.metric("gitlab_runner_kubernetes_autoscaler_pause_pods_desired", "").await?;
    ensure!(wanted == Some(2.0), "{wanted:?}");
    world.gitlab.cancel(id, false).await?;
    world.ended(id, BOUND).await?;
    have(runner, 1).await?;
    runner.process.signal(Signal::SIGTERM)?;
    runner.process.wait(BOUND).await.context("the runner does not end")?;
    let (status, list) = world.kube.ask(Method::GET, &path, None).await?;
    ensure!(status == StatusCode::OK && list["items"] == json!([]), "{status}: {list}");
    // What a killed manager leaves goes with the next one, also where that is to have none.
    runner.again(world).await?;
    have(runner, 1).await?;
    runner.process.signal(Signal::SIGKILL)?;
    runner.process.wait(BOUND).await?;
    let text = std::fs::read_to_string(&runner.config)?;
    let without = text.split_once(POLICY).map(|(before, after)| format!("{before}{after}"));
    std::fs::write(&runner.config, without.context("no policy in the file")?)?;
    runner.again(world).await?;
    until("no pause pods", BOUND, async || {
        let (_, list) = world.kube.ask(Method::GET, &path, None).await?;
        Ok(if list["items"] == json!([]) { Ok(()) } else { Err(list.to_string()) })
    })
    .await
}
