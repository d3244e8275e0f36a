//! One job and the legal steps of its life. No IO, no clock, no lock: every step is told the time.
//! How PUT and PATCH are judged is in `put.rs` and `patch.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::status::Status;
use super::trace::Trace;
use crate::ci::CiJob;
use crate::clock::Now;
use crate::config::Timing;
use crate::repo::Checkout;

/// Where a job's payload comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Given through `/sim/jobs`, as it was given.
    Raw(Arc<RawJob>),
    /// A job of a pipeline.
    Pipeline {
        /// Its pipeline.
        id: u64,
        /// Its definition.
        job: Arc<CiJob>,
    },
}

/// A job given through `/sim/jobs`.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawJob {
    /// The payload's keys exactly as given; defaults are added when it is handed out.
    pub(crate) payload: Map<String, Value>,
    /// `repo` and `ref`: what the job works on.
    pub(crate) checkout: Option<Checkout>,
    /// `extra_variables`: come after all others.
    pub(crate) extra_variables: Vec<Value>,
    /// `exact`: no default is added.
    pub(crate) exact: bool,
}

/// Who has the job.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) runner: u64,
    pub(crate) system_id: String,
    /// The runner acknowledges before the job counts as running.
    pub(crate) two_phase: bool,
    /// The runner can run `after_script` of a canceled job.
    pub(crate) graceful: bool,
    /// The runner sends its log again when it is told that it is broken.
    pub(crate) resends_log: bool,
    /// Last PUT, PATCH or upload.
    pub(crate) heard: Instant,
    /// The last of them that was noted: GitLab writes signs of life down only now and then.
    pub(crate) noted: Instant,
    /// Since when the job runs.
    pub(crate) begun: Option<Instant>,
    pub(crate) token_expires: Instant,
}

/// A stored artifact.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) filename: String,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    pub(crate) expire_in: Option<String>,
    /// What a dotenv report hands to later jobs; empty for every other type.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) path: PathBuf,
}

/// A rule of the protocol that a client broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) rule: &'static str,
    pub(crate) detail: String,
}

impl Breach {
    pub(crate) fn new(rule: &'static str, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

/// What a new job is made of.
#[derive(Clone, Debug)]
pub(crate) struct NewJob {
    pub(crate) name: String,
    pub(crate) stage: String,
    pub(crate) source: Source,
    pub(crate) tags: Vec<String>,
    pub(crate) timeout: Duration,
    /// The log counts as watched all the time.
    pub(crate) watched: bool,
    /// A token that must be used as given; otherwise each hand-out gets a new one.
    pub(crate) fixed_token: Option<String>,
}

impl NewJob {
    /// The same for another try. An id and a token that were given belong to the first one.
    pub(crate) fn again(&self) -> Self {
        let source = match &self.source {
            Source::Raw(raw) => {
                let mut raw = RawJob::clone(raw);
                raw.payload.remove("id");
                raw.payload.remove("token");
                Source::Raw(Arc::new(raw))
            }
            pipeline @ Source::Pipeline { .. } => pipeline.clone(),
        };
        Self { source, fixed_token: None, ..self.clone() }
    }
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) new: NewJob,
    pub(crate) token: String,
    pub(crate) status: Status,
    pub(crate) failure_reason: Option<String>,
    /// What a person should know of its end that no log says.
    pub(crate) note: Option<String>,
    pub(crate) exit_code: Option<i64>,
    /// What `coverage` found in the log.
    pub(crate) coverage: Option<f64>,
    /// The pipeline that the job has started.
    pub(crate) downstream: Option<u64>,
    pub(crate) created_at: Timestamp,
    pub(crate) queued_at: Option<Timestamp>,
    /// The same for deadlines.
    pub(crate) queued: Option<Instant>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    /// For [`Status::Scheduled`].
    pub(crate) start_at: Option<Instant>,
    pub(crate) lease: Option<Lease>,
    /// Who had the job last, for people.
    pub(crate) runner: Option<(u64, String)>,
    pub(crate) trace: Trace,
    pub(crate) last_look: Option<Instant>,
    /// Until when the log's lock is held.
    pub(crate) log_locked_until: Option<Instant>,
    /// Until when stored bytes are on their way to their final place.
    pub(crate) log_live_until: Option<Instant>,
    pub(crate) artifacts: Vec<Artifact>,
    /// `features.failure_reasons` as delivered.
    pub(crate) accepted_reasons: Vec<String>,
    /// Jobs whose artifacts this job's token may fetch.
    pub(crate) dependencies: Vec<u64>,
    /// The terminal state the runner reported, once accepted.
    pub(crate) reported: Option<String>,
    /// Since when a final PUT waits for missing log bytes.
    pub(crate) final_since: Option<Instant>,
    /// Replaced by a later try.
    pub(crate) retried: bool,
    /// How many tries there were before this one, by hand or by themselves.
    pub(crate) attempt: u32,
    /// What git was sent with the job's token.
    pub(crate) git_bytes: u64,
    /// Log and artifacts were deleted by a person; the job is closed to its token.
    pub(crate) erased: bool,
    /// Where the runner that has it can be reached for a terminal: `url`, `certificate` and
    /// `authorization`.
    pub(crate) session: Option<Value>,
}

impl Job {
    pub(crate) fn new(id: u64, new: NewJob, now: Now) -> Self {
        let token = new.fixed_token.clone().unwrap_or_else(crate::tokens::job);
        Self {
            id,
            new,
            token,
            status: Status::Created,
            failure_reason: None,
            note: None,
            exit_code: None,
            coverage: None,
            downstream: None,
            created_at: now.wall,
            queued_at: None,
            queued: None,
            started_at: None,
            finished_at: None,
            start_at: None,
            lease: None,
            runner: None,
            trace: Trace::default(),
            last_look: None,
            log_locked_until: None,
            log_live_until: None,
            artifacts: Vec::new(),
            accepted_reasons: Vec::new(),
            dependencies: Vec::new(),
            reported: None,
            final_since: None,
            retried: false,
            attempt: 0,
            git_bytes: 0,
            erased: false,
            session: None,
        }
    }

