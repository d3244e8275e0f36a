//! Several managers, one after the other or at once: jobs go on whoever speaks for them, and nobody
//! touches what is another's.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Job, Need, Process, Runner, RunnerOptions, World, until};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::deployment::{deployed, job};
use crate::output::is_complete;

/// A manager counts as gone after 15 s; a busy machine takes longer for everything.
const BOUND: Duration = Duration::from_secs(120);

/// A process that is told to leave its jobs.
const QUICK: Duration = Duration::from_secs(10);

/// Agents that report by themselves would hide that nobody has adopted their jobs.
const NEVER_ALONE: &str = "self_report_after = \"1h\"\n  abandon_after = \"2h\"\n";

/// What all managers of a test have, whatever their tokens.
const TICKET_KEY: &str = "the managers of this test";

/// Lines that a talking job prints, in about half a minute.
const LINES: u64 = 3_000;
const TALK: &str = "for i in $(seq 300); do seq -f 'line %.0f' $((i * 10 - 9)) $((i * 10)); sleep 0.1; done";

/// Annotations and labels of job pods.
const OWNER: &str = "/metadata/annotations/gantry.dev~1owner";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("managers: six entries in one namespace are one list and one watch", one_watch).needs(Need::Faults),
        Test::new("managers: few requests for a job, and none while it is quiet", few_requests).needs(Need::Faults),
        Test::new("managers: one is killed, and another with another token goes on", |world| {
            replaced(world, "killed-jobs", Signal::SIGKILL)
        }),
        Test::new("managers: one is told to end, and the next goes on", |world| {
            replaced(world, "rolled-out", Signal::SIGTERM)
        }),
        Test::new("managers: of two replicas one is killed", replica_killed),
        Test::new("managers: what had not begun is begun anew at once", begun_anew),
        Test::new("managers: without patch on pods the next one goes on", without_patch),
        Test::new("managers: two fleets in one namespace", two_fleets),
        Test::new("managers: what somebody has changed on pods", changed_by_hand),
        Test::new("managers: gantry chaos does harm to its own and to nobody else", own_chaos),
        Test::new("managers: the Deployment is rolled out under twenty jobs", rolled_out)
            .needs(Need::OwnImages)
            .takes(Duration::from_secs(600)),
    ]
}

/// `[gantry]` with more lines.
fn gantry(lines: &str) -> String {
    format!("[gantry]\n  {NEVER_ALONE}  ticket_key = \"{TICKET_KEY}\"\n  {lines}\n")
}

async fn manager(world: &World, name: &str, lines: &str, beside: Option<&Runner>) -> anyhow::Result<Runner> {
    let place = beside.map(Runner::place);
    Runner::start(world, &RunnerOptions { global: gantry(lines), place, ..RunnerOptions::new(name) }).await
}

/// Counts requests of one kind from now on.
async fn counted(world: &World, namespace: &str, verb: &str) -> anyhow::Result<u64> {
    let order = json!({"kind": "delay", "verb": verb, "resource": "pods", "namespace": namespace, "delay": 0.001});
    let (status, ordered) = world.kube.ask(Method::POST, "/sim/faults", Some(&order)).await?;
    ensure!(status.is_success(), "{ordered}");
    ordered["id"].as_u64().context("a fault without an id")
}

/// How often that has happened.
async fn count(world: &World, id: u64) -> anyhow::Result<u64> {
    let (_, faults) = world.kube.ask(Method::GET, "/sim/faults", None).await?;
    let list = faults["items"].as_array().context("no list of faults")?;
    let fault = list.iter().find(|fault| fault["id"].as_u64() == Some(id)).context("no such fault")?;
    fault["hits"].as_u64().with_context(|| format!("no count: {fault}"))
}

