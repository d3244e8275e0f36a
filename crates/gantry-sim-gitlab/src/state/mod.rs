//! The whole state of one simulated GitLab, owned by one lock with short critical sections: no IO happens in here,
//! and nothing awaits. Rules about single jobs are in `job.rs`, `put.rs`, `patch.rs`; this module and its neighbours
//! `queue.rs` and `pipelines.rs` move jobs between runners, queue and pipelines.

pub(crate) mod job;
pub(crate) mod patch;
pub(crate) mod pipeline;
pub(crate) mod pipelines;
pub(crate) mod put;
pub(crate) mod queue;
pub(crate) mod records;
pub(crate) mod runners;
pub(crate) mod status;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::clock::{Clock, Now};
use crate::config::Timing;
use crate::limits;
use job::{Breach, Job, NewJob};
use patch::PatchAnswer;
use pipelines::Pipeline;
use put::{PutAnswer, Update};
use records::{Journal, Violations};
use runners::Runners;
use status::Status;

/// Everything the simulator knows.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    /// The base URL without a trailing slash.
    pub(crate) url: String,
    pub(crate) runners: Runners,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) pipelines: BTreeMap<u64, Pipeline>,
    pub(crate) journal: Journal,
    pub(crate) violations: Violations,
    /// Pending jobs that nobody has, oldest first.
    queue: VecDeque<u64>,
    /// Grows with every job that becomes available; long polls watch it.
    version: watch::Sender<u64>,
    /// Distinguishes the queue values of two runs, so that a client's old `last_update` is never current by chance.
    salt: String,
    /// Wakes the sweep, because a deadline may have come nearer.
    wake: Arc<Notify>,
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
    pub(crate) fn new(url: String, timing: Timing, wake: Arc<Notify>) -> Self {
        Self {
            clock: Clock::start(),
            timing,
            url,
            runners: Runners::default(),
            jobs: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            journal: Journal::default(),
            violations: Violations::default(),
            queue: VecDeque::new(),
            version: watch::Sender::new(1),
            salt: crate::tokens::salt(),
            wake,
            last_job: 0,
            last_pipeline: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Records a broken rule.
    pub(crate) fn violation(&mut self, breach: &Breach, job: Option<u64>) {
        let now = self.now();
        self.violations.add(now.wall, breach, job);
    }

    /// Adds a job in state `created`, under `wanted` if that id is free. `None` when there are too many jobs.
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
            self.announce(id);
        }
    }

    /// Lists a pending job in the queue.
    fn announce(&mut self, id: u64) {
        self.queue.retain(|&other| other != id);
        self.queue.push_back(id);
        self.version.send_modify(|version| *version += 1);
    }

    /// The job of this id, if `token` is its token. A token that never belonged to the job is a violation.
    pub(crate) fn access(&mut self, id: u64, token: &str) -> JobAccess<'_> {
        let breach = match self.jobs.get(&id) {
            Some(job) if job.token == token => None,
            Some(job) if job.had_token(token) => return JobAccess::Refused,
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
        let (now, timing) = (self.now(), self.timing.clone());
        let JobAccess::Granted(job) = self.access(id, token) else { return None };
        let answer = job.put(update, now, &timing);
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
        let (now, timing) = (self.now(), self.timing.clone());
        let JobAccess::Granted(job) = self.access(id, token) else { return None };
        let answer = job.patch(range, body, now, &timing);
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
        self.after_change(id);
        Some(done)
    }

    /// What follows from a change of one job: for the queue, and for its pipeline.
    pub(crate) fn after_change(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.status.is_final() {
            self.queue.retain(|&other| other != id);
            self.retry_automatically(id);
            self.advance_pipeline_of(id);
        }
    }
}
