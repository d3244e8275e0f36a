//! Everything that the daemon says to operators: a type for each thing, which makes the line in the
//! log and moves the metrics, so that the two cannot disagree. Here is what is said about jobs;
//! which one, of which project and runner, is said by the span that the job is worked on in. What
//! is said by those who know neither jobs nor metrics is in `notices.rs`; lines of the level
//! `debug` stand where they are made, as do those of a start.

mod asking;
mod found;
mod pause;
mod process;
mod tokens;

use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::{FailureReason, Verdict};
use gantry_gitlab::ReceivedJob;
use gantry_kube::{ApiError, DeleteError};
use gantry_plan::{JobPlan, PlanError};
use gantry_relay::{GoneReason, RelayEnd};
use gantry_wire::codec::FrameError;
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(crate) use asking::{
    GitlabUnavailable, HoldChanged, JobReceived, NothingReceived, RequestFailed, RequestGivenUp, RunnerUnhealthy,
    TokenRefused,
};
pub(crate) use found::{
    EndNotAnnounced, GitlabUnknown, OwnerChanged, PatchRefused, PodNotKept, PodNotRemoved, PodRemoved, SecretMayBeLeft,
    TicketMissing, TicketUnusable,
};
pub(crate) use pause::{LeftPausePodsRemoved, PauseClassNotMade, PausePodsFailed, PausePodsLeft, PausePodsScaled};
pub(crate) use process::{
    ConfigBack, ConfigGone, ConfigLoaded, ConfigRefused, ListenChanged, PollingBegins, PollingEnds, ReloadIgnored,
    RunnerUnusable, ShutdownBegins, ShutdownForced, ShutdownTimedOut, WorkersStopped,
};
pub(crate) use tokens::{
    TokenEnded, TokenEndsSoon, TokenKeptAgain, TokenKeptLate, TokenLeft, TokenNotRenewed, TokenRenewed, TokenWritten,
};

use crate::job_end::{JobEnd, JobSummary};
use crate::metrics::{EXECUTOR, MODE, Metrics, RunnerLabels, of};
use crate::moments::Part;
use crate::queuing;

/// The span of everything that is done for a job. It has the level of errors, so that no filter
/// takes its fields away from a line. What is not known yet is recorded later.
pub(crate) fn job_span(job: Option<i64>, project: Option<i64>, runner: &str) -> tracing::Span {
    tracing::error_span!("job", job, project, runner, trace_id = tracing::field::Empty)
}

/// Ties the lines about a job to the trace that GitLab has asked for.
pub(crate) fn job_is_traced(span: &tracing::Span, trace_id: Option<&str>) {
    if let Some(trace_id) = trace_id {
        span.record("trace_id", trace_id);
    }
}

/// Says what an adopted job is, now that somebody has told it.
pub(crate) fn job_is(job: i64, project: i64) {
    let span = tracing::Span::current();
    span.record("job", job);
    span.record("project", project);
}

/// Something that is said.
pub(crate) trait Said {
    /// The line in the log.
    fn log(&self);

    /// What it changes in the metrics of the job's runner.
    fn count(&self, _metrics: &Metrics, _runner: &RunnerLabels) {}

    /// Says it where it changes no metric.
    fn say(&self) {
        self.log();
    }

    /// Says it.
    fn tell(&self, metrics: &Metrics, runner: &RunnerLabels) {
        self.log();
        self.count(metrics, runner);
    }
}

/// GitLab has handed out a job.
pub(crate) struct JobTaken<'a> {
    /// The job.
    pub(crate) received: &'a ReceivedJob,
    /// Whether it has waited in GitLab for longer than its runner accepts.
    pub(crate) waited_too_long: bool,
}

impl<'a> JobTaken<'a> {
    /// By a runner with these settings.
    pub(crate) fn by(settings: &RunnerSettings, received: &'a ReceivedJob) -> Self {
        let (entries, info) = (&settings.queuing_durations, &received.spec.job_info);
        let waited_too_long =
            !entries.is_empty() && queuing::is_exceeded(entries, info, Timestamp::now(), &TimeZone::system());
        Self { received, waited_too_long }
    }
}