async fn one_watch(world: Rc<World>) -> anyhow::Result<()> {
    let name = "six-entries";
    let namespace = world.namespace_name(name);
    let (lists, watches) = (counted(&world, &namespace, "list").await?, counted(&world, &namespace, "watch").await?);
    let runner = Runner::start(&world, &RunnerOptions::new(name)).await?;
    // Five more entries like the first one, with tokens of their own; then all of them anew.
    let first = std::fs::read_to_string(&runner.config)?;
    let (head, entry) = first.split_once("[[runners]]").context("no entry")?;
    let token = entry.lines().find(|line| line.trim_start().starts_with("token = ")).context("no token")?.to_owned();
    let mut text = format!("{head}[[runners]]{entry}");
    for _ in 0..5 {
        let other = world.gitlab.register(world.registration_token(), &runner.tag).await?;
        world.keep_secret(&other);
        text += "[[runners]]";
        text += &entry.replace(&token, &format!("  token = \"{other}\""));
    }
    std::fs::write(&runner.config, &text)?;
    let polling = async |wanted: usize| {
        until(&format!("{wanted} runners that poll"), BOUND, async || {
            let lines = runner
                .process
                .log()
                .lines()
                .filter(|line| line.contains("polling") && line.contains("workers"))
                .count();
            Ok(if lines >= wanted { Ok(()) } else { Err(format!("{lines}")) })
        })
        .await
    };
    polling(6).await?;
    std::fs::write(&runner.config, text.replace("check_interval = 1", "check_interval = 2"))?;
    polling(12).await?;
    let mut jobs = Vec::new();
    for number in 0..12 {
        jobs.push(world.post_job(&runner, &script(&[&format!("echo job {number}")])).await?);
    }
    for id in jobs {
        let (job, log) = world.ended(id, BOUND).await?;
        ensure!(job.status == "success", "{job:?}\n{log}");
    }
    // Before the harness lists pods itself.
    let (lists, watches) = (count(&world, lists).await?, count(&world, watches).await?);
    ensure!((lists, watches) == (1, 1), "{lists} lists and {watches} watches");
    world.no_pods(&runner).await
}

