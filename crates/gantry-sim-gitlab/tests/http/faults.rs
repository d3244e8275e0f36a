//! Faults over real connections: what a client sees, and what the journal says of it.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::git::{done, git, repository};
use crate::harness::{Sim, Taken, header};

async fn set(sim: &Sim, fault: Value) -> u64 {
    let (code, view) = sim.post("/sim/faults", &fault).await;
    assert_eq!(code, 201, "{view}");
    view["id"].as_u64().expect("an id")
}

/// A running job.
async fn running(sim: &Sim) -> Taken {
    sim.post("/sim/jobs", &json!({})).await;
    sim.run_next().await
}

async fn try_put(sim: &Sim, job: &Taken) -> Result<Response, reqwest::Error> {
    let body = json!({"token": job.token, "state": "running"});
    sim.call(Method::PUT, &format!("/api/v4/jobs/{}", job.id)).json(&body).send().await
}

/// The journal's last entry of a path.
async fn last(sim: &Sim, path: &str) -> Value {
    let journal = sim.get("/sim/requests").await;
    let found = journal.as_array().expect("a list").iter().rev().find(|entry| entry["path"] == path).cloned();
    found.unwrap_or_else(|| panic!("no {path} in {journal}"))
}

#[tokio::test]
async fn an_answer_is_replaced_as_often_as_asked() {
    let sim = Sim::start().await;
    let job = running(&sim).await;
    let busy = json!({"endpoint": "update", "fault": "status", "status": 503, "count": 2, "skip": 1,
        "headers": {"Retry-After": "7"}, "body": {"message": "busy"}});
    set(&sim, busy).await;
    assert_eq!(try_put(&sim, &job).await.expect("an answer").status(), 200, "skip");
    for _ in 0..2 {
        let answer = try_put(&sim, &job).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, "7".to_owned()));
        assert_eq!(answer.json::<Value>().await.expect("JSON")["message"], "busy");
    }
    assert_eq!(try_put(&sim, &job).await.expect("an answer").status(), 200, "count");
    let shown = &sim.get("/sim/faults").await[0];
    assert_eq!((&shown["seen"], &shown["applied"]), (&json!(4), &json!(2)));
    sim.stop().await;
}

#[tokio::test]
async fn the_request_may_have_been_carried_out_all_the_same() {
    let sim = Sim::start().await;
    let job = running(&sim).await;
    set(&sim, json!({"endpoint": "trace", "job": job.id, "fault": "drop", "processed": true, "count": 1})).await;
    set(&sim, json!({"endpoint": "update", "fault": "drop", "count": 1})).await;
    let path = format!("/api/v4/jobs/{}/trace", job.id);
    let call = sim.call(Method::PATCH, &path).header("JOB-TOKEN", &job.token).header("Content-Range", "0-3");
    call.body("abcd").send().await.expect_err("the connection ends");
    assert_eq!(sim.get(&format!("/sim/jobs/{}", job.id)).await["trace_bytes"], 4, "the bytes are there");
    let entry = last(&sim, &path).await;
    assert_eq!((&entry["status"], &entry["faults"][0]["fault"]), (&Value::Null, &json!("drop")));
    assert!(entry["answered"].is_string());

    let body = json!({"token": job.token, "state": "success"});
    let call = sim.call(Method::PUT, &format!("/api/v4/jobs/{}", job.id)).json(&body);
    call.send().await.expect_err("the connection ends");
    assert_eq!(sim.status(job.id).await, "running", "nothing was carried out");
    sim.stop().await;
}

