//! The whole life of a job, as seen by its manager. Pure: no clock, no IO, no channel. `task.rs` performs the effects and turns what
//! happens into events.
//!
//! A job ends in one of two ways. Normally the agent closes the verdict and the manager passes it on. Only when there is proof that no
//! agent can (the pod was never made, or is gone) does the manager end the job itself: [`Effect::EndLocally`]. Never both.

mod leaving;

use gantry_core::Ending;
use gantry_relay::{AckOutcome, RelayEnd};
use gantry_wire::frame::Phase;
use gantry_wire::layout::HELPER;

use crate::job::events::{Effect, Event, JobEnd};
use crate::job::shimless;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pod {
    Asked,
    Exists,
    Absent,
    Deleting,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    None,
    Connecting,
    Connected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    No,
    Asked,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relay {
    Idle,
    Runs,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Open,
    OfAgent,
    OfManager(Ending),
}

/// How far a job is.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pod: Pod,
    agent: Agent,
    /// The plan is on its way to the agent, or there.
    handed: bool,
    planned: bool,
    acknowledged: Step,
    went: bool,
    /// The agent has said that it started.
    runs: bool,
    relay: Relay,
    verdict: Verdict,
    canceled: bool,
    /// The job is left to its agent as soon as that is possible.
    leaving: bool,
    services_started: bool,
    build_runs: bool,
    shim: bool,
    /// The pod's time to start was over while its agent was being looked for.
    late: Option<Ending>,
    /// Proof that the agent is dead; the connection may still give what was on its way.
    dead: Option<Ending>,
    /// What the agent was told to end with; the manager ends the job with it if the agent does not.
    told: Option<Ending>,
    /// How the job ends once the pod is deleted.
    end: Option<JobEnd>,
    done: bool,
}

impl Machine {
    /// A job that was just taken, and what to do first.
    pub(crate) fn start() -> (Self, Vec<Effect>) {
        let machine = Self {
            pod: Pod::Asked,
            agent: Agent::None,
            handed: false,
            planned: false,
            acknowledged: Step::No,
            went: false,
            runs: false,
            relay: Relay::Idle,
            verdict: Verdict::Open,
            canceled: false,
            leaving: false,
            services_started: false,
            build_runs: false,
            shim: false,
            late: None,
            dead: None,
            told: None,
            end: None,
            done: false,
        };
        (machine, vec![Effect::CreatePod])
    }

    /// Whether the agent holds the plan: from then on it is the agent that writes the trace.
    pub(crate) fn is_planned(&self) -> bool {
        self.planned
    }

    /// Whether a connection to the agent was asked for and is still of use.
    pub(crate) fn is_connecting(&self) -> bool {
        self.agent == Agent::Connecting
    }

    /// Whether a pod that is still to come is of use.
    pub(crate) fn needs_pod(&self) -> bool {
        self.is_open()
    }

    /// Whether only the shim is missing: its container runs, and so does the agent that has its binary there.
    pub(crate) fn awaits_shim(&self) -> bool {
        self.build_runs && !self.shim && self.agent == Agent::Connected && self.is_open() && self.told.is_none()
    }

