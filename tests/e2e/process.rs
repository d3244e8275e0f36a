//! The runner as a process: its configuration, signals, metrics and health; and jobs that outlive
//! it.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, Process, Runner, RunnerOptions, World, until};
use nix::sys::signal::Signal;

use crate::output::is_complete;

const BOUND: Duration = Duration::from_secs(60);

/// A process that has nothing left to do ends quickly.
const QUICK: Duration = Duration::from_secs(5);

/// Lines that a talking job prints, in about ten seconds.
const LINES: u64 = 10_000;
const TALK: &str = "for i in $(seq 100); do seq -f 'line %.0f' $((i * 100 - 99)) $((i * 100)); sleep 0.1; done";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("process: an invalid configuration", invalid_configuration),
        Test::new("process: an entry that cannot work, beside one that can", unusable_entry),
        Test::new("process: no configuration yet", no_configuration),
        Test::new("process: the port of the metrics server is taken", port_taken),
        Test::new("process: a job outlives SIGTERM", |world| outlives(world, Signal::SIGTERM, "terminated")),
        Test::new("process: a job outlives SIGKILL", |world| outlives(world, Signal::SIGKILL, "killed")),
        Test::new("process: SIGTERM ends jobs when it is told to", abort),
        Test::new("process: SIGTERM ends a job that waits for a node", waits_for_a_node),
        Test::new("process: a job that was left without a build container ends", without_build).needs(Need::SlowImages),
        Test::new("process: SIGQUIT drains", drain),
        Test::new("process: a second SIGTERM ends at once", second_signal),
        Test::new("process: SIGHUP reads the configuration again", reload),
        Test::new("process: metrics move", metrics),
        Test::new("process: inputs of jobs are counted", inputs),
        Test::new("process: health", health),
        Test::new("process: the doctor makes a trial pod", doctor),
        Test::new("process: a single run takes one job and ends", single_run),
    ]
}

/// Runs `gantry run` with this configuration to its end, which must come by itself: its exit code
/// and output.
async fn refused(world: &World, name: &str, config: &str) -> anyhow::Result<(Option<i32>, String)> {
    let path = world.dir().join(format!("{name}.toml"));
    std::fs::write(&path, config)?;
    let args = ["run", "--config", &path.display().to_string()].map(str::to_owned);
    let process = Process::start(name, world.dir(), &world.binaries().gantry, &args)?;
    let status = process.wait(QUICK).await?;
    Ok((status.code(), process.log()))
}

async fn invalid_configuration(world: Rc<World>) -> anyhow::Result<()> {
    let config = "concurrent = 1\nshutdown_timeout = \"many\"\nlog_format = \"json\"\nsurprise = 1\n";
    let (code, log) = refused(&world, "invalid", config).await?;
    ensure!(code == Some(1), "{code:?}\n{log}");
    let said = |level: &str, words: &[&str]| {
        let level = format!("\"level\":\"{level}\"");
        log.lines().any(|line| line.contains(&level) && words.iter().all(|word| line.contains(word)))
    };
    ensure!(said("error", &["invalid.toml:2", "shutdown_timeout"]), "{log}");
    ensure!(said("warning", &["invalid.toml:4", "surprise"]) && said("fatal", &["invalid.toml", "an error"]), "{log}");
    Ok(())
}

