//! The admin API of the simulated GitLab, as far as `gantry dev` uses it.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use gantry_http::{Body, HttpTransport, Options, ProxySettings, Timeouts, Transport as _};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::project::Project;

/// Time for an answer. It is made in this process, from memory and from a repository on this machine; even a busy one needs seconds.
const ANSWER: Duration = Duration::from_secs(120);

/// Largest answer that is read: the simulated GitLab takes logs of up to 100 MiB, and a pipeline of thousands of jobs is smaller.
const LARGEST_ANSWER: usize = 128 << 20;

/// A client of the admin API.
pub(super) struct Api {
    transport: HttpTransport,
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
        // Behind a manual job that nobody starts, others wait for ever.
        let is_blocked = |job: &Job| self.status == "manual" && job.status == "created";
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped" | "manual")
            && self.jobs.iter().all(|job| job.is_over() || is_blocked(job))
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
    /// A client of the admin API at `url`. Makes no connection yet.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let base = Url::parse(url).context("the simulated GitLab has no usable address")?;
        let options =
            Options { proxy: ProxySettings::Direct, connection_max_age: Duration::ZERO, ..Options::default() };
        Ok(Self { transport: HttpTransport::new(&base, options)?, url: url.to_owned() })
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
        let answer = self.call(Method::POST, "/sim/pipelines", Some(&body)).await?;
        let is_created = answer.status().is_success();
        let answer: Value =
            serde_json::from_slice(answer.body()).context("the simulated GitLab's answer is not JSON")?;
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
        let answer = self.ask(Method::GET, &format!("/sim/pipelines/{id}")).await?;
        serde_json::from_slice(&answer).context("the simulated GitLab's answer is not a pipeline")
    }

    /// Cancels what has not ended. What runs may end in order.
    pub(super) async fn cancel(&self, id: u64) -> anyhow::Result<()> {
        self.ask(Method::POST, &format!("/sim/pipelines/{id}/cancel")).await.map(drop)
    }

    /// A job's log from `offset` on.
    pub(super) async fn trace(&self, job: u64, offset: u64) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, &format!("/sim/jobs/{job}/trace?offset={offset}")).await
    }

    /// The body of an answer that must not be an error.
    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let answer = self.call(method, path, None).await?;
        let status = answer.status();
        anyhow::ensure!(
            !status.is_client_error() && !status.is_server_error(),
            "the simulated GitLab answers {status} to {path}"
        );
        Ok(answer.into_body())
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Body::Bytes(body.into()))?;
        let timeouts = Timeouts { head: ANSWER, idle: ANSWER };
        let sent = self.transport.send(request, timeouts).await;
        let (head, body) = sent.context("the simulated GitLab does not answer")?.into_parts();
        let content = gantry_http::read(body, LARGEST_ANSWER, ANSWER).await;
        content.end.context("the simulated GitLab's answer cannot be read")?;
        Ok(Response::from_parts(head, content.bytes))
    }
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
