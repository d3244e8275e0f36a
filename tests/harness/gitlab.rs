//! The simulated GitLab as tests use it.

use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::until::until;
use crate::{http, trace};

/// Bytes of a log that a failed wait shows.
const SHOWN: usize = 6000;

/// The interface of the simulated GitLab for tests.
#[derive(Clone, Debug)]
pub struct GitLab {
    http: reqwest::Client,
    url: String,
}

/// A job as the simulator shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `pending`, `running`, `canceling`, `success`, `failed`, `canceled`, …
    pub status: String,
    /// Whether a runner has it.
    pub assigned: bool,
    /// As GitLab shows it.
    pub failure_reason: Option<String>,
    /// As the runner reported it.
    pub exit_code: Option<i64>,
    /// Length of its log.
    pub trace_bytes: u64,
    /// When it could first be taken, if it can.
    pub queued_at: Option<String>,
    /// When it ended, if it has.
    pub finished_at: Option<String>,
    /// How many tries there were before this one: GitLab repeats what no runner has begun, as
    /// another job of the same name.
    #[serde(default)]
    pub attempt: u32,
    /// Bytes that git was sent with the job's token.
    #[serde(default)]
    pub git_bytes: u64,
}

impl Job {
    /// Whether nothing more happens to it.
    pub fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped")
    }
}

/// A stored artifact.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Artifact {
    /// `archive` or the type of a report.
    #[serde(rename = "type")]
    pub kind: String,
    /// `zip`, `gzip` or `raw`.
    pub format: String,
    /// Name of the file.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    /// As the job has it.
    pub expire_in: Option<String>,
}