impl Said for JobTaken<'_> {
    fn log(&self) {
        tracing::info!("Added job to processing list");
    }

    fn count(&self, metrics: &Metrics, runner: &RunnerLabels) {
        let (labels, info) = (of(runner), &self.received.spec.job_info);
        metrics.jobs_total.with_label_values(&labels).inc();
        metrics.execution_modes.with_label_values(&[MODE, EXECUTOR]).inc();
        let [runner, name, system_id] = labels;
        let project_jobs = info.project_jobs_running_on_instance_runners_count.as_str();
        let queued = metrics.queue_duration.with_label_values(&[runner, name, system_id, project_jobs]);
        queued.observe(info.time_in_queue_seconds.max(0.0));
        metrics.queue_size.with_label_values(&labels).set(info.queue_size);
        metrics.queue_depth.with_label_values(&labels).set(info.queue_depth);
        metrics.queuing_exceeded.with_label_values(&labels).inc_by(u64::from(self.waited_too_long));
    }
}

/// The images of a job's containers (`FF_LOG_IMAGES_CONFIGURED_FOR_JOB`).
pub(crate) struct ImagesConfigured<'a>(pub(crate) &'a JobPlan);

impl Said for ImagesConfigured<'_> {
    fn log(&self) {
        for container in self.0.pod.spec.iter().flat_map(|spec| &spec.containers) {
            let image = container.image.as_deref().unwrap_or_default();
            tracing::info!(container = container.name, image, "image configured for the job");
        }
    }
}

/// What has become of a job's inputs: they stand in its texts, or an expression about them has no
/// value, for which the job log has the words.
pub(crate) struct InputsRead<'a>(pub(crate) &'a Result<JobPlan, PlanError>);

impl Said for InputsRead<'_> {
    fn log(&self) {
        match self.0 {
            Ok(plan) if plan.input_texts > 0 => {
                tracing::debug!(texts = plan.input_texts, "inputs of the job were put into its texts");
            }
            Err(PlanError::Input { problem, .. }) => {
                tracing::debug!(error_type = problem.label(), "an input of the job cannot be put into its texts");
            }
            _ => {}
        }
    }

    fn count(&self, metrics: &Metrics, _: &RunnerLabels) {
        match self.0 {
            Ok(plan) => metrics.inputs.inc_by(plan.input_texts),
            Err(PlanError::Input { problem, .. }) => {
                metrics.input_failures.with_label_values(&[problem.label()]).inc();
            }
            Err(_) => {}
        }
    }
}

/// A job goes on under us whose manager is gone.
pub(crate) struct JobAdopted {
    /// How much of its trace GitLab has, as far as its agent knows; one of the first version does
    /// not tell.
    pub(crate) acked: Option<u64>,
}

impl Said for JobAdopted {
    fn log(&self) {
        tracing::info!(acked = self.acked, "the job's manager is gone: this one goes on with it");
    }

    fn count(&self, metrics: &Metrics, runner: &RunnerLabels) {
        metrics.jobs_adopted.with_label_values(&of(runner)).inc();
    }
}

/// GitLab has handed out a job whose description is not understood.
pub(crate) struct JobGarbled<'a> {
    /// Its id, if that much can be read.
    pub(crate) job: Option<i64>,
    /// What is wrong with it.
    pub(crate) message: &'a str,
    /// When GitLab is asked again.
    pub(crate) rest: Duration,
}

impl JobGarbled<'_> {
    /// Says it of a runner's request: there is no span of the job yet.
    pub(crate) fn tell(&self, metrics: &Metrics, labels: &RunnerLabels) {
        let RunnerLabels { runner, name, system_id } = labels;
        tracing::error!(
            runner,
            job = self.job,
            next_request_s = self.rest.as_secs_f64(),
            "GitLab sent a job that cannot be understood: {}",
            self.message
        );
        metrics.processing_failures.with_label_values(&["other", runner, name, system_id]).inc();
    }
}

/// A job that cannot run is not ours any more.
pub(crate) struct RejectedGone(pub(crate) GoneReason);

impl Said for RejectedGone {
    fn log(&self) {
        tracing::warn!("the job is no longer ours: {}", self.0);
    }
}

