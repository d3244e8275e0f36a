//! The life of a job over HTTP: request, acknowledgement, log, verdict, cancel; long polls; the
//! journal.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Sim, header};

#[tokio::test]
async fn a_job_from_queue_to_verdict() {
    let sim = Sim::start().await;
    let (code, made) = sim.post("/sim/jobs", &json!({"steps": [{"name": "script", "script": ["echo hi"]}]})).await;
    assert_eq!(code, 201);
    let job = sim.take().await;
    assert_eq!(json!(job.id), made["id"]);
    assert_eq!(job.payload["image"]["name"], "alpine:latest");
    assert_eq!(job.payload["job_info"]["name"], "job");
    assert_eq!(sim.status(job.id).await, "pending");
    assert_eq!(sim.put(&job, &json!({"state": "pending"})).await, (200, "pending".to_owned()));
    assert_eq!(sim.put(&job, &json!({"state": "running"})).await, (200, "running".to_owned()));

    let first = sim.patch(&job, 0, "12345").await;
    assert_eq!((first.status().as_u16(), header(&first, "range")), (202, "0-5".to_owned()));
    assert_eq!(header(&first, "job-status"), "running");
    assert_eq!(header(&first, "x-gitlab-trace-update-interval"), "60");
    let wrong = sim.patch(&job, 7, "x").await;
    assert_eq!((wrong.status().as_u16(), header(&wrong, "range")), (416, "0-5".to_owned()));
    let log = sim.call(Method::GET, &format!("/sim/jobs/{}/trace?offset=2", job.id)).send().await.expect("an answer");
    assert_eq!(log.text().await.expect("text"), "345");
    let watched = sim.patch(&job, 5, "6789").await;
    assert_eq!(header(&watched, "x-gitlab-trace-update-interval"), "3");

    let verdict = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 3, "info": {},
        "output": {"checksum": "crc32:cbf43926", "bytesize": 9}});
    assert_eq!(sim.put(&job, &verdict).await, (200, "failed".to_owned()));
    let shown = sim.get(&format!("/sim/jobs/{}", job.id)).await;
    assert_eq!(shown["status"], "failed");
    assert_eq!((&shown["exit_code"], &shown["trace_bytes"]), (&json!(3), &json!(9)));
    assert_eq!(shown["runner"]["system_id"], "s_0123456789ab");
    assert!(shown["finished_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(sim.put(&job, &verdict).await, (403, "failed".to_owned()));
    assert_eq!(sim.broken().await, [""; 0]);

    let (code, again) = sim.post(&format!("/sim/jobs/{}/retry", job.id), &json!({})).await;
    assert_eq!(code, 201);
    assert_eq!(json!(sim.take().await.id), again["id"]);
    sim.stop().await;
}

#[tokio::test]
async fn cancel_reaches_the_runner_through_job_status() {
    let sim = Sim::start().await;
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    let (code, canceled) = sim.post(&format!("/sim/jobs/{}/cancel", job.id), &json!({})).await;
    assert_eq!((code, &canceled["status"]), (200, &json!("canceling")));
    assert_eq!(header(&sim.patch(&job, 0, "x").await, "job-status"), "canceling");
    assert_eq!(sim.put(&job, &json!({"state": "failed"})).await, (200, "canceled".to_owned()));
    assert_eq!(sim.post(&format!("/sim/jobs/{}/cancel", job.id), &json!({})).await.0, 409);

    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    sim.post(&format!("/sim/jobs/{}/cancel?force=true", job.id), &json!({})).await;
    let late = sim.patch(&job, 0, "x").await;
    assert_eq!((late.status().as_u16(), header(&late, "job-status")), (403, "canceled".to_owned()));
    assert_eq!(sim.broken().await, [""; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn a_long_poll_ends_with_a_job_with_time_or_with_the_server() {
    let sim = Sim::start().await;
    let none = sim.ask("").await;
    assert_eq!(none.status(), 204);
    let current = header(&none, "x-gitlab-last-update");
    assert!(!current.is_empty());
    let held = sim.ask(&current).await;
    assert_eq!((held.status().as_u16(), header(&held, "x-gitlab-last-update")), (204, current.clone()));

    let (ended, made) = tokio::join!(sim.ask(&current), async {
        // The poll must be under way first; the journal shows it without an answer.
        let waiting = async {
            while !sim
                .get("/sim/requests")
                .await
                .as_array()
                .is_some_and(|all| all.last().is_some_and(|last| last["status"].is_null()))
            {}
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("a poll is under way");
        sim.post("/sim/jobs", &json!({})).await
    });
    assert_eq!((ended.status().as_u16(), header(&ended, "x-gitlab-last-update")), (204, String::new()));
    let next: Value = sim.ask(&current).await.json().await.expect("a payload");
    assert_eq!(next["id"], made.1["id"]);
    sim.stop().await;
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_that_the_journal_knows() {
    let sim = Sim::start().await;
    let first = header(&sim.ask("").await, "x-request-id");
    let call = sim.call(Method::PUT, "/api/v4/jobs/9").header("X-Request-Id", "0123456789abcdef0123456789abcdef");
    let second = header(&call.json(&json!({"token": "none"})).send().await.expect("an answer"), "x-request-id");
    assert!(!first.is_empty() && !second.is_empty() && first != second, "{first:?} {second:?}");
    assert_ne!(second, "0123456789abcdef0123456789abcdef", "the server's id, not the client's");
    let journal = sim.get("/sim/requests").await;
    assert_eq!((&journal[0]["request_id"], &journal[1]["request_id"]), (&json!(first), &json!(second)));
    sim.stop().await;
}

#[tokio::test]
async fn refusals_are_told_apart_and_recorded() {
    let mut sim = Sim::start().await;
    sim.post("/sim/jobs", &json!({})).await;
    let mut job = sim.take().await;
    let right = job.token.clone();
    job.token = "glcbt-wrong".to_owned();
    assert_eq!(sim.put(&job, &json!({"state": "running"})).await, (403, String::new()));
    job.token = right;
    assert_eq!(sim.put(&job, &json!({"state": "success"})).await, (400, "pending".to_owned()));
    let early = sim.patch(&job, 0, "x").await;
    assert_eq!((early.status().as_u16(), header(&early, "job-status")), (403, "pending".to_owned()));
    assert_eq!(
        sim.broken().await,
        ["job authentication", "state before acknowledgement", "log before acknowledgement"]
    );
    sim.runner_token = "glrt-wrong".to_owned();
    assert_eq!(sim.ask("").await.status(), 403);

    let journal = sim.get("/sim/requests").await;
    let last = journal.as_array().and_then(|all| all.last()).expect("an entry");
    assert_eq!((&last["method"], &last["status"]), (&json!("POST"), &json!(403)));
    assert_eq!(last["headers"]["runner-token"], "[MASKED]");
    assert_eq!(last["body"]["token"], "[MASKED]");
    let text = journal.to_string();
    assert!(!text.contains(&job.token) && !text.contains("glrt-wrong"));
    let unknown = sim.call(Method::GET, "/sim/nothing").send().await.expect("an answer");
    assert_eq!(unknown.status(), 404);
    assert!(unknown.json::<Value>().await.expect("JSON")["error"].is_string());
    sim.stop().await;
}

#[tokio::test]
async fn oversized_and_malformed_requests_are_refused() {
    let sim = Sim::start().await;
    let body = json!({"token": sim.runner_token, "info": {"x": "y".repeat(40_000)}});
    let call = sim.call(Method::POST, "/api/v4/jobs/request").json(&body).send().await.expect("an answer");
    assert_eq!(call.status(), 413);
    let call = sim.call(Method::POST, "/api/v4/jobs/request").body("{").send().await.expect("an answer");
    assert_eq!(call.status(), 400);
    assert_eq!(sim.broken().await, ["request size", "content type", "request body"]);
    for (path, body, expected) in [
        ("/sim/jobs", json!([1]), 400),
        ("/sim/jobs", json!({"tags": "a"}), 400),
        ("/sim/jobs/x/cancel", json!({}), 400),
        ("/sim/jobs/9/cancel?force=maybe", json!({}), 400),
        ("/sim/jobs/9/cancel", json!({}), 404),
        ("/sim/violations", json!({}), 405),
    ] {
        let (code, answer) = sim.post(path, &body).await;
        assert_eq!((code, answer["error"].is_string()), (expected, true), "{path} {answer}");
    }
    sim.stop().await;
}