impl GitLab {
    /// The simulator at `url`.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { http: http::client()?, url: url.to_owned() })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await?.error_for_status()?;
        response.json().await.with_context(|| format!("GET {path}"))
    }

    /// One order to the simulator, and its answer.
    ///
    /// # Errors
    /// It refuses it.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await?;
        let status = response.status();
        let answer = response.text().await?;
        anyhow::ensure!(status.is_success(), "POST {path}: {status}: {answer}");
        Ok(serde_json::from_str(&answer).unwrap_or(Value::Null))
    }

    /// Removes something from the simulator.
    ///
    /// # Errors
    /// It is not there.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.http.delete(format!("{}{path}", self.url)).send().await?.error_for_status()?;
        Ok(())
    }

    /// Registers a runner that takes jobs with `tag` only, and returns its token.
    ///
    /// # Errors
    /// GitLab refuses it.
    pub async fn register(&self, registration_token: &str, tag: &str) -> anyhow::Result<String> {
        let body = json!({"token": registration_token, "tag_list": [tag], "run_untagged": false, "description": tag});
        let answer = self.post("/api/v4/runners", &body).await?;
        Ok(answer["token"].as_str().context("a registration without a token")?.to_owned())
    }

    /// Creates a runner as a person does in GitLab, which takes jobs with `tag` only, and returns
    /// its token.
    ///
    /// # Errors
    /// GitLab refuses it.
    pub async fn create_runner(&self, tag: &str) -> anyhow::Result<String> {
        let body = json!({"tag_list": [tag], "run_untagged": false, "description": tag});
        let answer = self.post("/sim/runners", &body).await?;
        Ok(answer["token"].as_str().context("a runner without a token")?.to_owned())
    }

    /// Whether there is a runner of this description.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn has_runner(&self, description: &str) -> anyhow::Result<bool> {
        let runners: Vec<Value> = self.get("/sim/runners").await?;
        Ok(runners.iter().any(|runner| runner["description"] == description))
    }

    /// Queues a job: a payload, with the simulator's own keys.
    ///
    /// # Errors
    /// The simulator refuses it.
    pub async fn post_job(&self, payload: &Value) -> anyhow::Result<u64> {
        let answer = self.post("/sim/jobs", payload).await?;
        answer["id"].as_u64().context("a job without an id")
    }

    /// How a job is.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn job(&self, id: u64) -> anyhow::Result<Job> {
        self.get(&format!("/sim/jobs/{id}")).await
    }

    /// All jobs, those that were tried again as often as they were tried.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        self.get("/sim/jobs").await
    }

    /// These jobs, all of one moment: between two questions one may end, and the next begin.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn jobs_of(&self, ids: &[u64]) -> anyhow::Result<Vec<Job>> {
        Ok(self.jobs().await?.into_iter().filter(|job| ids.contains(&job.id)).collect())
    }

    /// Waits until the job is as wanted.
    ///
    /// # Errors
    /// It is not in time; the message ends with the end of the job's log.
    pub async fn wait_for(
        &self,
        id: u64,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Job) -> bool,
    ) -> anyhow::Result<Job> {
        let waited = until(&format!("job {id}: {what}"), bound, async || {
            let job = self.job(id).await?;
            if wanted(&job) {
                return Ok(Ok(job));
            }
            anyhow::ensure!(!job.is_final(), "job {id} has ended as {}, wanted: {what}", job.status);
            Ok(Err(format!("{job:?}")))
        })
        .await;
        match waited {
            Ok(job) => Ok(job),
            Err(error) => Err(error.context(format!("log of job {id}:\n{}", self.end_of_log(id).await))),
        }
    }

    /// Waits for the end of a job.
    ///
    /// # Errors
    /// It does not end in time; the message has the end of the job's log.
    pub async fn wait_final(&self, id: u64, bound: Duration) -> anyhow::Result<Job> {
        self.wait_for(id, "its end", bound, Job::is_final).await
    }

    /// Waits for `text` in a job's log.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_for_text(&self, id: u64, text: &str, bound: Duration) -> anyhow::Result<()> {
        until(&format!("{text:?} in the log of job {id}"), bound, async || {
            // In this order: the log of a job that has ended is whole, and what has come before may
            // not be.
            let job = self.job(id).await?;
            let log = self.text(id).await?;
            if log.contains(text) {
                return Ok(Ok(()));
            }
            anyhow::ensure!(
                !job.is_final(),
                "job {id} has ended as {} without {text:?} in its log:\n{log}",
                job.status
            );
            Ok(Err(tail(&log)))
        })
        .await
    }

    async fn end_of_log(&self, id: u64) -> String {
        tail(&self.text(id).await.unwrap_or_default())
    }

    /// The log of a job, byte for byte.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn raw_trace(&self, id: u64) -> anyhow::Result<Vec<u8>> {
        let response = self.http.get(format!("{}/sim/jobs/{id}/trace", self.url)).send().await?.error_for_status()?;
        Ok(response.bytes().await?.to_vec())
    }

    /// The log of a job as its reader sees it.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn text(&self, id: u64) -> anyhow::Result<String> {
        Ok(trace::text(&self.raw_trace(id).await?))
    }

    /// The artifacts of a job.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn artifacts(&self, id: u64) -> anyhow::Result<Vec<Artifact>> {
        self.get(&format!("/sim/jobs/{id}/artifacts")).await
    }

    /// The bytes of an artifact.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn artifact(&self, id: u64, filename: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/sim/jobs/{id}/artifacts/{filename}", self.url);
        Ok(self.http.get(url).send().await?.error_for_status()?.bytes().await?.to_vec())
    }

    /// Where and how a job can be entered, as its runner has said.
    ///
    /// # Errors
    /// It has not.
    pub async fn session(&self, id: u64) -> anyhow::Result<Value> {
        self.get(&format!("/sim/jobs/{id}/session")).await
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// It has ended already.
    pub async fn cancel(&self, id: u64, force: bool) -> anyhow::Result<()> {
        self.post(&format!("/sim/jobs/{id}/cancel?force={force}"), &Value::Null).await.map(drop)
    }

    /// Makes a pipeline; returns its id.
    ///
    /// # Errors
    /// It is refused.
    pub async fn create_pipeline(&self, body: &Value) -> anyhow::Result<u64> {
        self.post("/sim/pipelines", body).await?["id"].as_u64().context("a pipeline without an id")
    }

    /// How a pipeline is.
    ///
    /// # Errors
    /// There is no such pipeline.
    pub async fn pipeline(&self, id: u64) -> anyhow::Result<Value> {
        self.get(&format!("/sim/pipelines/{id}")).await
    }

    /// The requests of runners and git, secrets masked.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn requests(&self) -> anyhow::Result<Vec<Value>> {
        self.get("/sim/requests").await
    }

    /// The rules of the protocol that were broken.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn violations(&self) -> anyhow::Result<Vec<Value>> {
        self.get("/sim/violations").await
    }
}

/// The end of a text.
fn tail(text: &str) -> String {
    let from = text.len().saturating_sub(SHOWN);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(from);
    text[from..].to_owned()
}
