//! The metrics of the process, under the names and labels of GitLab Runner 19.4, so that its
//! dashboards go on working.

mod runner;

use std::time::Duration;

use gantry_gitlab::RequestObservation;
use gantry_storage::RoleEvent;
use gantry_wire::usage::Usage;
use prometheus::core::{Collector as _, Desc};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::process_limits::ProcessLimits;
use crate::process_metrics::ProcessMetrics;

pub(crate) use runner::{RunnerLabels, of};

/// Label of the reference for the way in which a job ran; there is only one.
pub(crate) const MODE: &str = "traditional";

/// What carries jobs out, in the same place.
pub(crate) const EXECUTOR: &str = "kubernetes";

/// Labels of a runner: short token, name, system id.
const RUNNER: [&str; 3] = ["runner", "runner_name", "system_id"];
const JOB_BUCKETS: [f64; 10] = [30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10800.0, 18000.0, 36000.0];
const QUEUE_BUCKETS: [f64; 10] = [1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0];
const MEMORY_BUCKETS: [f64; 10] = [64e6, 128e6, 256e6, 512e6, 1024e6, 2048e6, 4096e6, 8192e6, 16384e6, 32768e6];
/// Parts of a start take tenths of seconds where all is well.
const START_BUCKETS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const ROLE_WAIT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const ROLE_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const API_BUCKETS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What is known of a metric, for those who read about it.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What it counts or measures.
    pub help: String,
}

impl Metric {
    fn new(rust_type: &str, desc: &Desc) -> Self {
        let kind = match rust_type {
            counter if counter.contains("Counter") => "counter",
            histogram if histogram.contains("Histogram") => "histogram",
            _ => "gauge",
        };
        Self { name: desc.fq_name.clone(), kind, labels: desc.variable_labels.clone(), help: desc.help.clone() }
    }
}

/// Every metric that is shown, but those of the process.
pub fn metrics_reference() -> Vec<Metric> {
    Metrics::new().map(|metrics| metrics.describe()).unwrap_or_default()
}

