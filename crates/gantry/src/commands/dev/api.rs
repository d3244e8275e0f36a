//! The admin API of the simulated GitLab, as far as `gantry dev` uses it.

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::given::Given;
use super::listing::{Plan, Service};
use super::project::Project;
use crate::commands::sim_api::SimApi;

/// A client of the admin API.
pub(super) struct Api(SimApi);

/// What asking for a pipeline led to.
pub(super) enum Created {
    Pipeline {
        id: u64,
        warnings: Vec<String>,
    },
    /// The CI file cannot be used; one line each, with file and line where known.
    Refused(Vec<String>),
}

/// Which pipeline is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// Only these jobs; empty: all.
    pub(super) jobs: Vec<String>,
    /// With them what they need.
    pub(super) with_needs: bool,
    /// Manual and delayed jobs that need nobody to start them.
    pub(super) start: Vec<String>,
    pub(super) given: Given,
    /// A job that runs these lines instead of its own.
    pub(super) script: Option<(String, Vec<String>)>,
}

/// How deep children are asked for: the simulated GitLab allows two levels.
const DEEPEST: usize = 3;

/// A pipeline as the admin API shows it, with the jobs of its children.
#[derive(Debug, Deserialize)]
pub(super) struct Pipeline {
    pub(super) status: String,
    pub(super) jobs: Vec<Job>,
}

/// An artifact of a job.
#[derive(Debug, Deserialize)]
pub(super) struct Artifact {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) filename: String,
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
    #[serde(default)]
    pub(super) exit_code: Option<i64>,
    /// What it names.
    #[serde(default)]
    pub(super) image: Option<String>,
    /// What there is to say of its end that no log says.
    #[serde(default)]
    pub(super) note: Option<String>,
    #[serde(default)]
    pub(super) allow_failure: bool,
    #[serde(default)]
    pub(super) retried: bool,
    /// How many tries there were before this one.
    #[serde(default)]
    pub(super) attempt: u32,
    /// Jobs of the same group run one after another.
    #[serde(default)]
    pub(super) resource_group: Option<String>,
    #[serde(default)]
    pub(super) services: Vec<Service>,
    /// There is something here if it starts a pipeline.
    #[serde(default)]
    pub(super) trigger: Option<serde::de::IgnoredAny>,
    pub(super) trace_bytes: u64,
    pub(super) queued_at: Option<jiff::Timestamp>,
    pub(super) started_at: Option<jiff::Timestamp>,
    pub(super) finished_at: Option<jiff::Timestamp>,
    #[serde(default)]
    pub(super) coverage: Option<f64>,
    #[serde(default)]
    pub(super) artifacts: Vec<Artifact>,
    /// The pipeline that the job has started.
    #[serde(default)]
    pub(super) downstream: Option<u64>,
    /// How that pipeline is.
    #[serde(skip)]
    pub(super) child_status: Option<String>,
    /// Nothing more happens by itself in the pipeline that the job has started.
    #[serde(skip)]
    pub(super) is_child_over: bool,
}

impl Job {
    /// Nothing more happens to it by itself.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped" | "manual") || self.is_child_over
    }

    /// Whether it is in the pipeline that another one has started, or in one below that.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.name.strip_prefix(&other.name).is_some_and(|rest| rest.starts_with(CHILD))
    }

    /// How many pipelines are around the one that it is in.
    pub(super) fn depth(&self) -> usize {
        self.name.matches(CHILD).count()
    }

    /// Whether a runner has it, acknowledged or not.
    pub(super) fn is_held(&self) -> bool {
        self.assigned && !self.is_over()
    }
}

/// Between the name of a job that has started a pipeline and those of the jobs in it.
const CHILD: &str = " › ";

impl Pipeline {
    /// Nothing more happens to it by itself.
    pub(super) fn is_over(&self) -> bool {
        // Behind a manual job that nobody starts, others wait for ever: jobs that can begin are
        // pending at once.
        self.jobs.iter().all(|job| job.is_over() || job.status == "created")
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
        SimApi::new(url).map(Self)
    }

    /// Makes a pipeline of the project.
    pub(super) async fn create_pipeline(&self, project: &Project, request: &Request) -> anyhow::Result<Created> {
        match self.post_pipeline(project, request, false).await? {
            Err(problems) => Ok(Created::Refused(problems)),
            Ok(answer) => {
                let id = answer["id"].as_u64().context("the simulated GitLab made a pipeline without an id")?;
                Ok(Created::Pipeline { id, warnings: problems(&answer, "warnings") })
            }
        }
    }

