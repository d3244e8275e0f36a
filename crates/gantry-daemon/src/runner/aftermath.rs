//! What is said of a job when it has ended: how long its parts have taken, in metrics and in the
//! trace that GitLab has asked for.

use gantry_core::feature_flags;
use gantry_core::job::JobSpec;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Runner;
use crate::events::{JobParted, Said as _};
use crate::job_end::JobSummary;
use crate::tasks;
use crate::telemetry::Traced;
use crate::view::JobView;

/// Whether the stages of jobs are measured (GitLab Runner 19.4).
const HIGH_CARDINALITY: &str = "FF_EXPORT_HIGH_CARDINALITY_METRICS";

/// What is still to be said of a job when it has ended.
pub(super) struct Aftermath {
    taken: Instant,
    seen: watch::Receiver<JobView>,
    traced: Option<Traced>,
    shows_stages: bool,
}

impl Runner {
    pub(super) fn aftermath(
        &self,
        spec: &JobSpec,
        (taken, unix_ms): (Instant, u64),
        seen: watch::Receiver<JobView>,
    ) -> Aftermath {
        let traced = Traced::of(spec, self.settings.id, taken, unix_ms);
        let of_runner = self.settings.feature_flags.get(HIGH_CARDINALITY).copied();
        let of_job = spec.variables.iter().rev().find(|variable| variable.key == HIGH_CARDINALITY);
        let of_job = of_job.map(|variable| variable.value.expose());
        let shows_stages = feature_flags::is_on(HIGH_CARDINALITY, of_runner, of_job);
        Aftermath { taken, seen, traced, shows_stages }
    }

    /// Says how long the parts of a job have taken.
    pub(super) fn measured(&self, Aftermath { taken, seen, traced, shows_stages }: Aftermath, summary: JobSummary) {
        let moments = seen.borrow().moments.clone();
        let stages = if shows_stages { moments.stages(Instant::now()) } else { Vec::new() };
        JobParted { starting: &moments.starting(taken), stages: &stages }.tell(&self.shared.metrics, &self.labels);
        if let Some(traced) = traced {
            let sending = traced.send(summary.verdict, moments, self.shared.certificate_directories.clone());
            tasks::spawn(self.shared.jobs.track_future(sending.in_current_span()));
        }
    }
}