macro_rules! metrics {
    ($($(#[$meta:meta])* $field:ident: $kind:ty = $make:expr;)*) => {
        /// All of them.
        pub(crate) struct Metrics {
            registry: Registry,
            $($(#[$meta])* pub(crate) $field: $kind,)*
        }

        impl Metrics {
            /// Registers everything, the process's own metrics included.
            pub(crate) fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                registry.register(Box::new(ProcessMetrics::new()?))?;
                registry.register(Box::new(ProcessLimits::new()?))?;
                $(let $field = $make?; registry.register(Box::new($field.clone()))?;)*
                let metrics = Self { registry, $($field,)* };
                metrics.seed_process();
                Ok(metrics)
            }

            /// All of them but those of the process, as the reference has them.
            fn describe(&self) -> Vec<Metric> {
                let mut list = Vec::new();
                $(list.extend(self.$field.desc().into_iter().map(|desc| Metric::new(stringify!($kind), desc)));)*
                list
            }
        }
    };
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
}

metrics! {
    /// Jobs at once, of all runners.
    concurrent: IntGauge = IntGauge::new("gitlab_runner_concurrent", "The current value of concurrent setting");
    /// Jobs at once, per runner.
    limit: IntGaugeVec = gauges("gitlab_runner_limit", "The current value of limit setting of a runner, 0 for none", &RUNNER);
    /// Running jobs.
    jobs: IntGaugeVec = gauges(
        "gitlab_runner_jobs", "The current number of running builds",
        &["runner", "runner_name", "system_id", "state", "stage", "executor_stage"]);
    /// Jobs taken.
    jobs_total: IntCounterVec = counters("gitlab_runner_jobs_total", "Total number of handled jobs", &RUNNER);
    /// Jobs of other managers that go on under this one.
    jobs_adopted: IntCounterVec = counters(
        "gantry_jobs_adopted_total", "Total number of running jobs that this manager has taken over from one that is gone", &RUNNER);
    /// Seconds from taking a job to its end.
    job_duration: HistogramVec = histograms(
        "gitlab_runner_job_duration_seconds", "Histogram of job durations",
        &["runner", "runner_name", "system_id", "mode"], &JOB_BUCKETS);
    /// Seconds that jobs waited in GitLab.
    queue_duration: HistogramVec = histograms(
        "gitlab_runner_job_queue_duration_seconds", "A histogram representing job queue duration",
        &["runner", "runner_name", "system_id", "project_jobs_running"], &QUEUE_BUCKETS);
    /// Length of the queue that the last job came from.
    queue_size: IntGaugeVec = gauges("gitlab_runner_job_queue_size", "Size of the queue the last job was taken from", &RUNNER);
    /// Place of the last job in its queue.
    queue_depth: IntGaugeVec = gauges("gitlab_runner_job_queue_depth", "Place of the last job in its queue", &RUNNER);
    /// Jobs that failed, by our own reason.
    failed_jobs: IntCounterVec = counters(
        "gitlab_runner_failed_jobs_total", "Total number of failed jobs",
        &["runner", "runner_name", "failure_reason", "mode"]);
    /// Polls in flight.
    request_concurrency: IntGaugeVec = gauges(
        "gitlab_runner_request_concurrency", "The current number of concurrent requests for a new job", &["runner", "system_id"]);
    /// Polls that may be in flight, as configured.
    request_hard_limit: IntGaugeVec = gauges(
        "gitlab_runner_request_concurrency_hard_limit", "Configured request_concurrency", &["runner", "system_id"]);
    /// Polls that may be in flight, as adapted: computed.
    request_adaptive_limit: GaugeVec = GaugeVec::new(
        Opts::new("gitlab_runner_request_concurrency_adaptive_limit", "Computed limit of concurrent requests for a new job"),
        &["runner", "system_id"]);
    /// Polls that may be in flight, as adapted: in force.
    request_used_limit: IntGaugeVec = gauges(
        "gitlab_runner_request_concurrency_used_limit", "Limit of concurrent requests for a new job in force", &["runner", "system_id"]);
    /// Times a runner was given a chance to ask for a job.
    worker_feeds: IntCounterVec = counters("gitlab_runner_worker_feeds_total", "Total number of times that a runner was polled", &RUNNER);
    /// Times a runner was skipped.
    worker_feed_failures: IntCounterVec = counters(
        "gitlab_runner_worker_feed_failures_total", "Total number of times that a runner could not be polled", &RUNNER);
    /// Polls that GitLab refused.
    health_failures: IntCounterVec = counters(
        "gitlab_runner_worker_health_check_failures_total", "Total number of unhealthy job requests", &RUNNER);
    /// Jobs that could not be worked on.
    processing_failures: IntCounterVec = counters(
        "gitlab_runner_worker_processing_failures_total", "Total number of jobs that could not be processed",
        &["failure_type", "runner", "runner_name", "system_id"]);
    /// Jobs taken, by the way in which their steps come.
    execution_modes: IntCounterVec = counters(
        "gitlab_runner_job_execution_mode_total", "Total number of jobs by execution mode", &["mode", "executor"]);
    /// Chances to ask that a runner did not take, because enough of its requests were under way.
    concurrency_exceeded: IntCounterVec = counters(
        "gitlab_runner_request_concurrency_exceeded_total",
        "Counter tracking exceeding of request concurrency", &["runner", "system_id"]);
    /// Places for jobs.
    worker_slots: IntGauge = IntGauge::new("gitlab_runner_worker_slots_number", "Number of places for jobs");
    /// How the number of places has changed.
    worker_slot_operations: IntCounterVec = counters(
        "gitlab_runner_worker_slot_operations_total", "Total number of places that were made and taken away", &["operation"]);
    /// Answers of API servers.
    kubernetes_requests: IntCounterVec = counters(
        "gantry_kubernetes_requests_total", "Total number of requests to API servers by answer; exec is an exec that came to nothing, as into a container that does not run yet; none is no answer at all", &["code"]);
    /// Log lines by level.
    errors: IntCounterVec = counters("gitlab_runner_errors_total", "The number of caught errors", &["level"]);
    /// Calls to GitLab, by status.
    api_statuses: IntCounterVec = counters(
        "gitlab_runner_api_request_statuses_total", "The total number of api requests, partitioned by runner, endpoint and status",
        &["runner", "system_id", "endpoint", "status", "method"]);
    /// Seconds of calls to GitLab.
    api_durations: HistogramVec = histograms(
        "gitlab_runner_api_request_duration_seconds", "Latency histogram of API requests made by GitLab Runner",
        &["runner", "system_id", "endpoint", "status_class", "method"], &API_BUCKETS);
    /// Tries of calls to GitLab.
    api_attempts: IntCounterVec = counters(
        "gitlab_runner_api_request_retries_total", "The total number of tries of api requests", &["path", "method"]);
    /// Successful loads of the configuration.
    config_loaded: IntCounter = IntCounter::new(
        "gitlab_runner_configuration_loaded_total", "Total number of times the configuration file was loaded by Runner process");
    /// Failed loads of the configuration.
    config_errors: IntCounter = IntCounter::new(
        "gitlab_runner_configuration_loading_error_total",
        "Total number of times the configuration file was not loaded by Runner process due to errors");
    /// Times the file was written.
    config_saved: IntCounter = IntCounter::new(
        "gitlab_runner_configuration_saved_total", "Total number of times the configuration file was saved by Runner process");
    /// Times it could not be.
    config_save_errors: IntCounter = IntCounter::new(
        "gitlab_runner_configuration_saving_error_total",
        "Total number of times the configuration file was not saved by Runner process due to errors");
    /// Entries of the configuration that ask for no jobs, because they cannot work.
    unusable_runners: IntGauge = IntGauge::new(
        "gantry_unusable_runners", "Number of [[runners]] entries that cannot work; the log and /health/ready say why");
    /// Runners whose tokens GitLab refuses.
    token_refused: IntGaugeVec = gauges(
        "gantry_runner_token_refused", "1 while GitLab refuses the token of a runner; 0 for one that is paused", &RUNNER);
    /// Why runners ask for no jobs although they have places.
    requests_held: IntGaugeVec = gauges(
        "gantry_job_requests_held", "1 while a runner asks for no jobs although it has places, by the reason; the log says more",
        &["runner", "runner_name", "system_id", "reason"]);
    /// When tokens end that do.
    token_expiry: GaugeVec = GaugeVec::new(
        Opts::new("gantry_runner_token_expiry_timestamp_seconds", "When the token of a runner ends; it is renewed when three quarters of its life are over"),
        &RUNNER);
    /// When tokens should have been renewed.
    token_renewal: GaugeVec = GaugeVec::new(
        Opts::new("gantry_runner_token_renewal_timestamp_seconds", "When three quarters of the life of a runner's token are over, so that it is to be renewed"),
        &RUNNER);
    /// What the process is doing.
    process_state: IntGaugeVec = gauges("gitlab_runner_process_state_info", "The state of the process", &["state"]);
    /// Seconds since 1970 of the last answer of GitLab to a request for a job.
    last_poll: Gauge = Gauge::new("gantry_last_poll_timestamp_seconds", "Time of the last answer to a request for a job");
    /// Seconds for which requests for jobs have had no answer.
    unanswered: Gauge = Gauge::new(
        "gantry_job_requests_unanswered_seconds",
        "For how long requests for jobs have had no answer; 0 while none is asked for, as all places are taken");
    /// Seconds from taking a job to the agent's hello.
    pod_start: HistogramVec = histograms(
        "gantry_pod_start_duration_seconds", "Time from taking a job to its pod's agent having the plan", &RUNNER, &QUEUE_BUCKETS);
    /// Most memory that build containers needed.
    job_memory: HistogramVec = histograms(
        "gantry_job_memory_peak_bytes", "Most memory that the build container of a job needed at once, without cached files", &RUNNER, &MEMORY_BUCKETS);
    /// Time of build containers on CPUs.
    job_cpu: HistogramVec = histograms(
        "gantry_job_cpu_seconds", "Time of the build container of a job on CPUs", &RUNNER, &JOB_BUCKETS);
    /// What jobs leave in their project's directory.
    job_disk: HistogramVec = histograms(
        "gantry_job_disk_bytes", "Size of a job's project directory at its end", &RUNNER, &MEMORY_BUCKETS);
    /// The same by what was waited for: the pod, its node, its agent, the agent's word that it has
    /// the plan.
    start_phases: HistogramVec = histograms(
        "gantry_job_start_phase_duration_seconds",
        "Time of a job's start by phase: pod (made by the API server), node (found), agent (started and reached), plan (taken)",
        &["runner", "runner_name", "system_id", "phase"], &START_BUCKETS);
    /// Seconds of stages.
    stage_duration: HistogramVec = histograms(
        "gitlab_runner_job_stage_duration_seconds",
        "Histogram of job stage durations; only with FF_EXPORT_HIGH_CARDINALITY_METRICS",
        &["runner", "runner_name", "system_id", "stage"], &QUEUE_BUCKETS);
    /// Jobs that have waited longer than they may.
    queuing_exceeded: IntCounterVec = counters(
        "gitlab_runner_acceptable_job_queuing_duration_exceeded_total",
        "Total number of jobs that waited longer than [[runners.monitoring.job_queuing_durations]] accepts", &RUNNER);
    /// Pause pods that a runner should have.
    pause_pods_desired: IntGaugeVec = gauges(
        "gitlab_runner_kubernetes_autoscaler_pause_pods_desired", "The number of pause pods that there should be", &RUNNER);
    /// Pause pods that are ready, as was seen last.
    pause_pods_current: IntGaugeVec = gauges(
        "gitlab_runner_kubernetes_autoscaler_pause_pods_current", "The number of pause pods that are ready", &RUNNER);
    /// Failures.
    pause_pods_errors: IntCounterVec = counters(
        "gitlab_runner_kubernetes_autoscaler_reconcile_errors_total", "Total number of failures to look after pause pods",
        &["runner", "runner_name", "system_id", "reason"]);
    /// Changes of their number.
    pause_pods_scaled: IntCounterVec = counters(
        "gitlab_runner_kubernetes_autoscaler_scale_operations_total", "Total number of changes of the number of pause pods",
        &["runner", "runner_name", "system_id", "direction"]);
    /// Texts of jobs that inputs stand in.
    inputs: IntCounter = IntCounter::new(
        "gitlab_runner_job_inputs_interpolations_total",
        "Total number of texts of jobs in which an expression about inputs was replaced by its value");
    /// Expressions about inputs that failed their job.
    input_failures: IntCounterVec = counters(
        "gitlab_runner_job_inputs_interpolation_failures_total",
        "Total number of expressions about inputs of jobs that failed, by what is wrong with them: parse, evaluation, sensitive_unsupported",
        &["error_type"]);
    /// Roles for objects of caches that are asked for now.
    roles_in_flight: IntGauge = IntGauge::new(
        "gitlab_runner_cache_s3_assume_role_requests_in_flight", "Number of requests to assume a role for a cache (RoleARN) that are under way");
    /// Seconds that such requests waited for their turn.
    role_wait: Histogram = histogram(
        "gitlab_runner_cache_s3_assume_role_wait_seconds",
        "Time that a request to assume a role waited for its turn (AssumeRoleMaxConcurrency)", &ROLE_WAIT_BUCKETS);
    /// Seconds that they took.
    role_duration: Histogram = histogram(
        "gitlab_runner_cache_s3_assume_role_duration_seconds", "Time that a request to assume a role took", &ROLE_BUCKETS);
    /// What was kept of a role and used again.
    role_hits: IntCounter = IntCounter::new(
        "gitlab_runner_cache_s3_assume_role_cache_hits_total", "Number of times that the keys of an assumed role were used again");
    /// Roles that were asked for.
    role_misses: IntCounter = IntCounter::new(
        "gitlab_runner_cache_s3_assume_role_cache_misses_total", "Number of times that a role was assumed anew");
    /// What is kept of roles.
    roles_kept: IntGauge = IntGauge::new(
        "gitlab_runner_cache_s3_assume_role_cached_credentials", "Number of assumed roles whose keys are kept to be used again");
    /// Roles that were refused.
    role_failures: IntCounter = IntCounter::new(
        "gitlab_runner_cache_s3_assume_role_failures_total", "Number of requests to assume a role that failed");
    /// The job router is not used: its breaker is closed.
    router_breaker: IntGauge = IntGauge::new(
        "gitlab_runner_job_router_circuit_breaker_state", "State of the job router's circuit breaker; 0 as long as no router is used");
    /// The same.
    router_trips: IntCounter = IntCounter::new(
        "gitlab_runner_job_router_circuit_breaker_trips_total", "Times the job router's circuit breaker has opened; 0 as long as no router is used");
    /// The same.
    router_discovery: IntCounterVec = counters(
        "gitlab_runner_job_router_discovery_cache_events_total",
        "Look-ups of the job router's address; 0 as long as no router is used", &["result"]);
    /// The same.
    router_fallbacks: IntCounterVec = counters(
        "gitlab_runner_job_router_fallbacks_total",
        "Requests for jobs that went to GitLab in place of its job router; 0 as long as no router is used", &["reason"]);
    /// Who we are.
    version_info: IntGaugeVec = gauges(
        "gitlab_runner_version_info", "A metric with a constant '1' value labeled by different build stats fields",
        &["architecture", "branch", "built_at", "go_version", "name", "os", "revision", "version"]);
}

impl Metrics {
    /// The text that Prometheus scrapes. One at a time: counts of others are brought up to date
    /// first.
    pub(crate) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        for (level, lines) in crate::log_counts::counts() {
            let counter = self.errors.with_label_values(&[level]);
            counter.inc_by(lines.saturating_sub(counter.get()));
        }
        for (code, answers) in gantry_kube::requests::counts() {
            let counter = self.kubernetes_requests.with_label_values(&[code]);
            counter.inc_by(answers.saturating_sub(counter.get()));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Counts a finished call to GitLab.
    pub(crate) fn observe(&self, labels: &RunnerLabels, call: &RequestObservation) {
        self.api_attempts.with_label_values(&[&call.path, call.method]).inc_by(u64::from(call.attempts));
        if !call.endpoint.has_series() {
            return;
        }
        let (runner, system_id, endpoint) = (labels.runner.as_str(), labels.system_id.as_str(), call.endpoint.as_str());
        let status = call.status.to_string();
        self.api_statuses.with_label_values(&[runner, system_id, endpoint, &status, call.method]).inc();
        let class =
            if (100..600).contains(&call.status) { format!("{}xx", call.status / 100) } else { "unknown".to_owned() };
        self.api_durations
            .with_label_values(&[runner, system_id, endpoint, &class, call.method])
            .observe(call.duration.as_secs_f64());
    }

    /// Counts what a job has used, as far as that is known.
    pub(crate) fn count_usage(&self, labels: &RunnerLabels, usage: &Usage) {
        let values = of(labels);
        #[expect(clippy::cast_precision_loss, reason = "a histogram needs no more than 52 bits")]
        let counts = [
            (&self.job_memory, usage.memory_peak.map(|bytes| bytes as f64)),
            (&self.job_cpu, usage.cpu_us.map(|micros| Duration::from_micros(micros).as_secs_f64())),
            (&self.job_disk, usage.disk.map(|bytes| bytes as f64)),
        ];
        for (histogram, value) in counts {
            if let Some(value) = value {
                histogram.with_label_values(&values).observe(value);
            }
        }
    }

    /// Makes the series visible that belong to no runner, before anything happens.
    fn seed_process(&self) {
        for level in ["panic", "fatal", "error", "warning"] {
            self.errors.with_label_values(&[level]);
        }
        for operation in ["started", "stopped"] {
            self.worker_slot_operations.with_label_values(&[operation]);
        }
        for error in ["parse", "evaluation", "sensitive_unsupported"] {
            self.input_failures.with_label_values(&[error]);
        }
        for result in ["hit", "miss"] {
            self.router_discovery.with_label_values(&[result]);
        }
        for reason in ["no_discovery", "breaker_open", "dial_failed", "breaker_tripped", "router_disabled"] {
            self.router_fallbacks.with_label_values(&[reason]);
        }
    }

    /// Shows how many places for jobs there are now.
    pub(crate) fn show_places(&self, places: u32) {
        let (now, before) = (i64::from(places), self.worker_slots.get());
        let made = u64::try_from(now - before).unwrap_or(0);
        let taken = u64::try_from(before - now).unwrap_or(0);
        self.worker_slot_operations.with_label_values(&["started"]).inc_by(made);
        self.worker_slot_operations.with_label_values(&["stopped"]).inc_by(taken);
        self.worker_slots.set(now);
        self.concurrent.set(now);
    }

    /// Counts what happens about roles that are assumed for caches.
    pub(crate) fn observe_role(&self, event: RoleEvent) {
        match event {
            RoleEvent::Reused => self.role_hits.inc(),
            RoleEvent::Asked { waited } => {
                self.role_misses.inc();
                self.roles_in_flight.inc();
                self.role_wait.observe(waited.as_secs_f64());
            }
            RoleEvent::Over { took, granted } => {
                self.roles_in_flight.dec();
                self.role_duration.observe(took.as_secs_f64());
                self.role_failures.inc_by(u64::from(!granted));
            }
            RoleEvent::Kept(more) => self.roles_kept.add(more),
        }
    }

    /// Only the current state is there.
    pub(crate) fn set_process_state(&self, state: &str) {
        self.process_state.reset();
        self.process_state.with_label_values(&[state]).set(1);
    }

    /// Sets the one series of [`Metrics::version_info`].
    pub(crate) fn set_version(&self, version: &str, revision: &str, built_at: &str) {
        self.version_info
            .with_label_values(&[
                gantry_gitlab::architecture(),
                "",
                built_at,
                "none",
                "gantry",
                gantry_gitlab::platform(),
                revision,
                version,
            ])
            .set(1);
    }
}

#[cfg(test)]
mod tests;
