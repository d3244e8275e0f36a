//! Services as their users see them: waited for, shown with their last words, and their logs in
//! that of the job. And what a job has used.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, World};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("services: their last words, where the runner may read them", last_words),
        Test::new("services: one that never answers", never_answers),
        Test::new("services: one that ends before it answers", ends_early),
        Test::new("services: their logs in the job log", logs),
        Test::new("services: what the build container has used", usage),
    ]
}

fn with_service(lines: &[&str], command: &str, variables: &Value) -> Value {
    let mut job = script(lines);
    job["services"] =
        json!([{"name": "busybox:1", "alias": "db", "command": ["sh", "-c", command], "variables": variables}]);
    job
}

async fn last_words(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("last-words")).await?;
    world.kube.allow_logs(&runner.namespace).await?;
    let command = "echo opening the database; sleep 2; echo cannot open the database >&2; exit 7";
    let (job, log) =
        world.run_on(&runner, &with_service(&["sleep 6", "echo still here"], command, &json!([])), BOUND).await?;
    ensure!(job.status == "success" && log.contains("\nstill here\n"), "{job:?}\n{log}");
    for words in [
        "WARNING: Service db has ended while the job ran: exit code 7, reason Error; the end of its log:",
        "[service:db] opening the database",
        "[service:db] cannot open the database",
    ] {
        ensure!(log.matches(words).count() == 1, "{words:?} is not in the log once:\n{log}");
    }
    Ok(())
}

async fn never_answers(world: Rc<World>) -> anyhow::Result<()> {
    let options = RunnerOptions {
        runner: "  [runners.gantry]\n    wait_for_services_timeout = \"3s\"\n".to_owned(),
        ..RunnerOptions::new("never-answers")
    };
    let runner = Runner::start(&world, &options).await?;
    let port = json!([{"key": "HEALTHCHECK_TCP_PORT", "value": "17104"}]);
    let job = with_service(&["echo never"], "echo waiting for a license; sleep 600", &port);
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    let reason = "ERROR: Job failed (system failure): service db (port 17104) has not answered within 3s";
    ensure!(
        ended.failure_reason.as_deref() == Some("runner_system_failure") && log.contains(reason),
        "{ended:?}\n{log}"
    );
    ensure!(log.contains("no right to get pods/log in namespace") && !log.contains("\nnever"), "{log}");
    world.kube.allow_logs(&runner.namespace).await?;
    let (_, log) = world.run_on(&runner, &job, BOUND).await?;
    let words = log.find("[service:db] waiting for a license");
    ensure!(words.is_some() && words < log.find(reason), "{log}");
    Ok(())
}

async fn ends_early(world: Rc<World>) -> anyhow::Result<()> {
    let options = RunnerOptions {
        runner: "  [runners.gantry]\n    wait_for_services_timeout = \"10m\"\n".to_owned(),
        ..RunnerOptions::new("ends-early")
    };
    let runner = Runner::start(&world, &options).await?;
    world.kube.allow_logs(&runner.namespace).await?;
    let port = json!([{"key": "HEALTHCHECK_TCP_PORT", "value": "17105"}]);
    let mut job = with_service(&["echo never"], "echo no license; exit 7", &port);
    for (alias, name, label) in
        [("db", "db (port 17105)", "db"), ("", "busybox:1 (container svc-0, port 17105)", "busybox:1")]
    {
        job["services"][0]["alias"] = json!(alias);
        let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
        let reason = format!(
            "ERROR: Job failed (system failure): service {name} has ended before it answered, exit code 7, reason Error: look at its log"
        );
        ensure!(ended.status == "failed" && log.contains(&reason) && !log.contains("\nnever"), "{ended:?}\n{log}");
        let words = format!("[service:{label}] no license");
        ensure!(log.matches(&words).count() == 1 && log.find(&words) < log.find(&reason), "{log}");
    }
    Ok(())
}

async fn logs(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("service-logs")).await?;
    let lines = ["for i in $(seq 100); do [ -e said ] && break; sleep 0.1; done", "sleep 3", "echo in the script"];
    let command =
        "echo ready with $(printf %s-%s-%s correct horse battery); sleep 1; echo and a second line; sleep 600";
    let mut job = with_service(&lines, command, &json!([]));
    job["variables"] = json!([
        {"key": "CI_DEBUG_SERVICES", "value": "true", "public": true},
        {"key": "PASSWORD", "value": "correct-horse-battery", "masked": true, "public": true},
    ]);
    let (_, refused) = world.run_on(&runner, &job, BOUND).await?;
    let line = "WARNING: CI_DEBUG_SERVICES: the logs of services cannot be shown: the runner's service account has no right to get pods/log";
    ensure!(refused.matches(line).count() == 1, "{refused}");
    world.kube.allow_logs(&runner.namespace).await?;
    let (ended, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(ended.status == "success" && !log.contains("cannot be shown"), "{ended:?}\n{log}");
    let shown =
        |text: &str| log.lines().filter(|line| line.contains("[service:busybox-db] 20") && line.contains(text)).count();
    ensure!(shown("ready with [MASKED]") == 1 && shown("and a second line") == 1, "{log}");
    Ok(())
}

async fn usage(world: Rc<World>) -> anyhow::Result<()> {
    let options = RunnerOptions {
        kubernetes: "    memory_limit = \"200Mi\"\n    memory_request = \"50Mi\"\n".to_owned(),
        ..RunnerOptions::new("usage")
    };
    let runner = Runner::start(&world, &options).await?;
    // What `tail` keeps stays as long as there may be more.
    let take = |bytes: &str| {
        let hold = format!("(head -c {bytes} /dev/zero; sleep 4) | tail -c {bytes} > /dev/null");
        script(&["dd if=/dev/zero of=out bs=1M count=3", &hold])
    };
    let (ended, log) = world.run_on(&runner, &take("60000000"), BOUND).await?;
    let line = log.lines().find(|line| line.contains("Usage of the build container: ")).unwrap_or_default().to_owned();
    ensure!(ended.status == "success", "{ended:?}\n{log}");
    let words = ["memory ", " MiB at most", "request 50Mi, limit 200Mi", "disk 3."];
    ensure!(words.iter().all(|words| line.contains(words)) && !log.contains("came near"), "{line:?} in\n{log}");
    let (_, log) = world.run_on(&runner, &take("192000000"), BOUND).await?;
    ensure!(log.contains("came near its memory limit of 200Mi: raise memory_limit"), "{log}");
    let count = runner.metric("gantry_job_memory_peak_bytes_count", "").await?;
    ensure!(count == Some(2.0), "{count:?}");
    Ok(())
}
