//! What agents do to a job's life: they are found, take the plan, start, are lost, and close the
//! verdict.

use std::time::Duration;

use gantry_core::limits::REPORT_ALLOWANCE;
use gantry_core::{Ending, FailureReason};
use gantry_kube::{ContainerState, PodFacts, PodState, facts};
use gantry_wire::frame::Phase;
use gantry_wire::layout::{HELPER, WITHOUT_PLAN};

use super::bad_news::BadNews;
use super::limits::{BRIEF, CLAIM, DRAIN, FIND};
use super::{Author, Go, Life, Link, Machine, has_reported};
use crate::job::events::{Effect, JobTime, Timer};
use crate::job_end::JobEnd;

impl Machine {
    /// Where there is one in this part of the life.
    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.life {
            Life::Attaching { link, .. }
            | Life::Finding { link }
            | Life::HandedOver { link, .. }
            | Life::Closing { link, .. } => Some(link),
            _ => None,
        }
    }

    pub(super) fn link(&self) -> Link {
        match &self.life {
            Life::Attaching { link, .. }
            | Life::Finding { link }
            | Life::HandedOver { link, .. }
            | Life::Closing { link, .. } => *link,
            _ => Link::None,
        }
    }

    fn set_link(&mut self, now: Link) {
        if let Some(link) = self.link_mut() {
            *link = now;
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.link(), Link::Connected { .. })
    }

    /// The agent has something to say still: how the job ends, or the rest of a trace whose verdict
    /// is known.
    fn needs_agent(&self) -> bool {
        match &self.life {
            Life::Creating | Life::Attaching { .. } | Life::Finding { .. } | Life::HandedOver { .. } => true,
            Life::Closing { by, .. } => *by == Author::Agent,
            _ => false,
        }
    }

    pub(super) fn connect(&mut self, out: &mut Vec<Effect>) {
        self.connect_again(false, out);
    }

    fn connect_again(&mut self, pause: bool, out: &mut Vec<Effect>) {
        let resume = !matches!(self.life, Life::Attaching { .. });
        self.set_link(Link::Connecting);
        out.push(Effect::Connect { resume, pause });
    }

    /// What a found pod shows: whether there can be an agent, and how its job ends if there cannot.
    pub(super) fn found_pod_seen(&mut self, pod_state: &PodState, out: &mut Vec<Effect>) {
        let pod = self.terms.pod.clone();
        match pod_state {
            PodState::Unknown => {}
            PodState::Gone(_) => {
                let cause = pod_state.terminal(&pod, &[HELPER]).unwrap_or(Ending::PodDeleted { pod });
                self.nobody_speaks(cause, out);
            }
            PodState::Present(facts) => match facts.container(HELPER).map(|helper| &helper.state) {
                Some(ContainerState::Terminated(end)) if end.exit_code == i32::from(WITHOUT_PLAN) => {
                    self.no_agent(never_handed(), out);
                }
                Some(ContainerState::Running) => self.look_for_agent(false, out),
                _ => match facts::terminal(facts, &[HELPER]) {
                    Some(ending) => self.no_agent(ending, out),
                    None if may_start(facts) => self.look_for_agent(true, out),
                    None => self.no_agent(never_handed(), out),
                },
            },
        }
    }

    fn look_for_agent(&mut self, not_long: bool, out: &mut Vec<Effect>) {
        if self.link() == Link::None {
            self.connect(out);
            if not_long {
                out.push(Effect::Arm(Timer::Find, FIND));
            }
        } else if !not_long {
            out.push(Effect::Disarm(Timer::Find));
        }
    }

    /// The agent of a found pod has not shown itself in time: there is none, and so no plan. Where
    /// GitLab shows the job as running, silence has to last for longer: a plan may have come before
    /// the kubelet, or the API server, was in trouble.
    pub(super) fn not_found(&mut self, out: &mut Vec<Effect>) {
        if !matches!(self.life, Life::Finding { link: Link::Connecting | Link::None }) {
            return;
        }
        let may_ask = self.terms.is_known && !self.terms.manager_may_live;
        if may_ask && !std::mem::replace(&mut self.is_silent, true) {
            out.push(Effect::AskGitlab);
        } else {
            self.no_agent(never_handed(), out);
        }
    }

    /// Nobody can go on with a job that was found, unless its manager can.
    fn no_agent(&mut self, cause: Ending, out: &mut Vec<Effect>) {
        if self.terms.manager_may_live {
            self.done(JobEnd::TooEarly, out);
        } else {
            self.nobody_speaks(cause, out);
        }
    }

    fn nobody_speaks(&mut self, cause: Ending, out: &mut Vec<Effect>) {
        if has_reported(&cause) {
            self.dropped(JobEnd::Reported(None), out);
        } else if self.terms.is_known {
            self.life = Life::Asking { cause: unquoted(cause) };
            out.push(Effect::AskGitlab);
        } else {
            self.done(JobEnd::Unknown, out);
        }
    }

    pub(super) fn agent_ready(&mut self, phase: Phase, time: Option<JobTime>, out: &mut Vec<Effect>) {
        if self.link() != Link::Connecting || !self.needs_agent() {
            return;
        }
        self.set_link(Link::Connected { steady: false });
        out.push(Effect::Arm(Timer::Steady, BRIEF));
        match &mut self.life {
            Life::Attaching { .. } if phase == Phase::Waiting && self.late.is_some() => {
                if let Some(ending) = self.late.take() {
                    self.end_locally(ending, out);
                }
            }
            Life::Attaching { handed, .. } if phase == Phase::Waiting => {
                *handed = true;
                out.push(Effect::SendPlan);
            }
            Life::Finding { .. } => {
                out.push(Effect::Disarm(Timer::Find));
                self.found(phase, time, out);
            }
            Life::Attaching { .. } => self.handed_over(phase, out),
            Life::HandedOver { sent_ending, .. } => {
                if let Some(ending) = self.late.take().filter(|_| !self.shim) {
                    sent_ending.get_or_insert(ending);
                }
                self.met_again(phase, out);
            }
            _ => {}
        }
    }

    /// The agent of a found pod says how far it is.
    fn found(&mut self, phase: Phase, time: Option<JobTime>, out: &mut Vec<Effect>) {
        if phase == Phase::Waiting {
            return self.no_agent(never_handed(), out);
        }
        // An agent that cannot tell is one of an older version.
        let Some(JobTime { timeout, left }) = time else { return self.done(JobEnd::HandedOver, out) };
        self.terms.timeout = timeout;
        out.push(Effect::Arm(Timer::Overdue, left + REPORT_ALLOWANCE));
        self.handed_over(phase, out);
        self.pod.speak();
        let proofs = self.pod.look_again(out);
        self.proven(proofs, out);
    }

    /// The agent has the plan already. GitLab says how the job stands, and one that nobody has let
    /// begin needs its word.
    fn handed_over(&mut self, phase: Phase, out: &mut Vec<Effect>) {
        let go = if matches!(phase, Phase::Running | Phase::Closed) { Go::Runs } else { Go::No };
        self.life = Life::HandedOver { link: self.link(), go, sent_ending: None };
        self.met_again(phase, out);
        self.acknowledge(out);
    }

    /// The agent that has the plan is there, for the first time or again.
    fn met_again(&mut self, phase: Phase, out: &mut Vec<Effect>) {
        if phase == Phase::Running {
            self.agent_runs(out);
        }
        self.restate(out);
        if phase != Phase::Planned {
            return;
        }
        if self.go_was_sent() { out.push(Effect::SendGo) } else { self.go_or_acknowledge(out) }
    }

    /// Cancel, services and proofs are levels: a new connection is told again.
    fn restate(&mut self, out: &mut Vec<Effect>) {
        if !self.is_handed_over() {
            return;
        }
        if self.pod.services_started() {
            out.push(Effect::SendServicesStarted);
        }
        out.extend(self.pod.services.ended().cloned().map(Effect::SendServiceEnded));
        if self.canceled {
            out.push(Effect::SendCancel { force: false });
        }
        if let Some(ending) = self.sent_ending().cloned() {
            tell(ending, out);
        }
    }

    /// There is an agent, which says how far it is: it is claimed, unless its own manager may still
    /// come to it.
    pub(super) fn agent_met(&mut self, phase: Phase, out: &mut Vec<Effect>) {
        let is_without_plan = matches!(self.life, Life::Finding { .. }) && phase == Phase::Waiting;
        if is_without_plan && self.terms.manager_may_live {
            return self.done(JobEnd::TooEarly, out);
        }
        // Whoever claims it ends the job, which nobody can who does not know it.
        if is_without_plan && !self.terms.is_known {
            return self.done(JobEnd::Unknown, out);
        }
        // What was sent over an earlier connection has not arrived, and never will.
        if let Life::Attaching { handed, .. } = &mut self.life
            && phase == Phase::Waiting
        {
            *handed = false;
        }
        self.greet(out);
    }

    pub(super) fn greet(&self, out: &mut Vec<Effect>) {
        if self.link() == Link::Connecting {
            out.extend([Effect::Disarm(Timer::Find), Effect::Greet]);
        }
    }

    /// Another manager has the agent, or had it a moment ago. Where it has died it is given up
    /// soon.
    pub(super) fn agent_busy(&mut self, wait: Duration, out: &mut Vec<Effect>) {
        if self.link() != Link::Connecting {
            return;
        }
        self.claimed += wait;
        if self.claimed > CLAIM {
            self.done(JobEnd::Owned, out);
        } else {
            out.push(Effect::Arm(Timer::Claim, wait));
        }
    }

    /// Another manager has the agent, and says how the job ends. One that has not begun it ends
    /// too: whether GitLab knows of the job or not, and only where it can.
    pub(super) fn agent_owned(&mut self, out: &mut Vec<Effect>) {
        if !matches!(self.life, Life::Removing { .. }) {
            self.done(JobEnd::Owned, out);
        }
    }

    pub(super) fn agent_lost(&mut self, out: &mut Vec<Effect>) {
        // A connection may end before the agent has said anything over it.
        let link = self.link();
        if link == Link::None {
            return;
        }
        self.set_link(Link::None);
        // What was told over it is told again over the next one, and has its time again.
        out.extend([Effect::Disarm(Timer::Drain), Effect::Disarm(Timer::Steady)]);
        match self.dead.clone() {
            _ if !self.needs_agent() => {}
            Some(ending) => self.agent_gone(ending, out),
            None => self.connect_again(link != (Link::Connected { steady: true }), out),
        }
    }

    pub(super) fn agent_unreachable(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if self.link() != Link::Connecting {
            return;
        }
        self.set_link(Link::None);
        let is_starting = matches!(self.life, Life::Attaching { .. });
        let ending = match ending {
            Ending::PodStartTimeout { seconds, detail, .. } if is_starting => {
                let (setting, detail) = (self.terms.start_setting, self.pod.why_not_started(&detail));
                Ending::PodStartTimeout { seconds, setting, detail }
            }
            // One that may have begun is looked for until all its time is over.
            Ending::PodStartTimeout { .. } => Ending::TimedOut { seconds: self.terms.timeout.as_secs() },
            other => other,
        };
        if matches!(self.life, Life::Finding { .. }) {
            return self.no_agent(ending, out);
        }
        let known = self.known_end().filter(|_| !has_reported(&ending));
        self.take_bad_news(BadNews::Unreachable(known.unwrap_or(ending)), out);
    }

    /// There will be no connection any more: without a verdict of the agent the job ends with
    /// `ending`, else without the rest of its trace.
    pub(super) fn agent_gone(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if self.is_open() {
            self.end_locally(ending, out);
        } else if self.needs_agent() {
            out.push(Effect::EndTrace);
        }
    }

    pub(super) fn agent_runs(&mut self, out: &mut Vec<Effect>) {
        if let Life::HandedOver { go: go @ (Go::Sent | Go::Runs), .. } = &mut self.life {
            *go = Go::Runs;
            if self.leaving {
                self.leave(out);
            }
        }
    }

    pub(super) fn plan_accepted(&mut self, out: &mut Vec<Effect>) {
        if let Life::Attaching { link, .. } = self.life {
            self.life = Life::HandedOver { link, go: Go::No, sent_ending: None };
            self.restate(out);
            self.go_or_acknowledge(out);
        }
    }

    pub(super) fn agent_closed(&mut self, out: &mut Vec<Effect>) {
        if let Life::HandedOver { link, .. } | Life::Attaching { link, .. } = self.life {
            let pod = self.pod_state();
            self.life = Life::Closing { by: Author::Agent, link, pod };
            out.extend([Effect::Disarm(Timer::Drain), Effect::CloseFromAgent]);
            self.acknowledge(out);
        }
    }

    /// Whether a job that its agent has closed may wait for people in its terminal: its end is its
    /// own, and nobody wants it gone.
    pub(crate) fn may_linger(&self) -> bool {
        let is_its_own = matches!(self.life, Life::HandedOver { sent_ending: None, link: Link::Connected { .. }, .. });
        is_its_own && !self.canceled && !self.leaving && self.dead.is_none()
    }

    pub(super) fn end_job(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if !self.is_open() || self.sent_ending().is_some() {
            return;
        }
        let go_was_sent = self.go_was_sent();
        match &mut self.life {
            Life::HandedOver { sent_ending, link: Link::Connected { .. }, .. } => {
                *sent_ending = Some(ending.clone());
                tell(ending, out);
            }
            // The agent runs and will be reached again; it must hear of this then.
            Life::HandedOver { sent_ending, .. } if go_was_sent => *sent_ending = Some(ending),
            // What becomes of one that was found is about to show.
            Life::Finding { .. } | Life::Asking { .. } => {}
            _ => self.end_locally(ending, out),
        }
    }

    pub(super) fn pod_ended(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if !self.needs_agent() || matches!(self.life, Life::Finding { .. }) {
            return;
        }
        if self.is_connected() {
            self.dead.get_or_insert(ending);
            out.push(Effect::Arm(Timer::Drain, DRAIN));
        } else {
            self.set_link(Link::None);
            self.agent_gone(ending, out);
        }
    }
}

