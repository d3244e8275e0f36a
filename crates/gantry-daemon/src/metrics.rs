//! The metrics of the process, under the names and labels of GitLab Runner 19.4, so that its dashboards go on working.

use gantry_gitlab::RequestObservation;
use jiff::Timestamp;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Labels of a runner: short token, name, system id.
const RUNNER: [&str; 3] = ["runner", "runner_name", "system_id"];
const JOB_BUCKETS: [f64; 10] = [30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10800.0, 18000.0, 36000.0];
const QUEUE_BUCKETS: [f64; 10] = [1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0];
const API_BUCKETS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Who a series belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunnerLabels {
    /// Short token.
    pub(crate) runner: String,
    /// Configured name.
    pub(crate) name: String,
    /// The manager's system id.
    pub(crate) system_id: String,
}

impl RunnerLabels {
    fn values(&self) -> [&str; 3] {
        [&self.runner, &self.name, &self.system_id]
    }
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
                let process = prometheus::process_collector::ProcessCollector::for_self();
                registry.register(Box::new(process))?;
                $(let $field = $make?; registry.register(Box::new($field.clone()))?;)*
                Ok(Self { registry, $($field,)* })
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
    /// Entries of the configuration that ask for no jobs, because they cannot work.
    unusable_runners: IntGauge = IntGauge::new(
        "gantry_unusable_runners", "Number of [[runners]] entries that cannot work; the log and /health/ready say why");
    /// When tokens end that do.
    token_expiry: GaugeVec = GaugeVec::new(
        Opts::new("gantry_runner_token_expiry_timestamp_seconds", "When the token of a runner ends; nothing renews it by itself"),
        &RUNNER);
    /// What the process is doing.
    process_state: IntGaugeVec = gauges("gitlab_runner_process_state_info", "The state of the process", &["state"]);
    /// Seconds since 1970 of the last answer of GitLab to a request for a job.
    last_poll: Gauge = Gauge::new("gantry_last_poll_timestamp_seconds", "Time of the last answer to a request for a job");
    /// Seconds from taking a job to the agent's hello.
    pod_start: HistogramVec = histograms(
        "gantry_pod_start_duration_seconds", "Time from taking a job to its pod's agent having the plan", &RUNNER, &QUEUE_BUCKETS);
    /// Who we are.
    version_info: IntGaugeVec = gauges(
        "gitlab_runner_version_info", "A metric with a constant '1' value labeled by different build stats fields",
        &["architecture", "branch", "built_at", "go_version", "name", "os", "revision", "version"]);
}

impl Metrics {
    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        for (level, lines) in crate::log_counts::counts() {
            let counter = self.errors.with_label_values(&[level]);
            counter.inc_by(lines.saturating_sub(counter.get()));
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

    /// Makes the series of a runner visible before anything happens to it.
    pub(crate) fn seed(&self, labels: &RunnerLabels, limit: i64, request_concurrency: i64) {
        let values = labels.values();
        self.limit.with_label_values(&values).set(limit);
        for counter in [&self.jobs_total, &self.worker_feeds, &self.worker_feed_failures, &self.health_failures] {
            counter.with_label_values(&values);
        }
        let poll = [labels.runner.as_str(), labels.system_id.as_str()];
        self.request_hard_limit.with_label_values(&poll).set(request_concurrency);
        self.request_concurrency.with_label_values(&poll);
        self.jobs.with_label_values(&[&labels.runner, &labels.name, &labels.system_id, "idle", "idle", "idle"]).set(0);
    }

    /// Shows when the token of a runner ends, if it does.
    pub(crate) fn show_token_expiry(&self, labels: &RunnerLabels, expires: Option<Timestamp>) {
        let values = labels.values();
        match expires {
            Some(expires) => self.token_expiry.with_label_values(&values).set(expires.as_duration().as_secs_f64()),
            // Fails where there is none, which is as it should be.
            None => drop(self.token_expiry.remove_label_values(&values)),
        }
    }

    /// Only the current state is there.
    pub(crate) fn set_process_state(&self, state: &str) {
        self.process_state.reset();
        self.process_state.with_label_values(&[state]).set(1);
    }

    /// Sets the one series of [`Metrics::version_info`].
    pub(crate) fn set_version(&self, version: &str, revision: &str) {
        self.version_info
            .with_label_values(&[
                std::env::consts::ARCH,
                "",
                "",
                "none",
                "gantry",
                std::env::consts::OS,
                revision,
                version,
            ])
            .set(1);
    }
}

/// Counters that have only a runner's labels.
pub(crate) fn of(labels: &RunnerLabels) -> [&str; 3] {
    labels.values()
}
