//! Jobs that GitLab has handed out and that cannot run: it is told why, and nothing of them is
//! left.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::Ending;
use gantry_gitlab::{JobCredentials, PROTOCOL_VERSION, RunnerInfo};
use gantry_plan::{HeadLine, PlanError};
use tracing::Instrument as _;

use super::{Places, Runner};
use crate::events::{self, JobEnded, Said as _};
use crate::job_end::{JobEnd, JobSummary};
use crate::redaction::Guard;
use crate::rejected::{self, Rejected};
use crate::tasks;

/// A job that cannot run.
pub(super) struct Unprepared {
    /// For its log.
    pub(super) lines: Vec<HeadLine>,
    pub(super) ending: Ending,
    /// Keeps its secrets out of what is said about it.
    pub(super) given: Option<Arc<Guard>>,
}

impl Unprepared {
    /// One that ends this way, with nothing more to say.
    pub(super) fn of(ending: Ending) -> Self {
        Self { lines: Vec::new(), ending, given: None }
    }
}

impl Runner {
    /// Tells GitLab that a job's payload is not understood.
    pub(crate) fn reject(self: &Arc<Self>, creds: JobCredentials, message: String, places: Places) {
        let runner = Arc::clone(self);
        let tracker = self.shared.jobs.clone();
        let span = events::job_span(Some(creds.id), None, &self.labels.runner);
        let work = async move {
            let garbled = Unprepared::of(Ending::InvalidJob { message });
            runner.until_left(runner.report_rejected(creds, garbled, Vec::new())).await;
            drop(places);
        };
        tasks::spawn(tracker.track_future(work.instrument(span)));
    }

    pub(super) async fn report_rejected(
        &self,
        creds: JobCredentials,
        unprepared: Unprepared,
        failure_reasons: Vec<String>,
    ) {
        let Unprepared { lines, ending, given } = unprepared;
        let rejected = Rejected {
            client: self.client.clone(),
            creds,
            info: self.info.clone(),
            lines: std::iter::once(HeadLine::plain(banner())).chain(lines).collect(),
            ending,
            failure_reasons,
            pace: self.shared.pace,
        };
        let verdict = rejected::report(rejected).await;
        drop(given);
        let summary = JobSummary {
            end: JobEnd::Reported(None),
            verdict: Some(verdict),
            duration: Duration::ZERO,
            pod_start: None,
            usage: None,
            is_kept: false,
        };
        JobEnded(&summary).tell(&self.shared.metrics, &self.labels);
    }
}

/// What the log of a job without a plan says before its end.
pub(super) fn unplanned(error: &PlanError) -> Vec<HeadLine> {
    let PlanError::DisallowedImage(details) = error else { return Vec::new() };
    details.iter().map(|line| HeadLine::plain(line.clone())).collect()
}

fn banner() -> String {
    format!("Running with gantry {PROTOCOL_VERSION} ({})", RunnerInfo::revision())
}
