//! What GitLab does to a job's life: it takes the acknowledgement, the trace and the verdict,
//! cancels, or wants nothing more.

use gantry_core::Ending;
use gantry_relay::{AckOutcome, GitlabStatus, GoneReason, RelayEnd};

use super::agent::never_handed;
use super::limits::FIND_RUNNING;
use super::{Author, Gitlab, Go, Life, Link, Machine, Pod, has_reported};
use crate::job::events::{Effect, Timer};
use crate::job_end::JobEnd;

impl Machine {
    /// The job may begin as soon as GitLab knows it.
    pub(super) fn go_or_acknowledge(&mut self, out: &mut Vec<Effect>) {
        match self.gitlab {
            Gitlab::Untold => self.acknowledge(out),
            Gitlab::Asked => {}
            Gitlab::Relaying | Gitlab::Ended => self.go(out),
        }
    }

    fn go(&mut self, out: &mut Vec<Effect>) {
        if let Life::HandedOver { link: Link::Connected { .. }, go: go @ Go::No, sent_ending: None } = &mut self.life {
            *go = Go::Sent;
            out.push(Effect::SendGo);
        }
    }

    pub(super) fn acknowledge(&mut self, out: &mut Vec<Effect>) {
        let is_ours =
            !matches!(self.life, Life::Finding { .. } | Life::Asking { .. } | Life::Removing { .. } | Life::Done);
        if self.gitlab == Gitlab::Untold && is_ours {
            self.gitlab = Gitlab::Asked;
            out.push(Effect::Acknowledge);
        }
    }

    pub(super) fn acknowledged(&mut self, outcome: AckOutcome, out: &mut Vec<Effect>) {
        if self.gitlab != Gitlab::Asked {
            return;
        }
        if let AckOutcome::Gone(reason) = outcome {
            self.gitlab = Gitlab::Ended;
            return self.gone(reason, out);
        }
        if matches!(self.life, Life::Removing { .. }) {
            return;
        }
        if matches!(outcome, AckOutcome::Unanswered { .. }) && self.may_be_taken_back() {
            return out.push(Effect::Acknowledge);
        }
        self.relay(out);
        if outcome == AckOutcome::Canceling {
            self.cancel(out);
        }
        self.go(out);
    }

    /// A job that was found, and that nobody has let begin: GitLab may have given it to somebody
    /// else meanwhile, and has to be asked.
    fn may_be_taken_back(&self) -> bool {
        self.is_found && matches!(self.life, Life::HandedOver { go: Go::No, .. })
    }

    fn relay(&mut self, out: &mut Vec<Effect>) {
        self.gitlab = Gitlab::Relaying;
        out.push(Effect::StartRelay);
    }

    /// GitLab wants nothing more about the job. One whose agent has closed the verdict has been
    /// reported by an earlier relay then.
    fn gone(&mut self, reason: GoneReason, out: &mut Vec<Effect>) {
        let is_reported =
            matches!(self.life, Life::Closing { by: Author::Agent, .. }) && matches!(reason, GoneReason::Over(_));
        if is_reported && self.is_connected() {
            out.push(Effect::SendReported);
        }
        self.dropped(if is_reported { JobEnd::Reported(None) } else { JobEnd::Dropped(reason) }, out);
    }

    /// How the job of a pod without an agent stands. One that GitLab still waits for has never
    /// begun, whatever its pod died of: it ends so that GitLab begins it anew.
    pub(super) fn gitlab_status(&mut self, status: GitlabStatus, out: &mut Vec<Effect>) {
        let cause = match &self.life {
            Life::Asking { cause } => cause.clone(),
            Life::Finding { link: Link::Connecting | Link::None } => match status {
                GitlabStatus::Running | GitlabStatus::Canceling => {
                    return out.extend([Effect::LookAtPod, Effect::Arm(Timer::Find, FIND_RUNNING)]);
                }
                _ => never_handed(),
            },
            _ => return,
        };
        match status {
            GitlabStatus::Waiting => {
                self.end_found(never_handed(), out);
                self.acknowledge(out);
            }
            GitlabStatus::Gone(reason) => self.dropped(JobEnd::Dropped(reason), out),
            GitlabStatus::Unknown { .. } => self.done(JobEnd::Unknown, out),
            GitlabStatus::Running | GitlabStatus::Canceling => {
                self.relay(out);
                self.end_found(cause, out);
            }
        }
    }

    /// The job of a pod without an agent ends this way.
    fn end_found(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        self.life = Life::Closing { by: Author::Manager(ending.clone()), link: Link::None, pod: Pod::Exists };
        out.push(Effect::EndLocally { ending, of_agent: true });
    }

    /// A job that was found cannot be reported from here: its agent does that.
    pub(super) fn gitlab_unusable(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.life, Life::Finding { .. } | Life::Asking { .. }) {
            self.done(JobEnd::HandedOver, out);
        }
    }

    pub(super) fn cancel(&mut self, out: &mut Vec<Effect>) {
        if self.canceled || !self.is_open() {
            return;
        }
        self.canceled = true;
        if !self.go_was_sent() {
            self.end_locally(Ending::Canceled, out);
        } else if self.is_connected() {
            out.push(Effect::SendCancel { force: false });
        }
    }

    /// The job ends without its agent.
    pub(super) fn end_locally(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        self.end_with(ending, self.pod_state(), out);
    }

    pub(super) fn end_with(&mut self, ending: Ending, pod: Pod, out: &mut Vec<Effect>) {
        if !self.is_open() || matches!(self.life, Life::Finding { .. } | Life::Asking { .. }) {
            return;
        }
        if self.go_was_sent() && has_reported(&ending) {
            return self.dropped(JobEnd::Reported(None), out);
        }
        let of_agent = self.is_handed_over();
        self.forget_pod(pod, out);
        self.life = Life::Closing { by: Author::Manager(ending.clone()), link: Link::None, pod };
        out.extend([Effect::Disarm(Timer::Drain), Effect::EndLocally { ending, of_agent }]);
        self.acknowledge(out);
    }

    fn forget_pod(&self, pod: Pod, out: &mut Vec<Effect>) {
        if self.life == Life::Creating && pod == Pod::Asked {
            out.push(Effect::ForgetPod);
        }
    }

    pub(super) fn relay_ended(&mut self, end: RelayEnd, out: &mut Vec<Effect>) {
        if self.gitlab != Gitlab::Relaying {
            return;
        }
        self.gitlab = Gitlab::Ended;
        let end = match end {
            RelayEnd::Delivered => {
                if self.is_connected() {
                    out.push(Effect::SendReported);
                }
                match &self.life {
                    Life::Closing { by: Author::Manager(ending), .. } => JobEnd::Reported(Some(ending.clone())),
                    _ => JobEnd::Reported(None),
                }
            }
            RelayEnd::Aborted(reason) => JobEnd::Dropped(reason),
            RelayEnd::Stopped => JobEnd::Undelivered("the relay was stopped".to_owned()),
            RelayEnd::GaveUp { message } => JobEnd::Undelivered(message),
        };
        self.dropped(end, out);
    }

    /// Nothing more will be said to GitLab: the pod goes, forced.
    pub(super) fn dropped(&mut self, end: JobEnd, out: &mut Vec<Effect>) {
        if matches!(self.life, Life::Removing { .. } | Life::Done) {
            return;
        }
        if self.is_connected() && !matches!(end, JobEnd::Reported(_)) {
            out.push(Effect::SendCancel { force: true });
        }
        let pod = self.pod_state();
        self.forget_pod(pod, out);
        self.life = Life::Removing { end, pod };
    }
}
