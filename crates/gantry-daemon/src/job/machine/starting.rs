//! Until everything of a job's pod is there: what the pod shows on its way, the time that it has,
//! and the shim that is awaited last.

use gantry_core::Ending;
use gantry_core::limits::SHIM_HELLO;
use gantry_kube::PodFacts;

use super::bad_news::BadNews;
use super::limits::LOOK_AGAIN;
use super::pod::{self, Proof};
use super::{Go, Life, Link, Machine, Pod};
use crate::job::events::{Effect, Timer};

impl Machine {
    pub(super) fn pod_created(&mut self, out: &mut Vec<Effect>) {
        if self.life == Life::Creating {
            self.life = Life::Attaching { link: Link::None, handed: false };
            out.push(Effect::Arm(Timer::QuietWait, pod::QUIET_WAIT));
            self.connect(out);
        } else {
            self.set_pod(Pod::Exists);
        }
    }

    pub(super) fn look_again(&mut self, out: &mut Vec<Effect>) {
        let proofs = self.pod.look_again(out);
        self.proven(proofs, out);
    }

    /// What follows from what the pod has shown.
    pub(super) fn proven(&mut self, proofs: Vec<Proof>, out: &mut Vec<Effect>) {
        for proof in proofs {
            match proof {
                Proof::ServicesStarted => {
                    out.push(Effect::FollowLogs);
                    if self.is_handed_over() && self.is_connected() {
                        out.push(Effect::SendServicesStarted);
                    }
                }
                Proof::ServiceEnded(service) => {
                    if self.is_handed_over() && self.is_connected() {
                        out.push(Effect::SendServiceEnded(service));
                    }
                }
                Proof::AgentDead(ending) => self.take_bad_news(BadNews::AgentDead(ending), out),
                Proof::CannotGoOn(ending) if matches!(self.life, Life::Finding { .. }) => {
                    // Whether there is an agent that can be told shows soon.
                    self.pod.forget_ending(&ending);
                }
                Proof::CannotGoOn(ending) => self.take_bad_news(BadNews::CannotGoOn(ending), out),
            }
        }
    }

    /// While the pod is being made, or an agent without a plan is being looked for, the same limit
    /// is kept there: who waits knows the cause.
    pub(super) fn start_timeout(&mut self, out: &mut Vec<Effect>) {
        let ending = self.start_timed_out("not all of its containers have started");
        match &self.life {
            Life::Creating | Life::Attaching { link: Link::Connecting, .. } => self.late = Some(ending),
            // An agent that has the word and cannot be reached may have begun.
            Life::HandedOver { go: Go::Sent | Go::Runs, link: Link::None | Link::Connecting, .. } if !self.shim => {
                self.late = Some(ending);
            }
            _ if !self.shim => self.end_job(ending, out),
            _ => {}
        }
        self.look_at_pod(out);
    }

    /// The watch may be behind: services that it has not shown may have started.
    pub(super) fn look_at_pod(&self, out: &mut Vec<Effect>) {
        if self.is_open() && self.life != Life::Creating && self.pod.awaits_services() {
            out.push(Effect::LookAtPod);
        }
    }

    pub(super) fn pod_looked(&mut self, facts: Option<&PodFacts>, out: &mut Vec<Effect>) {
        let Some(facts) = facts else { return out.push(Effect::Arm(Timer::Look, LOOK_AGAIN)) };
        if let Some(detail) = self.pod.late_services(facts) {
            self.end_job(self.start_timed_out(&detail), out);
        }
    }

    pub(super) fn start_timed_out(&self, otherwise: &str) -> Ending {
        Ending::PodStartTimeout {
            seconds: self.terms.start_timeout.as_secs(),
            setting: self.terms.start_setting,
            detail: self.pod.why_not_started(otherwise),
        }
    }

    /// Whether only the shim is missing: its container runs, and so does the agent that has its
    /// binary there.
    pub(super) fn awaits_shim(&self) -> bool {
        self.pod.build_runs() && !self.shim && self.is_connected() && self.is_open() && self.sent_ending().is_none()
    }

    /// The shim's time begins when everything else is there, and ends with its hello.
    pub(super) fn note_silence(&mut self, out: &mut Vec<Effect>) {
        let awaited = self.awaits_shim();
        if awaited && !self.shim_awaited {
            out.push(Effect::Arm(Timer::ShimHello, SHIM_HELLO));
        } else if !awaited && self.shim_awaited {
            out.push(Effect::Disarm(Timer::ShimHello));
        }
        self.shim_awaited = awaited;
    }
}
