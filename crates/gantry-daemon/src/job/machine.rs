//! The whole life of a job, as seen by its manager. Pure: no clock, no IO, no channel. `task.rs`
//! performs the effects and turns what happens into events.
//!
//! A job ends in one of two ways. Normally the agent closes the verdict and the manager passes it
//! on. Only when there is proof that no agent can (the pod was never made, or is gone) does the
//! manager end the job itself: [`Effect::EndLocally`]. Never both.
//!
//! What agents do to a job's life is in `agent.rs`, what GitLab does in `gitlab.rs`, what a pod's
//! status proves in `pod.rs`, the time until everything is there in `starting.rs`, the end of the
//! runner in `leaving.rs`. docs/ARCHITECTURE.md has a drawing.

mod agent;
mod bad_news;
mod evidence;
mod gitlab;
mod leaving;
mod limits;
mod pod;
mod services;
mod starting;
mod terms;

use std::sync::Arc;
use std::time::Duration;

use gantry_core::Ending;
use gantry_core::limits::REPORT_ALLOWANCE;
use gantry_kube::PodState;
use gantry_wire::layout::HELPER;

use self::bad_news::Held;
pub(crate) use self::leaving::never_began;
use self::limits::SLOW;
pub(crate) use self::limits::{BRIEF, LEAVE};
use self::pod::PodView;
pub(crate) use self::terms::Terms;
use crate::job::events::{Effect, Event, Timer};
use crate::job::shimless;
use crate::job_end::JobEnd;

/// A connection to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None,
    Connecting,
    Connected {
        /// It has lasted.
        steady: bool,
    },
}

/// How far the word to start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    No,
    Sent,
    /// The agent has said that it started.
    Runs,
}

/// Who ended the job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Author {
    Agent,
    Manager(Ending),
}

/// How far the pod is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pod {
    /// It may still come.
    Asked,
    Exists,
    Absent,
    Deleting,
    Deleted,
}

/// How far a job is, and what is true there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    /// Its pod is asked for.
    Creating,
    /// The pod exists, and an agent is looked for that has no plan.
    Attaching {
        link: Link,
        /// The plan is on its way to the agent.
        handed: bool,
    },
    /// The pod was found, and an agent is looked for that may be anywhere.
    Finding { link: Link },
    /// No agent of the found pod can go on with the job, for this reason: GitLab is asked how the
    /// job stands there.
    Asking { cause: Ending },
    /// The agent holds the plan: it writes the trace from now on.
    HandedOver {
        link: Link,
        go: Go,
        /// What the agent was told to end with; the manager ends the job with it if the agent does
        /// not.
        sent_ending: Option<Ending>,
    },
    /// The verdict is known, and on its way to GitLab.
    Closing { by: Author, link: Link, pod: Pod },
    /// Nothing more is said to GitLab: the pod goes.
    Removing { end: JobEnd, pod: Pod },
    /// Nothing more happens.
    Done,
}

/// How far GitLab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gitlab {
    /// It waits for an acknowledgement, as far as known.
    Untold,
    /// `PUT running` is under way.
    Asked,
    /// It shows the job as running, and is told about it.
    Relaying,
    /// It is told nothing more.
    Ended,
}

/// A job's life, and beside it what can be true in any part of it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    terms: Terms,
    life: Life,
    /// Another manager has made its pod.
    is_found: bool,
    gitlab: Gitlab,
    pod: PodView,
    /// The shim in the build container has said hello.
    shim: bool,
    /// The shim's time to say hello runs.
    shim_awaited: bool,
    /// How long its agent has been claimed in vain.
    claimed: Duration,
    /// Somebody wants it canceled.
    canceled: bool,
    /// The agent of its pod has not shown itself for a moment: whether GitLab shows the job as
    /// running says how long it is looked for.
    is_silent: bool,
    /// It is left to its agent as soon as that is possible.
    leaving: bool,
    /// The pod's time to start was over while its agent was being looked for.
    late: Option<Ending>,
    /// Proof that the agent is dead; the connection may still give what was on its way.
    dead: Option<Ending>,
    /// Bad news that wait for what the cluster knows about them.
    held: Held,
}

