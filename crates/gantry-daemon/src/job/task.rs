//! Performs what the machine decides. One task owns one job: it has one inbox, and everything that takes time runs beside it and reports
//! back as an event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::{Ending, Verdict, limits};
use gantry_gitlab::{Client, JobCredentials, RunnerInfo};
use gantry_kube::{AgentStream, Cluster, HelperBinaries, PodRef, PodWatch};
use gantry_plan::JobPlan;
use gantry_relay::{Closed, Input, Pace, Report};
use gantry_wire::frame::{Frame, Note, NoteLevel, Offset, Phase, State};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::job::effects::Connection;
use crate::job::events::{Event, JobEnd};
use crate::job::ledger::Ledger;
use crate::job::log::HeadLog;
use crate::job::machine::Machine;
use crate::job::watcher::Seen;
use crate::strays::Strays;

/// Messages to a job that wait: enough for every part to say one thing while the job's task is busy.
pub(super) const INBOX: usize = 32;

/// Slices of the trace between connection and relay.
const RELAY_INPUTS: usize = 16;

/// After this time without an agent the job is acknowledged early, so that its log shows what it waits for.
const SLOW: Duration = Duration::from_secs(15);

/// How long a hand-over may go on once the runner was told to leave its jobs: a plan that was sent is accepted, and a job started, in
/// milliseconds, unless somebody does not answer.
const HAND_OVER: Duration = Duration::from_millis(1500);

/// How long a job may hold up a runner that leaves its jobs: a verdict is delivered and a pod deleted in less, unless GitLab or the API server
/// does not answer. With what the process itself takes this stays below five seconds.
pub(crate) const LEAVE: Duration = Duration::from_secs(3);

/// How long an agent that must be dead, or was told to end, may still say something before the manager ends the job.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// What a job is made of.
pub(crate) struct JobParts {
    /// The GitLab it came from.
    pub(crate) client: Client,
    /// Its credentials there.
    pub(crate) creds: JobCredentials,
    /// Who we are.
    pub(crate) info: RunnerInfo,
    /// Where its pod goes.
    pub(crate) cluster: Cluster,
    /// What can be pushed into helper containers.
    pub(crate) helper: Arc<HelperBinaries>,
    /// What will be done.
    pub(crate) plan: JobPlan,
    /// When GitLab handed it out.
    pub(crate) taken: Instant,
    /// Tries of the last update.
    pub(crate) final_tries: u32,
    /// Takes over pods that outlast the job.
    pub(crate) strays: Strays,
    /// Says that the runner was told to stop, and what becomes of its jobs.
    pub(crate) stop: watch::Receiver<Option<StopJobs>>,
    /// Shows others how far the job is.
    pub(crate) view: watch::Sender<JobView>,
    /// The pace of updates to GitLab.
    pub(crate) pace: Pace,
    /// Whether the events of a pod that does not start may be asked.
    pub(crate) asks_events: bool,
}

/// What becomes of running jobs when the runner stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopJobs {
    /// They are left to their agents.
    Leave,
    /// They end; the text is the signal.
    End(String),
}

/// What others may know about a job that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobView {
    /// The stage that runs, as the metric label has it.
    pub(crate) stage: String,
    /// Name of the pod, once it exists.
    pub(crate) pod: String,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) struct JobSummary {
    /// For the manager.
    pub(crate) end: JobEnd,
    /// What GitLab was told, if it was told anything.
    pub(crate) verdict: Option<Verdict>,
    /// From the moment it was taken.
    pub(crate) duration: Duration,
    /// From the moment it was taken until the agent had the plan; absent if it never did.
    pub(crate) pod_start: Option<Duration>,
}

/// What arrives in the inbox.
pub(super) enum Message {
    Event(Event),
    PodCreated(PodRef),
    Seen(Seen),
    Connected(Box<AgentStream>),
    ConnectionEnded,
    Frame(Frame),
    Report(Report),
}

