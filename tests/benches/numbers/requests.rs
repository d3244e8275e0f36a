//! What GitLab was asked, and when: from the simulator's own notes.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

/// The requests of runners, oldest first.
pub(crate) struct Requests(Vec<Value>);

impl Requests {
    pub(crate) fn new(requests: Vec<Value>) -> Self {
        Self(requests)
    }

    /// When the newest job was handed out.
    pub(crate) fn handed_out(&self) -> anyhow::Result<Timestamp> {
        moment(self.newest_hand_out()?, "answered")
    }

    /// When a runner asked for it.
    pub(crate) fn asked(&self) -> anyhow::Result<Timestamp> {
        moment(self.newest_hand_out()?, "time")
    }

    fn newest_hand_out(&self) -> anyhow::Result<&Value> {
        let is_one = |request: &&Value| request["status"] == 201 && path(request).ends_with("/jobs/request");
        self.0.iter().rev().find(is_one).context("GitLab has handed out no job")
    }

    /// When GitLab had stored the byte before `offset` of a job's log.
    pub(crate) fn stored(&self, job: u64, offset: u64) -> anyhow::Result<Timestamp> {
        let reaches = |request: &&Value| {
            let range = request["headers"]["content-range"].as_str().unwrap_or_default();
            let last = range.split_once('-').and_then(|(_, last)| last.parse::<u64>().ok());
            request["status"] == 202 && last.is_some_and(|last| last + 1 >= offset)
        };
        let mut patches = self.to(job, "PATCH", "trace");
        let patch =
            patches.find(reaches).with_context(|| format!("nobody has sent byte {offset} of job {job}'s log"))?;
        moment(patch, "answered")
    }

    /// When an artifact of a job was stored.
    pub(crate) fn uploaded(&self, job: u64) -> anyhow::Result<Timestamp> {
        let mut uploads = self.to(job, "POST", "artifacts").filter(|request| request["status"] == 201);
        moment(uploads.next().with_context(|| format!("job {job} has sent no artifact"))?, "answered")
    }

    /// When somebody last began to fetch the artifacts of a job.
    pub(crate) fn fetch_began(&self, job: u64) -> anyhow::Result<Timestamp> {
        let fetch = self.to(job, "GET", "artifacts").last();
        moment(fetch.with_context(|| format!("nobody has fetched the artifacts of job {job}"))?, "time")
    }

    /// How many requests brought the log of a job.
    pub(crate) fn parts(&self, job: u64) -> usize {
        self.to(job, "PATCH", "trace").count()
    }

    /// How often each thing was asked about a job, its hand-out not counted.
    pub(crate) fn about(&self, job: u64) -> BTreeMap<String, usize> {
        let prefix = format!("/api/v4/jobs/{job}");
        let mut counts = BTreeMap::new();
        for request in &self.0 {
            let rest = path(request).strip_prefix(&prefix);
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                let method = request["method"].as_str().unwrap_or_default();
                *counts.entry(format!("{method} jobs/:id{rest}")).or_default() += 1;
            }
        }
        counts
    }

    fn to(&self, job: u64, method: &str, what: &str) -> impl Iterator<Item = &Value> {
        let wanted = format!("/api/v4/jobs/{job}/{what}");
        self.0.iter().filter(move |request| request["method"] == method && path(request) == wanted)
    }
}

/// Without its query.
fn path(request: &Value) -> &str {
    let path = request["path"].as_str().unwrap_or_default();
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn moment(request: &Value, field: &str) -> anyhow::Result<Timestamp> {
    Ok(request[field].as_str().with_context(|| format!("a request without {field}: {request}"))?.parse()?)
}
