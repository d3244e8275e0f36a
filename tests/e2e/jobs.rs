//! Jobs together, jobs of pipelines, and jobs that nobody should have sent.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Job, Runner, RunnerOptions, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

/// The same for jobs that wait for each other, on a node that serves others meanwhile.
const IN_TURN: Duration = Duration::from_secs(150);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("jobs: ten at once", ten_at_once),
        Test::new("jobs: never more than configured", limited),
        Test::new("jobs: never more than the runner's own limit", limited_by_runner),
        Test::new("jobs: a pipeline with artifacts", pipeline),
        Test::new("jobs: the runner's rights are the smallest", rights),
        Test::new("jobs: without id and token", without_token),
    ];
    tests.extend(ODD.map(|(name, payload, expected)| {
        Test::new(format!("jobs: odd payload: {name}"), move |world| odd(world, payload, expected))
    }));
    tests
}

async fn ten_at_once(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions { concurrent: 10, ..RunnerOptions::new("ten") }).await?;
    let mut jobs = Vec::new();
    for number in 0..10 {
        let lines = [format!("echo job {number}"), "for i in $(seq 600); do sleep 1; done".to_owned()];
        let mut job = script(&lines.each_ref().map(String::as_str));
        job["variables"] = json!([{"key": "RUNNER_SCRIPT_TIMEOUT", "value": "15s"}]);
        jobs.push(world.post_job(&runner, &job).await?);
    }
    until("all ten to run", BOUND, async || {
        let mut running = 0;
        for id in &jobs {
            let job = world.gitlab.job(*id).await?;
            ensure!(!job.is_final(), "a job has ended before all ran: {job:?}");
            running += u32::from(job.status == "running");
        }
        Ok(if running == 10 { Ok(()) } else { Err(format!("{running} run")) })
    })
    .await?;
    for (number, id) in jobs.into_iter().enumerate() {
        let (job, log) = world.ended(id, BOUND).await?;
        ensure!(job.failure_reason.as_deref() == Some("job_execution_timeout"), "{job:?}\n{log}");
        ensure!(log.contains(&format!("\njob {number}\n")), "{log}");
    }
    Ok(())
}

async fn limited(world: Rc<World>) -> anyhow::Result<()> {
    at_most_two(world, RunnerOptions { concurrent: 2, ..RunnerOptions::new("two") }).await
}

async fn limited_by_runner(world: Rc<World>) -> anyhow::Result<()> {
    at_most_two(
        world,
        RunnerOptions { concurrent: 8, runner: "  limit = 2\n".to_owned(), ..RunnerOptions::new("limit-two") },
    )
    .await
}

async fn at_most_two(world: Rc<World>, options: RunnerOptions) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &options).await?;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(world.post_job(&runner, &script(&["sleep 1"])).await?);
    }
    until("all jobs to end", IN_TURN, async || {
        let shown = world.gitlab.jobs_of(&jobs).await?;
        let count = |is_so: fn(&Job) -> bool| shown.iter().filter(|job| is_so(job)).count();
        let (taken, ended) = (count(|job| job.assigned), count(|job| job.status == "success"));
        ensure!(taken <= 2, "{taken} jobs at once");
        Ok(if ended == 5 { Ok(()) } else { Err(format!("{ended} ended")) })
    })
    .await
}

async fn pipeline(world: Rc<World>) -> anyhow::Result<()> {
    let id = world.gitlab.create_pipeline(&json!({"repo": "group/project", "ref": "main"})).await?;
    let pipeline = until("the pipeline's end", BOUND, async || {
        let pipeline = world.gitlab.pipeline(id).await?;
        let status = pipeline["status"].as_str().unwrap_or_default().to_owned();
        Ok(if ["success", "failed"].contains(&status.as_str()) { Ok(pipeline) } else { Err(status) })
    })
    .await?;
    let jobs = pipeline["jobs"].as_array().context("a pipeline without jobs")?;
    for job in jobs {
        let id = job["id"].as_u64().context("a job without id")?;
        let (ended, log) = world.ended(id, BOUND).await?;
        ensure!(ended.status == "success", "{ended:?}\n{log}");
        if ended.name == "check" {
            ensure!(log.contains("\nbuilt from main\ndeep\n") && log.contains("Downloading artifacts"), "{log}");
        }
    }
    ensure!(pipeline["status"] == "success" && jobs.len() == 4, "{pipeline}");
    Ok(())
}