/// The state of one job's performance. Only its own task touches it.
pub(super) struct Task {
    pub(super) parts: JobParts,
    pub(super) machine: Machine,
    pub(super) log: HeadLog,
    pub(super) inbox: mpsc::Sender<Message>,
    /// Absent once nothing more can come.
    pub(super) relay: Option<mpsc::Sender<Input>>,
    /// The relay's end, until it is started.
    pub(super) relay_inputs: Option<mpsc::Receiver<Input>>,
    /// What was passed on of the trace; with the connection while there is one.
    pub(super) ledger: Ledger,
    pub(super) pod: Option<PodRef>,
    pub(super) watch: Option<PodWatch>,
    pub(super) connection: Option<Connection>,
    /// What the relay has not taken yet of what the job's task itself says.
    pub(super) unfed: VecDeque<Input>,
    /// Nothing follows what is in `unfed`.
    pub(super) trace_ended: bool,
    /// From where the relay wants the trace again, as soon as there is a connection.
    pub(super) wanted: Option<u64>,
    /// The plan was sent, and with it the head of the trace as it was then.
    pub(super) handed: bool,
    /// How long to wait before the next connection.
    pub(super) pause: Duration,
    /// Ends `PUT pending`.
    pub(super) pending: CancellationToken,
    /// Says that nobody needs the pod that is being made.
    pub(super) unwanted: CancellationToken,
    pub(super) drain: Option<Instant>,
    /// When a shim that is still missing counts as silent.
    hello_by: Option<Instant>,
    pub(super) closed: Option<Closed>,
    pub(super) verdict: Option<Verdict>,
    /// Why the pod does not run yet, as it was said last.
    pub(super) waiting: Vec<String>,
    /// Where to look for the cause if the pod does not say it.
    pub(super) clue: Option<String>,
    pub(super) end: Option<JobEnd>,
    pod_start: Option<Duration>,
}

/// Runs a job to its end.
pub(crate) async fn run(parts: JobParts) -> JobSummary {
    let (inbox, mut messages) = mpsc::channel(INBOX);
    let (machine, effects) = Machine::start();
    let taken = parts.taken;
    let mut task = Task::new(parts, machine, inbox);
    task.keep_pending();
    task.perform(effects).await;
    let mut timers = Timers::new(&task.parts);
    while task.end.is_none() {
        let mut stop = task.parts.stop.clone();
        let known = timers.stopped.clone();
        let relay = task.relay.clone();
        let message = tokio::select! {
            Some(permit) = room(relay.as_ref()), if !task.unfed.is_empty() && task.relay_inputs.is_none() => {
                if let Some(input) = task.unfed.pop_front() {
                    permit.send(input);
                }
                task.let_relay_end();
                continue;
            }
            Some(message) = messages.recv() => message,
            event = timers.next([task.drain, task.hello_by], &task.parts) => {
                if event == Event::DrainTimeout {
                    task.drain = None;
                }
                Message::Event(event)
            }
            Ok(asked) = stop.wait_for(|asked| *asked != known) => {
                timers.stopped.clone_from(&asked);
                match &timers.stopped {
                    Some(StopJobs::End(signal)) => Message::Event(Event::Stop(signal.clone())),
                    Some(StopJobs::Leave) => {
                        timers.leave();
                        Message::Event(Event::Leave)
                    }
                    None => continue,
                }
            }
        };
        task.take(message).await;
        task.note_silence();
    }
    task.stop();
    JobSummary {
        end: task.end.unwrap_or(JobEnd::GivenBack),
        verdict: task.verdict,
        duration: taken.elapsed(),
        pod_start: task.pod_start,
    }
}

/// A place in the relay's inputs; nothing once they have ended.
async fn room(relay: Option<&mpsc::Sender<Input>>) -> Option<mpsc::Permit<'_, Input>> {
    relay?.reserve().await.ok()
}

/// Deadlines of a job; each fires once, except those that the task keeps.
struct Timers {
    slow: Option<Instant>,
    start: Option<Instant>,
    overdue: Option<Instant>,
    hand_over: Option<Instant>,
    leave: Option<Instant>,
    /// What was taken note of.
    stopped: Option<StopJobs>,
}

