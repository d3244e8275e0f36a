//! The one owner of the job. Everything that happens reaches it through one inbox, so nothing here
//! is locked and nothing races.
//!
//! This file is the time before there is a plan; `job.rs` is the time after.

mod closing;
mod exports;
mod flow;
mod job;
mod managers;
mod scripts;
mod services;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use gantry_wire::codec::FrameError;
use gantry_wire::frame::{Frame, Refused};
use gantry_wire::layout::WITHOUT_PLAN;
use gantry_wire::plan::PodPlan;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use self::job::Job;
use super::known::SharedJob;
use super::presence::PresenceState;
use super::published::{Published, TraceFile};
use super::validate::validate;
use crate::clock::Clock;
use crate::diagnostics::say;
use crate::event::{Event, ShimEvent};
use crate::limits::EARLY_MESSAGES;
use crate::ports::Workshop;

/// Exit code of an agent that was told to end while it had nothing to do: 128 plus TERM.
const TERMINATED: u8 = 143;
/// Exit code of an agent whose job is reported.
const SUCCESS: u8 = 0;
/// Exit code of an agent that could not do what it is for.
const FAILURE: u8 = 1;

/// What the engine works with.
pub(crate) struct EngineContext {
    /// Where the trace is kept.
    pub(crate) trace_file: TraceFile,
    /// Does the stages.
    pub(crate) workshop: Arc<dyn Workshop>,
    /// What deadlines are kept on.
    pub(crate) clock: Clock,
    /// For tasks that report to the engine.
    pub(crate) events: mpsc::Sender<Event>,
    /// For manager connections.
    pub(crate) published: watch::Sender<Published>,
    /// For the agent's own relay.
    pub(crate) known: SharedJob,
    /// Whether a manager is there.
    pub(crate) managers: watch::Receiver<PresenceState>,
}

/// An agent without a plan.
pub(crate) struct Engine {
    around: EngineContext,
    inbox: mpsc::Receiver<Event>,
    /// What happened before the plan came, in order.
    early: Vec<Event>,
}

impl Engine {
    pub(crate) fn new(around: EngineContext, inbox: mpsc::Receiver<Event>) -> Self {
        Self { around, inbox, early: Vec::new() }
    }

    /// Waits for a plan and carries it out.
    pub(crate) async fn run(mut self, plan_wait: Duration) -> u8 {
        let until = Instant::now() + plan_wait;
        loop {
            match timeout_at(until, self.inbox.recv()).await {
                Err(_) => {
                    say(format_args!("no manager sent a plan for {} s (poll_timeout)", plan_wait.as_secs()));
                    return WITHOUT_PLAN;
                }
                Ok(None) => return FAILURE,
                Ok(Some(Event::Manager { frame: Frame::Plan(plan), reply })) => match validate(&plan) {
                    Ok(()) => return self.carry_out(*plan, &reply).await,
                    Err(problem) => refuse(&reply, format!("this plan cannot be carried out: {problem}")),
                },
                Ok(Some(Event::Manager { frame: Frame::UnreadablePlan(error), reply })) => {
                    refuse(&reply, unreadable(&error));
                }
                Ok(Some(Event::Manager { frame: Frame::Go, reply })) => {
                    refuse(&reply, "there is no plan to start".to_owned());
                }
                Ok(Some(Event::Terminated)) => {
                    say(format_args!("the pod is being ended before there was a plan"));
                    return TERMINATED;
                }
                Ok(Some(event)) => self.keep(event),
            }
        }
    }

    async fn carry_out(self, plan: PodPlan, reply: &mpsc::Sender<Frame>) -> u8 {
        let mut job = Job::new(self.around, Arc::new(plan));
        // The plan is kept and the trace begun: now it is true.
        let _ = reply.try_send(Frame::PlanAccepted);
        for event in self.early {
            job.on_event(event);
        }
        job.run(self.inbox).await
    }

    /// Keeps what will matter once there is a plan.
    fn keep(&mut self, event: Event) {
        match event {
            Event::Shim(ShimEvent::Connected(_)) => {
                self.around.published.send_modify(|published| published.state.shim = true);
            }
            // No script has been asked for, so this would be void with a plan, too. User code may
            // be in the place of the shim, and say it without end.
            Event::Shim(ShimEvent::Output(_) | ShimEvent::Ended(_)) => return,
            _ => {}
        }
        // A shim connects and is lost once each; managers might talk without end.
        if matches!(event, Event::Shim(_)) || self.early.len() < EARLY_MESSAGES {
            self.early.push(event);
        } else {
            say(format_args!("too much was said before the plan came; a message is dropped"));
        }
    }
}

fn refuse(reply: &mpsc::Sender<Frame>, message: String) {
    say(format_args!("refused: {message}"));
    let _ = reply.try_send(Frame::Refused(Refused::order(message)));
}

fn unreadable(error: &FrameError) -> String {
    format!("this plan cannot be read by helper {}: {error}", crate::VERSION)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::future::BoxFuture;
    use gantry_core::Ending;
    use gantry_wire::shim::{Ended, SecretText};

    use super::*;
    use crate::agent::presence::Presence;
    use crate::event::ShimLink;
    use crate::ports::{Outlet, ScriptSetup, StageTry};

    struct NoWork;

    impl Workshop for NoWork {
        fn perform(&self, _: StageTry, _: Outlet) -> BoxFuture<'static, Result<(), Ending>> {
            Box::pin(std::future::pending())
        }

        fn prepare(&self, _: ScriptSetup) -> BoxFuture<'static, Result<Vec<(String, SecretText)>, Ending>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn nothing_piles_up_before_there_is_a_plan() {
        let (events, inbox) = mpsc::channel(1);
        let around = EngineContext {
            trace_file: TraceFile::named("/nowhere".into()),
            workshop: Arc::new(NoWork),
            clock: Clock::Timers,
            events,
            published: watch::Sender::new(Published::default()),
            known: SharedJob::default(),
            managers: Presence::new().1,
        };
        let mut engine = Engine::new(around, inbox);
        let link = ShimLink { orders: mpsc::channel(1).0, shell: String::new(), uid: 0, gid: 0 };
        engine.keep(Event::Shim(ShimEvent::Connected(link)));
        let (reply, _answers) = mpsc::channel(1);
        for _ in 0..2 * EARLY_MESSAGES {
            engine.keep(Event::Shim(ShimEvent::Output(Bytes::from_static(b"flood"))));
            let ended = Ended { exit_code: 0, signal: None, oom_kills: 0, start_failure: None, usage: None };
            engine.keep(Event::Shim(ShimEvent::Ended(ended)));
            engine.keep(Event::Manager { frame: Frame::ServicesStarted, reply: reply.clone() });
        }
        engine.keep(Event::Shim(ShimEvent::Lost("gone".to_owned())));
        let [Event::Shim(ShimEvent::Connected(_)), others @ .., Event::Shim(ShimEvent::Lost(_))] =
            engine.early.as_slice()
        else {
            panic!("{:?}", engine.early)
        };
        assert!(others.iter().all(|event| matches!(event, Event::Manager { .. })));
        assert_eq!(others.len() + 1, EARLY_MESSAGES);
    }
}