impl Machine {
    /// A job that was just taken, and what to do first.
    pub(crate) fn taken(terms: Terms) -> (Self, Vec<Effect>) {
        let effects = vec![
            Effect::CreatePod,
            Effect::Arm(Timer::Slow, SLOW),
            Effect::Arm(Timer::Start, terms.start_timeout),
            Effect::Arm(Timer::Overdue, terms.timeout + REPORT_ALLOWANCE),
        ];
        let pod = PodView::new(&terms);
        (Self::new(terms, Life::Creating, pod), effects)
    }

    /// A job whose pod was found without its manager. What to do shows with the first status of the
    /// pod.
    pub(crate) fn adopted(terms: Terms) -> Self {
        let pod = PodView::of_found(&terms);
        Self::new(terms, Life::Finding { link: Link::None }, pod)
    }

    fn new(terms: Terms, life: Life, pod: PodView) -> Self {
        Self {
            pod,
            is_found: matches!(life, Life::Finding { .. }),
            terms,
            life,
            gitlab: Gitlab::Untold,
            shim: false,
            shim_awaited: false,
            claimed: Duration::ZERO,
            canceled: false,
            is_silent: false,
            leaving: false,
            late: None,
            dead: None,
            held: Held::default(),
        }
    }

    /// Whether a connection to the agent was asked for and is still of use.
    pub(crate) fn is_connecting(&self) -> bool {
        self.link() == Link::Connecting
    }

    /// Whether what happens to the pod still matters.
    pub(crate) fn watches_pod(&self) -> bool {
        !matches!(self.life, Life::Removing { .. } | Life::Done)
    }

