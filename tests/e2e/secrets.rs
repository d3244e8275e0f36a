//! Secrets of a job that a store keeps: fetched by the runner, given to the script, in no log and
//! no pod.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use gantry_tests::World;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const BOUND: Duration = Duration::from_secs(60);
const CANARY: &str = "canary-of-the-vault";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("secrets: of a vault, as variable and as file", of_a_vault),
        Test::new("secrets: a vault that refuses", refused),
    ]
}

/// A Vault with one secret, for who has the right token. Ends with the test's runtime.
async fn vault() -> anyhow::Result<String> {
    let login = post(|body: String| async move {
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        if body["jwt"] == "good-id-token" && body["role"] == "ci" {
            (StatusCode::OK, json!({"auth": {"client_token": "good-client-token"}}).to_string())
        } else {
            (StatusCode::BAD_REQUEST, json!({"errors": ["error validating token"]}).to_string())
        }
    });
    let read = get(|headers: HeaderMap| async move {
        let is_known = headers.get("x-vault-token").is_some_and(|token| token == "good-client-token");
        let answer = json!({"data": {"data": {"password": CANARY}}}).to_string();
        if is_known { (StatusCode::OK, answer) } else { (StatusCode::FORBIDDEN, String::new()) }
    });
    let router = Router::new().route("/v1/auth/gitlab/login", login).route("/v1/ops/data/prod/db", read);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    #[expect(clippy::disallowed_methods, reason = "a server runs beside the test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

fn job(url: &str, token: &str, lines: &[&str]) -> Value {
    let secret = |file: bool| {
        json!({"file": file, "vault": {
            "server": {"url": url, "auth": {"name": "jwt", "path": "gitlab", "data": {"jwt": "${ID_TOKEN}", "role": "ci"}}},
            "engine": {"name": "kv-v2", "path": "ops"}, "path": "$ENVIRONMENT/db", "field": "password"}})
    };
    let mut job = script(lines);
    job["secrets"] = json!({"PLAIN": secret(false), "IN_FILE": secret(true)});
    job["variables"] = json!([
        {"key": "ID_TOKEN", "value": token, "masked": true},
        {"key": "ENVIRONMENT", "value": "prod", "public": true},
    ]);
    job
}

async fn of_a_vault(world: Rc<World>) -> anyhow::Result<()> {
    world.keep_secret(CANARY);
    let url = vault().await?;
    let lines = [
        "echo \"plain: ${#PLAIN} $PLAIN\"",
        "echo \"file: $(wc -c < \"$IN_FILE\")\"",
        "test \"$(cat \"$IN_FILE\")\" = \"$PLAIN\"",
    ];
    let (job, log) = world.run(&job(&url, "good-id-token", &lines), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let length = CANARY.len();
    for words in [
        "Resolving secret \"PLAIN\"...",
        "Using \"vault\" secret resolver...",
        &format!("plain: {length} [MASKED]"),
        &format!("file: {length}"),
    ] {
        ensure!(log.contains(words), "{words:?} is not in:\n{log}");
    }
    Ok(())
}

async fn refused(world: Rc<World>) -> anyhow::Result<()> {
    let url = vault().await?;
    let (job, log) = world.run(&job(&url, "another-id-token", &["echo never"]), BOUND).await?;
    ensure!(job.failure_reason.as_deref() == Some("runner_configuration_error"), "{job:?}\n{log}");
    ensure!(
        log.contains("resolving secret") && log.contains("status 400 Bad Request: error validating token"),
        "{log}"
    );
    ensure!(!log.contains("another-id-token") && !log.contains("\nnever"), "{log}");
    Ok(())
}