    /// What a pipeline of the project would be, with its warnings; the inner error says why there
    /// is none.
    pub(super) async fn plan(
        &self,
        project: &Project,
        request: &Request,
    ) -> anyhow::Result<Result<(Plan, Vec<String>), Vec<String>>> {
        let answer = match self.post_pipeline(project, request, true).await? {
            Err(problems) => return Ok(Err(problems)),
            Ok(answer) => answer,
        };
        let warnings = problems(&answer, "warnings");
        let plan = serde_json::from_value(answer).context("the simulated GitLab's answer is no plan")?;
        Ok(Ok((plan, warnings)))
    }

    async fn post_pipeline(
        &self,
        project: &Project,
        request: &Request,
        dry_run: bool,
    ) -> anyhow::Result<Result<Value, Vec<String>>> {
        let revision = project.revision();
        let mut body = json!({
            "repo": project.name(),
            "ref": revision.full_ref.as_deref().unwrap_or_default(),
            "sha": revision.sha,
            "variables": request.given.variables,
            "inputs": request.given.inputs,
            "start": request.start,
            "dry_run": dry_run,
        });
        if !request.jobs.is_empty() {
            body["jobs"] = json!(request.jobs);
            body["with_needs"] = json!(request.with_needs);
        }
        if let Some((job, script)) = &request.script {
            body["scripts"] = json!({job: script});
        }
        let answer = self.0.call(Method::POST, "/sim/pipelines", Some(&body)).await?;
        let is_good = answer.status().is_success();
        let answer: Value =
            serde_json::from_slice(answer.body()).context("the simulated GitLab's answer is not JSON")?;
        if is_good {
            return Ok(Ok(answer));
        }
        let problems = problems(&answer, "problems");
        let error = answer["error"].as_str().unwrap_or("the pipeline was refused").to_owned();
        Ok(Err(if problems.is_empty() { vec![error] } else { problems }))
    }

    /// How the pipeline is, and those that its jobs have started.
    pub(super) async fn pipeline(&self, id: u64) -> anyhow::Result<Pipeline> {
        let mut whole = self.one_pipeline(id).await?;
        let mut open: Vec<(usize, String, u64)> = children(&whole.jobs, "", 0);
        while let Some((depth, prefix, child)) = open.pop() {
            let mut pipeline = self.one_pipeline(child).await?;
            if let Some(bridge) = whole.jobs.iter_mut().find(|job| job.downstream == Some(child)) {
                bridge.child_status = Some(pipeline.status.clone());
            }
            open.extend(if depth < DEEPEST { children(&pipeline.jobs, &prefix, depth) } else { Vec::new() });
            for job in &mut pipeline.jobs {
                job.name = format!("{prefix}{CHILD}{}", job.name);
            }
            whole.jobs.extend(pipeline.jobs);
        }
        settle(&mut whole.jobs);
        Ok(whole)
    }

    async fn one_pipeline(&self, id: u64) -> anyhow::Result<Pipeline> {
        let answer = self.0.ask(Method::GET, &format!("/sim/pipelines/{id}"), None).await?;
        serde_json::from_slice(&answer).context("the simulated GitLab's answer is not a pipeline")
    }

    /// The paths in a job's archive.
    pub(super) async fn files(&self, job: u64) -> anyhow::Result<Vec<String>> {
        let answer = self.0.ask(Method::GET, &format!("/sim/jobs/{job}/files"), None).await?;
        let files: Vec<Value> = serde_json::from_slice(&answer).context("the simulated GitLab's answer is no list")?;
        Ok(files.iter().filter_map(|file| file["path"].as_str().map(str::to_owned)).collect())
    }

    /// A file of a job's archive.
    pub(super) async fn file(&self, job: u64, path: &str) -> anyhow::Result<Bytes> {
        let path = encoded(&format!("/sim/jobs/{job}/files"), path.split('/'))?;
        self.0.ask(Method::GET, &path, None).await
    }

    /// An uploaded artifact as it is stored.
    pub(super) async fn artifact(&self, job: u64, filename: &str) -> anyhow::Result<Bytes> {
        let path = encoded(&format!("/sim/jobs/{job}/artifacts"), [filename])?;
        self.0.ask(Method::GET, &path, None).await
    }