/// The same without what the job itself has named: nobody knows what of it must be masked.
fn unquoted(ending: Ending) -> Ending {
    let reason = ending.reason().unwrap_or(FailureReason::UnknownFailure);
    let foreign = |message| Ending::Foreign { reason, exit_code: None, message };
    match ending {
        Ending::ImagePull { container, .. } => {
            foreign(format!("the image of container {container} could not be pulled"))
        }
        Ending::ContainerConfig { container, .. } => {
            foreign(format!("container {container} cannot start as configured"))
        }
        other => other,
    }
}

/// Tells the agent how the job ends, which it has some time to do.
fn tell(ending: Ending, out: &mut Vec<Effect>) {
    out.extend([Effect::SendFail(ending), Effect::Arm(Timer::Drain, DRAIN)]);
}

/// Whether a pod whose helper has not started may have one soon, or has one that its status does
/// not show yet.
fn may_start(facts: &PodFacts) -> bool {
    facts.node.is_some() && facts.deletion.is_none()
}

/// How a job ends that no manager can begin any more, because the one that had its plan is gone.
pub(super) fn never_handed() -> Ending {
    let message = "the runner manager that had taken the job ended before it could start it; nothing of the job has run, and GitLab may try \
                   it again by itself";
    Ending::NeverBegun { message: message.to_owned() }
}