/// Requests about the pods of a namespace since counting began, by verb. Tries of `pods/exec` are
/// not among them.
async fn requests(world: &World, counters: &[(&'static str, u64)]) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let mut counts = BTreeMap::new();
    for (verb, id) in counters {
        counts.insert(*verb, count(world, *id).await?);
    }
    Ok(counts)
}

/// A job that is quiet for some time, of a manager that may do what it can to pods.
async fn few_requests(world: Rc<World>) -> anyhow::Result<()> {
    const QUIET: [&str; 3] = ["echo it begins", "sleep 12", "echo it ends"];
    let runner = Runner::start(&world, &RunnerOptions::new("frugal")).await?;
    let mut counters = Vec::new();
    for verb in ["create", "get", "list", "watch", "patch", "update", "delete"] {
        counters.push((verb, counted(&world, &runner.namespace, verb).await?));
    }
    let id = world.post_job(&runner, &script(&QUIET)).await?;
    world.gitlab.wait_for_text(id, "\nit begins", BOUND).await?;
    let begun = requests(&world, &counters).await?;
    world.gitlab.wait_for_text(id, "\nit ends", BOUND).await?;
    let ends = requests(&world, &counters).await?;
    ensure!(begun == ends, "a job that is quiet asks the API server: {begun:?}, then {ends:?}");
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let all = until("the pod to be deleted", BOUND, async || {
        let all = requests(&world, &counters).await?;
        Ok(if all["delete"] > 0 { Ok(all) } else { Err(format!("{all:?}")) })
    })
    .await?;
    let sum: u64 = all.values().sum();
    ensure!(sum < 10, "{sum} requests for one job: {all:?}");
    world.no_pods(&runner).await
}

/// A job went on as if nothing had happened.
fn undisturbed(job: &Job, log: &str) -> anyhow::Result<()> {
    let end = &log[log.len().saturating_sub(2000)..];
    ensure!(job.status == "success", "{job:?}\n{end}");
    let last: Vec<&str> = log.lines().rev().filter(|line| !line.starts_with(USAGE)).take(3).collect();
    ensure!(last == ["Job succeeded", "Cleaning up project directory and file based variables", "at the end"], "{end}");
    ensure!(log.matches("Job succeeded").count() == 1 && log.matches("\nin the script\n").count() == 1, "{log}");
    is_complete(log, "line", LINES)
}

/// How a line begins that says what a job has used, where containers have control groups to ask.
const USAGE: &str = "Usage of the build container: ";

/// The lines of a log that are the same in every run: without the names of runners, pods and nodes,
/// and without what is said only while a pod is slow to start, or where usage is known.
fn comparable(log: &str) -> Vec<&str> {
    let differs = |line: &&str| {
        ["  on ", "Running on runner-", "Waiting for pod ", "\t", USAGE].iter().any(|word| line.starts_with(word))
    };
    log.lines().filter(|line| !differs(line)).collect()
}

fn talking() -> Value {
    script(&["echo in the script", TALK, "echo at the end"])
}

/// All jobs of a manager that goes are gone on with by the next one, which has another token,
/// another system id and no file of it.
async fn replaced(world: Rc<World>, name: &str, signal: Signal) -> anyhow::Result<()> {
    let first = manager(&world, name, "", None).await?;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(world.post_job(&first, &talking()).await?);
    }
    for id in &jobs {
        world.gitlab.wait_for_text(*id, "\nline 100\n", BOUND).await?;
    }
    first.process.signal(signal)?;
    let status = first.process.wait(QUICK).await?;
    ensure!(signal == Signal::SIGKILL || status.success(), "{status}:\n{}", first.process.log());
    let second = manager(&world, &format!("{name}-next"), "", Some(&first)).await?;
    let mut logs = Vec::new();
    for id in &jobs {
        let (job, log) = world.ended(*id, BOUND).await?;
        undisturbed(&job, &log)?;
        logs.push(log);
    }
    let (job, log) = world.run_on(&second, &talking(), BOUND).await?;
    undisturbed(&job, &log)?;
    for other in logs {
        ensure!(
            comparable(&other) == comparable(&log),
            "a log differs from that of an undisturbed run:\n{other}\n---\n{log}"
        );
    }
    world.no_pods(&second).await
}

async fn replica_killed(world: Rc<World>) -> anyhow::Result<()> {
    let first = manager(&world, "replicas", "", None).await?;
    let id = world.post_job(&first, &talking()).await?;
    world.gitlab.wait_for_text(id, "\nline 100\n", BOUND).await?;
    let pod = world.pod_of(&first, id, BOUND).await?;
    let second = manager(&world, "replicas-two", "", Some(&first)).await?;
    let owner = async || {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}", first.namespace);
        let (_, pod) = world.kube.ask(Method::GET, &path, None).await?;
        anyhow::Ok(pod.pointer(OWNER).and_then(Value::as_str).unwrap_or_default().to_owned())
    };
    let before = owner().await?;
    // The first lives and says so: two of its heartbeats are seen, and the second leaves the job
    // alone.
    let beat = "/metadata/annotations/gantry.dev~1heartbeat";
    let path = format!("/api/v1/namespaces/{}/pods/{pod}", first.namespace);
    until("two heartbeats", BOUND, async || {
        let (_, pod) = world.kube.ask(Method::GET, &path, None).await?;
        let count = pod.pointer(beat).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(if count == format!("{before} 2") { Ok(()) } else { Err(count) })
    })
    .await?;
    ensure!(owner().await? == before, "a living manager has lost its job");
    first.process.signal(Signal::SIGKILL)?;
    until("another owner", BOUND, async || {
        let now = owner().await?;
        Ok(if now == before { Err(now) } else { Ok(()) })
    })
    .await?;
    let (job, log) = world.ended(id, BOUND).await?;
    undisturbed(&job, &log)?;
    world.no_pods(&second).await
}

