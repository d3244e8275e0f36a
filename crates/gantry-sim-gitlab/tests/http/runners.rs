//! Registration, verification, removal, and start-up.

use std::net::SocketAddr;

use gantry_sim_gitlab::{Config, Error, SimGitlab};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Sim, config};

#[tokio::test]
async fn a_port_in_use_is_one_clear_error() {
    let sim = Sim::start().await;
    let addr: SocketAddr = sim.url.trim_start_matches("http://").parse().expect("an address");
    let Err(error) = SimGitlab::bind(Config::new(addr)).await else { panic!("bound twice") };
    assert!(matches!(error, Error::AddressInUse { .. }), "{error}");
    assert!(error.to_string().contains("already in use"));
    sim.stop().await;
}

#[tokio::test]
async fn a_directory_without_repository_is_refused() {
    let empty = tempfile::tempdir().expect("a directory");
    let wanted = Config { repos: vec![("a/b".to_owned(), empty.path().to_owned())], ..config() };
    let Err(error) = SimGitlab::bind(wanted).await else { panic!("bound") };
    assert!(matches!(error, Error::Repository { .. }), "{error}");
}

#[tokio::test]
async fn registration_verification_rotation_and_removal() {
    let sim = Sim::start().await;
    let (code, _) = sim.post("/api/v4/runners", &json!({"token": "wrong"})).await;
    assert_eq!(code, 403);
    let wanted = json!({"token": "GR1348941test", "description": "d", "tag_list": "a, b", "run_untagged": false,
        "locked": true, "paused": false, "info": {}});
    let mut bad = wanted.clone();
    bad["access_level"] = json!("all");
    let (code, answer) = sim.post("/api/v4/runners", &bad).await;
    assert_eq!((code, answer["message"]["access_level"].is_array()), (400, true));
    let (code, runner) = sim.post("/api/v4/runners", &wanted).await;
    assert_eq!((code, &runner["token_expires_at"]), (201, &Value::Null));
    let token = runner["token"].as_str().expect("a token");

    let verify = |token: &str| json!({"token": token, "system_id": "s_0123456789ab", "info": {"features": {}}});
    let (code, verified) = sim.post("/api/v4/runners/verify", &verify(token)).await;
    assert_eq!((code, &verified["id"]), (200, &runner["id"]));
    assert_eq!(sim.post("/api/v4/runners/verify", &verify("glrt-unknown")).await.0, 403);

    let (code, rotated) = sim.post("/api/v4/runners/reset_authentication_token", &json!({"token": token})).await;
    assert_eq!(code, 201);
    assert_eq!(sim.post("/api/v4/runners/verify", &verify(token)).await.0, 403);
    let token = rotated["token"].as_str().expect("a token");

    let delete = |path: &str, body: Value| sim.call(Method::DELETE, path).json(&body).send();
    let managers = "/api/v4/runners/managers";
    let gone = delete(managers, json!({"token": token, "system_id": "s_unknown00000"})).await.expect("an answer");
    assert_eq!(gone.status(), 404);
    let gone = delete(managers, json!({"token": token, "system_id": "s_0123456789ab"})).await.expect("an answer");
    assert_eq!(gone.status(), 204);
    let gone = delete("/api/v4/runners", json!({"token": token})).await.expect("an answer");
    assert_eq!(gone.status(), 204);
    assert_eq!(sim.post("/api/v4/runners/verify", &verify(token)).await.0, 403);
    assert_eq!(sim.broken().await, [""; 0]);
    sim.stop().await;
}

/// GitLab Runner 17.9 verifies without `info`, and GitLab takes it; asking for a job without it is
/// another matter.
#[tokio::test]
async fn older_runners_verify_without_telling_their_features() {
    let sim = Sim::start().await;
    let body = json!({"token": sim.runner_token, "system_id": "s_0123456789ab"});
    assert_eq!(sim.post("/api/v4/runners/verify", &body).await.0, 200);
    assert_eq!(sim.broken().await, [""; 0]);
    let asked = sim.call(Method::POST, "/api/v4/jobs/request").json(&body).send().await.expect("an answer");
    assert_eq!(asked.status(), 204);
    assert_eq!(sim.broken().await, ["info"]);
    sim.stop().await;
}

#[tokio::test]
async fn registration_is_disallowed_without_a_token() {
    let sim = Sim::with(Config { registration_token: None, ..config() }).await;
    assert_eq!(sim.post("/api/v4/runners", &json!({"token": "x"})).await.0, 410);
    let discovery = sim.call(Method::GET, "/api/v4/runners/router/discovery").send().await.expect("an answer");
    assert_eq!(discovery.status(), 501);
    sim.stop().await;
}

#[tokio::test]
async fn tags_choose_the_runner() {
    let mut sim = Sim::start().await;
    let (_, runner) = sim
        .post("/api/v4/runners", &json!({"token": "GR1348941test", "tag_list": "a", "run_untagged": false, "info": {}}))
        .await;
    sim.post("/sim/jobs", &json!({"tags": ["b"]})).await;
    sim.post("/sim/jobs", &json!({})).await;
    let (_, wanted) = sim.post("/sim/jobs", &json!({"tags": ["a"]})).await;
    sim.runner_token = runner["token"].as_str().expect("a token").to_owned();
    assert_eq!(json!(sim.take().await.id), wanted["id"]);
    assert_eq!(sim.ask("").await.status(), 204);
    sim.stop().await;
}