/// The good entry runs jobs from the start; the bad one is shown, and works as soon as it is
/// mended.
async fn unusable_entry(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("beside")).await?;
    let good = std::fs::read_to_string(&runner.config)?;
    let bad = "\n[[runners]]\n  name = \"half\"\n  url = \"gitlab.example.com\"\n  token = \"x\"\n  executor = \"kubernetes\"\n";
    let unusable = async |wanted: f64| {
        until(&format!("{wanted} unusable runners"), BOUND, async || {
            let value = runner.metric("gantry_unusable_runners", "").await?;
            Ok(if value == Some(wanted) { Ok(()) } else { Err(format!("{value:?}")) })
        })
        .await
    };
    unusable(0.0).await?;
    std::fs::write(&runner.config, format!("{good}{bad}"))?;
    unusable(1.0).await?;
    let (status, text) = runner.get("/health/ready").await?;
    ensure!(
        status == 200 && text.contains("runner \"half\" cannot work") && text.contains("http://"),
        "{status} {text}"
    );
    let (job, log) = world.run_on(&runner, &script(&["echo works"]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    std::fs::write(&runner.config, &good)?;
    unusable(0.0).await
}

async fn no_configuration(world: Rc<World>) -> anyhow::Result<()> {
    let path = world.dir().join("nowhere.toml");
    let args = ["run", "--config", &path.display().to_string(), "--listen-address", "127.0.0.1:0"].map(str::to_owned);
    let process = Process::start("nowhere", world.dir(), &world.binaries().gantry, &args)?;
    process.wait_for_line("nowhere.toml does not exist: waiting for it", BOUND).await?;
    std::fs::write(&path, "concurrent = 3\n")?;
    process.wait_for_line("Configuration loaded", BOUND).await?;
    std::fs::remove_file(&path)?;
    process.wait_for_line("nowhere.toml is gone", BOUND).await?;
    process.signal(Signal::SIGTERM)?;
    let status = process.wait(QUICK).await?;
    ensure!(status.success(), "{status}\n{}", process.log());
    Ok(())
}

async fn port_taken(world: Rc<World>) -> anyhow::Result<()> {
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?;
    let (code, log) = refused(&world, "taken", &format!("concurrent = 1\nlisten_address = \"{address}\"\n")).await?;
    ensure!(code == Some(1) && log.contains(&format!("cannot listen on {address}")), "{code:?}\n{log}");
    ensure!(log.contains("change listen_address to a free address"), "{log}");
    Ok(())
}

/// Deletes what a runner leaves behind that nobody adopts.
async fn delete_pods(world: &World, runner: &Runner) -> anyhow::Result<()> {
    for pod in world.kube.pods(&runner.namespace).await? {
        let name = pod.pointer("/metadata/name").and_then(serde_json::Value::as_str).context("a pod without a name")?;
        world.kube.delete_pod(&runner.namespace, name).await?;
    }
    Ok(())
}

async fn outlives(world: Rc<World>, signal: Signal, name: &str) -> anyhow::Result<()> {
    let global = "[gantry]\n  self_report_after = \"3s\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { global, ..RunnerOptions::new(name) }).await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    world.gitlab.wait_for_text(id, "\nline 1000\n", BOUND).await?;
    runner.process.signal(signal)?;
    let status = runner.process.wait(BOUND).await?;
    ensure!(signal != Signal::SIGTERM || status.success(), "{status}:\n{}", runner.process.log());
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(
        job.status == "success" && log.ends_with("\nJob succeeded"),
        "{job:?}\n{}",
        &log[log.len().saturating_sub(500)..]
    );
    is_complete(&log, "line", LINES)?;
    delete_pods(&world, &runner).await
}

async fn abort(world: Rc<World>) -> anyhow::Result<()> {
    let global = "[gantry]\n  on_terminate = \"abort\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { global, ..RunnerOptions::new("abort") }).await?;
    let id = world.post_job(&runner, &script(&["echo in the script", "sleep 600"])).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    runner.process.signal(Signal::SIGTERM)?;
    let status = runner.process.wait(BOUND).await?;
    ensure!(status.success(), "{status}:\n{}", runner.process.log());
    let (job, log) = world.ended(id, QUICK).await?;
    ensure!(job.failure_reason.as_deref() == Some("runner_interrupted"), "{job:?}\n{log}");
    ensure!(log.ends_with("ERROR: Job failed: aborted: SIGTERM"), "{log}");
    Ok(())
}

/// No node is like this.
const NOWHERE: &str = "    [runners.kubernetes.node_selector]\n      \"gantry.dev/nowhere\" = \"yes\"\n";

async fn waits_for_a_node(world: Rc<World>) -> anyhow::Result<()> {
    let kubernetes = NOWHERE.to_owned();
    let runner = Runner::start(&world, &RunnerOptions { kubernetes, ..RunnerOptions::new("nowhere") }).await?;
    let mut job = script(&["echo never"]);
    job["name"] = serde_json::json!("waits for a node");
    let id = world.post_job(&runner, &job).await?;
    // GitLab shows it as running before it does, so that its log can say what it waits for.
    world.gitlab.wait_for_text(id, "Unschedulable", BOUND).await?;
    runner.process.signal(Signal::SIGTERM)?;
    let status = runner.process.wait(QUICK).await?;
    ensure!(status.success(), "{status}:\n{}", runner.process.log());
    let (job, log) = world.ended(id, QUICK).await?;
    ensure!(job.failure_reason.as_deref() == Some("scheduler_failure"), "{job:?}\n{log}");
    ensure!(
        log.contains("ERROR: Job failed (system failure): the runner was told to end while the job waited"),
        "{log}"
    );
    ensure!(runner.process.log().contains("Starting hand-over"), "{}", runner.process.log());
    // For that reason alone GitLab tries again what no project has asked to be tried again.
    let again = world.gitlab.jobs().await?.into_iter().find(|other| other.name == job.name && other.attempt == 1);
    let again = again.context("GitLab does not try it again")?;
    ensure!(again.status == "pending", "{again:?}");
    world.gitlab.cancel(again.id, true).await?;
    world.no_pods(&runner).await
}

/// Its build image takes a minute, its pod has less, and no runner is there to notice.
async fn without_build(world: Rc<World>) -> anyhow::Result<()> {
    let global = "[gantry]\n  self_report_after = \"3s\"\n".to_owned();
    let kubernetes = "    poll_timeout = 25\n".to_owned();
    let options = RunnerOptions { global, kubernetes, ..RunnerOptions::new("unbuilt") };
    let runner = Runner::start(&world, &options).await?;
    let mut job = script(&["echo never"]);
    job["image"] = serde_json::json!({"name": world.unique("slowest-unbuilt:{run}")});
    let id = world.post_job(&runner, &job).await?;
    world.gitlab.wait_for_text(id, "Running on ", BOUND).await?;
    runner.process.signal(Signal::SIGTERM)?;
    let status = runner.process.wait(QUICK).await?;
    ensure!(status.success(), "{status}:\n{}", runner.process.log());
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.failure_reason.as_deref() == Some("runner_system_failure"), "{job:?}\n{log}");
    ensure!(log.contains("timed out waiting for pod to start (25 s, see poll_timeout): the build container"), "{log}");
    delete_pods(&world, &runner).await
}