    /// Makes the job available to runners.
    pub(crate) fn enqueue(&mut self, now: Now) {
        self.status = Status::Pending;
        self.queued_at = Some(now.wall);
        self.queued = Some(now.at);
        self.lease = None;
        self.start_at = None;
    }

    /// Hands the job to a runner. A runner without two-phase acceptance has it running from here
    /// on.
    pub(crate) fn assign(&mut self, lease: Lease, now: Now) {
        self.runner = Some((lease.runner, lease.system_id.clone()));
        let two_phase = lease.two_phase;
        self.lease = Some(lease);
        if !two_phase {
            self.begin(now);
        }
    }

    /// The job runs from now on.
    pub(crate) fn begin(&mut self, now: Now) {
        self.status = Status::Running;
        self.started_at = Some(now.wall);
        if let Some(lease) = &mut self.lease {
            lease.begun = Some(now.at);
            lease.noted = now.at;
        }
    }

    /// Handed out, but not yet acknowledged.
    pub(crate) fn is_waiting(&self) -> bool {
        self.status == Status::Pending && self.lease.is_some()
    }

    /// May this job's token be used for git and artifacts?
    pub(crate) fn token_is_live(&self, now: Now) -> bool {
        (self.status.is_processing() || self.is_waiting()) && !self.token_expired(now)
    }

    /// The token lives for the job's time-out plus five minutes, counted from the hand-out.
    pub(crate) fn token_expired(&self, now: Now) -> bool {
        self.lease.as_ref().is_some_and(|lease| now.at >= lease.token_expires)
    }

    /// Ends the job as failed, on the server's own account.
    pub(crate) fn fail(&mut self, reason: &str, now: Now) {
        self.end(Status::Failed, now);
        self.failure_reason = Some(reason.to_owned());
    }

    /// Ends the job.
    pub(crate) fn end(&mut self, status: Status, now: Now) {
        self.status = status;
        self.finished_at = Some(now.wall);
        self.lease = None;
        self.start_at = None;
    }

    /// Cancels the job. `false` if it has ended already.
    pub(crate) fn cancel(&mut self, force: bool, now: Now) -> bool {
        if self.status.is_final() {
            return false;
        }
        let graceful = self.lease.as_ref().is_some_and(|lease| lease.graceful);
        if self.status.is_processing() && graceful && !force {
            self.status = Status::Canceling;
        } else {
            self.end(Status::Canceled, now);
        }
        true
    }

    /// Somebody reads the log, or the job is always watched.
    pub(crate) fn is_watched(&self, now: Now, timing: &Timing) -> bool {
        self.new.watched || self.last_look.is_some_and(|look| now.at.duration_since(look) <= timing.watched_for)
    }

    /// Somebody else writes to the log right now.
    pub(crate) fn log_is_locked(&self, now: Now) -> bool {
        self.log_locked_until.is_some_and(|until| now.at < until)
    }

    /// Jobs of the same group run one after another.
    pub(crate) fn resource_group(&self) -> Option<&str> {
        match &self.new.source {
            Source::Pipeline { job, .. } => job.resource_group.as_deref(),
            Source::Raw(_) => None,
        }
    }

    /// Whether a runner has it, acknowledged or not.
    pub(crate) fn is_held(&self) -> bool {
        self.status.is_processing() || self.is_waiting()
    }

    /// The first stored artifact of type `archive`.
    pub(crate) fn archive(&self) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.kind == "archive")
    }

    /// The variables of the job's dotenv report.
    pub(crate) fn dotenv(&self) -> impl Iterator<Item = &(String, String)> {
        self.artifacts.iter().flat_map(|artifact| &artifact.variables)
    }
}
