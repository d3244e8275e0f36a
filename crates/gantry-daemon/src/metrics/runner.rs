//! The series of one runner, and whose they are.

use gantry_config::RunnerSettings;
use gantry_core::short_token::short_token;
use jiff::Timestamp;

use super::{EXECUTOR, MODE, Metrics};
use crate::hold::HoldKind;

/// Who a series belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunnerLabels {
    /// Short token.
    pub(crate) runner: String,
    /// Configured name.
    pub(crate) name: String,
    /// The manager's system id.
    pub(crate) system_id: String,
}

impl RunnerLabels {
    /// Those of an entry.
    pub(crate) fn of(settings: &RunnerSettings, system_id: &str) -> Self {
        Self {
            runner: short_token(settings.token.expose()).to_owned(),
            name: settings.name.clone(),
            system_id: system_id.to_owned(),
        }
    }

    fn values(&self) -> [&str; 3] {
        [&self.runner, &self.name, &self.system_id]
    }

    /// Those of series about its requests for jobs, which have no name.
    pub(crate) fn of_polls(&self) -> [&str; 2] {
        [&self.runner, &self.system_id]
    }

    /// Whether an entry with the same token, and another name, has the same series about requests.
    pub(crate) fn shares_polls_with(&self, other: &Self) -> bool {
        self.of_polls() == other.of_polls()
    }
}

/// Counters that have only a runner's labels.
pub(crate) fn of(labels: &RunnerLabels) -> [&str; 3] {
    labels.values()
}

impl Metrics {
    /// Makes the series of a runner visible before anything happens to it.
    pub(crate) fn seed(&self, labels: &RunnerLabels, limit: i64, request_concurrency: i64) {
        let values = labels.values();
        self.limit.with_label_values(&values).set(limit);
        self.token_refused.with_label_values(&values);
        for counter in [
            &self.jobs_total,
            &self.jobs_adopted,
            &self.worker_feeds,
            &self.worker_feed_failures,
            &self.health_failures,
            &self.queuing_exceeded,
        ] {
            counter.with_label_values(&values);
        }
        let poll = labels.of_polls();
        self.request_hard_limit.with_label_values(&poll).set(request_concurrency);
        self.request_concurrency.with_label_values(&poll);
        self.concurrency_exceeded.with_label_values(&poll);
        for failure in ["other", "no_free_executor", "job_failure"] {
            self.processing_failures.with_label_values(&[failure, &labels.runner, &labels.name, &labels.system_id]);
        }
        self.execution_modes.with_label_values(&[MODE, EXECUTOR]);
        self.show_idle(labels);
        self.show_hold(labels, None);
    }

    /// Removes what is true only of a runner that asks for jobs, such as when its token ends: what
    /// nobody changes any more is false soon, and alarms are made of it. Counters stay, as what it
    /// has done. `shares_polls`: another runner has its series about requests.
    pub(crate) fn forget(&self, labels: &RunnerLabels, shares_polls: bool) {
        // Each fails where there is no such series, which is as it should be.
        let values = labels.values();
        for gauge in [
            &self.limit,
            &self.token_refused,
            &self.queue_size,
            &self.queue_depth,
            &self.pause_pods_desired,
            &self.pause_pods_current,
        ] {
            let _ = gauge.remove_label_values(&values);
        }
        for gauge in [&self.token_expiry, &self.token_renewal] {
            let _ = gauge.remove_label_values(&values);
        }
        let [runner, name, system_id] = values;
        for kind in HoldKind::ALL {
            let _ = self.requests_held.remove_label_values(&[runner, name, system_id, kind.as_str()]);
        }
        if !shares_polls {
            let poll = labels.of_polls();
            for gauge in [&self.request_concurrency, &self.request_hard_limit, &self.request_used_limit] {
                let _ = gauge.remove_label_values(&poll);
            }
            let _ = self.request_adaptive_limit.remove_label_values(&poll);
        }
    }

    /// The series that says of a runner that it is there, whether it has jobs or not.
    pub(crate) fn show_idle(&self, labels: &RunnerLabels) {
        self.jobs.with_label_values(&[&labels.runner, &labels.name, &labels.system_id, "idle", "idle", "idle"]).set(0);
    }

    /// Shows why a runner asks for no jobs.
    pub(crate) fn show_hold(&self, labels: &RunnerLabels, hold: Option<HoldKind>) {
        let [runner, name, system_id] = labels.values();
        for kind in HoldKind::ALL {
            let series = self.requests_held.with_label_values(&[runner, name, system_id, kind.as_str()]);
            series.set(i64::from(hold == Some(kind)));
        }
    }

    /// Shows when the token of a runner is to be renewed and when it ends, if it does.
    pub(crate) fn show_token_life(&self, labels: &RunnerLabels, renewal: Option<Timestamp>, end: Option<Timestamp>) {
        let values = labels.values();
        for (gauge, moment) in [(&self.token_renewal, renewal), (&self.token_expiry, end)] {
            match moment {
                Some(moment) => gauge.with_label_values(&values).set(moment.as_duration().as_secs_f64()),
                // Fails where there is none, which is as it should be.
                None => drop(gauge.remove_label_values(&values)),
            }
        }
    }
}