/// No node is like this.
const NOWHERE: &str = "    [runners.kubernetes.node_selector]\n      \"gantry.dev/nowhere\" = \"yes\"\n";

/// A GitLab takes back what nobody has acknowledged after two minutes, counted from the last word
/// about it. The next manager must be quicker, by far.
const AT_ONCE_ANEW: Duration = Duration::from_secs(60);

/// A manager is killed whose jobs wait for a node: of those that GitLab still waits for, and of
/// those that it shows as running already, the next one says that they have not begun.
async fn begun_anew(world: Rc<World>) -> anyhow::Result<()> {
    let options = |name: &str, kubernetes: &str| RunnerOptions {
        global: gantry(""),
        kubernetes: kubernetes.to_owned(),
        ..RunnerOptions::new(name)
    };
    let first = Runner::start(&world, &options("unbegun", NOWHERE)).await?;
    let job = |name: &str| {
        let mut job = script(&["echo in the script"]);
        job["name"] = json!(world.unique(name));
        job
    };
    let told = world.post_job(&first, &job("unbegun-told")).await?;
    world.gitlab.wait_for_text(told, "Waiting for pod ", BOUND).await?;
    let untold = world.post_job(&first, &job("unbegun-untold")).await?;
    until("two pods", BOUND, async || {
        let pods = world.kube.pods(&first.namespace).await?.len();
        Ok(if pods == 2 { Ok(()) } else { Err(format!("{pods}")) })
    })
    .await?;
    first.process.signal(Signal::SIGKILL)?;
    first.process.wait(QUICK).await?;
    let before = [world.gitlab.job(told).await?.status, world.gitlab.job(untold).await?.status];
    ensure!(before == ["running", "pending"], "{before:?}");
    let second =
        Runner::start(&world, &RunnerOptions { place: Some(first.place()), ..options("unbegun-next", "") }).await?;
    for (id, name) in [(told, "unbegun-told"), (untold, "unbegun-untold")] {
        let (job, log) = world.ended(id, AT_ONCE_ANEW).await?;
        ensure!(job.failure_reason.as_deref() == Some("scheduler_failure"), "{job:?}\n{log}");
        ensure!(log.contains("the runner manager that had taken the job ended before it could start it"), "{log}");
        let name = world.unique(name);
        let tries = world.gitlab.jobs().await?.into_iter().filter(|job| job.name == name);
        let tries: Vec<(u32, u64)> = tries.map(|job| (job.attempt, job.id)).collect();
        let again = tries.iter().find(|(attempt, _)| *attempt == 1).with_context(|| format!("{tries:?}"))?;
        let (job, log) = world.ended(again.1, BOUND).await?;
        ensure!(tries.len() == 2 && job.status == "success", "{tries:?} {job:?}\n{log}");
    }
    world.no_pods(&second).await
}

/// What README calls the smallest Role.
fn smallest() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]},
    ])
}

/// Takes from a runner every right that is not among those.
pub(crate) async fn only_smallest(world: &World, runner: &Runner) -> anyhow::Result<()> {
    let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/runner", runner.namespace);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "runner", "namespace": runner.namespace}, "rules": smallest()});
    let (status, answer) = world.kube.ask(Method::PUT, &path, Some(&role)).await?;
    ensure!(status.is_success(), "{answer}");
    Ok(())
}

async fn without_patch(world: Rc<World>) -> anyhow::Result<()> {
    let first = manager(&world, "unpatched", "", None).await?;
    only_smallest(&world, &first).await?;
    // It has to notice.
    let second = manager(&world, "unpatched-two", "", Some(&first)).await?;
    second.process.wait_for_line("patch on pods is not granted", BOUND).await?;
    let id = world.post_job(&second, &talking()).await?;
    world.gitlab.wait_for_text(id, "\nline 100\n", BOUND).await?;
    for runner in [&first, &second] {
        runner.process.signal(Signal::SIGKILL)?;
        runner.process.wait(QUICK).await?;
    }
    let third = manager(&world, "unpatched-three", "", Some(&first)).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    undisturbed(&job, &log)?;
    world.no_pods(&third).await
}

