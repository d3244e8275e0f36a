//! Traces of jobs for which GitLab wants them, and their ids in the log.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, World, until};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const BOUND: Duration = Duration::from_secs(90);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("telemetry: a trace of a job and of its parts", traced)]
}

type ReceivedTraces = Arc<Mutex<Vec<Value>>>;

/// A collector of traces. Ends with the test's runtime.
async fn collector() -> anyhow::Result<(String, ReceivedTraces)> {
    let seen = ReceivedTraces::default();
    let kept = Arc::clone(&seen);
    let take = post(move |headers: HeaderMap, body: String| async move {
        let is_json = headers.get("content-type").is_some_and(|kind| kind == "application/json");
        if let (true, Ok(body)) = (is_json, serde_json::from_str(&body)) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        }
        "{}"
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/v1/traces", take);
    #[expect(clippy::disallowed_methods, reason = "a server runs beside the test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, seen))
}

async fn traced(world: Rc<World>) -> anyhow::Result<()> {
    let (url, seen) = collector().await?;
    let runner = Runner::start(&world, &RunnerOptions::new("traced")).await?;
    let mut job = script(&["echo hello"]);
    job["variables"] = json!([
        {"key": "FF_EXPORT_HIGH_CARDINALITY_METRICS", "value": "true", "public": true},
        {"key": "CI_PIPELINE_SOURCE", "value": "push", "public": true},
    ]);
    job["features"] = json!({"trace_sections": true,
        "tracing": {"trace_id": TRACE, "span_parent_id": PARENT, "otel_endpoints": [{"url": url}]}});
    let (job, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let body = until("a trace", BOUND, async || {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        Ok(seen.ok_or_else(|| "none".to_owned()))
    })
    .await?;
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().context("no spans")?;
    let names: Vec<&str> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
    ensure!(names.first() == Some(&"job_execution"), "{names:?}");
    for name in ["start_pod", "start_agent", "start_plan", "get_sources", "step_script"] {
        ensure!(names.contains(&name), "no span {name}: {names:?}");
    }
    ensure!(spans.iter().all(|span| span["traceId"] == TRACE), "{spans:?}");
    ensure!(spans[0]["parentSpanId"] == PARENT && spans[0]["status"]["code"] == 1, "{}", spans[0]);
    let ordered = |span: &Value| {
        let at = |key: &str| span[key].as_str().and_then(|at| at.parse::<u64>().ok());
        at("startTimeUnixNano") <= at("endTimeUnixNano") && at("startTimeUnixNano").is_some()
    };
    ensure!(spans.iter().all(ordered), "{spans:?}");
    let lines = runner.process.log();
    ensure!(lines.contains(TRACE), "the id of the trace is not in the log:\n{lines}");
    let (_, metrics) = runner.get("/metrics").await?;
    for series in [
        "gitlab_runner_job_stage_duration_seconds_count{",
        "stage=\"step_script\"",
        "gantry_job_start_phase_duration_seconds_count{",
        "phase=\"agent\"",
    ] {
        ensure!(metrics.contains(series), "no {series} in:\n{metrics}");
    }
    Ok(())
}