    /// Takes what happened and says what to do.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.life != Life::Done {
            self.take(event, &mut effects);
            self.note_silence(&mut effects);
            self.finish(&mut effects);
        }
        effects
    }

    fn take(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::PodCreated => self.pod_created(out),
            Event::PodNotCreated(ending) => {
                self.set_pod(Pod::Absent);
                self.end_with(ending, Pod::Absent, out);
            }
            Event::PodSeen(pod_state) => {
                if matches!(self.life, Life::Finding { .. }) {
                    self.found_pod_seen(&pod_state, out);
                }
                let proofs = self.pod.look(pod_state, out);
                self.proven(proofs, out);
            }
            Event::PodLooked(facts) if matches!(self.life, Life::Finding { .. }) => {
                if let Some(facts) = facts {
                    self.found_pod_seen(&PodState::Present(Arc::from(facts)), out);
                }
            }
            Event::PodLooked(facts) => self.pod_looked(facts.as_deref(), out),
            Event::Events(events) => {
                self.pod.learn(events, out);
                self.look_again(out);
            }
            Event::FinalEvents(events) => self.final_events(&events, out),
            Event::PodWaits(line) => self.pod.wait(true, vec![line], out),
            Event::Note(line) => out.push(Effect::ShowNotes(vec![line])),
            Event::PodDeleted => self.set_pod(Pod::Deleted),
            Event::AgentMet(phase) => self.agent_met(phase, out),
            Event::AgentReady { phase, time } => self.agent_ready(phase, time, out),
            Event::AgentReported => self.dropped(JobEnd::Reported(None), out),
            Event::AgentBusy(wait) => self.agent_busy(wait, out),
            Event::AgentOwned => self.agent_owned(out),
            Event::AgentLost => self.agent_lost(out),
            Event::AgentUnreachable(ending) => self.agent_unreachable(ending, out),
            Event::PlanAccepted => self.plan_accepted(out),
            Event::PlanRefused(message) => self.end_job(Ending::HelperUnusable { message }, out),
            Event::AgentRuns => self.agent_runs(out),
            Event::ShimReady => self.shim = true,
            Event::ServiceSilent(service) => self.service_silent(service, out),
            Event::LogRead(news, log) => self.log_read(&news, log, out),
            Event::AgentClosed => self.agent_closed(out),
            Event::Acknowledged(outcome) => self.acknowledged(outcome, out),
            Event::GitlabStatus(status) => self.gitlab_status(status, out),
            Event::GitlabUnusable => self.gitlab_unusable(out),
            Event::GoneWhilePending(reason) => self.dropped(JobEnd::Dropped(reason), out),
            Event::CancelRequested => self.cancel(out),
            Event::RelayEnded(end) => self.relay_ended(end, out),
            Event::Time(timer) => self.time(timer, out),
            Event::Stop(signal) => self.stop(signal, out),
            Event::Leave => self.told_to_leave(out),
        }
    }

    fn time(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        match timer {
            Timer::Slow => self.acknowledge(out),
            Timer::Start => self.start_timeout(out),
            Timer::Overdue => self.end_locally(Ending::TimedOut { seconds: self.terms.timeout.as_secs() }, out),
            Timer::Drain => {
                if let Some(ending) = self.known_end() {
                    self.end_locally(ending, out);
                }
            }
            Timer::ShimHello => {
                if self.awaits_shim() {
                    self.end_job(shimless::silent(), out);
                }
            }
            Timer::Steady => {
                if let Some(Link::Connected { steady }) = self.link_mut() {
                    *steady = true;
                }
            }
            Timer::Find => self.not_found(out),
            Timer::Claim => self.greet(out),
            Timer::QuietWait => {
                self.pod.quiet_wait_is_over();
                self.look_again(out);
            }
            Timer::Look => self.look_at_pod(out),
            Timer::Events => {
                self.pod.ask(out);
                self.look_again(out);
            }
            Timer::FinalEvents => self.final_events(&[], out),
            Timer::HandOver => self.hand_over_timeout(out),
            Timer::Leave => self.leave_timeout(out),
        }
    }

    /// Nothing has been decided about the end of the job.
    fn is_open(&self) -> bool {
        !matches!(self.life, Life::Closing { .. } | Life::Removing { .. } | Life::Done)
    }

    pub(super) fn is_handed_over(&self) -> bool {
        matches!(self.life, Life::HandedOver { .. })
    }

    fn sent_ending(&self) -> Option<&Ending> {
        if let Life::HandedOver { sent_ending, .. } = &self.life { sent_ending.as_ref() } else { None }
    }

    fn go_was_sent(&self) -> bool {
        matches!(self.life, Life::HandedOver { go: Go::Sent | Go::Runs, .. })
    }

    /// How the job ends if its agent says nothing more.
    fn known_end(&self) -> Option<Ending> {
        self.dead.clone().or_else(|| self.sent_ending().cloned())
    }

    /// The pod, as far as its life tells.
    fn pod_state(&self) -> Pod {
        match &self.life {
            Life::Creating => Pod::Asked,
            Life::Closing { pod, .. } | Life::Removing { pod, .. } => *pod,
            _ => Pod::Exists,
        }
    }

    fn set_pod(&mut self, now: Pod) {
        if let Life::Closing { pod, .. } | Life::Removing { pod, .. } = &mut self.life {
            *pod = now;
        }
    }

    /// Once GitLab knows the end: the pod goes, then the job is done. Never before, as the pod is
    /// all that tells of the job.
    fn finish(&mut self, out: &mut Vec<Effect>) {
        match &mut self.life {
            Life::Removing { pod: pod @ Pod::Exists, .. } => {
                *pod = Pod::Deleting;
                out.push(Effect::DeletePod);
            }
            Life::Removing { pod: Pod::Absent | Pod::Deleted, end } => {
                let end = end.clone();
                self.done(end, out);
            }
            // A pod that is being made must be known before it can be deleted.
            _ => {}
        }
    }

    fn done(&mut self, end: JobEnd, out: &mut Vec<Effect>) {
        self.life = Life::Done;
        out.push(Effect::Done(end));
    }
}

/// An agent ends with 0 only when GitLab has its verdict: while we could not reach it, it has
/// reported by itself.
fn has_reported(ending: &Ending) -> bool {
    matches!(ending, Ending::ContainerDied { container, exit_code: 0, .. } if container == HELPER)
}

#[cfg(test)]
mod tests;
