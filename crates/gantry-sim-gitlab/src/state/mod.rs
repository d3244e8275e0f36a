//! The whole state of one simulated GitLab, owned by one lock with short critical sections: no IO
//! happens in here, and nothing awaits. Rules about single jobs are in `job.rs`, `put.rs`,
//! `patch.rs`; this module and its neighbours `queue.rs` and `pipelines.rs` move jobs between
//! runners, queue and pipelines.

pub(crate) mod bridges;
mod coverage;
pub(crate) mod faults;
pub(crate) mod job;
pub(crate) mod mode;
pub(crate) mod patch;
pub(crate) mod payload;
mod phases;
mod pipeline;
pub(crate) mod pipelines;
pub(crate) mod put;
pub(crate) mod queue;
pub(crate) mod records;
mod redundant;
pub(crate) mod retries;
pub(crate) mod runners;
pub(crate) mod status;
mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod trace;
pub(crate) mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::clock::{Clock, Now};
use crate::config::{Settings, Timing};
use crate::limits;
use faults::Faults;
use job::{Breach, Job, NewJob};
use mode::{Mode, Rated, Rates};
use patch::{Chunk, PatchAnswer};
use pipelines::Pipeline;
use put::{PutAnswer, Update};
use records::{Journal, Violations};
use runners::Runners;
use status::Status;

/// Everything the simulator knows.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    pub(crate) settings: Settings,
    pub(crate) mode: Mode,
    rates: Rates,
    /// The base URL without a trailing slash.
    pub(crate) url: String,
    pub(crate) runners: Runners,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) pipelines: BTreeMap<u64, Pipeline>,
    pub(crate) journal: Journal,
    pub(crate) violations: Violations,
    pub(crate) faults: Faults,
    /// Pending jobs that nobody has, oldest first.
    queue: VecDeque<u64>,
    /// Jobs whose child pipelines are to be made, oldest first.
    bridges: VecDeque<u64>,
    /// Wakes who makes them.
    pub(crate) bridge_wake: Arc<Notify>,
    /// Grows with every job that becomes available; long polls watch it.
    version: watch::Sender<u64>,
    /// Distinguishes the queue values of two runs, so that a client's old `last_update` is never
    /// current by chance.
    salt: String,
    /// Wakes the sweep, because a deadline may have come nearer.
    wake: Arc<Notify>,
    /// Grows with every change that people may want to see; the page watches it.
    changes: watch::Sender<u64>,
    last_job: u64,
    last_pipeline: u64,
}

/// Who may use a job through the API.
pub(crate) enum JobAccess<'a> {
    /// The token is this job's.
    Granted(&'a mut Job),
    /// Unknown job or wrong token: 403 without `Job-Status`.
    Refused,
}

