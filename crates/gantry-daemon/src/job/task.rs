//! Performs what the machine decides. One task owns one job: it has one inbox, it alone reads what
//! the agent sends, and everything that takes time runs beside it. It waits in one place only.

mod agent;
mod caches;
mod logs;
mod pod;
mod removal;
mod reports;
mod shown;
mod visits;

use std::time::Duration;

use gantry_core::{Verdict, limits};
use gantry_kube::PodState;
use gantry_plan::HeadLine;
use gantry_relay::FinishedTrace;
use gantry_wire::frame::{Cancel, Claim, Frame};
use gantry_wire::usage::Usage;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::events::{JobSlept, Said as _};
use crate::job::background::{Background, INBOX, JobClient, Message};
use crate::job::cache_signer::CacheSigner;
use crate::job::events::{Effect, Event, Timer};
use crate::job::feed::Feed;
use crate::job::link::Link;
use crate::job::log::HeadLog;
use crate::job::machine::{Machine, Terms};
use crate::job::particulars::{Adopting, Particulars};
use crate::job::parts::{AdoptedParts, JobContext, JobParts};
use crate::job::task::agent::next_frame;
use crate::job::task::caches::FreshCaches;
use crate::job::task::logs::Logs;
use crate::job::timers::Timers;
use crate::job::watched::{WatchedPod, next_pod_state};
use crate::job_end::{JobEnd, JobSummary, StopJobs};

/// A timer that is late by this much shows that the process has slept: stopped, or on a machine
/// that was. Others take a job over after 15 s.
const SLEPT: Duration = Duration::from_secs(10);

/// What a job gets then for looking around before its timers go on.
const WAKING: Duration = Duration::from_secs(5);

/// The state of one job's performance.
struct Task {
    around: JobContext,
    job: Particulars,
    machine: Machine,
    timers: Timers,
    feed: Feed,
    background: Background,
    pod: Option<WatchedPod>,
    link: Option<Link>,
    logs: Logs,
    /// Where what saves them ends before the job has to.
    caches: Option<Box<FreshCaches>>,
    stops: Stops,
    outcome: Outcome,
}

/// Ends what runs beside the job; all of it ends with the task, but for the pod's making and its
/// removal.
struct Stops {
    /// Everything.
    over: CancellationToken,
    /// `PUT pending`.
    pending: CancellationToken,
    /// Waiting for a pod that nobody needs.
    unwanted: CancellationToken,
    relay: CancellationToken,
    _all: [DropGuard; 4],
}

#[derive(Default)]
struct Outcome {
    closed: Option<FinishedTrace>,
    verdict: Option<Verdict>,
    end: Option<JobEnd>,
    pod_start: Option<Duration>,
    usage: Option<Usage>,
    /// For how many seconds the agent lets its containers stay.
    kept: Option<u64>,
    /// What the cluster has said about the pod's end.
    final_lines: Vec<HeadLine>,
    /// The agent has closed the job, and somebody is in its terminal still.
    lingers: bool,
}

/// What the task may wait for.
enum Happened {
    Message(Message),
    Frame(Option<Box<Frame>>),
    Seen(PodState),
    /// Beside the timer, by how much it is late.
    Time(Timer, Duration),
    Told(StopJobs),
}

/// Runs a job to its end. What is done first is done at once, so that the parts of the job are not
/// kept beside it.
pub(crate) fn run(parts: JobParts) -> impl Future<Output = JobSummary> + Send {
    let JobParts { client, creds, info, cluster, helper, plan, taken, .. } = parts;
    let JobParts { final_tries, leftovers, stop, view, pace, asks_events, manager, visits, caches, .. } = parts;
    let terms = Terms {
        pod: plan.pod.metadata.name.clone().unwrap_or_default(),
        namespace: cluster.namespace().to_owned(),
        services: Some(plan.services.clone()),
        timeout: plan.timeout,
        start_timeout: plan.start_timeout,
        start_setting: plan.start_setting,
        asks_events,
        prints_events: plan.prints_events,
        volumes: plan.volumes.clone(),
        is_known: true,
        manager_may_live: false,
    };
    let (machine, effects) = Machine::taken(terms);
    let now = Timestamp::now();
    let mut head = HeadLog::new(&plan.pod_plan.trace, &plan.banner, now);
    head.lines(&plan.executor, now);
    let job_client = JobClient { client, creds, info };
    let around = JobContext { cluster, helper, leftovers, view, pace, final_tries, visits };
    let job = Particulars::taken(plan, job_client.clone(), taken, manager);
    let (mut task, messages) = Task::new(around, job, machine, (Feed::new(head), caches));
    task.background.keep_pending(job_client, task.stops.pending.clone());
    task.perform(effects);
    task.live(messages, stop)
}

