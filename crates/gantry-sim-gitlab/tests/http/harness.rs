//! A simulator that runs for one test, and a runner's calls to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use gantry_sim_gitlab::{Config, SimGitlab, Timing};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// No call takes longer; a test that would hang fails instead.
const CALL: Duration = Duration::from_secs(60);

pub(crate) struct Sim {
    pub(crate) url: String,
    pub(crate) runner_token: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: Option<tokio::task::JoinHandle<Result<(), gantry_sim_gitlab::Error>>>,
}

/// A job that a runner got.
pub(crate) struct Taken {
    pub(crate) id: u64,
    pub(crate) token: String,
    pub(crate) payload: Value,
}

pub(crate) fn config() -> Config {
    Config {
        registration_token: Some("GR1348941test".to_owned()),
        timing: Timing { long_poll: Duration::from_millis(300), ..Timing::default() },
        ..Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl Sim {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with_repo(name: &str, path: PathBuf) -> Self {
        Self::with(Config { repos: vec![(name.to_owned(), path)], ..config() }).await
    }

    #[expect(clippy::disallowed_methods, reason = "the server under test runs beside the test")]
    pub(crate) async fn with(config: Config) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no other TLS provider");
        });
        let sim = SimGitlab::bind(config).await.expect("bind");
        let (url, runner_token) = (sim.url(), sim.runner_token().to_owned());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(sim.serve(async {
            let _ = stopped.await;
        }));
        let client = Client::builder().no_proxy().timeout(CALL).build().expect("client");
        Self { url, runner_token, client, stop: Some(stop), server: Some(server) }
    }

    /// Stops the server and waits until it has stopped.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let server = self.server.take().expect("a server");
        let ended = tokio::time::timeout(CALL, server).await.expect("stops in time");
        ended.expect("no panic").expect("no error");
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.call(Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.expect("JSON")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.call(Method::POST, path).json(body).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// `POST jobs/request` with all features.
    pub(crate) async fn ask(&self, last_update: &str) -> Response {
        let features = json!({
            "two_phase_job_commit": true, "cancel_gracefully": true, "upload_multiple_artifacts": true,
            "return_exit_code": true, "artifacts_exclude": true, "fallback_cache_keys": true,
        });
        let mut body = json!({
            "token": self.runner_token, "system_id": "s_0123456789ab",
            "info": {"name": "test", "executor": "kubernetes", "features": features},
        });
        if !last_update.is_empty() {
            body["last_update"] = json!(last_update);
        }
        let call = self.call(Method::POST, "/api/v4/jobs/request").header("RUNNER-TOKEN", &self.runner_token);
        call.json(&body).send().await.expect("an answer")
    }

    /// Gets a job without acknowledging it.
    pub(crate) async fn take(&self) -> Taken {
        let response = self.ask("").await;
        assert_eq!(response.status(), 201);
        assert!(response.headers().get("x-gitlab-last-update").is_none());
        let payload: Value = response.json().await.expect("a payload");
        let id = payload["id"].as_u64().expect("an id");
        let token = payload["token"].as_str().expect("a token").to_owned();
        Taken { id, token, payload }
    }

    /// Gets a job and acknowledges it.
    pub(crate) async fn run_next(&self) -> Taken {
        let job = self.take().await;
        assert_eq!(self.put(&job, &json!({"state": "running"})).await, (200, "running".to_owned()));
        job
    }

    pub(crate) async fn put(&self, job: &Taken, body: &Value) -> (u16, String) {
        let mut body = body.clone();
        body["token"] = json!(job.token);
        let path = format!("/api/v4/jobs/{}", job.id);
        let call = self.call(Method::PUT, &path).header("JOB-TOKEN", &job.token).json(&body);
        let response = call.send().await.expect("an answer");
        let status = header(&response, "job-status");
        (response.status().as_u16(), status)
    }

    /// Finishes a job as `state`.
    pub(crate) async fn finish(&self, job: &Taken, state: &str) {
        let (code, _) = self.put(job, &json!({"state": state, "output": {}})).await;
        assert_eq!(code, 200);
    }

    pub(crate) async fn patch(&self, job: &Taken, start: usize, body: &str) -> Response {
        let path = format!("/api/v4/jobs/{}/trace?debug_trace=false", job.id);
        let call = self.call(Method::PATCH, &path).header("JOB-TOKEN", &job.token);
        let range = format!("{start}-{}", start + body.len() - 1);
        let call = call.header("Content-Range", range).header("Content-Type", "text/plain");
        call.body(body.to_owned()).send().await.expect("an answer")
    }

    pub(crate) async fn status(&self, job: u64) -> String {
        let job = self.get(&format!("/sim/jobs/{job}")).await;
        job["status"].as_str().expect("a status").to_owned()
    }

    /// The rules broken so far.
    pub(crate) async fn broken(&self) -> Vec<String> {
        let list = self.get("/sim/violations").await;
        let list = list.as_array().expect("a list");
        list.iter().map(|entry| entry["rule"].as_str().expect("a rule").to_owned()).collect()
    }
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}
