//! Rules of the whole server over HTTP: modes, rate limits, expiring tokens, job token scope,
//! object storage.

use std::time::Duration;

use gantry_sim_gitlab::{CloneToken, Config, RateLimits, Settings, Timing, TokenAccess};
use reqwest::Method;
use serde_json::{Value, json};

use crate::git::{git, repository};
use crate::harness::{Sim, config, header};

async fn with(settings: Settings) -> Sim {
    Sim::with(Config { settings, ..config() }).await
}

async fn mode(sim: &Sim, mode: &str) {
    let call = sim.call(Method::PUT, "/sim/mode").json(&json!({"mode": mode}));
    assert_eq!(call.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn maintenance_stops_changes_and_migration_stops_everything() {
    let sim = Sim::start().await;
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    mode(&sim, "maintenance").await;
    assert_eq!(sim.put(&job, &json!({"state": "running"})).await, (403, String::new()), "no Job-Status");
    let patch = sim.patch(&job, 0, "x").await;
    assert_eq!((patch.status().as_u16(), header(&patch, "job-status")), (403, String::new()));
    assert_eq!(sim.ask("").await.status(), 403);
    let read = sim.call(Method::GET, &format!("/api/v4/jobs/{}/artifacts", job.id)).header("JOB-TOKEN", &job.token);
    assert_eq!(read.send().await.expect("an answer").status(), 404, "reading goes on");
    mode(&sim, "migration").await;
    let asked = sim.ask("").await;
    assert_eq!((asked.status().as_u16(), header(&asked, "retry-after")), (429, "60".to_owned()));
    mode(&sim, "normal").await;
    assert_eq!(sim.put(&job, &json!({"state": "running"})).await, (200, "running".to_owned()));
    let (wrong, unknown) = (json!({"mode": "chaos"}), sim.call(Method::PUT, "/sim/mode"));
    assert_eq!(unknown.json(&wrong).send().await.expect("an answer").status(), 400);
    assert_eq!(sim.broken().await, [""; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn too_many_requests_of_one_token_are_429() {
    let rate_limits = RateLimits { job_requests: 2, log_patches: 1, job_updates: 1 };
    let sim = with(Settings { rate_limits, ..Settings::default() }).await;
    sim.post("/sim/jobs", &json!({})).await;
    sim.post("/sim/jobs", &json!({})).await;
    let (first, second) = (sim.take().await, sim.take().await);
    let asked = sim.ask("").await;
    assert_eq!((asked.status().as_u16(), header(&asked, "retry-after")), (429, "60".to_owned()));
    assert_eq!(sim.put(&first, &json!({"state": "running"})).await.0, 200);
    assert_eq!(sim.put(&first, &json!({"state": "running"})).await, (429, String::new()));
    assert_eq!(sim.put(&second, &json!({"state": "running"})).await.0, 200, "another token");
    assert_eq!(sim.patch(&first, 0, "a").await.status(), 202, "counted apart");
    assert_eq!(sim.patch(&first, 1, "b").await.status(), 429);
    sim.stop().await;
}

#[tokio::test]
async fn runner_tokens_have_an_end_and_can_be_renewed() {
    let settings = Settings {
        runner_token_lifetime: Some(Duration::from_secs(3600)),
        access_token: Some("glpat-admin".to_owned()),
        ..Settings::default()
    };
    let mut sim = with(settings).await;
    let (code, made) = sim.post("/sim/runners", &json!({"description": "mine", "tag_list": "a, b"})).await;
    assert_eq!(code, 201);
    let expires = made["token_expires_at"].as_str().expect("a time");
    assert!(expires.len() == 24 && expires.ends_with('Z'), "{expires}");
    sim.runner_token = made["token"].as_str().expect("a token").to_owned();
    assert_eq!(sim.ask("").await.status(), 204);
    let path = format!("/sim/runners/{}", made["id"]);
    let change = |body: Value| sim.call(Method::PATCH, &path).json(&body).send();
    let paused: Value = change(json!({"paused": true})).await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&paused["paused"], &paused["tags"]), (&json!(true), &json!(["a", "b"])), "the rest stays");
    assert_eq!(change(json!({"token_expires_in_seconds": 0})).await.expect("an answer").status(), 200);
    assert_eq!(change(json!({"color": "red"})).await.expect("an answer").status(), 400);
    assert_eq!(sim.ask("").await.status(), 403, "expired");
    let (code, _) = sim.post("/api/v4/runners/reset_authentication_token", &json!({"token": sim.runner_token})).await;
    assert_eq!(code, 403, "too late for the runner itself");
    let reset = |token: &'static str, id: Value| {
        let call = sim.call(Method::POST, &format!("/api/v4/runners/{id}/reset_authentication_token"));
        call.header("PRIVATE-TOKEN", token).json(&Value::Null).send()
    };
    assert_eq!(reset("glpat-wrong", made["id"].clone()).await.expect("an answer").status(), 401);
    assert_eq!(reset("glpat-admin", json!(99)).await.expect("an answer").status(), 404);
    let renewed = reset("glpat-admin", made["id"].clone()).await.expect("an answer");
    assert_eq!(renewed.status(), 201);
    let renewed: Value = renewed.json().await.expect("JSON");
    assert!(
        renewed["token"].as_str().is_some_and(|token| token.starts_with("glrt-")) && renewed["token"] != made["token"]
    );
    sim.runner_token = renewed["token"].as_str().expect("a token").to_owned();
    assert_eq!(sim.ask("").await.status(), 204);
    let removed = sim.call(Method::DELETE, &format!("/sim/runners/{}", made["id"])).send().await.expect("an answer");
    assert_eq!(removed.status(), 204);
    assert_eq!(sim.ask("").await.status(), 403);
    sim.stop().await;
}

async fn ls_remote(sim: &Sim, project: &str, token: &str) -> Result<(), String> {
    ls_remote_as(sim, project, "gitlab-ci-token", token).await
}

#[expect(clippy::disallowed_methods, reason = "git must not block the server under test")]
async fn ls_remote_as(sim: &Sim, project: &str, user: &str, token: &str) -> Result<(), String> {
    let url = format!("{}/{project}.git", sim.url).replace("//", &format!("//{user}:{token}@"));
    let here = std::env::temp_dir();
    let output = tokio::task::spawn_blocking(move || git(&here, &["ls-remote", &url])).await.expect("no panic");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[tokio::test]
async fn a_job_clones_its_own_project_and_those_that_let_it_in() {
    let origin = repository(&[("a.txt", "one")]);
    let repos = ["g/app", "g/library", "g/secret"].map(|name| (name.to_owned(), origin.path().to_owned())).to_vec();
    let settings = Settings {
        token_access: vec![TokenAccess { project: "g/library".to_owned(), by: "g/app".to_owned() }],
        ..Settings::default()
    };
    let sim = Sim::with(Config { repos, settings, ..config() }).await;
    sim.post("/sim/jobs", &json!({"repo": "g/app"})).await;
    let job = sim.run_next().await;
    assert_eq!(ls_remote(&sim, "g/app", &job.token).await, Ok(()));
    assert_eq!(ls_remote(&sim, "g/library", &job.token).await, Ok(()));
    let refused = ls_remote(&sim, "g/secret", &job.token).await.expect_err("not on the list");
    assert!(refused.contains("403"), "{refused}");
    sim.post("/sim/jobs", &json!({"repo": "g/library"})).await;
    let job = sim.run_next().await;
    assert!(ls_remote(&sim, "g/app", &job.token).await.is_err(), "a list is no exchange");
    sim.stop().await;
}

#[tokio::test]
async fn an_access_token_clones_what_it_is_for() {
    let origin = repository(&[("a.txt", "one")]);
    let repos = ["g/app", "g/library"].map(|name| (name.to_owned(), origin.path().to_owned())).to_vec();
    let clone_tokens = vec![CloneToken { token: "glpat-library".to_owned(), project: "g/library".to_owned() }];
    let settings = Settings { clone_tokens, ..Settings::default() };
    let sim = Sim::with(Config { repos, settings, ..config() }).await;
    assert_eq!(ls_remote_as(&sim, "g/library", "oauth2", "glpat-library").await, Ok(()));
    let refused = ls_remote_as(&sim, "g/app", "oauth2", "glpat-library").await.expect_err("not its project");
    assert!(refused.contains("403"), "{refused}");
    sim.post("/sim/jobs", &json!({"repo": "g/app"})).await;
    let job = sim.run_next().await;
    let refused = ls_remote_as(&sim, "g/app", "oauth2", &job.token).await.expect_err("a job token has its own user");
    assert!(refused.contains("Authentication failed"), "{refused}");
    sim.stop().await;
}

#[tokio::test]
async fn artifacts_may_be_elsewhere_too_large_or_not_wanted() {
    let settings = Settings { object_storage: true, artifact_limit: 10, ..Settings::default() };
    let sim = with(settings).await;
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    let upload = |sim: &Sim, size: usize| {
        let part = reqwest::multipart::Part::bytes(vec![7_u8; size]).file_name("artifacts.zip");
        let form = reqwest::multipart::Form::new().part("file", part);
        let call = sim.call(Method::POST, &format!("/api/v4/jobs/{}/artifacts", job.id));
        call.header("JOB-TOKEN", &job.token).multipart(form).send()
    };
    assert_eq!(upload(&sim, 11).await.expect("an answer").status(), 413);
    assert_eq!(upload(&sim, 10).await.expect("an answer").status(), 201);
    let path = format!("/api/v4/jobs/{}/artifacts", job.id);
    let followed = sim.call(Method::GET, &format!("{path}?direct_download=true")).header("JOB-TOKEN", &job.token);
    let followed = followed.send().await.expect("an answer");
    assert!(followed.url().path().starts_with("/-/storage/"), "{}", followed.url());
    assert_eq!(followed.bytes().await.expect("a body").len(), 10);
    let journal = sim.get("/sim/requests").await;
    let redirect = journal.as_array().expect("a list").iter().find(|entry| entry["status"] == 302).expect("a redirect");
    assert!(redirect["path"].as_str().is_some_and(|path| path.ends_with("direct_download=true")));
    let direct = sim.call(Method::GET, &path).header("JOB-TOKEN", &job.token).send().await.expect("an answer");
    assert_eq!((direct.status().as_u16(), direct.url().path()), (200, path.as_str()));
    sim.stop().await;

    let sim = with(Settings { artifacts: false, ..Settings::default() }).await;
    assert_eq!(upload(&sim, 1).await.expect("an answer").status(), 405);
    sim.stop().await;
}

#[tokio::test]
async fn logs_are_locked_and_erased_by_people() {
    let timing = Timing { log_write: Duration::from_millis(100), ..config().timing };
    let sim = Sim::with(Config { timing, ..config() }).await;
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    let (first, second) = tokio::join!(sim.patch(&job, 0, "a"), sim.patch(&job, 0, "a"));
    let mut codes = [first.status().as_u16(), second.status().as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [202, 409], "two relays at once");
    let path = format!("/sim/jobs/{}", job.id);
    assert_eq!(sim.post(&format!("{path}/trace/lock?seconds=3600"), &json!({})).await.0, 200);
    let locked = sim.patch(&job, 1, "b").await;
    assert_eq!((locked.status().as_u16(), header(&locked, "job-status")), (409, String::new()));
    assert_eq!(sim.post(&format!("{path}/trace/lock?seconds=0"), &json!({})).await.0, 200);
    assert_eq!(sim.patch(&job, 1, "b").await.status(), 202);
    assert_eq!(sim.post(&format!("{path}/trace/lock?seconds=-1"), &json!({})).await.0, 400);
    assert_eq!(sim.post(&format!("{path}/erase"), &json!({})).await.0, 409);
    sim.finish(&job, "success").await;
    assert_eq!(sim.post(&format!("{path}/erase"), &json!({})).await.0, 200);
    assert_eq!(sim.get(&path).await["trace_bytes"], 0);
    assert_eq!(sim.put(&job, &json!({"state": "success"})).await, (403, String::new()));
    sim.stop().await;
}