/// GitLab could not be told that a job cannot run.
pub(crate) struct RejectedUntold(pub(crate) RelayEnd);

impl Said for RejectedUntold {
    fn log(&self) {
        tracing::warn!(end = ?self.0, "GitLab could not be told that the job cannot run");
    }
}

/// A runner that leaves could not wait for what was still to be said about a job.
pub(crate) struct JobCutOff;

impl Said for JobCutOff {
    fn log(&self) {
        tracing::warn!("the runner ends before GitLab has taken what it had to say about a job");
    }
}

/// A job has ended for this manager.
pub(crate) struct JobEnded<'a>(pub(crate) &'a JobSummary);

impl Said for JobEnded<'_> {
    fn log(&self) {
        match &self.0.end {
            JobEnd::Reported(_) => {}
            JobEnd::Dropped(reason) => tracing::warn!("the job is no longer ours: {reason}"),
            JobEnd::HandedOver => {
                tracing::info!(
                    "the job goes on without this runner: another one takes it over, or its pod reports by itself"
                );
            }
            JobEnd::LeftToNext => {
                tracing::warn!(
                    "GitLab did not answer before the runner had to end: the job's pod stays, and the next manager of the fleet reports it"
                );
            }
            JobEnd::Owned => tracing::info!("the job has another manager, and is left to it"),
            JobEnd::TooEarly => {
                tracing::debug!("the job's manager may not have come to its agent yet; it is looked at again");
            }
            JobEnd::Unknown => tracing::warn!("nothing can be learned about the job; its pod is left as it is"),
            JobEnd::Undelivered(message) => tracing::error!("GitLab could not be told how the job ended: {message}"),
        }
        if let Some(verdict) = &self.0.verdict {
            log_verdict(verdict, in_milliseconds(self.0.duration));
        }
    }

    fn count(&self, metrics: &Metrics, labels: &RunnerLabels) {
        let RunnerLabels { runner, name, system_id } = labels;
        let duration = metrics.job_duration.with_label_values(&[runner, name, system_id, MODE]);
        duration.observe(self.0.duration.as_secs_f64());
        if let Some(pod_start) = self.0.pod_start {
            metrics.pod_start.with_label_values(&of(labels)).observe(pod_start.as_secs_f64());
        }
        if let Some(usage) = &self.0.usage {
            metrics.count_usage(labels, usage);
        }
        if let Some(verdict) = self.0.verdict.as_ref().filter(|verdict| !verdict.success) {
            metrics.failed_jobs.with_label_values(&[runner, name, reason(verdict), MODE]).inc();
            metrics.processing_failures.with_label_values(&["job_failure", runner, name, system_id]).inc();
        }
    }
}

/// How long the parts of a job have taken that this manager has had from its beginning to its end.
pub(crate) struct JobParted<'a> {
    pub(crate) starting: &'a [Part],
    /// Only where they are wanted: `FF_EXPORT_HIGH_CARDINALITY_METRICS`.
    pub(crate) stages: &'a [Part],
}

impl Said for JobParted<'_> {
    fn log(&self) {
        for part in self.starting {
            tracing::debug!(phase = part.name, seconds = part.length().as_secs_f64(), "the job's start");
        }
    }

    fn count(&self, metrics: &Metrics, labels: &RunnerLabels) {
        let RunnerLabels { runner, name, system_id } = labels;
        for (histogram, parts) in [(&metrics.start_phases, self.starting), (&metrics.stage_duration, self.stages)] {
            for part in parts {
                let series = histogram.with_label_values(&[runner, name, system_id, &part.name]);
                series.observe(part.length().as_secs_f64());
            }
        }
    }
}

/// Seconds with three decimals. Nobody reads the nanoseconds that a clock adds, and they are no
/// fact about a job.
fn in_milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

fn log_verdict(verdict: &Verdict, duration_s: f64) {
    if verdict.success {
        tracing::info!(duration_s, "job-status" = "success", "Job succeeded");
        return;
    }
    let system = if verdict.is_system_failure() { " (system failure)" } else { "" };
    tracing::warn!(
        duration_s,
        "job-status" = "failed",
        failure_reason = reason(verdict),
        exit_code = verdict.exit_code,
        "Job failed{system}: {}",
        verdict.message
    );
}

