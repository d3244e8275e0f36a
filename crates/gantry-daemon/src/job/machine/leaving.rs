//! A runner that ends and leaves its jobs: what becomes of each of them in the little time that there is.

use gantry_core::Ending;

use super::{Machine, Step, Verdict};
use crate::job::events::{Effect, JobEnd};

impl Machine {
    /// A job that runs goes on without us. One that GitLab does not show as running yet goes back to the queue, and one whose pod has no
    /// plan ends: nobody could go on with it. Between the two, a plan that is on its way may arrive and the job start, and the agent say so:
    /// a word that was only queued does not reach it once we are gone. One that has ended is delivered first: its agent may be dead, and
    /// nobody else would remove the pod.
    pub(super) fn leave(&mut self, out: &mut Vec<Effect>) {
        self.leaving = true;
        if !self.is_open() {
            return;
        }
        if self.runs && self.dead.is_none() && self.told.is_none() {
            self.end = Some(JobEnd::HandedOver);
        } else if self.acknowledged == Step::No {
            self.dropped(JobEnd::GivenBack, out);
        } else if !self.handed && !self.planned {
            self.end_locally(never_began(), out);
        }
    }

    /// What was on its way has had its time. An agent with a plan and the word to go on, or one that never hears it, reports by itself; one
    /// that has not been told to start never will be.
    pub(super) fn hand_over_timeout(&mut self, out: &mut Vec<Effect>) {
        if !self.leaving || !self.is_open() {
            return;
        }
        if let Some(ending) = self.dead.clone() {
            self.end_locally(ending, out);
        } else if self.told.is_some() {
            // It is about to say how it ends.
        } else if self.went {
            self.end = Some(JobEnd::HandedOver);
        } else if self.planned {
            self.doomed(never_began(), out);
        } else {
            self.end_locally(never_began(), out);
        }
    }

    /// The runner ends now, whatever is still to do. An agent that lives reports what it knows; the next manager removes what is left.
    pub(super) fn leave_timeout(&mut self, out: &mut Vec<Effect>) {
        if !self.leaving || self.done {
            return;
        }
        let has_agent = self.planned && self.dead.is_none() && !matches!(self.verdict, Verdict::OfManager(_));
        let end = match self.end.take() {
            Some(end) => end,
            None if has_agent => JobEnd::HandedOver,
            None => JobEnd::Undelivered("the runner has ended before GitLab had answered".to_owned()),
        };
        self.end = Some(end.clone());
        self.done = true;
        out.push(Effect::Done(end));
    }
}

/// How a job ends whose runner ends before the job has begun. GitLab tries again what a runner's own failure has ended, where its project
/// says so.
pub(super) fn never_began() -> Ending {
    let message = "the runner was told to end while the job waited for its pod; nothing of the job has run: retry it";
    Ending::Runner { message: message.to_owned() }
}
