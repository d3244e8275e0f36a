//! Jobs that cannot be run at all: their payload is not understood, or there is no plan for them.
//! GitLab is told why, in the job log.

use gantry_core::{Ending, Verdict};
use gantry_gitlab::{Client, JobCredentials, RunnerInfo};
use gantry_plan::HeadLine;
use gantry_relay::{AckOutcome, FinishedTrace, Input, Pace, RelayEnd, RelayJob, Report};
use gantry_wire::plan::TracePlan;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::events::{RejectedGone, RejectedUntold, Said as _, UpdatesRefused};
use crate::job::HeadLog;
use crate::redaction::redact;

/// How long such a job is worth telling GitLab about: as long as it waits for an acknowledgement,
/// twice.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(240);

/// A job that will not run.
pub(crate) struct Rejected {
    pub(crate) client: Client,
    pub(crate) creds: JobCredentials,
    pub(crate) info: RunnerInfo,
    /// Lines for the head of its log.
    pub(crate) lines: Vec<HeadLine>,
    pub(crate) ending: Ending,
    pub(crate) failure_reasons: Vec<String>,
    pub(crate) pace: Pace,
}

/// Reports the job failed.
pub(crate) async fn report(job: Rejected) -> Verdict {
    let verdict = job.ending.verdict();
    let id = job.creds.id;
    let trouble = |message: Option<&str>| UpdatesRefused(message).say();
    let acknowledged = gantry_relay::acknowledge(&job.client, &job.creds, &job.info, trouble).await;
    if let AckOutcome::Gone(reason) = acknowledged {
        RejectedGone(reason).say();
        return verdict;
    }
    // There is no plan that would say what to mask.
    let text = redact(Some(id), &log(&job.lines, &verdict)).into_owned();
    let closed = FinishedTrace {
        verdict: verdict.clone(),
        trace_bytes: text.len() as u64,
        trace_crc32: Some(crc32fast::hash(text.as_bytes())),
    };
    let relay = RelayJob {
        creds: job.creds,
        info: job.info,
        debug_trace: false,
        failure_reasons: job.failure_reasons,
        acknowledged: true,
        final_tries: 1,
        deadline: Instant::now() + DEADLINE,
        pace: job.pace,
    };
    let (inputs, receiver) = mpsc::channel(2);
    // The reports say nothing that changes the end of this job; the relay does not wait for their
    // reader.
    let (reports, _unread) = mpsc::channel::<Report>(1);
    let _ = inputs.try_send(Input::Trace { offset: 0, bytes: text.into() });
    let _ = inputs.try_send(Input::Closed(Box::new(closed)));
    match gantry_relay::run(job.client, relay, receiver, reports).await {
        RelayEnd::Delivered => {}
        end => RejectedUntold(end).say(),
    }
    verdict
}

fn log(lines: &[HeadLine], verdict: &Verdict) -> String {
    let plan = TracePlan {
        head: String::new(),
        masks: Vec::new(),
        token_prefixes: Vec::new(),
        timestamps: true,
        sections: false,
        limit_bytes: gantry_core::limits::DEFAULT_OUTPUT_LIMIT,
        debug_trace: false,
    };
    let now = Timestamp::now();
    let mut log = HeadLog::new(&plan, lines, now);
    log.end(verdict, now);
    log.text()
}
