//! The admin API of the simulated GitLab, as far as `gantry dev` uses it.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::project::Project;

/// A client of the admin API.
pub(super) struct Api {
    client: reqwest::Client,
    url: String,
}

/// What asking for a pipeline led to.
pub(super) enum Created {
    Pipeline {
        id: u64,
        warnings: Vec<String>,
    },
    /// The CI file cannot be used; one line each, with file and line where known.
    Refused(Vec<String>),
}

/// A pipeline as the admin API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Pipeline {
    pub(super) status: String,
    pub(super) jobs: Vec<Job>,
}

/// A job as the admin API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) status: String,
    /// A runner has it, whether or not it has said that it runs.
    #[serde(default)]
    pub(super) assigned: bool,
    pub(super) failure_reason: Option<String>,
    /// What there is to say of its end that no log says.
    #[serde(default)]
    pub(super) note: Option<String>,
    #[serde(default)]
    pub(super) allow_failure: bool,
    #[serde(default)]
    pub(super) retried: bool,
    pub(super) trace_bytes: u64,
    pub(super) queued_at: Option<jiff::Timestamp>,
    pub(super) started_at: Option<jiff::Timestamp>,
    pub(super) finished_at: Option<jiff::Timestamp>,
}

impl Job {
    /// Nothing more happens to it by itself.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped" | "manual")
    }
}

impl Pipeline {
    /// Nothing more happens to it by itself.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped" | "manual")
            && self.jobs.iter().all(Job::is_over)
    }
}

#[derive(Deserialize)]
struct Problem {
    file: String,
    line: u64,
    message: String,
}

impl Problem {
    fn line(self) -> String {
        format!("{}:{}: {}", self.file, self.line, self.message)
    }
}

impl Api {
    pub(super) fn new(url: &str) -> Self {
        Self { client: client(), url: url.to_owned() }
    }

    /// Makes a pipeline of the project.
    pub(super) async fn create_pipeline(&self, project: &Project, jobs: &[String]) -> anyhow::Result<Created> {
        let revision = project.revision();
        let mut body = json!({
            "repo": project.name(),
            "ref": revision.full_ref.as_deref().unwrap_or_default(),
            "sha": revision.sha,
        });
        if !jobs.is_empty() {
            body["jobs"] = json!(jobs);
        }
        let request = self.client.post(format!("{}/sim/pipelines", self.url)).json(&body);
        let response = request.send().await.context("the simulated GitLab does not answer")?;
        let is_created = response.status().is_success();
        let answer: Value = response.json().await.context("the simulated GitLab's answer is not JSON")?;
        let list = |key: &str| -> Vec<String> {
            let problems: Vec<Problem> = serde_json::from_value(answer[key].clone()).unwrap_or_default();
            problems.into_iter().map(Problem::line).collect()
        };
        if !is_created {
            let problems = list("problems");
            let error = answer["error"].as_str().unwrap_or("the pipeline was refused").to_owned();
            return Ok(Created::Refused(if problems.is_empty() { vec![error] } else { problems }));
        }
        let id = answer["id"].as_u64().context("the simulated GitLab made a pipeline without an id")?;
        Ok(Created::Pipeline { id, warnings: list("warnings") })
    }

    /// How the pipeline is.
    pub(super) async fn pipeline(&self, id: u64) -> anyhow::Result<Pipeline> {
        let response = self.client.get(format!("{}/sim/pipelines/{id}", self.url)).send().await?.error_for_status()?;
        response.json().await.context("the simulated GitLab's answer is not a pipeline")
    }

    /// Cancels what has not ended. What runs may end in order.
    pub(super) async fn cancel(&self, id: u64) -> anyhow::Result<()> {
        let url = format!("{}/sim/pipelines/{id}/cancel", self.url);
        self.client.post(url).send().await?.error_for_status()?;
        Ok(())
    }

    /// A job's log from `offset` on.
    pub(super) async fn trace(&self, job: u64, offset: u64) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/sim/jobs/{job}/trace?offset={offset}", self.url);
        Ok(self.client.get(url).send().await?.error_for_status()?.bytes().await?.to_vec())
    }
}

/// A client that only ever speaks HTTP to this machine.
fn client() -> reqwest::Client {
    // reqwest wants a TLS configuration even for a client that never uses TLS; the roots do not matter.
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    let builder = reqwest::Client::builder().no_proxy();
    let builder = match tls {
        Ok(tls) => builder.tls_backend_preconfigured(tls),
        Err(_) => builder,
    };
    builder.build().unwrap_or_default()
}

#[cfg(test)]
impl Job {
    /// A job of which only this is known.
    pub(super) fn sample(name: &str, status: &str) -> Self {
        Self {
            id: 1,
            name: name.to_owned(),
            stage: "test".to_owned(),
            status: status.to_owned(),
            assigned: false,
            failure_reason: None,
            note: None,
            allow_failure: false,
            retried: false,
            trace_bytes: 0,
            queued_at: None,
            started_at: None,
            finished_at: None,
        }
    }
}