fn reason(verdict: &Verdict) -> &'static str {
    verdict.reason.map_or("script_failure", FailureReason::as_str)
}

/// The process has slept while it had a job.
pub(crate) struct JobSlept {
    /// For at least so long.
    pub(crate) for_at_least: Duration,
}

impl Said for JobSlept {
    fn log(&self) {
        let seconds = self.for_at_least.as_secs();
        tracing::warn!(
            "this process has slept for {seconds} s or more: the job's agent is asked whether it is still ours"
        );
    }
}

/// Nothing more is done for a job.
pub(crate) struct JobGone;

impl Said for JobGone {
    fn log(&self) {
        tracing::info!("Removed job from processing list");
    }
}

/// GitLab has more of a trace than came through here.
pub(crate) struct TraceAhead {
    /// Bytes that GitLab has.
    pub(crate) server: u64,
    /// Bytes that we were given.
    pub(crate) ours: u64,
}

impl Said for TraceAhead {
    fn log(&self) {
        let Self { server, ours } = self;
        tracing::info!(server, ours, "GitLab has more of the trace than came through here; it goes on from there");
    }
}

/// GitLab has more of a trace than there is.
pub(crate) struct TraceDiverged {
    /// Bytes that GitLab has.
    pub(crate) server: u64,
    /// Bytes that we know of.
    pub(crate) ours: u64,
}

impl Said for TraceDiverged {
    fn log(&self) {
        let Self { server, ours } = self;
        tracing::warn!(server, ours, "GitLab has more of the trace than there is; no more of it is sent");
    }
}

/// GitLab does not take updates of a job, for this reason; or does again.
pub(crate) struct UpdatesRefused<'a>(pub(crate) Option<&'a str>);

impl Said for UpdatesRefused<'_> {
    fn log(&self) {
        if let Some(message) = self.0 {
            tracing::warn!("GitLab does not take updates of the job: {message}");
        } else {
            tracing::info!("GitLab takes updates of the job again");
        }
    }
}

/// GitLab cannot be told about a job that was found.
pub(crate) struct GitlabOutOfReach<'a>(pub(crate) &'a str);

impl Said for GitlabOutOfReach<'_> {
    fn log(&self) {
        tracing::warn!("GitLab cannot be told about a job that was found, and its agent has to do that: {}", self.0);
    }
}

/// An agent has sent what is no message.
pub(crate) struct StreamGarbled<'a>(pub(crate) &'a FrameError);

impl Said for StreamGarbled<'_> {
    fn log(&self) {
        tracing::warn!(error = %self.0, "the agent's stream cannot be understood; connecting again");
    }
}

/// What was left of a job in the cluster is gone, or is not.
pub(crate) struct LeftoverRemoved(pub(crate) Result<(), DeleteError>);

impl Said for LeftoverRemoved {
    fn log(&self) {
        match &self.0 {
            Ok(()) => tracing::info!("no pod is left of a job that had to end without its removal"),
            Err(error) => tracing::warn!(%error, "a pod is left behind"),
        }
    }
}

/// A Secret with a job's logins is left, because it could not be deleted.
pub(crate) struct SecretLeft<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// Why not.
    pub(crate) error: &'a ApiError,
}

impl Said for SecretLeft<'_> {
    fn log(&self) {
        let Self { name, namespace, error } = self;
        tracing::warn!(%error, "the Secret {name} is left in namespace {namespace}: grant update and delete on secrets, and delete it");
    }
}

/// A job's pod could not be deleted.
pub(crate) struct PodLeft<'a> {
    /// Why not.
    pub(crate) error: &'a DeleteError,
    /// It is tried again beside other jobs.
    pub(crate) tries_again: bool,
}

impl Said for PodLeft<'_> {
    fn log(&self) {
        let Self { error, tries_again } = self;
        if *tries_again {
            tracing::warn!(%error, "the job ends without that; the pod is removed later");
        } else {
            tracing::warn!(%error, "the pod is left to its deadline");
        }
    }
}
