//! The conversation with the agent, over whatever connection there is: who it is, the plan, how far
//! it is, and its trace.

use std::time::Duration;

use gantry_kube::AgentStream;
use gantry_relay::FinishedTrace;
use gantry_wire::frame::{Frame, Hello, Offset, Phase, Refusal, Refused, State};

use crate::job::background::Background;
use crate::job::events::Event;
use crate::job::link::Link;
use crate::job::task::Task;

impl Task {
    /// Starts to talk over a new connection. One that comes too late must not add to a trace that
    /// has ended: it is closed.
    pub(super) fn converse(&mut self, stream: AgentStream) {
        if !self.machine.is_connecting() {
            return;
        }
        self.note(|moments| &mut moments.reached);
        let (link, talk) = Link::over(stream);
        Background::talk(talk);
        self.link = Some(link);
        self.feed.agent_is_there();
    }

    /// Sends a frame if there is a connection.
    pub(super) fn send(&mut self, frame: Frame) {
        if let Some(link) = &mut self.link {
            link.send(frame);
        }
    }

    pub(super) fn send_plan(&mut self) {
        let head = self.feed.hand_over();
        if let Some(plan) = self.job.plan_with(head) {
            self.send(plan);
        }
    }

    pub(super) fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Trace { offset, bytes } => self.feed.trace(offset, bytes),
            Frame::Hello(hello) => self.hello(hello),
            Frame::Granted(_) => {
                if let Some(hello) = self.link.as_mut().and_then(|link| link.hello.take()) {
                    self.granted();
                    self.meet(*hello);
                }
            }
            Frame::PlanAccepted => {
                self.outcome.pod_start.get_or_insert(self.job.begun.elapsed());
                self.note(|moments| &mut moments.planned);
                self.step(Event::PlanAccepted);
                self.agent_writes();
            }
            Frame::State(state) => self.state(state),
            Frame::Refused(refused) => self.step(refusal(refused)),
            _ => {}
        }
    }

    /// The agent says who it is. One of the first version knows no claims.
    fn hello(&mut self, hello: Hello) {
        tracing::debug!(version = hello.version, epoch = hello.epoch, relay = ?hello.relay, "agent");
        let Some(link) = self.link.as_mut().filter(|_| hello.protocols.is_some()) else {
            self.granted();
            return self.meet(hello);
        };
        let phase = hello.state.phase;
        link.hello = Some(Box::new(hello));
        self.step(Event::AgentMet(phase));
    }

    fn granted(&mut self) {
        if let Some(link) = &mut self.link {
            link.granted();
        }
    }

    /// The agent is ours and says how far it is.
    fn meet(&mut self, hello: Hello) {
        let phase = hello.state.phase;
        let time = match self.job.granted(hello.adoption.as_deref()) {
            Ok(told) => told.map(|(time, acked)| {
                self.feed.begin_at(acked);
                time
            }),
            Err(_) => return self.step(Event::GitlabUnusable),
        };
        self.follow_logs();
        if hello.state.reported {
            self.outcome.kept = hello.state.keeps_seconds;
            self.outcome.verdict = hello.state.closed.map(|closed| closed.verdict);
            return self.step(Event::AgentReported);
        }
        if hello.state.shim {
            self.step(Event::ShimReady);
        }
        self.step(Event::AgentReady { phase, time });
        if phase != Phase::Waiting {
            self.agent_writes();
        }
        self.state(hello.state);
    }

    pub(super) fn agent_writes(&mut self) {
        if self.link.is_some() {
            self.feed.agent_writes();
            self.follow();
            self.keep_caches_fresh();
        }
    }

    /// Asks the agent for its trace from where ours ends, once there is a relay to take it.
    pub(super) fn follow(&mut self) {
        if !self.feed.is_agents() || !self.feed.is_started() {
            return;
        }
        if let Some(link) = self.link.as_mut().filter(|link| !link.follows) {
            link.follows = true;
            link.send(Frame::Follow(Offset { offset: self.feed.follow_from() }));
        }
    }

    fn state(&mut self, state: State) {
        if let Some(hello) = self.link.as_mut().and_then(|link| link.hello.as_mut()) {
            hello.state = state;
            return;
        }
        let stage = state.stage.clone().unwrap_or_default();
        self.around.view.send_modify(|view| view.begin(stage));
        if state.phase == Phase::Running {
            self.step(Event::AgentRuns);
        }
        if state.shim {
            self.step(Event::ShimReady);
        }
        for service in state.silent_services {
            self.step(Event::ServiceSilent(service));
        }
        self.outcome.kept = state.keeps_seconds;
        if let Some(closed) = state.closed {
            self.outcome.usage = closed.usage;
            self.outcome.closed = Some(FinishedTrace {
                verdict: closed.verdict,
                trace_bytes: closed.trace_bytes,
                trace_crc32: closed.trace_crc32,
            });
            self.agent_closed();
        }
    }
}

/// What it means that the agent does not do as it was asked.
fn refusal(refused: Refused) -> Event {
    match (refused.cause, refused.retry_after_ms) {
        (Refusal::RelayLives, Some(wait)) => Event::AgentBusy(Duration::from_millis(wait)),
        (Refusal::RelayLives | Refusal::Superseded, _) => Event::AgentOwned,
        (Refusal::Protocol | Refusal::Other, _) => Event::PlanRefused(refused.message),
    }
}

/// The next frame over the connection, if there is one.
pub(super) async fn next_frame(link: &mut Option<Link>) -> Option<Frame> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}