async fn rights(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("rights")).await?;
    let kube = world.kube.with_token(&runner.account_token)?;
    let own = format!("/api/v1/namespaces/{}", runner.namespace);
    for path in [
        format!("{own}/secrets"),
        format!("{own}/configmaps"),
        format!("{own}/events"),
        format!("{own}/serviceaccounts"),
        format!("{own}/pods/any/log"),
        "/api/v1/pods".to_owned(),
        "/api/v1/nodes".to_owned(),
        "/api/v1/namespaces/default/pods".to_owned(),
    ] {
        let (status, answer) = kube.ask(Method::GET, &path, None).await?;
        ensure!(status == StatusCode::FORBIDDEN, "{path}: {status}: {answer}");
    }
    let (status, _) = kube.ask(Method::GET, &format!("{own}/pods"), None).await?;
    ensure!(status == StatusCode::OK);
    let mut job = script(&["cat number.txt > out.txt"]);
    job["repo"] = json!("group/project");
    job["artifacts"] = json!([{"paths": ["out.txt"], "artifact_type": "archive", "artifact_format": "zip"}]);
    job["services"] = json!([{"name": "busybox:1", "alias": "cache", "command": ["sleep", "60"]}]);
    let (job, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    // Why a pod is slow to start is asked for where that is allowed, and nothing needs the answer.
    let log = runner.process.log().to_lowercase();
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains("forbidden") && !line.contains("events is forbidden")).collect();
    ensure!(refused.is_empty(), "something was refused: {refused:#?}\n{log}");
    Ok(())
}

/// What becomes of an odd payload.
#[derive(Clone, Copy)]
enum Comes {
    /// The job runs.
    Success,
    /// The job fails, and the last line has this text.
    Failure(&'static str),
}

/// Payloads that are patched over a good one: name, JSON, what must come of it.
const ODD: [(&str, &str, Comes); 17] = [
    ("steps null", r#"{"steps": null}"#, Comes::Success),
    ("steps a text", r#"{"steps": "echo"}"#, Comes::Failure("steps")),
    (
        "a script of numbers",
        r#"{"steps": [{"name": "script", "script": [1, 2]}]}"#,
        Comes::Failure("steps[0].script[0]"),
    ),
    ("variables an object", r#"{"variables": {"A": "1"}}"#, Comes::Failure("variables")),
    ("a variable without a name", r#"{"variables": [{"value": "1"}]}"#, Comes::Success),
    ("a variable with an impossible name", r#"{"variables": [{"key": "A B=$(id)", "value": "1"}]}"#, Comes::Success),
    ("a negative time-out", r#"{"runner_info": {"timeout": -5}}"#, Comes::Success),
    ("an absurd time-out", r#"{"runner_info": {"timeout": 9223372036854775807}}"#, Comes::Success),
    ("a time-out of text", r#"{"runner_info": {"timeout": "long"}}"#, Comes::Failure("runner_info.timeout")),
    (
        "everything null",
        r#"{"git_info": null, "runner_info": null, "image": null, "services": null, "features": null, "artifacts": null, "cache": null}"#,
        Comes::Success,
    ),
    (
        "a commit that is an option",
        r#"{"git_info": {"repo_url": "http://127.0.0.1:1/x.git", "sha": "--upload-pack=id", "ref": "main", "refspecs": []}, "variables": [{"key": "GIT_STRATEGY", "value": "fetch"}]}"#,
        Comes::Failure("git_info.sha"),
    ),
    (
        "a refspec that is an option",
        r#"{"git_info": {"repo_url": "http://127.0.0.1:1/x.git", "sha": "0123456789012345678901234567890123456789", "ref": "main", "refspecs": ["--upload-pack=id"]}, "variables": [{"key": "GIT_STRATEGY", "value": "fetch"}]}"#,
        Comes::Failure("git_info.refspecs"),
    ),
    ("an image that is a number", r#"{"image": 5}"#, Comes::Failure("image")),
    ("services of null", r#"{"services": [null]}"#, Comes::Failure("services")),
    (
        "an artifact format that is none",
        r#"{"artifacts": [{"paths": ["a"], "artifact_format": "rar"}]}"#,
        Comes::Failure("artifact_format"),
    ),
    (
        "a service alias that is no host name",
        r#"{"services": [{"name": "redis:7", "alias": "no_good UPPER"}]}"#,
        Comes::Failure("no_good"),
    ),
    ("a very long name", r#"{"job_info": {"name": "LONG", "project_id": -1}}"#, Comes::Success),
];

async fn odd(world: Rc<World>, patch: &'static str, comes: Comes) -> anyhow::Result<()> {
    let mut job = script(&["echo fine"]);
    let patch: Value = serde_json::from_str(&patch.replace("LONG", &"long ".repeat(2000)))?;
    job.as_object_mut().context("an object")?.extend(patch.as_object().cloned().unwrap_or_default());
    let (job, log) = world.run(&job, BOUND).await?;
    let last = log.trim_end().lines().last().unwrap_or_default();
    let is_right = match comes {
        Comes::Success => job.status == "success" && last == "Job succeeded",
        Comes::Failure(words) => {
            job.status == "failed" && last.starts_with("ERROR: Job failed") && last.contains(words)
        }
    };
    ensure!(is_right && log.matches("Job failed").count() <= 1, "{job:?}\n{log}");
    Ok(())
}

/// Nobody can be told about such a job; the runner must say so and go on.
async fn without_token(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("no-token")).await?;
    let bare = json!({"exact": true, "steps": [{"name": "script", "script": ["echo reached"]}]});
    let id = world.post_job(&runner, &bare).await?;
    runner.process.wait_for_line("level=error", BOUND).await?;
    world.gitlab.cancel(id, true).await?;
    let (job, log) = world.run_on(&runner, &script(&["echo fine"]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    Ok(())
}
