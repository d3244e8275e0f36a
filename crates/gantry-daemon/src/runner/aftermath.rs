//! What is said of a job when it has ended: how long its parts have taken, in metrics and in the
//! trace that GitLab has asked for.

use gantry_config::RunnerSettings;
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
        Aftermath { taken, seen, traced, shows_stages: is_on(&self.settings, spec, HIGH_CARDINALITY) }
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

/// A feature flag that is off unless somebody sets it: the entry of the runner, else the job.
fn is_on(runner: &RunnerSettings, job: &JobSpec, flag: &str) -> bool {
    let of_job = || {
        let found = job.variables.iter().rev().find(|variable| variable.key == flag)?;
        feature_flags::parse_bool(found.value.expose())
    };
    runner.feature_flags.get(flag).copied().or_else(of_job).unwrap_or(false)
}
