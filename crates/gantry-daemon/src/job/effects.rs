//! The effects of a job, one function each. What takes time is spawned and reports back to the job's inbox.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::{Ending, limits};
use gantry_kube::{AgentStream, ApiError, AttachRequest, CreateError, PodRef, Purpose, Stray};
use gantry_relay::{Closed, Input, PendingEnd, RelayJob};
use gantry_wire::frame::{Cancel, Frame, Offset};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::job::connection::{self, OUTGOING, Sinks};
use crate::job::events::{Effect, Event};
use crate::job::ledger::{Ledger, rest};
use crate::job::log::epilogue;
use crate::job::task::{DRAIN, INBOX, Message, Task};
use crate::job::watcher::{Seen, Watcher};
use crate::tasks;

/// A connection that held less than this is not made again at once, but after as much time: an agent that closes every connection must not be
/// asked in a tight loop.
const BRIEF: Duration = Duration::from_secs(1);

/// How long the answer to the creation of a pod is waited for that nobody needs any more: with it the pod can be removed at once.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Different troubles with the API server that are shown in the log of a job that waits for its pod.
const TROUBLES: usize = 10;

/// A connection that runs.
pub(super) struct Connection {
    outgoing: mpsc::Sender<Frame>,
    /// Closes it; the job does not hear of it.
    stop: CancellationToken,
    /// Closes it as if it had broken.
    give_up: CancellationToken,
    made: Instant,
    /// How much of the trace had been passed on when it was made.
    from: u64,
    /// Whether the agent was asked to send its trace.
    follows: bool,
    /// Gives the count of what came over it.
    ended: JoinHandle<Ledger>,
}

