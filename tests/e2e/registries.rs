//! Images that want a login: where it comes from, and that it leaves with the pod.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, Runner, RunnerOptions, World, until};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::causes::{grant, with};
use crate::managers::only_smallest;
use crate::room::{is_held, no_room};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("registries: logins of a job", logins).needs(Need::PrivateImages),
        Test::new("registries: logins of a job without a manager", logins_without_manager).needs(Need::PrivateImages),
        Test::new("registries: a manager that is killed leaves no logins without a pod", logins_before_a_pod)
            .needs(Need::SchedulingGates),
    ]
}

/// What the API server knows of Secrets of a namespace.
async fn secrets(world: &World, runner: &Runner) -> anyhow::Result<Vec<Value>> {
    let path = format!("/api/v1/namespaces/{}/secrets", runner.namespace);
    let (_, list) = world.kube.ask(Method::GET, &path, None).await?;
    let items = list["items"].as_array().cloned().with_context(|| list.to_string())?;
    Ok(items.into_iter().filter(|secret| secret["type"] == "kubernetes.io/dockerconfigjson").collect())
}

/// A job whose image wants a login, which it has.
fn private(world: &World, image: &str) -> Value {
    let (image, user, password) = world.cluster().private_image(image);
    world.keep_secret(password);
    let mut job = script(&["echo ran with a login", "sleep 8"]);
    job["image"] = json!({"name": image});
    job["credentials"] =
        json!([{"type": "registry", "url": world.cluster().registry(), "username": user, "password": password}]);
    job
}

/// A Secret that was not given to its pod, and whose manager is dead, goes with whoever removes the
/// pod.
async fn logins_without_manager(world: Rc<World>) -> anyhow::Result<()> {
    let options = RunnerOptions {
        global: "[gantry]\n  self_report_after = \"3s\"\n  ticket_key = \"logins\"\n".to_owned(),
        ..RunnerOptions::new("logins-left")
    };
    let before = Runner::start(&world, &options).await?;
    // Without patch on pods the Secret is made first, and without update it gets no owner, as where
    // its manager is killed a moment before it would.
    only_smallest(&world, &before).await?;
    let rights = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]}]);
    grant(&world, &before, &rights).await?;
    before.process.signal(Signal::SIGKILL)?;
    let place = Some(before.place());
    let again = RunnerOptions { name: "logins-first".to_owned(), place, ..options.clone() };
    let first = Runner::start(&world, &again).await?;
    let id = world.post_job(&first, &private(&world, "own")).await?;
    world.gitlab.wait_for_text(id, "\nran with a login", BOUND).await?;
    first.process.signal(Signal::SIGKILL)?;
    let (ended, log) = world.ended(id, BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    let left = secrets(&world, &first).await?;
    ensure!(left.len() == 1 && left[0].pointer("/metadata/ownerReferences").is_none(), "{} Secrets", left.len());
    let next = RunnerOptions { name: "logins-next".to_owned(), place: Some(first.place()), ..options };
    let next = Runner::start(&world, &next).await?;
    world.no_pods(&next).await?;
    no_secrets(&world, &next).await
}

/// While a quota keeps its pod away a job has no Secret either, so that none can be left.
async fn logins_before_a_pod(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("logins-quota")).await?;
    let rights = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]}]);
    grant(&world, &runner, &rights).await?;
    no_room(&world, &runner).await?;
    let id = world.post_job(&runner, &private(&world, "own")).await?;
    is_held(&runner, "quota").await?;
    runner.process.signal(Signal::SIGKILL)?;
    runner.process.wait(BOUND).await?;
    let left = secrets(&world, &runner).await?;
    ensure!(left.is_empty(), "{} Secrets", left.len());
    world.kube.delete_pod(&runner.namespace, "in-the-way").await?;
    // Nothing tells the next manager of this job.
    world.gitlab.cancel(id, true).await
}

async fn no_secrets(world: &World, runner: &Runner) -> anyhow::Result<()> {
    until("no Secret to be left", BOUND, async || {
        let left = secrets(world, runner).await?;
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("{} Secrets", left.len())) })
    })
    .await
}

async fn logins(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with(&world, "logins", "").await?;
    let (_, user, password) = world.cluster().private_image("own");
    let mut job = private(&world, "own");

    // Without the right the log says what to do, and the pull fails as it does without a login.
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    let refused = format!("is not used: the runner may not create Secrets in namespace {}.", runner.namespace);
    ensure!(ended.failure_reason.as_deref() == Some("runner_configuration_error"), "{ended:?}\n{log}");
    ensure!(log.contains(&refused) && log.contains("401 Unauthorized"), "{log}");

    grant(
        &world,
        &runner,
        &json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update", "delete"]}]),
    )
    .await?;
    let id = world.post_job(&runner, &job).await?;
    world.gitlab.wait_for_text(id, "\nran with a login", BOUND).await?;
    let owned = secrets(&world, &runner).await?;
    let owner = owned.first().and_then(|secret| secret.pointer("/metadata/ownerReferences/0/kind"));
    ensure!(owned.len() == 1 && owner == Some(&json!("Pod")), "{} Secrets, owned by {owner:?}", owned.len());
    let (ended, log) = world.ended(id, BOUND).await?;
    ensure!(ended.status == "success", "{ended:?}\n{log}");

    let (image, ..) = world.cluster().private_image("variable");
    let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let config =
        json!({"auths": {world.cluster().registry(): {"auth": auth}}, "credHelpers": {"docker.io": "secretservice"}});
    job["image"] = json!({"name": image});
    job["services"] = json!([{"name": "busybox:1", "alias": "idle", "command": ["sleep", "60"]}]);
    job["credentials"] = json!([]);
    job["variables"] = json!([{"key": "DOCKER_AUTH_CONFIG", "value": config.to_string(), "masked": true}]);
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.status == "success" && log.contains("\nran with a login"), "{ended:?}\n{log}");
    let helper =
        "DOCKER_AUTH_CONFIG names the credential helper \"secretservice\" for docker.io, and this runner runs none";
    ensure!(log.contains(helper), "{log}");
    no_secrets(&world, &runner).await
}