/// Goes on with a job as if its manager had never changed, or ends it: reports one whose pod is
/// dead, and gives back one whose pod has no plan. Returns when it has ended for this manager; the
/// pod is removed then, unless the end says otherwise ([`JobEnd::Owned`], [`JobEnd::HandedOver`],
/// [`JobEnd::LeftToNext`], [`JobEnd::Unknown`], [`JobEnd::TooEarly`]).
pub(crate) fn adopt(parts: AdoptedParts) -> impl Future<Output = JobSummary> + Send {
    let AdoptedParts { cluster, helper, pod, ticket, unix_ms, manager, replaces, on_granted, .. } = parts;
    let AdoptedParts { clients, info, final_tries, leftovers, stop, view, pace, visits, caches, .. } = parts;
    let claim = if replaces { Claim::Replace } else { Claim::Adopt };
    let job = Particulars::found(
        ticket.as_ref().map(|ticket| (ticket, unix_ms)),
        manager,
        claim,
        Adopting { clients, info, on_granted },
    );
    let machine = Machine::adopted(Terms {
        pod: pod.name.clone(),
        namespace: cluster.namespace().to_owned(),
        is_known: job.known.is_some(),
        manager_may_live: parts.manager_may_live,
        ..Terms::default()
    });
    let around = JobContext { cluster, helper, leftovers, view, pace, final_tries, visits };
    let (mut task, messages) = Task::new(around, job, machine, (Feed::of_agent(), caches));
    task.watch_pod(pod, None);
    task.live(messages, stop)
}

impl Task {
    fn new(
        around: JobContext,
        job: Particulars,
        machine: Machine,
        (feed, caches): (Feed, Option<CacheSigner>),
    ) -> (Box<Self>, mpsc::Receiver<Box<Message>>) {
        let (inbox, messages) = mpsc::channel(INBOX);
        let stops = Stops::new();
        let task = Self {
            around,
            job,
            machine,
            timers: Timers::default(),
            feed,
            background: Background::new(inbox, stops.over.clone()),
            pod: None,
            link: None,
            logs: Logs::default(),
            caches: caches.map(FreshCaches::new).map(Box::new),
            stops,
            outcome: Outcome::default(),
        };
        (Box::new(task), messages)
    }

    async fn live(
        mut self: Box<Self>,
        mut messages: mpsc::Receiver<Box<Message>>,
        mut stop: watch::Receiver<Option<StopJobs>>,
    ) -> JobSummary {
        let mut known = None;
        while self.outcome.end.is_none() {
            let taker = self.taker_of_logs();
            let happened = tokio::select! {
                () = self.feed.flush(), if self.feed.is_pending() => continue,
                Some(message) = messages.recv() => Happened::Message(*message),
                // What the relay does not take waits in the pod.
                frame = next_frame(&mut self.link), if !self.feed.is_pending() => Happened::Frame(frame.map(Box::new)),
                () = self.logs.pass_on(taker) => continue,
                pod_state = next_pod_state(&mut self.pod) => Happened::Seen(pod_state),
                (timer, late) = self.timers.next() => Happened::Time(timer, late),
                Ok(asked) = stop.wait_for(|asked| *asked != known) => {
                    known.clone_from(&asked);
                    let Some(told) = known.clone() else { continue };
                    Happened::Told(told)
                }
            };
            self.take(happened);
        }
        let end = self.outcome.end.unwrap_or(JobEnd::Unknown);
        if let Some(link) = self.link.take().filter(|_| end == JobEnd::HandedOver) {
            self.stops.relay.cancel();
            link.release().await;
        }
        // Whoever goes on with it says how it has ended.
        let verdict = self.outcome.verdict.filter(|_| end != JobEnd::LeftToNext);
        let (duration, is_kept) = (self.job.begun.elapsed(), self.outcome.kept.is_some());
        JobSummary { end, verdict, duration, pod_start: self.outcome.pod_start, usage: self.outcome.usage, is_kept }
    }

    fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Message(Message::Event(event)) => self.step(event),
            Happened::Message(Message::PodCreated { pod, secret, restricted }) => {
                self.job.pod_is_restricted(restricted);
                self.watch_pod(pod, secret);
                self.step(Event::PodCreated);
            }
            Happened::Message(Message::Connected(stream)) => self.converse(*stream),
            Happened::Message(Message::Report(report)) => self.report(report),
            Happened::Message(Message::CachesSigned(signed)) => self.caches_signed(signed),
            Happened::Frame(Some(frame)) => self.frame(*frame),
            Happened::Frame(None) => self.hang_up(),
            Happened::Seen(pod_state) => {
                self.note_node(&pod_state);
                self.step(Event::PodSeen(pod_state));
            }
            Happened::Time(timer, late) if late >= SLEPT => self.wake(timer, late),
            Happened::Time(timer, _) => self.step(Event::Time(timer)),
            Happened::Told(told) => self.told(told),
        }
    }

    /// There is no connection any more.
    fn hang_up(&mut self) {
        self.link = None;
        self.feed.agent_is_gone();
        self.end_visits();
        self.step(Event::AgentLost);
    }

    /// This process has slept, and nothing was true meanwhile that it believes: the job may have
    /// another manager, which its agent knows. So no time has passed, and the agent is asked before
    /// anything else is done.
    fn wake(&mut self, timer: Timer, late: Duration) {
        self.timers.postpone(late + WAKING);
        self.timers.arm(timer, WAKING);
        JobSlept { for_at_least: late }.say();
        if self.link.is_some() {
            self.hang_up();
        }
    }

    fn step(&mut self, event: Event) {
        let effects = self.machine.step(event);
        self.perform(effects);
        if self.machine.is_handed_over() {
            self.job.plan_is_handed_over();
        }
        if let Some(pod) = self.pod.as_mut().filter(|_| !self.machine.watches_pod()) {
            pod.watch = None;
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            tracing::debug!(?effect, "next");
            self.perform_one(effect);
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::CreatePod => self.create_pod(),
            Effect::ForgetPod => self.stops.unwanted.cancel(),
            Effect::Connect { resume, pause } => self.connect(resume, pause),
            Effect::Greet => self.send(self.job.greeting()),
            Effect::SendPlan => self.send_plan(),
            Effect::Acknowledge | Effect::AskGitlab | Effect::StartRelay => self.turn_to_gitlab(&effect),
            Effect::SendGo => self.send(Frame::Go),
            Effect::SendServicesStarted => self.send(Frame::ServicesStarted),
            Effect::SendServiceEnded(service) => self.send(Frame::ServiceEnded(service)),
            Effect::FollowLogs => self.services_run(),
            Effect::SendCancel { force } => self.send(Frame::Cancel(Cancel { force })),
            Effect::SendFail(ending) => self.fail(ending),
            Effect::SendReported => self.send(Frame::Reported),
            Effect::CloseFromAgent => {
                if let Some(closed) = self.outcome.closed.clone() {
                    self.outcome.verdict = Some(closed.verdict.clone());
                    self.feed.close(closed);
                }
            }
            Effect::EndTrace => self.feed.end_trace(),
            Effect::EndLocally { ending, of_agent } => {
                self.link = None;
                let verdict = ending.verdict();
                if let Some(known) = &self.job.known {
                    let words = std::mem::take(&mut self.outcome.final_lines);
                    self.feed.end((&words, &verdict), of_agent, &known.trace);
                }
                self.outcome.verdict = Some(verdict);
            }
            Effect::LookAtPod | Effect::AskEvents | Effect::AskFinalEvents | Effect::AskLog(_) | Effect::DeletePod => {
                self.turn_to_pod(&effect);
            }
            Effect::ShowWaiting(lines) => self.show_waiting(&lines),
            Effect::ShowNotes(notes) => self.show_notes(&notes),
            Effect::KeepFinalLines(words) => self.outcome.final_lines = words,
            Effect::Arm(timer, after) => self.timers.arm(timer, after),
            Effect::Disarm(timer) => self.timers.disarm(timer),
            Effect::Done(end) => self.outcome.end = Some(end),
        }
    }

    fn turn_to_gitlab(&mut self, effect: &Effect) {
        let Some(known) = &mut self.job.known else { return };
        self.stops.pending.cancel();
        let job_client = known.job_client.clone();
        match effect {
            Effect::Acknowledge => self.background.acknowledge(job_client),
            Effect::AskGitlab => self.background.ask_gitlab(job_client, known.until + limits::JOB_TOKEN_ALLOWANCE),
            _ => {
                if let Some(inputs) = self.feed.start() {
                    let job = known.relay_job(&self.around);
                    self.background.relay(job_client.client, job, inputs, self.stops.relay.clone());
                }
                self.follow();
            }
        }
    }
}

impl Stops {
    fn new() -> Self {
        let [over, pending, unwanted, relay] = [(); 4].map(|()| CancellationToken::new());
        let all = [&over, &pending, &unwanted, &relay].map(|stop| stop.clone().drop_guard());
        Self { over, pending, unwanted, relay, _all: all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_runs_is_small() {
        fn size<A, F>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        // Hundreds may run for hours.
        assert!(size(run) < 2 * 1024, "{}", size(run));
        assert!(size_of::<Task>() < 4 * 1024, "{}", size_of::<Task>());
    }
}