#[tokio::test]
async fn bodies_break_off_on_their_way_in_and_out() {
    let origin = repository(&[("big.txt", &"0123456789abcdef\n".repeat(40_000))]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    let job = running(&sim).await;
    let upload = || {
        let part = reqwest::multipart::Part::bytes(vec![7_u8; 300_000]).file_name("artifacts.zip");
        let form = reqwest::multipart::Form::new().part("file", part);
        let call = sim.call(Method::POST, &format!("/api/v4/jobs/{}/artifacts", job.id));
        call.header("JOB-TOKEN", &job.token).multipart(form).send()
    };
    set(&sim, json!({"endpoint": "artifacts/upload", "fault": "drop", "bytes": 1000, "count": 1})).await;
    upload().await.expect_err("cut off in the middle");
    assert_eq!(upload().await.expect("an answer").status(), 201);
    let download = || {
        let call = sim.call(Method::GET, &format!("/api/v4/jobs/{}/artifacts", job.id));
        call.header("JOB-TOKEN", &job.token).send()
    };
    let id = set(&sim, json!({"endpoint": "artifacts", "fault": "cut", "bytes": 1000})).await;
    let mut answer = download().await.expect("an answer");
    assert_eq!(answer.content_length(), Some(300_000), "the full length is announced");
    let mut seen = 0;
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => seen += chunk.len(),
            end => break end.is_err(),
        }
    };
    assert_eq!((seen, broken), (1000, true));
    let removed = sim.call(Method::DELETE, &format!("/sim/faults/{id}")).send().await.expect("an answer");
    assert_eq!(removed.status(), 200);
    assert_eq!(download().await.expect("an answer").bytes().await.expect("all of it").len(), 300_000);

    set(&sim, json!({"endpoint": "git/upload-pack", "fault": "cut", "bytes": 20, "count": 1})).await;
    let url = format!("{}/group/project.git", sim.url).replace("//", &format!("//gitlab-ci-token:{}@", job.token));
    let target = tempfile::tempdir().expect("a directory");
    assert!(!clone(&url, target.path(), "a").await.status.success());
    done(&clone(&url, target.path(), "b").await);
    sim.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "git must not block the server under test")]
async fn clone(url: &str, target: &std::path::Path, name: &'static str) -> std::process::Output {
    let (url, target) = (url.to_owned(), target.to_owned());
    tokio::task::spawn_blocking(move || git(&target, &["clone", "-q", &url, name])).await.expect("no panic")
}

#[tokio::test]
async fn a_half_open_connection_never_answers_and_does_not_hold_up_the_end() {
    let sim = Sim::start().await;
    let job = running(&sim).await;
    set(&sim, json!({"method": "PUT", "path": "/api/v4/jobs/*", "fault": "hang"})).await;
    let short = Duration::from_millis(300);
    tokio::time::timeout(short, try_put(&sim, &job)).await.expect_err("no answer");
    let entry = last(&sim, &format!("/api/v4/jobs/{}", job.id)).await;
    assert_eq!((&entry["status"], &entry["faults"][0]["fault"]), (&Value::Null, &json!("hang")));

    set(&sim, json!({"endpoint": "jobs/request", "fault": "stall", "bytes": 5})).await;
    sim.post("/sim/jobs", &json!({})).await;
    let mut answer = sim.ask("").await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.chunk().await.expect("the beginning").map(|chunk| chunk.len()), Some(5));
    tokio::time::timeout(short, answer.chunk()).await.expect_err("and nothing more");
    sim.stop().await;
}

#[tokio::test]
async fn faults_can_be_late_random_and_wrong() {
    let sim = Sim::start().await;
    let job = running(&sim).await;
    set(&sim, json!({"endpoint": "update", "fault": "delay", "seconds": 0.2, "count": 1})).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(try_put(&sim, &job).await.expect("an answer").status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let dice = json!({"endpoint": "update", "fault": "status", "status": 500, "probability": 0.5, "seed": 5});
    let mut rolls = [String::new(), String::new()];
    for roll in &mut rolls {
        let answer = sim.call(Method::DELETE, "/sim/faults").send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        set(&sim, dice.clone()).await;
        for _ in 0..20 {
            roll.push(if try_put(&sim, &job).await.expect("an answer").status() == 500 { 'x' } else { '.' });
        }
    }
    assert_eq!(rolls[0], rolls[1], "the same seed, the same faults");
    assert!(rolls[0].contains('x') && rolls[0].contains('.'), "{}", rolls[0]);

    for wrong in [
        json!({}),
        json!({"fault": "explode"}),
        json!({"fault": "status"}),
        json!({"fault": "status", "status": 99}),
        json!({"fault": "cut"}),
        json!({"fault": "delay", "seconds": -1}),
        json!({"fault": "drop", "endpoint": "trase"}),
        json!({"fault": "drop", "path": "[", "x": 1}),
        json!({"fault": "drop", "path": "["}),
        json!({"fault": "drop", "probability": 2}),
    ] {
        let (code, answer) = sim.post("/sim/faults", &wrong).await;
        assert_eq!((code, answer["error"].is_string()), (400, true), "{wrong} {answer}");
    }
    assert_eq!(sim.call(Method::DELETE, "/sim/faults/99").send().await.expect("an answer").status(), 404);
    sim.stop().await;
}