async fn two_fleets(world: Rc<World>) -> anyhow::Result<()> {
    let ours = manager(&world, "fleet-ours", "fleet = \"ours\"", None).await?;
    let id = world.post_job(&ours, &talking()).await?;
    world.gitlab.wait_for_text(id, "\nline 100\n", BOUND).await?;
    let pod = world.pod_of(&ours, id, BOUND).await?;
    ours.process.signal(Signal::SIGKILL)?;
    ours.process.wait(QUICK).await?;
    // One that is no danger to it, for as long as it takes to run a job of its own.
    let mut place = ours.place();
    "fleet-theirs".clone_into(&mut place.tag);
    let options = RunnerOptions {
        global: gantry("fleet = \"theirs\""),
        place: Some(place),
        ..RunnerOptions::new("fleet-theirs")
    };
    let theirs = Runner::start(&world, &options).await?;
    let (job, log) = world.run_on(&theirs, &script(&["echo theirs", "sleep 20"]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    ensure!(!theirs.process.log().contains(&pod), "another fleet has looked into {pod}:\n{}", theirs.process.log());
    let next = manager(&world, "fleet-next", "fleet = \"ours\"", Some(&ours)).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    undisturbed(&job, &log)?;
    world.no_pods(&next).await
}

/// A ticket that is none, an owner that is none, and a pod that only looks like one of ours.
async fn changed_by_hand(world: Rc<World>) -> anyhow::Result<()> {
    let first = manager(&world, "by-hand", "", None).await?;
    let id = world.post_job(&first, &talking()).await?;
    world.gitlab.wait_for_text(id, "\nline 100\n", BOUND).await?;
    let pod = world.pod_of(&first, id, BOUND).await?;
    first.process.signal(Signal::SIGKILL)?;
    first.process.wait(QUICK).await?;
    let kubectl = world.kube.clone();
    let path = format!("/api/v1/namespaces/{}/pods/{pod}", first.namespace);
    let (_, mut found) = kubectl.ask(Method::GET, &path, None).await?;
    let fleet = found.pointer("/metadata/labels/gantry.dev~1fleet").cloned().context("no fleet")?;
    found["metadata"]["annotations"]["gantry.dev/owner"] = json!("Somebody Else");
    found["metadata"]["annotations"]["gantry.dev/ticket"] = json!("g1.forged");
    let (status, answer) = kubectl.ask(Method::PUT, &path, Some(&found)).await?;
    ensure!(status.is_success(), "{answer}");
    // Nobody's: no agent, no ticket.
    let lookalike = json!({
        "metadata": {"name": "lookalike", "labels": {"gantry.dev/managed": "true", "gantry.dev/fleet": fleet, "gantry.dev/job": "1"}},
        "spec": {"restartPolicy": "Never", "containers": [
            {"name": "helper", "image": "debian:12", "command": ["sh", "-c", "exit 7"]}]},
    });
    kubectl.create_pod(&first.namespace, &lookalike).await?;
    let second = manager(&world, "by-hand-next", "", Some(&first)).await?;
    second.process.wait_for_line("the pod's ticket cannot be opened", BOUND).await?;
    second.process.wait_for_line("is no manager's name", BOUND).await?;
    second.process.wait_for_line("the pod has no ticket", BOUND).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    undisturbed(&job, &log)?;
    world.no_pod_of(&second, id).await?;
    let (status, _) =
        kubectl.ask(Method::GET, &format!("/api/v1/namespaces/{}/pods/lookalike", first.namespace), None).await?;
    ensure!(status.is_success(), "a pod that nobody knows anything about is gone");
    kubectl.delete_pod(&first.namespace, "lookalike").await
}

/// Jobs of the Deployment at once.
const AT_ONCE: u32 = 20;

/// Lines that each of them prints, in a bit more than a minute: longer than a Deployment takes to
/// be rolled out.
const LASTING: u64 = 700;

/// `kubectl rollout restart` of what is shipped: the runner that goes takes itself off GitLab's
/// list, and the next one registers anew.
async fn rolled_out(world: Rc<World>) -> anyhow::Result<()> {
    let places = AT_ONCE.to_string();
    let more = json!({"RUNNER_CONCURRENT_BUILDS": places, "RUNNER_REQUEST_CONCURRENCY": places});
    let (overlay, _) = deployed(&world, "rollout", more).await?;
    let print = format!("for i in $(seq {LASTING}); do echo line $i; sleep 0.1; done");
    let mut jobs = Vec::new();
    for _ in 0..AT_ONCE {
        jobs.push(world.gitlab.post_job(&job(&[&print, "echo at the end"])).await?);
    }
    for id in &jobs {
        world.gitlab.wait_for_text(*id, "\nline 10\n", BOUND).await?;
    }
    overlay.kubectl(&["rollout", "restart", "deployment/runner"]).await?;
    overlay.ready().await?;
    let mut still_run = 0;
    for id in &jobs {
        still_run += u32::from(!world.gitlab.job(*id).await?.is_final());
    }
    ensure!(still_run > 0, "the jobs ended before the rollout did, which shows nothing");
    for id in jobs {
        let job = world.gitlab.wait_final(id, BOUND).await?;
        let log = world.gitlab.text(id).await?;
        ensure!(job.status == "success" && log.contains("\nat the end"), "{job:?}\n{log}");
        is_complete(&log, "line", LASTING)?;
    }
    overlay.remove().await
}

/// The command for operators: its table has zeros, and a pod that is not of its fleet stays as it
/// is.
async fn own_chaos(world: Rc<World>) -> anyhow::Result<()> {
    let namespace = world.namespace("own-chaos");
    world.kube.account(&namespace).await?;
    let labels = json!({"gantry.dev/managed": "true", "gantry.dev/fleet": "0123456789abcdef"});
    let bystander = json!({
        "metadata": {"name": "bystander", "labels": labels},
        "spec": {"containers": [{"name": "helper", "image": IMAGE, "command": ["sleep", "600"]}]},
    });
    world.kube.create_pod(&namespace, &bystander).await?;
    let args = [
        "chaos",
        "--namespace",
        &namespace,
        "--image",
        IMAGE,
        "--jobs",
        "2",
        "--seconds",
        "4",
        "--only",
        "manager killed",
    ];
    let args = args.map(str::to_owned);
    let kubeconfig = world.cluster().kubeconfig().display().to_string();
    let env = [("KUBECONFIG", kubeconfig.as_str())];
    let chaos = Process::start_with("own-chaos", world.dir(), &world.binaries().gantry, &args, &env)?;
    let status = chaos.wait(BOUND).await?;
    let said = chaos.log();
    ensure!(status.success(), "{status}:\n{said}");
    let row = said.lines().find(|line| line.starts_with("manager killed  ")).context("no such row")?;
    let numbers: Vec<&str> = row.split('|').nth(1).unwrap_or_default().split_whitespace().collect();
    ensure!(numbers == ["0"; 5], "{said}");
    let pods = world.kube.pods(&namespace).await?;
    let names: Vec<&str> = pods.iter().filter_map(|pod| pod.pointer("/metadata/name")?.as_str()).collect();
    ensure!(names == ["bystander"] && pods[0].pointer("/metadata/deletionTimestamp").is_none(), "{names:?}");
    world.kube.delete_pod(&namespace, "bystander").await
}
