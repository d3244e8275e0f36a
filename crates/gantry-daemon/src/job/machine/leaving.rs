//! A runner that ends: what becomes of each of its jobs in the little time that there is.

use gantry_core::Ending;

use super::limits::{HAND_OVER, LEAVE};
use super::{Author, Gitlab, Go, Life, Machine, Pod};
use crate::job::events::{Effect, Timer};
use crate::job_end::JobEnd;

impl Machine {
    /// The runner ends, and its jobs with it.
    pub(super) fn stop(&mut self, signal: String, out: &mut Vec<Effect>) {
        match &self.life {
            // Whoever looks for it next goes on with it.
            Life::Finding { .. } | Life::Asking { .. } => self.done(JobEnd::HandedOver, out),
            _ if !self.is_open() => {}
            _ if self.gitlab == Gitlab::Untold => self.end_locally(never_began(), out),
            _ => self.end_job(Ending::Interrupted { signal }, out),
        }
    }

    /// The runner ends and leaves its jobs.
    pub(super) fn told_to_leave(&mut self, out: &mut Vec<Effect>) {
        out.extend([Effect::Arm(Timer::HandOver, HAND_OVER), Effect::Arm(Timer::Leave, LEAVE)]);
        self.leaving = true;
        self.leave(out);
    }

    /// A job that runs goes on without us. One whose pod has no plan ends so that GitLab begins it
    /// anew: nobody could go on with it. Between the two, a plan that is on its way may arrive and
    /// the job start, and the agent say so: a word that was only queued does not reach it once we
    /// are gone. One that has ended is delivered first, as far as GitLab answers: its agent may be
    /// dead, and it is quicker than the next manager.
    pub(super) fn leave(&mut self, out: &mut Vec<Effect>) {
        match &self.life {
            Life::Finding { .. } | Life::Asking { .. } => self.done(JobEnd::HandedOver, out),
            Life::HandedOver { go: Go::Runs, sent_ending: None, .. } if self.dead.is_none() => {
                self.done(JobEnd::HandedOver, out);
            }
            _ if !self.is_open() => {}
            Life::Creating | Life::Attaching { handed: false, .. } => self.end_locally(never_began(), out),
            _ => {}
        }
    }

    /// What was on its way has had its time. An agent with a plan and the word to go on, or one
    /// that never hears it, reports by itself; one that has not been told to start never will be.
    pub(super) fn hand_over_timeout(&mut self, out: &mut Vec<Effect>) {
        if !self.leaving || !self.is_open() {
            return;
        }
        if let Some(ending) = self.dead.clone() {
            return self.end_locally(ending, out);
        }
        match &self.life {
            // It is about to say how it ends.
            Life::HandedOver { sent_ending: Some(_), .. } => {}
            Life::HandedOver { go: Go::No, .. } => self.end_job(never_began(), out),
            Life::HandedOver { .. } => self.done(JobEnd::HandedOver, out),
            _ => self.end_locally(never_began(), out),
        }
    }

    /// The runner ends now, whatever is still to do. An agent that lives reports what it knows. Of
    /// a job without one that GitLab could not be told about, pod and ticket stay for the next
    /// manager, which tells it and removes them.
    pub(super) fn leave_timeout(&mut self, out: &mut Vec<Effect>) {
        if !self.leaving {
            return;
        }
        let end = match &self.life {
            Life::Done => return,
            Life::Removing { end, .. } => end.clone(),
            Life::HandedOver { .. } | Life::Closing { by: Author::Agent, .. } if self.dead.is_none() => {
                JobEnd::HandedOver
            }
            Life::Finding { .. } | Life::Asking { .. } => JobEnd::HandedOver,
            _ if self.pod_state() == Pod::Exists && !self.pod.is_gone() => JobEnd::LeftToNext,
            _ => JobEnd::Undelivered("the runner has ended before GitLab had answered".to_owned()),
        };
        self.done(end, out);
    }
}

/// How a job ends whose runner ends before the job has begun. GitLab would take one back that it
/// was not told to run, but not sooner than two minutes later, and as a failure that it repeats as
/// often.
pub(crate) fn never_began() -> Ending {
    let message = "the runner was told to end while the job waited for its pod; nothing of the job has run, and GitLab may try it again \
                   by itself";
    Ending::NeverBegun { message: message.to_owned() }
}
