//! From queue to runner. What becomes of a job that its runner forgets is in `sweep.rs`.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::World;
use super::job::{Job, Lease, Source};
use crate::ci::{AllowFailure, CiJob};
use crate::state::payload;

/// A runner that asks for a job.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) runner: u64,
    pub(crate) system_id: String,
    /// `info.features`.
    pub(crate) features: Value,
    /// Where the job can be entered, if anywhere (`session` of the request).
    pub(crate) session: Option<Value>,
}

impl Asker {
    fn has(&self, feature: &str) -> bool {
        self.features.get(feature).and_then(Value::as_bool).unwrap_or(false)
    }
}

impl World {
    /// The current queue value, opaque for clients.
    pub(crate) fn last_update(&self) -> String {
        format!("{}-{:x}", self.salt, *self.version.borrow())
    }

    /// Tells when the queue value changes.
    pub(crate) fn watch_queue(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Hands the oldest fitting job to the runner: its id and payload.
    pub(crate) fn take(&mut self, asker: &Asker) -> Option<(u64, Value)> {
        loop {
            let runner = self.runners.by_id(asker.runner).filter(|runner| !runner.paused)?;
            let is_free = |job: &Job| job.resource_group().is_none_or(|group| !self.is_taken(group));
            let fits = |id: &u64| {
                self.jobs.get(id).is_some_and(|job| runner.takes(&job.new.tags) && is_free(job)).then_some(*id)
            };
            let id = self.queue.iter().find_map(fits)?;
            let cap = runner.maximum_timeout;
            self.queue.retain(|&other| other != id);
            if let Some(missing) = self.jobs.get(&id).and_then(|job| missing_feature(job, asker)) {
                let (feature, wanted_by) = missing;
                tracing::info!(job = id, feature, "the runner lacks a feature that the job requires");
                if let Some(job) = self.jobs.get_mut(&id) {
                    let text = "the runner does not advertise the feature";
                    job.note = Some(format!("{text} `{feature}`, which `{wanted_by}` of this job requires"));
                }
                self.drop_job(id, "runner_unsupported");
                continue;
            }
            let payload = self.hand_out(id, asker, cap);
            self.wake.notify_one();
            self.changed();
            return Some((id, payload));
        }
    }

    /// Whether a job of this resource group runs.
    fn is_taken(&self, group: &str) -> bool {
        self.jobs.values().any(|job| job.is_held() && job.resource_group() == Some(group))
    }

    fn hand_out(&mut self, id: u64, asker: &Asker, cap: Option<u64>) -> Value {
        let (now, leeway) = (self.now(), self.timing.token_leeway);
        if let Some(job) = self.jobs.get_mut(&id) {
            if let Some(cap) = cap {
                job.new.timeout = job.new.timeout.min(Duration::from_secs(cap));
            }
            let lease = Lease {
                runner: asker.runner,
                system_id: asker.system_id.clone(),
                two_phase: asker.has("two_phase_job_commit"),
                graceful: asker.has("cancel_gracefully"),
                resends_log: asker.has("trace_reset"),
                heard: now.at,
                noted: now.at,
                begun: None,
                token_expires: now.at + job.new.timeout + leeway,
            };
            job.session.clone_from(&asker.session);
            job.assign(lease, now);
        }
        let payload = payload::of(self, id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.accepted_reasons = payload::accepted_reasons(&payload);
            job.dependencies = payload::dependency_ids(&payload);
        }
        payload
    }

    /// Fails a job on the server's own account.
    pub(crate) fn drop_job(&mut self, id: u64, reason: &str) {
        let now = self.now();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.fail(reason, now);
            self.after_change(id);
        }
    }
}

/// A feature that the job cannot do without and the runner does not advertise (GitLab server: the
/// job is dropped with `runner_unsupported`).
fn missing_feature(job: &Job, asker: &Asker) -> Option<(&'static str, &'static str)> {
    let Source::Pipeline { job, .. } = &job.new.source else { return None };
    required_features(job).find(|(feature, _)| !asker.has(feature))
}

/// Features with the keyword that requires each.
fn required_features(job: &CiJob) -> impl Iterator<Item = (&'static str, &'static str)> {
    let reports = job.artifacts.iter().any(|artifact| artifact.artifact_type != "archive");
    let excludes = job.artifacts.iter().any(|artifact| !artifact.exclude.is_empty());
    let exit_codes = matches!(job.allow_failure, AllowFailure::ExitCodes(_));
    let fallbacks = job.cache.iter().any(|cache| !cache.fallback_keys.is_empty());
    [
        (reports, "upload_multiple_artifacts", "artifacts:reports"),
        (excludes, "artifacts_exclude", "artifacts:exclude"),
        (exit_codes, "return_exit_code", "allow_failure:exit_codes"),
        (fallbacks, "fallback_cache_keys", "cache:fallback_keys"),
    ]
    .into_iter()
    .filter_map(|(needed, feature, keyword)| needed.then_some((feature, keyword)))
}
