//! The sweeps of a GitLab: what happens to a job when time passes and nobody says anything.
//! Deadlines are exact here, where GitLab looks only every few minutes.

use tokio::time::Instant;

use super::World;
use super::job::{Breach, Job};
use super::status::Status;
use crate::config::Timing;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A delayed job starts.
    Start,
    /// Nobody acknowledged the job: it fails, and is tried again.
    Unacknowledged,
    /// It waited too long in the queue.
    Stuck { matched: bool },
    /// Nothing was heard of it.
    Silent,
    /// It runs past its time-out.
    Overtime,
}

impl Job {
    /// What happens to the job next if nobody does anything. `matched`: there is a runner that
    /// could take it.
    pub(crate) fn due(&self, timing: &Timing, matched: bool) -> Option<(Instant, Due)> {
        match (self.status, &self.lease) {
            (Status::Scheduled, _) => Some((self.start_at?, Due::Start)),
            (Status::Pending, Some(lease)) => Some((lease.heard + timing.acknowledge_within, Due::Unacknowledged)),
            (Status::Pending, None) => {
                let longest = if matched { timing.pending_matched } else { timing.pending_unmatched };
                Some((self.queued? + longest, Due::Stuck { matched }))
            }
            (Status::Running | Status::Canceling, Some(lease)) => {
                let silent = lease.noted + timing.silence;
                let overtime = lease.begun.map(|begun| begun + self.new.timeout + timing.overtime);
                match overtime {
                    Some(overtime) if overtime <= silent => Some((overtime, Due::Overtime)),
                    _ => Some((silent, Due::Silent)),
                }
            }
            _ => None,
        }
    }
}

impl World {
    /// Deals with everything that is due; the next time, if any, is when to come back.
    pub(crate) fn sweep(&mut self) -> Option<Instant> {
        let now = self.now();
        let due: Vec<(u64, Due)> = self
            .jobs
            .values()
            .filter_map(|job| Some((job.id, self.due(job)?)))
            .filter(|(_, (at, _))| *at <= now.at)
            .map(|(id, (_, due))| (id, due))
            .collect();
        for (id, due) in due {
            self.overdue(id, due);
        }
        self.jobs.values().filter_map(|job| self.due(job)).map(|(at, _)| at).min()
    }

    fn due(&self, job: &Job) -> Option<(Instant, Due)> {
        if job.status.is_final() {
            return None;
        }
        let in_queue = job.status == Status::Pending && job.lease.is_none();
        job.due(&self.timing, in_queue && self.runners.any_takes(&job.new.tags))
    }

    fn overdue(&mut self, id: u64, due: Due) {
        let now = self.now();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (reason, breach) = match (due, job.status) {
            (Due::Start, _) => return self.enqueue(id),
            (Due::Unacknowledged, _) => {
                let who = job.runner.as_ref().map(|(_, system)| system.as_str()).unwrap_or_default();
                let detail = format!("taken by {who}, no PUT in time");
                ("runner_provisioning_timeout", Some(Breach::new("taken and never acknowledged", detail)))
            }
            (Due::Stuck { matched: true }, _) => ("stuck_pending_with_matching_runners", None),
            (Due::Stuck { matched: false }, _) => ("stuck_pending_no_matching_runners", None),
            (Due::Silent, status) => {
                let breach = Breach::new("silent", "nothing heard of the job for too long");
                (if status == Status::Running { "no_updates_running" } else { "no_updates_canceling" }, Some(breach))
            }
            (Due::Overtime, status) => {
                let breach = Breach::new("overtime", "no final state although the time-out is long past");
                let running = status == Status::Running;
                (if running { "server_timeout_running" } else { "server_timeout_canceling" }, Some(breach))
            }
        };
        // A job that was being canceled has been canceled then, whatever ends it.
        let canceling = job.status == Status::Canceling;
        job.fail(reason, now);
        if canceling {
            job.status = Status::Canceled;
        }
        if let Some(breach) = breach {
            self.violation(&breach, Some(id));
        }
        self.after_change(id);
    }
}