async fn drain(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("drain")).await?;
    let id = world.post_job(&runner, &script(&["echo in the script", "sleep 8", "echo at the end"])).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    runner.process.signal(Signal::SIGQUIT)?;
    until("the runner to drain", QUICK, async || {
        let (_, state) = runner.get("/debug/process/state").await?;
        Ok(if state.trim() == "graceful-shutdown" { Ok(()) } else { Err(state) })
    })
    .await?;
    let late = world.post_job(&runner, &script(&["echo too late"])).await?;
    let status = runner.process.wait(BOUND).await?;
    ensure!(status.success(), "{status}:\n{}", runner.process.log());
    let (job, log) = world.ended(id, QUICK).await?;
    ensure!(job.status == "success" && log.contains("\nat the end"), "{job:?}\n{log}");
    let late_job = world.gitlab.job(late).await?;
    ensure!(late_job.status == "pending" && !late_job.assigned, "{late_job:?}");
    world.gitlab.cancel(late, true).await
}

/// A script that nothing but SIGKILL ends keeps the first signal busy.
async fn second_signal(world: Rc<World>) -> anyhow::Result<()> {
    let global = "[gantry]\n  on_terminate = \"abort\"\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { global, ..RunnerOptions::new("twice") }).await?;
    let id = world
        .post_job(&runner, &script(&["trap '' TERM INT HUP", "echo in the script", "while true; do sleep 1; done"]))
        .await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    runner.process.signal(Signal::SIGTERM)?;
    runner.process.wait_for_line("Starting forceful shutdown", QUICK).await?;
    runner.process.signal(Signal::SIGTERM)?;
    let status = runner.process.wait(QUICK).await?;
    ensure!(status.code() == Some(1), "{status}:\n{}", runner.process.log());
    delete_pods(&world, &runner).await?;
    let job = world.gitlab.job(id).await?;
    if job.is_final() { Ok(()) } else { world.gitlab.cancel(id, true).await }
}

async fn reload(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("reload")).await?;
    let text = std::fs::read_to_string(&runner.config)?;
    let becomes = async |name: &str, wanted: f64| {
        until(&format!("{name} to be {wanted}"), BOUND, async || {
            let value = runner.metric(name, "").await?;
            Ok(if value == Some(wanted) { Ok(()) } else { Err(format!("{value:?}")) })
        })
        .await
    };
    becomes("gitlab_runner_concurrent", 4.0).await?;
    std::fs::write(&runner.config, text.replace("concurrent = 4", "concurrent = 7"))?;
    runner.process.signal(Signal::SIGHUP)?;
    becomes("gitlab_runner_concurrent", 7.0).await?;
    std::fs::write(&runner.config, text.replace("concurrent = 4", "concurrent = \"lots\""))?;
    runner.process.signal(Signal::SIGHUP)?;
    until("the error to be counted", BOUND, async || {
        let errors = runner.metric("gitlab_runner_configuration_loading_error_total", "").await?;
        Ok(if errors >= Some(1.0) { Ok(()) } else { Err(format!("{errors:?}")) })
    })
    .await?;
    becomes("gitlab_runner_concurrent", 7.0).await?;
    let (job, log) = world.run_on(&runner, &script(&["echo still works"]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    Ok(())
}

async fn metrics(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("metrics")).await?;
    let (status, text) = runner.get("/metrics").await?;
    ensure!(status == 200);
    for name in [
        "gitlab_runner_version_info",
        "gitlab_runner_concurrent",
        "gitlab_runner_limit",
        "gitlab_runner_jobs",
        "gitlab_runner_jobs_total",
        "gitlab_runner_errors_total",
        "gitlab_runner_api_request_statuses_total",
        "gitlab_runner_request_concurrency",
        "gitlab_runner_configuration_loaded_total",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
    ] {
        ensure!(text.lines().any(|line| line.starts_with(name)), "no {name} in:\n{text}");
    }
    ensure!(runner.metric("gitlab_runner_jobs_total", "").await? == Some(0.0));
    let long = world.post_job(&runner, &script(&["echo in the script", "sleep 5"])).await?;
    world.gitlab.wait_for_text(long, "\nin the script", BOUND).await?;
    let (_, list) = runner.get("/debug/jobs/list").await?;
    ensure!(list.contains(&format!("/jobs/{long}")), "{list}");
    ensure!(runner.metric("gitlab_runner_jobs", "state=\"running\"").await? == Some(1.0), "no running job");
    let (job, log) = world.run_on(&runner, &script(&["exit 3"]), BOUND).await?;
    ensure!(job.status == "failed", "{job:?}\n{log}");
    world.ended(long, BOUND).await?;
    until("the metrics to say so", BOUND, async || {
        let total = runner.metric("gitlab_runner_jobs_total", "").await?;
        let failed = runner.metric("gitlab_runner_failed_jobs_total", "failure_reason=\"script_failure\"").await?;
        let ended = runner.metric("gitlab_runner_job_duration_seconds_count", "").await?;
        let is_right = total == Some(2.0) && failed == Some(1.0) && ended == Some(2.0);
        Ok(if is_right { Ok(()) } else { Err(format!("total {total:?}, failed {failed:?}, ended {ended:?}")) })
    })
    .await
}