    /// Takes what happened and says what to do.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.done {
            self.take(event, &mut effects);
            self.finish(&mut effects);
        }
        effects
    }

    fn take(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::PodCreated => self.pod_created(out),
            Event::PodNotCreated(ending) => {
                self.pod = Pod::Absent;
                self.end_locally(ending, out);
            }
            Event::AgentReady(phase) => self.agent_ready(phase, out),
            Event::AgentLost => self.agent_lost(out),
            Event::AgentUnreachable(ending) => {
                self.agent = Agent::None;
                let known = self.dead.clone().or(self.told.clone()).filter(|_| !has_reported(&ending));
                let ending = known.unwrap_or(ending);
                self.agent_gone(ending, out);
            }
            Event::PlanAccepted => self.plan_accepted(out),
            Event::PlanRefused(message) => self.doomed(Ending::HelperUnusable { message }, out),
            Event::AgentRuns => self.agent_runs(out),
            Event::ShimReady => self.shim = true,
            Event::BuildRuns => self.build_runs = true,
            Event::ShimSilent => {
                if self.awaits_shim() {
                    self.doomed(shimless::silent(), out);
                }
            }
            Event::AgentClosed => self.agent_closed(out),
            Event::Acknowledged(outcome) => self.acknowledged(outcome, out),
            Event::GoneWhilePending(reason) => self.dropped(JobEnd::Dropped(reason), out),
            Event::CancelRequested => self.cancel(out),
            Event::RelayEnded(end) => self.relay_ended(end, out),
            Event::Doomed(ending) => self.doomed(if self.shim { ending } else { shimless::reason(ending) }, out),
            Event::PodEnded(ending) => self.pod_ended(ending, out),
            Event::ServicesStarted => {
                self.services_started = true;
                if self.agent == Agent::Connected && self.planned {
                    out.push(Effect::SendServicesStarted);
                }
            }
            Event::ServicesLate(ending) => {
                if !self.services_started {
                    self.doomed(ending, out);
                }
            }
            Event::Slow => self.acknowledge(out),
            Event::StartTimeout(ending) => self.start_timeout(ending, out),
            Event::DrainTimeout => {
                if let Some(ending) = self.dead.clone().or(self.told.clone()) {
                    self.end_locally(ending, out);
                }
            }
            Event::Stop(signal) => self.stop(signal, out),
            Event::Leave => self.leave(out),
            Event::HandOverTimeout => self.hand_over_timeout(out),
            Event::LeaveTimeout => self.leave_timeout(out),
            Event::Overdue(ending) => self.end_locally(ending, out),
            Event::PodDeleted => self.pod = Pod::Deleted,
        }
    }

    fn pod_created(&mut self, out: &mut Vec<Effect>) {
        if self.pod != Pod::Asked {
            return;
        }
        self.pod = Pod::Exists;
        if self.is_open() {
            self.connect(out);
        }
    }

    fn connect(&mut self, out: &mut Vec<Effect>) {
        self.agent = Agent::Connecting;
        out.push(Effect::Connect);
    }

    fn agent_ready(&mut self, phase: Phase, out: &mut Vec<Effect>) {
        if self.agent != Agent::Connecting || !self.needs_agent() {
            return;
        }
        self.agent = Agent::Connected;
        if self.verdict == Verdict::OfAgent {
            return;
        }
        if let Some(ending) = self.late.take().filter(|_| phase == Phase::Waiting) {
            return self.end_locally(ending, out);
        }
        if phase == Phase::Waiting {
            self.handed = true;
            out.push(Effect::SendPlan);
            return;
        }
        self.planned = true;
        if phase == Phase::Running {
            self.agent_runs(out);
        }
        self.restate(out);
        if self.went && phase == Phase::Planned {
            out.push(Effect::SendGo);
        } else if phase == Phase::Planned {
            self.go_or_acknowledge(out);
        }
    }

    /// Cancel, services and proofs are levels: a new connection is told again.
    fn restate(&mut self, out: &mut Vec<Effect>) {
        if self.services_started {
            out.push(Effect::SendServicesStarted);
        }
        if self.canceled {
            out.push(Effect::SendCancel { force: false });
        }
        if let Some(ending) = &self.told {
            out.push(Effect::SendFail(ending.clone()));
        }
    }

    fn agent_lost(&mut self, out: &mut Vec<Effect>) {
        // A connection may end before the agent has said anything over it.
        if self.agent == Agent::None {
            return;
        }
        self.agent = Agent::None;
        match self.dead.clone() {
            _ if !self.needs_agent() => {}
            Some(ending) => self.agent_gone(ending, out),
            None => self.connect(out),
        }
    }

    /// There will be no connection any more: without a verdict of the agent the job ends with `ending`, else without the rest of its trace.
    fn agent_gone(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if self.is_open() {
            self.end_locally(ending, out);
        } else if self.needs_agent() {
            out.push(Effect::EndTrace);
        }
    }

    fn agent_runs(&mut self, out: &mut Vec<Effect>) {
        if self.went {
            self.runs = true;
            if self.leaving {
                self.leave(out);
            }
        }
    }

    /// While the pod is being made, or an agent without a plan is being looked for, the same limit is kept there: who waits knows the cause.
    fn start_timeout(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        let has_cause = self.pod == Pod::Asked || (self.agent == Agent::Connecting && !self.planned);
        if has_cause {
            self.late = Some(ending);
        } else if !self.shim {
            self.doomed(ending, out);
        }
    }

    fn plan_accepted(&mut self, out: &mut Vec<Effect>) {
        if self.planned || !self.is_open() {
            return;
        }
        self.planned = true;
        self.restate(out);
        self.go_or_acknowledge(out);
    }

    fn go_or_acknowledge(&mut self, out: &mut Vec<Effect>) {
        if self.acknowledged == Step::Yes { self.go(out) } else { self.acknowledge(out) }
    }

    fn go(&mut self, out: &mut Vec<Effect>) {
        if !self.went && self.agent == Agent::Connected && self.told.is_none() {
            self.went = true;
            out.push(Effect::SendGo);
        }
    }

    fn acknowledge(&mut self, out: &mut Vec<Effect>) {
        if self.acknowledged == Step::No && self.end.is_none() {
            self.acknowledged = Step::Asked;
            out.push(Effect::Acknowledge);
        }
    }

    fn acknowledged(&mut self, outcome: AckOutcome, out: &mut Vec<Effect>) {
        if self.acknowledged != Step::Asked {
            return;
        }
        self.acknowledged = Step::Yes;
        if let AckOutcome::Gone(reason) = outcome {
            self.dropped(JobEnd::Dropped(reason), out);
            return;
        }
        if self.end.is_some() {
            return;
        }
        self.relay = Relay::Runs;
        out.push(Effect::StartRelay);
        if outcome == AckOutcome::Canceling {
            self.cancel(out);
        }
        if self.planned && self.is_open() {
            self.go(out);
        }
    }

    fn cancel(&mut self, out: &mut Vec<Effect>) {
        if self.canceled || !self.is_open() {
            return;
        }
        self.canceled = true;
        if !self.went {
            self.end_locally(Ending::Canceled, out);
        } else if self.agent == Agent::Connected {
            out.push(Effect::SendCancel { force: false });
        }
    }

    fn agent_closed(&mut self, out: &mut Vec<Effect>) {
        if self.is_open() {
            self.verdict = Verdict::OfAgent;
            out.push(Effect::CloseFromAgent);
            self.acknowledge(out);
        }
    }

    fn doomed(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if !self.is_open() || self.told.is_some() {
            return;
        }
        if self.agent == Agent::Connected && self.planned {
            self.told = Some(ending.clone());
            out.push(Effect::SendFail(ending));
        } else if self.went {
            // The agent runs and will be reached again; it must hear of this then.
            self.told = Some(ending);
        } else {
            self.end_locally(ending, out);
        }
    }

    fn pod_ended(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if !self.needs_agent() {
            return;
        }
        if self.agent == Agent::Connected {
            self.dead.get_or_insert(ending);
        } else {
            self.agent = Agent::None;
            self.agent_gone(ending, out);
        }
    }

    fn stop(&mut self, signal: String, out: &mut Vec<Effect>) {
        if !self.is_open() {
            return;
        }
        if self.acknowledged == Step::No {
            self.dropped(JobEnd::GivenBack, out);
        } else {
            self.doomed(Ending::Interrupted { signal }, out);
        }
    }

    fn end_locally(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if !self.is_open() {
            return;
        }
        if self.went && has_reported(&ending) {
            return self.dropped(JobEnd::Reported(None), out);
        }
        self.verdict = Verdict::OfManager(ending.clone());
        self.agent = Agent::None;
        out.push(Effect::EndLocally(ending));
        self.acknowledge(out);
    }

    fn relay_ended(&mut self, end: RelayEnd, out: &mut Vec<Effect>) {
        if self.relay != Relay::Runs {
            return;
        }
        self.relay = Relay::Ended;
        let end = match end {
            RelayEnd::Delivered => {
                if self.agent == Agent::Connected {
                    out.push(Effect::SendReported);
                }
                match &self.verdict {
                    Verdict::OfManager(ending) => JobEnd::Reported(Some(ending.clone())),
                    Verdict::OfAgent | Verdict::Open => JobEnd::Reported(None),
                }
            }
            RelayEnd::Aborted(reason) => JobEnd::Dropped(reason),
            RelayEnd::Stopped => JobEnd::Undelivered("the relay was stopped".to_owned()),
            RelayEnd::GaveUp { message } => JobEnd::Undelivered(message),
        };
        self.dropped(end, out);
    }

    /// Nothing more will be said to GitLab: the pod goes, forced.
    fn dropped(&mut self, end: JobEnd, out: &mut Vec<Effect>) {
        if self.end.is_some() {
            return;
        }
        if self.agent == Agent::Connected && !matches!(end, JobEnd::Reported(_)) {
            out.push(Effect::SendCancel { force: true });
        }
        self.agent = Agent::None;
        self.end = Some(end);
    }

    /// Nothing has been decided about the end of the job.
    fn is_open(&self) -> bool {
        self.verdict == Verdict::Open && self.end.is_none()
    }

    /// The agent has something to say still: how the job ends, or the rest of a trace whose verdict is known.
    fn needs_agent(&self) -> bool {
        self.end.is_none() && !matches!(self.verdict, Verdict::OfManager(_))
    }

    /// Once the end is decided: the pod goes, then the job is done. A runner that ends has no time to let GitLab answer first.
    fn finish(&mut self, out: &mut Vec<Effect>) {
        if self.done {
            return;
        }
        let is_in_haste = self.leaving && matches!(self.verdict, Verdict::OfManager(_));
        let pod_goes = is_in_haste || self.end.as_ref().is_some_and(|end| *end != JobEnd::HandedOver);
        if pod_goes && self.pod == Pod::Exists {
            self.pod = Pod::Deleting;
            out.push(Effect::DeletePod);
        }
        let Some(end) = &self.end else { return };
        // A pod that is being made must be known before it can be deleted.
        let has_no_pod = matches!(self.pod, Pod::Absent | Pod::Deleted);
        if has_no_pod || *end == JobEnd::HandedOver {
            self.done = true;
            out.push(Effect::Done(end.clone()));
        }
    }
}

/// An agent ends with 0 only when GitLab has its verdict: while we could not reach it, it has reported by itself.
fn has_reported(ending: &Ending) -> bool {
    matches!(ending, Ending::ContainerDied { container, exit_code: 0, .. } if container == HELPER)
}

#[cfg(test)]
mod tests;