impl Timers {
    fn new(parts: &JobParts) -> Self {
        Self {
            slow: Some(parts.taken + SLOW),
            start: Some(parts.taken + parts.plan.start_timeout),
            overdue: Some(parts.taken + parts.plan.timeout + limits::REPORT_ALLOWANCE),
            hand_over: None,
            leave: None,
            stopped: None,
        }
    }

    /// The runner leaves its jobs.
    fn leave(&mut self) {
        let now = Instant::now();
        (self.hand_over, self.leave) = (Some(now + HAND_OVER), Some(now + LEAVE));
    }

    async fn next(&mut self, [drain, hello_by]: [Option<Instant>; 2], parts: &JobParts) -> Event {
        let ours = [self.slow, self.start, self.overdue, self.hand_over, self.leave];
        let at = ours.into_iter().chain([drain, hello_by]).flatten().min();
        match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        if drain == at {
            return Event::DrainTimeout;
        }
        if hello_by == at {
            return Event::ShimSilent;
        }
        if self.hand_over == at {
            self.hand_over = None;
            return Event::HandOverTimeout;
        }
        if self.leave == at {
            self.leave = None;
            return Event::LeaveTimeout;
        }
        if self.slow == at {
            self.slow = None;
            return Event::Slow;
        }
        if self.start == at {
            self.start = None;
            let seconds = parts.plan.start_timeout.as_secs();
            return Event::StartTimeout(Ending::PodStartTimeout { seconds, detail: String::new() });
        }
        self.overdue = None;
        Event::Overdue(Ending::TimedOut { seconds: parts.plan.timeout.as_secs() })
    }
}

impl Task {
    fn new(parts: JobParts, machine: Machine, inbox: mpsc::Sender<Message>) -> Self {
        let (relay, relay_inputs) = mpsc::channel(RELAY_INPUTS);
        let now = Timestamp::now();
        let mut log = HeadLog::new(&parts.plan.pod_plan.trace, &parts.plan.banner, now);
        log.lines(&parts.plan.executor, now);
        Self {
            machine,
            log,
            inbox,
            relay: Some(relay),
            relay_inputs: Some(relay_inputs),
            ledger: Ledger::default(),
            pod: None,
            watch: None,
            connection: None,
            unfed: VecDeque::new(),
            trace_ended: false,
            wanted: None,
            handed: false,
            pause: Duration::ZERO,
            pending: CancellationToken::new(),
            unwanted: CancellationToken::new(),
            drain: None,
            hello_by: None,
            closed: None,
            verdict: None,
            waiting: Vec::new(),
            clue: None,
            end: None,
            pod_start: None,
            parts,
        }
    }