    /// Cancels what has not ended. What runs may end in order.
    pub(super) async fn cancel(&self, id: u64) -> anyhow::Result<()> {
        self.0.ask(Method::POST, &format!("/sim/pipelines/{id}/cancel"), None).await.map(drop)
    }

    /// A job's log from `offset` on.
    pub(super) async fn trace(&self, job: u64, offset: u64) -> anyhow::Result<Bytes> {
        self.0.ask(Method::GET, &format!("/sim/jobs/{job}/trace?offset={offset}"), None).await
    }
}

/// A path with parts that may have any characters.
fn encoded<'p>(base: &str, parts: impl IntoIterator<Item = &'p str>) -> anyhow::Result<String> {
    let mut url = Url::parse("http://localhost")?;
    url.set_path(base);
    url.path_segments_mut().map_err(|()| anyhow::anyhow!("{base} is no path"))?.extend(parts);
    Ok(url.path().to_owned())
}

/// The complaints of an answer, one line each.
fn problems(answer: &Value, key: &str) -> Vec<String> {
    let problems: Vec<Problem> = serde_json::from_value(answer[key].clone()).unwrap_or_default();
    problems.into_iter().map(Problem::line).collect()
}

/// The pipelines that these jobs have started.
fn children(jobs: &[Job], prefix: &str, depth: usize) -> Vec<(usize, String, u64)> {
    let name = |job: &Job| if prefix.is_empty() { job.name.clone() } else { format!("{prefix}{CHILD}{}", job.name) };
    jobs.iter().filter_map(|job| Some((depth + 1, name(job), job.downstream?))).collect()
}

/// Marks the jobs in whose children nothing more happens by itself, the innermost first.
fn settle(jobs: &mut [Job]) {
    let mut bridges: Vec<usize> = (0..jobs.len()).filter(|index| jobs[*index].downstream.is_some()).collect();
    bridges.sort_by_key(|index| std::cmp::Reverse(jobs[*index].depth()));
    for bridge in bridges {
        let prefix = format!("{}{CHILD}", jobs[bridge].name);
        let inner = || jobs.iter().filter(|job| job.name.starts_with(&prefix));
        let waits = |job: &Job| matches!(job.status.as_str(), "manual" | "created") || job.is_child_over;
        let is_over = inner().all(|job| job.is_over() || job.status == "created") && inner().any(waits);
        // Where the child has an end, though jobs in it may still be started, the job that has
        // started it ends by itself, and what waits for it begins. That is not seen here yet: the
        // child was asked for after its parent.
        let has_end =
            matches!(jobs[bridge].child_status.as_deref(), Some("success" | "failed" | "canceled" | "skipped"));
        jobs[bridge].is_child_over = is_over && !has_end;
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
            exit_code: None,
            image: None,
            note: None,
            allow_failure: false,
            retried: false,
            attempt: 0,
            resource_group: None,
            services: Vec::new(),
            trigger: None,
            trace_bytes: 0,
            queued_at: None,
            started_at: None,
            finished_at: None,
            coverage: None,
            artifacts: Vec::new(),
            downstream: None,
            child_status: None,
            is_child_over: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(child_status: &str, inner: &[(&str, &str)]) -> bool {
        let bridge =
            Job { downstream: Some(2), child_status: Some(child_status.to_owned()), ..Job::sample("down", "running") };
        let inner = inner.iter().map(|(name, status)| Job::sample(&format!("down{CHILD}{name}"), status));
        let mut jobs: Vec<Job> = [bridge, Job::sample("after", "created")].into_iter().chain(inner).collect();
        settle(&mut jobs);
        Pipeline { status: "running".to_owned(), jobs }.is_over()
    }

    #[test]
    fn a_pipeline_is_over_when_its_child_waits_for_a_person_and_not_when_it_may() {
        assert!(is_over("manual", &[("build", "success"), ("gate", "manual"), ("deploy", "created")]));
        assert!(!is_over("success", &[("build", "success"), ("optional", "manual")]), "the next job is about to begin");
        assert!(!is_over("running", &[("build", "running"), ("gate", "manual")]));
        assert!(!is_over("success", &[("build", "success")]));
    }
}