async fn inputs(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("inputs")).await?;
    for (line, status, words) in [
        ("echo hello ${{ job.inputs.who }}", "success", "\nhello you\n"),
        ("echo hello ${{ job.inputs.nobody }}", "failed", "there is no \"nobody\""),
    ] {
        let mut job = script(&["echo the first line", line]);
        job["inputs"] =
            serde_json::json!([{"key": "who", "value": {"type": "string", "content": "you", "sensitive": false}}]);
        let (job, log) = world.run_on(&runner, &job, BOUND).await?;
        ensure!(job.status == status && log.contains(words), "{job:?}\n{log}");
    }
    let placed = runner.metric("gitlab_runner_job_inputs_interpolations_total", "").await?;
    let failures = "gitlab_runner_job_inputs_interpolation_failures_total";
    let failed = runner.metric(failures, "error_type=\"evaluation\"").await?;
    ensure!(placed == Some(1.0) && failed == Some(1.0), "placed {placed:?}, failed {failed:?}");
    Ok(())
}

async fn health(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("health")).await?;
    for (path, status) in
        [("/health/live", 200), ("/health/ready", 200), ("/debug/process/state", 200), ("/nothing", 404)]
    {
        let (found, text) = runner.get(path).await?;
        ensure!(found == status, "{path}: {found} {text}");
    }
    Ok(())
}

/// Everything that a runner needs is there, and a pod can be made, reached and removed.
async fn doctor(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("doctor")).await?;
    let config = runner.config.display().to_string();
    let args = ["doctor", "--pod", "--image", "debian:12", "--config", &config].map(str::to_owned);
    let process = Process::start("doctors", world.dir(), &world.binaries().gantry, &args)?;
    let status = process.wait(BOUND).await?;
    let log = process.log();
    ensure!(status.success(), "{status}\n{log}");
    for words in ["ok      pod: a trial pod started in", "ok      network: the pod reaches http", "ok      rights: "] {
        ensure!(log.contains(words), "{words:?} is not in:\n{log}");
    }
    world.no_pods(&runner).await
}

/// Takes one job and ends, without a port or a file of its own.
async fn single_run(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("single")).await?;
    runner.process.signal(Signal::SIGTERM)?;
    runner.process.wait(BOUND).await?;
    let first = world.post_job(&runner, &script(&["echo the only one"])).await?;
    let second = world.post_job(&runner, &script(&["echo not this one"])).await?;
    let config = runner.config.display().to_string();
    let args = ["run-single", "-r", "single", "--max-builds", "1", "-c", &config].map(str::to_owned);
    let process = Process::start("once", world.dir(), &world.binaries().gantry, &args)?;
    let status = process.wait(BOUND).await?;
    ensure!(status.success() && process.log().contains("--max-builds"), "{status}\n{}", process.log());
    let (job, log) = world.ended(first, QUICK).await?;
    ensure!(job.status == "success" && log.contains("the only one"), "{job:?}\n{log}");
    let late = world.gitlab.job(second).await?;
    ensure!(late.status == "pending" && !late.assigned, "{late:?}");
    world.gitlab.cancel(second, true).await
}