impl World {
    pub(crate) fn new(url: String, timing: Timing, settings: Settings, wake: Arc<Notify>) -> Self {
        let clock = Clock::start();
        Self {
            clock,
            timing,
            settings,
            mode: Mode::Normal,
            rates: Rates::new(clock.now()),
            url,
            runners: Runners::default(),
            jobs: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            journal: Journal::default(),
            violations: Violations::default(),
            faults: Faults::default(),
            queue: VecDeque::new(),
            bridges: VecDeque::new(),
            bridge_wake: Arc::default(),
            version: watch::Sender::new(1),
            salt: crate::tokens::salt(),
            wake,
            changes: watch::Sender::new(0),
            last_job: 0,
            last_pipeline: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Tells the page that something has changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Tells when something has changed.
    pub(crate) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes the sweep look again, because a deadline may have come nearer.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Counts a request; `false` if there were too many of its kind with this token lately.
    pub(crate) fn within_rate(&mut self, what: Rated, token: &str) -> bool {
        let limits = self.settings.rate_limits;
        let limit = match what {
            Rated::JobRequest => limits.job_requests,
            Rated::LogPatch => limits.log_patches,
            Rated::JobUpdate => limits.job_updates,
        };
        let now = self.now();
        self.rates.take(what, token, limit, now)
    }

    /// Records a broken rule.
    pub(crate) fn violation(&mut self, breach: &Breach, job: Option<u64>) {
        let now = self.now();
        self.violations.add(now.wall, breach, job);
        self.changed();
    }

    /// Adds a job in state `created`, under `wanted` if that id is free. `None` when there are too
    /// many jobs.
    pub(crate) fn add_job(&mut self, new: NewJob, wanted: Option<u64>) -> Option<u64> {
        if self.jobs.len() >= limits::JOBS {
            return None;
        }
        let id = wanted.filter(|id| !self.jobs.contains_key(id)).unwrap_or_else(|| self.free_job_id());
        let now = self.now();
        self.jobs.insert(id, Job::new(id, new, now));
        Some(id)
    }

    fn free_job_id(&mut self) -> u64 {
        loop {
            self.last_job = self.last_job.wrapping_add(1);
            if self.last_job != 0 && !self.jobs.contains_key(&self.last_job) {
                return self.last_job;
            }
        }
    }

    /// Puts a job into the queue and tells the long polls.
    pub(crate) fn enqueue(&mut self, id: u64) {
        let now = self.now();
        if let Some(job) = self.jobs.get_mut(&id) {
            job.enqueue(now);
            if job.trigger().is_some() {
                self.bridges.push_back(id);
                self.bridge_wake.notify_one();
                return self.changed();
            }
            self.announce(id);
            self.wake();
        }
    }

    /// Lists a pending job in the queue.
    fn announce(&mut self, id: u64) {
        self.queue.retain(|&other| other != id);
        self.queue.push_back(id);
        self.version.send_modify(|version| *version += 1);
        self.changed();
    }

    /// The job of this id, if `token` is its token. A token that never belonged to the job is a
    /// violation.
    pub(crate) fn access(&mut self, id: u64, token: &str) -> JobAccess<'_> {
        let breach = match self.jobs.get(&id) {
            Some(job) if job.token == token && job.erased => return JobAccess::Refused,
            Some(job) if job.token == token => None,
            Some(_) if token.is_empty() => Some("no job token given"),
            Some(_) => Some("the token is not this job's"),
            None => Some("no such job"),
        };
        if let Some(detail) = breach {
            self.violation(&Breach::new("job authentication", detail), Some(id));
            return JobAccess::Refused;
        }
        self.jobs.get_mut(&id).map_or(JobAccess::Refused, JobAccess::Granted)
    }

    /// `PUT jobs/<id>`: the answer and the status afterwards; `None` if the token is refused.
    pub(crate) fn put(&mut self, id: u64, token: &str, update: &Update) -> Option<(PutAnswer, Status)> {
        let (now, timing, resets) = (self.now(), self.timing.clone(), self.settings.reset_broken_logs);
        let JobAccess::Granted(job) = self.access(id, token) else { return None };
        let answer = job.put(update, now, &timing, resets);
        let status = job.status;
        if let Some(breach) = &answer.breach {
            self.violation(breach, Some(id));
        }
        self.after_change(id);
        Some((answer, status))
    }

    /// `PATCH jobs/<id>/trace`: likewise.
    pub(crate) fn patch(
        &mut self,
        id: u64,
        token: &str,
        range: Option<&str>,
        body: &[u8],
    ) -> Option<(PatchAnswer, Status)> {
        let (now, timing, limit) = (self.now(), self.timing.clone(), self.settings.log_limit);
        let JobAccess::Granted(job) = self.access(id, token) else { return None };
        let chunk = Chunk { range, body, limit };
        let answer = job.patch(&chunk, now, &timing);
        let status = job.status;
        if let Some(breach) = &answer.breach {
            self.violation(breach, Some(id));
        }
        self.after_change(id);
        Some((answer, status))
    }

    /// Cancels a job; `None` if there is none, `Some(false)` if it has ended.
    pub(crate) fn cancel(&mut self, id: u64, force: bool) -> Option<bool> {
        let now = self.now();
        let done = self.jobs.get_mut(&id)?.cancel(force, now);
        self.cancel_children(&[id], force);
        self.after_change(id);
        Some(done)
    }

    /// Deletes log and artifacts of an ended job; `None` if there is none, `Some(false)` if it has
    /// not ended. The files stay until the simulator ends.
    pub(crate) fn erase(&mut self, id: u64) -> Option<bool> {
        let job = self.jobs.get_mut(&id)?;
        if !job.status.is_final() {
            return Some(false);
        }
        job.trace.clear();
        job.artifacts.clear();
        job.erased = true;
        self.changed();
        Some(true)
    }

    /// What follows from a change of one job: for the queue, and for its pipeline.
    pub(crate) fn after_change(&mut self, id: u64) {
        self.changed();
        let Some(job) = self.jobs.get(&id) else { return };
        if job.status.is_final() {
            self.queue.retain(|&other| other != id);
            self.complete(id);
            self.retry_automatically(id);
            self.cancel_on_failure(id);
            self.advance_pipeline_of(id);
        }
    }

    /// What a job leaves when it ends: its coverage, and the place in its resource group.
    fn complete(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.coverage.is_none() {
            job.coverage = job.read_coverage();
        }
        if job.resource_group().is_some() {
            self.version.send_modify(|version| *version += 1);
        }
    }
}