    /// The shim's time begins when everything else is there, and ends with its hello.
    fn note_silence(&mut self) {
        let by = self.hello_by.unwrap_or_else(|| Instant::now() + limits::SHIM_HELLO);
        self.hello_by = self.machine.awaits_shim().then_some(by);
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.step(event).await,
            Message::PodCreated(pod) => {
                self.watch_pod(pod);
                self.step(Event::PodCreated).await;
            }
            Message::Seen(Seen::Event(event)) => {
                if matches!(event, Event::PodEnded(_)) {
                    self.drain.get_or_insert(Instant::now() + DRAIN);
                }
                self.step(event).await;
            }
            Message::Seen(Seen::Waiting(lines)) => self.show_waiting(lines),
            Message::Seen(Seen::Clue(clue)) => self.clue = Some(clue),
            // One that comes too late must not add to a trace that has ended: it is closed.
            Message::Connected(stream) => {
                if self.machine.is_connecting() {
                    self.converse(*stream);
                }
            }
            Message::ConnectionEnded => {
                self.note_pause();
                // What was told over it is told again over the next one, and has its time again.
                self.drain = None;
                self.take_ledger_back().await;
                self.step(Event::AgentLost).await;
            }
            Message::Frame(frame) => self.frame(frame).await,
            Message::Report(report) => self.report(report).await,
        }
    }

    pub(super) async fn step(&mut self, event: Event) {
        let event = match event {
            Event::StartTimeout(Ending::PodStartTimeout { seconds, .. }) => {
                let detail = self.last_words("not all of its containers have started");
                Event::StartTimeout(Ending::PodStartTimeout { seconds, detail })
            }
            Event::ServicesLate(Ending::PodStartTimeout { seconds, detail }) => {
                Event::ServicesLate(Ending::PodStartTimeout { seconds, detail: self.last_words(&detail) })
            }
            Event::AgentUnreachable(Ending::PodStartTimeout { seconds, detail }) => {
                Event::AgentUnreachable(Ending::PodStartTimeout { seconds, detail: self.last_words(&detail) })
            }
            event => event,
        };
        let effects = self.machine.step(event);
        if !self.machine.needs_pod() {
            self.unwanted.cancel();
        }
        self.perform(effects).await;
    }

    /// What the pod said last about itself, on one line: its reasons, else `otherwise` and where to look for them.
    fn last_words(&self, otherwise: &str) -> String {
        let mut words: Vec<&str> = self.waiting.iter().map(|line| line.trim()).collect();
        if words.len() < 2 {
            words.extend([otherwise].into_iter().chain(self.clue.as_deref()));
        }
        words.join("; ")
    }

    async fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Hello(hello) => {
                tracing::debug!(job = self.parts.creds.id, version = hello.version, epoch = hello.epoch, "agent");
                let phase = hello.state.phase;
                self.step(Event::AgentReady(phase)).await;
                self.follow();
                self.state(hello.state).await;
            }
            Frame::PlanAccepted => {
                self.pod_start.get_or_insert(self.parts.taken.elapsed());
                self.step(Event::PlanAccepted).await;
                if self.machine.is_planned() {
                    self.log.handed_over();
                }
                self.follow();
            }
            Frame::State(state) => self.state(state).await,
            Frame::Refused(refused) => self.step(Event::PlanRefused(refused.message)).await,
            _ => {}
        }
    }

    async fn state(&mut self, state: State) {
        let stage = state.stage.clone().unwrap_or_default();
        self.parts.view.send_modify(|view| view.stage = stage);
        if state.phase == Phase::Running {
            self.step(Event::AgentRuns).await;
        }
        if state.shim {
            self.step(Event::ShimReady).await;
        }
        if let Some(closed) = state.closed {
            self.closed = Some(Closed {
                verdict: closed.verdict,
                trace_bytes: closed.trace_bytes,
                trace_crc32: closed.trace_crc32,
            });
            self.step(Event::AgentClosed).await;
        }
    }

    async fn report(&mut self, report: Report) {
        let job = self.parts.creds.id;
        match report {
            Report::Acked(offset) => self.send(Frame::Acked(Offset { offset })),
            Report::CancelRequested => self.step(Event::CancelRequested).await,
            Report::WantFrom(offset) => self.resend(offset),
            Report::Ahead { server, ours } => {
                tracing::info!(
                    job,
                    server,
                    ours,
                    "GitLab has more of the trace than came through here; it goes on from there"
                );
            }
            Report::Diverged { server, ours } => {
                tracing::warn!(job, server, ours, "GitLab has more of the trace than there is; no more of it is sent");
            }
            Report::Trouble(Some(message)) => tracing::warn!(job, "GitLab does not take updates of the job: {message}"),
            Report::Trouble(None) => tracing::info!(job, "GitLab takes updates of the job again"),
        }
    }

    /// Shows why the pod does not run yet: in the head until it is handed over with the plan, then as a note of the agent. From then on the
    /// head must not grow: the agent has it as it was. Nothing is shown behind a verdict.
    fn show_waiting(&mut self, lines: Vec<String>) {
        if self.verdict.is_some() {
            return;
        }
        let now = Timestamp::now();
        if self.handed && !lines.is_empty() {
            self.send(Frame::Note(Note { level: NoteLevel::Plain, text: lines.join("\n") }));
        } else {
            for line in &lines {
                self.log.waiting(line, now);
            }
        }
        if !lines.is_empty() {
            self.waiting = lines;
        }
        self.feed_head();
    }
}
