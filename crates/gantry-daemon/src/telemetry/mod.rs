//! Traces of jobs for which GitLab has asked for them (payload key `features.tracing`, GitLab
//! Runner 19.4): one span for the job and one for each of its parts, sent when it has ended. What
//! is sent is decided in `spans.rs`, `export.rs` sends it.
//!
//! A library for this would bring its own HTTP client, gRPC and a batching thread for what is one
//! POST per job: OTLP over HTTP has a JSON form that every collector takes.

mod export;
mod spans;

use std::path::PathBuf;

use gantry_core::Verdict;
use gantry_core::job::{JobSpec, Tracing};
use gantry_core::variables::Variable;
use tokio::time::Instant;

use crate::moments::Moments;
use crate::notices::{Notice as _, SpansUnsent, SpansUnwanted};

pub(crate) use spans::trace_id;

/// A job whose trace is wanted.
pub(crate) struct Traced {
    tracing: Tracing,
    attributes: Vec<(&'static str, Attribute)>,
    taken: Instant,
    taken_unix_ms: u64,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Attribute {
    Number(i64),
    Text(String),
}

impl Traced {
    /// The job, if GitLab has asked for its trace.
    pub(crate) fn of(job: &JobSpec, runner_id: Option<u64>, taken: Instant, taken_unix_ms: u64) -> Option<Self> {
        let tracing = job.features.tracing.clone().filter(|tracing| !tracing.otel_endpoints.is_empty())?;
        if !spans::is_usable(&tracing) {
            SpansUnwanted.say();
            return None;
        }
        let variable = |key: &str| {
            let of_key = |variable: &&Variable| variable.key == key;
            let found = job.variables.iter().rev().find(of_key).filter(|variable| !variable.masked);
            Attribute::Text(found.map(|variable| variable.value.expose().to_owned()).unwrap_or_default())
        };
        let runner = i64::try_from(runner_id.unwrap_or(0)).unwrap_or(0);
        // The names are those of GitLab Runner 19.4.
        let attributes = vec![
            ("ci.job.id", Attribute::Number(job.id)),
            ("ci.project.id", Attribute::Number(job.job_info.project_id)),
            ("ci.pipeline.id", variable("CI_PIPELINE_ID")),
            ("ci.pipeline.source", variable("CI_PIPELINE_SOURCE")),
            ("ci.runner.id", Attribute::Number(runner)),
            ("ci.runner.executor", Attribute::Text("kubernetes".to_owned())),
        ];
        Some(Self { tracing, attributes, taken, taken_unix_ms })
    }

    /// Sends the trace of the job, which has ended. Trouble is said in one line; `directories` have
    /// certificates by host.
    pub(crate) async fn send(self, verdict: Option<Verdict>, moments: Moments, directories: Vec<PathBuf>) {
        let body = spans::body(&self, verdict.as_ref(), &moments, Instant::now()).to_string();
        for endpoint in &self.tracing.otel_endpoints {
            if let Err(problem) = export::post(endpoint, body.clone(), &directories).await {
                SpansUnsent { to: &export::shown(&endpoint.url), problem: &problem }.say();
            }
        }
    }
}