impl Task {
    pub(super) async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            tracing::debug!(job = self.parts.creds.id, ?effect, "next");
            match effect {
                Effect::CreatePod => self.create_pod(),
                Effect::Connect => self.connect(),
                Effect::SendPlan => self.send_plan(),
                Effect::Acknowledge => self.acknowledge(),
                Effect::StartRelay => self.start_relay(),
                Effect::SendGo => self.send(Frame::Go),
                Effect::SendServicesStarted => self.send(Frame::ServicesStarted),
                Effect::SendCancel { force } => self.send(Frame::Cancel(Cancel { force })),
                Effect::SendFail(ending) => {
                    self.drain.get_or_insert(Instant::now() + DRAIN);
                    self.send(Frame::Fail(ending));
                }
                Effect::CloseFromAgent => self.close_from_agent(),
                Effect::EndTrace => self.end_trace(),
                Effect::EndLocally(ending) => self.end_locally(&ending).await,
                Effect::SendReported => self.send(Frame::Reported),
                Effect::DeletePod => self.delete_pod(),
                Effect::Done(end) => self.end = Some(end),
            }
        }
    }

    /// Spawns work whose result is an event of this job.
    fn beside(&self, work: impl Future<Output = Option<Message>> + Send + 'static) {
        let inbox = self.inbox.clone();
        tasks::spawn(async move {
            if let Some(message) = work.await {
                // A closed inbox means that the job has ended.
                let _ = inbox.send(message).await;
            }
        });
    }

    /// Keeps GitLab from taking the job back while it is not acknowledged.
    pub(super) fn keep_pending(&self) {
        let (client, creds, info) = (self.parts.client.clone(), self.parts.creds.clone(), self.parts.info.clone());
        let stop = self.pending.clone();
        self.beside(async move {
            match stop.run_until_cancelled(gantry_relay::keep_pending(&client, &creds, &info)).await? {
                PendingEnd::NotNeeded => None,
                PendingEnd::Canceling => Some(Message::Event(Event::CancelRequested)),
                PendingEnd::Gone(reason) => Some(Message::Event(Event::GoneWhilePending(reason))),
            }
        });
    }

    fn create_pod(&mut self) {
        let cluster = self.parts.cluster.clone();
        // A pod is made once, and its description is of no use to the rest of the job.
        let pod = std::mem::take(&mut self.parts.plan.pod);
        let strays = self.parts.strays.clone();
        let deadline = self.parts.taken + self.parts.plan.start_timeout;
        let inbox = self.inbox.clone();
        let (unwanted, mut told) = (self.unwanted.clone(), BTreeSet::new());
        let tell = move |error: &ApiError| {
            // Two troubles may alternate, and each is worth one line. A full inbox is for those who cannot wait.
            if told.len() < TROUBLES && told.insert(error.message.clone()) {
                let line = format!("Waiting for the API server to create the pod: {}", error.message);
                let _ = inbox.try_send(Message::Seen(Seen::Waiting(vec![line])));
            }
        };
        self.beside(async move {
            let unwanted = async {
                unwanted.cancelled().await;
                tokio::time::sleep(LAST_ANSWER).await;
            };
            let made = tokio::select! {
                made = cluster.create_pod(&pod, deadline, tell) => made,
                () = unwanted => Err(CreateError::Unreachable { seconds: 0, message: "nobody needs it any more".to_owned() }),
            };
            Some(match made {
                Ok(pod) => Message::PodCreated(pod),
                Err(error) => {
                    if matches!(error, CreateError::Unreachable { .. }) {
                        strays.remove(cluster, Stray::Asked(Box::new(pod)));
                    }
                    Message::Event(Event::PodNotCreated(error.ending()))
                }
            })
        });
    }

    /// Follows what the cluster says about the pod until the job has ended.
    pub(super) fn watch_pod(&mut self, pod: PodRef) {
        let cluster = &self.parts.cluster;
        self.parts.view.send_modify(|view| view.pod.clone_from(&pod.name));
        let watch = cluster.watch_pod(&pod);
        let (seen, mut sights) = mpsc::channel(INBOX);
        let watcher = Watcher {
            cluster: cluster.clone(),
            pod: pod.clone(),
            services: self.parts.plan.services.clone(),
            start_timeout: self.parts.plan.start_timeout,
            late_at: self.parts.taken + self.parts.plan.start_timeout,
            asks_events: self.parts.asks_events,
        };
        tasks::spawn(watcher.run(watch.clone(), seen));
        let inbox = self.inbox.clone();
        tasks::spawn(async move {
            let forward = async {
                while let Some(sight) = sights.recv().await {
                    if inbox.send(Message::Seen(sight)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = forward => {}
                () = inbox.closed() => {}
            }
        });
        self.watch = Some(watch);
        self.pod = Some(pod);
    }

    fn connect(&self) {
        let (Some(pod), Some(watch)) = (self.pod.clone(), self.watch.clone()) else { return };
        let cluster = self.parts.cluster.clone();
        let helper = self.parts.helper.clone();
        let is_resumed = self.machine.is_planned();
        let purpose = if is_resumed { Purpose::Resume } else { Purpose::Start };
        let limit =
            if is_resumed { self.parts.plan.timeout + limits::REPORT_ALLOWANCE } else { self.parts.plan.start_timeout };
        let deadline = self.parts.taken + limit;
        let pause = self.pause;
        self.beside(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let request = AttachRequest { pod: &pod, watch, helper: &helper, purpose, deadline };
            Some(match cluster.connect_agent(request).await {
                Ok(stream) => Message::Connected(Box::new(stream)),
                Err(error) => Message::Event(Event::AgentUnreachable(error.ending(limit))),
            })
        });
    }

    /// Starts to talk over a new connection.
    pub(super) fn converse(&mut self, stream: AgentStream) {
        let Some(relay) = self.relay.clone() else { return };
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        let (frames, mut received) = mpsc::channel(INBOX);
        let stop = CancellationToken::new();
        let give_up = stop.child_token();
        let sinks = Sinks { relay, frames };
        let mut ledger = std::mem::take(&mut self.ledger);
        let from = ledger.bytes();
        let (inbox, stopped) = (self.inbox.clone(), stop.clone());
        let given_up = give_up.clone();
        let ended = tasks::spawn(async move {
            let forward = async {
                while let Some(frame) = received.recv().await {
                    if inbox.send(Message::Frame(frame)).await.is_err() {
                        return;
                    }
                }
            };
            let talk = connection::run(stream, receiver, sinks, &mut ledger, given_up);
            tokio::join!(talk, stopped.run_until_cancelled(forward));
            let _ = stopped.run_until_cancelled(inbox.send(Message::ConnectionEnded)).await;
            ledger
        });
        self.connection =
            Some(Connection { outgoing, stop, give_up, made: Instant::now(), from, follows: false, ended });
    }

    /// Sends a frame if there is a connection. One that is too slow for the little that a job has to say is given up; what it did not take is
    /// said again on the next one.
    pub(super) fn send(&mut self, frame: Frame) {
        let Some(connection) = &self.connection else { return };
        let is_dispensable = matches!(frame, Frame::Acked(_));
        if let Err(TrySendError::Full(_)) = connection.outgoing.try_send(frame)
            && !is_dispensable
        {
            connection.give_up.cancel();
        }
    }

    /// How long the next connection should wait, after one that has ended.
    pub(super) fn note_pause(&mut self) {
        let was_brief = self.connection.as_ref().is_some_and(|connection| connection.made.elapsed() < BRIEF);
        self.pause = if was_brief { BRIEF } else { Duration::ZERO };
    }

    fn send_plan(&mut self) {
        let mut plan = self.parts.plan.pod_plan.clone();
        let elapsed = self.parts.taken.elapsed();
        let left = |limit: Duration| u64::try_from(limit.saturating_sub(elapsed).as_millis()).unwrap_or(u64::MAX);
        plan.remaining_ms = left(self.parts.plan.timeout);
        if let Some(start) = &mut plan.start {
            start.remaining_ms = left(self.parts.plan.start_timeout);
        }
        plan.trace.head = self.log.text();
        self.handed = true;
        self.send(Frame::Plan(Box::new(plan)));
    }

    /// Asks the agent for its trace from where ours ends, once there is a relay to take it.
    pub(super) fn follow(&mut self) {
        if !self.machine.is_planned() || self.relay_inputs.is_some() {
            return;
        }
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.follows) else { return };
        connection.follows = true;
        let offset = self.wanted.take().map_or(connection.from, |wanted| wanted.min(connection.from));
        self.send(Frame::Follow(Offset { offset }));
    }

    /// The relay needs the trace again from `offset` on.
    pub(super) fn resend(&mut self, offset: u64) {
        if self.connection.as_ref().is_some_and(|connection| connection.follows) {
            self.send(Frame::Follow(Offset { offset }));
        } else if self.machine.is_planned() {
            self.wanted = Some(offset);
        } else {
            let bytes = rest(&self.log.text(), offset);
            self.feed([Input::Trace { offset, bytes }]);
        }
    }

    fn acknowledge(&self) {
        self.pending.cancel();
        let (client, creds, info) = (self.parts.client.clone(), self.parts.creds.clone(), self.parts.info.clone());
        self.beside(async move {
            let outcome = gantry_relay::acknowledge(&client, &creds, &info).await;
            Some(Message::Event(Event::Acknowledged(outcome)))
        });
    }

    fn start_relay(&mut self) {
        let Some(inputs) = self.relay_inputs.take() else { return };
        let plan = &self.parts.plan;
        let job = RelayJob {
            creds: self.parts.creds.clone(),
            info: self.parts.info.clone(),
            debug_trace: plan.pod_plan.trace.debug_trace,
            failure_reasons: plan.pod_plan.failure_reasons.clone(),
            acknowledged: true,
            final_tries: self.parts.final_tries,
            deadline: self.parts.taken + plan.timeout + limits::JOB_TOKEN_ALLOWANCE,
            pace: self.parts.pace,
        };
        let (client, inbox) = (self.parts.client.clone(), self.inbox.clone());
        let (reports, mut reported) = mpsc::channel(INBOX);
        tasks::spawn(async move {
            let forward = async {
                while let Some(report) = reported.recv().await {
                    if inbox.send(Message::Report(report)).await.is_err() {
                        return;
                    }
                }
            };
            let (end, ()) = tokio::join!(gantry_relay::run(client, job, inputs, reports), forward);
            let _ = inbox.send(Message::Event(Event::RelayEnded(end))).await;
        });
        // The relay begins with the first byte, even if the verdict is known already and is what it is told next.
        self.unfed.push_front(Input::Trace { offset: 0, bytes: Bytes::new() });
        self.feed_head();
        self.follow();
    }

    /// Passes on what is new of the head while it is ours. Once there is a connection the head comes back with the agent's trace.
    pub(super) fn feed_head(&mut self) {
        if self.relay_inputs.is_some() || self.connection.is_some() || self.machine.is_planned() {
            return;
        }
        let offset = self.ledger.bytes();
        let bytes = rest(&self.log.text(), offset);
        if !bytes.is_empty() {
            self.ledger.count(offset, &bytes);
            self.feed([Input::Trace { offset, bytes }]);
        }
    }

    /// Queues inputs for the relay. The job's task does not wait for a relay that cannot reach GitLab.
    pub(super) fn feed(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.unfed.extend(inputs);
    }

    /// Nothing more of the trace can come: a relay that misses a part of it must not wait for it.
    fn end_trace(&mut self) {
        self.trace_ended = true;
        self.let_relay_end();
    }

    /// Closes the relay's inputs behind the last one.
    pub(super) fn let_relay_end(&mut self) {
        if self.trace_ended && self.unfed.is_empty() && self.relay_inputs.is_none() {
            self.relay = None;
        }
    }

    fn close_from_agent(&mut self) {
        self.drain = None;
        if let Some(closed) = self.closed.clone() {
            self.verdict = Some(closed.verdict.clone());
            self.feed([Input::Closed(closed)]);
        }
    }

    /// Ends the job without its agent: what is known of the trace, the last lines, the verdict.
    async fn end_locally(&mut self, ending: &Ending) {
        self.drain = None;
        let verdict = ending.verdict();
        self.take_ledger_back().await;
        let now = Timestamp::now();
        let offset = self.ledger.bytes();
        let bytes = if self.machine.is_planned() {
            let mut head = rest(&self.log.text(), offset).to_vec();
            head.extend(epilogue(&self.parts.plan.pod_plan.trace, &verdict, now));
            head
        } else {
            self.log.end(&verdict, now);
            rest(&self.log.text(), offset).to_vec()
        };
        let bytes = Bytes::from(bytes);
        self.ledger.count(offset, &bytes);
        let closed = Closed {
            verdict: verdict.clone(),
            trace_bytes: self.ledger.bytes(),
            trace_crc32: Some(self.ledger.crc32()),
        };
        self.verdict = Some(verdict);
        self.feed([Input::Trace { offset, bytes }, Input::Closed(closed)]);
        // A head of our own can be sent again, an agent's trace cannot.
        if self.machine.is_planned() {
            self.end_trace();
        }
    }

    /// Closes the connection, if there is one, and takes the count of what came over it.
    pub(super) async fn take_ledger_back(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        connection.stop.cancel();
        if let Ok(ledger) = connection.ended.await {
            self.ledger = ledger;
        }
    }

    fn delete_pod(&mut self) {
        let (cluster, Some(pod)) = (self.parts.cluster.clone(), self.pod.clone()) else { return };
        let grace = self.parts.plan.cleanup_grace_seconds.and_then(|seconds| u32::try_from(seconds).ok());
        let job = self.parts.creds.id;
        let strays = self.parts.strays.clone();
        self.beside(async move {
            match cluster.delete_pod(&pod, grace).await {
                Err(error) if error.fault.is_transient() => {
                    tracing::warn!(job, %error, "the job ends without that; the pod is removed later");
                    strays.remove(cluster, Stray::Left(pod));
                }
                Err(error) => tracing::warn!(job, %error, "the pod is left to its deadline"),
                Ok(()) => {}
            }
            Some(Message::Event(Event::PodDeleted))
        });
    }

    /// Ends what still runs beside a job that is done.
    pub(super) fn stop(&mut self) {
        self.pending.cancel();
        self.unwanted.cancel();
        if let Some(connection) = &self.connection {
            connection.stop.cancel();
        }
    }
}
