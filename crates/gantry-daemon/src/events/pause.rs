//! What is said about pause pods.

use gantry_kube::{ApiError, Fault};

use crate::events::Said;
use crate::metrics::{Metrics, RunnerLabels, of};

/// Their priority class could not be made.
pub(crate) struct PauseClassNotMade<'a>(pub(crate) &'a ApiError);

impl Said for PauseClassNotMade<'_> {
    fn log(&self) {
        tracing::warn!(
            error = %self.0,
            "the priority class of pause pods cannot be made, and may be missing: grant create on priorityclasses \
             (scheduling.k8s.io) by a ClusterRole, or make it, with the value -1"
        );
    }
}

/// A Deployment is removed whose manager has long said nothing.
pub(crate) struct LeftPausePodsRemoved<'a>(pub(crate) &'a str);

impl Said for LeftPausePodsRemoved<'_> {
    fn log(&self) {
        tracing::info!(deployment = self.0, "removing pause pods whose manager is gone");
    }
}

/// There is another number of them.
pub(crate) struct PausePodsScaled<'a> {
    pub(crate) runner: &'a str,
    pub(crate) before: u32,
    pub(crate) pods: u32,
    /// The running jobs that the number is for.
    pub(crate) jobs: usize,
}

impl Said for PausePodsScaled<'_> {
    fn log(&self) {
        let Self { runner, before: _, pods, jobs } = self;
        tracing::info!(runner_name = runner, pods, jobs, "pause pods");
    }

    fn count(&self, metrics: &Metrics, runner: &RunnerLabels) {
        let direction = if self.pods > self.before { "up" } else { "down" };
        let [runner, name, system_id] = of(runner);
        metrics.pause_pods_scaled.with_label_values(&[runner, name, system_id, direction]).inc();
    }
}

/// Something about them has failed.
pub(crate) struct PausePodsFailed<'a> {
    pub(crate) runner: &'a str,
    /// What it was, in the words of the metric.
    pub(crate) reason: &'static str,
    pub(crate) error: &'a ApiError,
    /// Whether the same was said before.
    pub(crate) is_said: bool,
}

impl Said for PausePodsFailed<'_> {
    fn log(&self) {
        let Self { runner, error, is_said, .. } = self;
        if *is_said {
            return;
        }
        let change = match error.fault {
            Fault::Forbidden => ": grant list, create, patch and delete on deployments (apps)",
            _ => "",
        };
        tracing::warn!(runner_name = runner, "there may be no pause pods{change}: {error}");
    }

    fn count(&self, metrics: &Metrics, runner: &RunnerLabels) {
        let [runner, name, system_id] = of(runner);
        metrics.pause_pods_errors.with_label_values(&[runner, name, system_id, self.reason]).inc();
    }
}

/// A manager that ends has not removed them in time.
pub(crate) struct PausePodsLeft<'a>(pub(crate) &'a str);

impl Said for PausePodsLeft<'_> {
    fn log(&self) {
        tracing::warn!(deployment = self.0, "the pause pods could not be removed in time");
    }
}
