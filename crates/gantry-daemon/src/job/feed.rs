//! The way of a job's trace to its relay: first the head, which the manager writes itself, then
//! what the agent sends, then the end. In order, and without ever holding up the job's task: a
//! relay that cannot reach GitLab takes nothing for a while.

use std::collections::VecDeque;

use bytes::Bytes;
use gantry_core::Verdict;
use gantry_plan::HeadLine;
use gantry_relay::{FinishedTrace, Input};
use gantry_wire::plan::TracePlan;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::job::log::{HeadLog, epilogue};

/// Slices of the trace between the job's task and its relay.
const INPUTS: usize = 16;

/// Where the trace comes from, and how far it is on its way.
pub(super) struct Feed {
    head: HeadLog,
    source: Source,
    /// The head is on its way to the agent, or there.
    is_handed: bool,
    /// Absent once nothing more can come.
    relay: Option<mpsc::Sender<Input>>,
    /// The relay's end, until it is started.
    inputs: Option<mpsc::Receiver<Input>>,
    /// What the relay has not taken yet.
    queued: VecDeque<Input>,
    /// Everything before has been queued.
    place: u64,
    /// Where the relay begins.
    begin: u64,
    /// From where the relay wants the trace again, as soon as there is a connection.
    wanted: Option<u64>,
    /// Nothing follows what is in `queued`.
    is_over: bool,
}

/// Who writes the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// We do, and the relay may get it at any time.
    Head,
    /// An agent is there that may take the plan, and with it the head as it was then.
    Undecided,
    /// The agent, which has the head.
    Agent,
}

impl Feed {
    /// A trace that begins with this head.
    pub(super) fn new(head: HeadLog) -> Self {
        Self::at(head, Source::Head, 0)
    }

    /// A trace that is the agent's from its first byte on, and that GitLab may have in part.
    pub(super) fn of_agent() -> Self {
        Self::at(HeadLog::of_another(), Source::Agent, 0)
    }

    fn at(head: HeadLog, source: Source, place: u64) -> Self {
        let (relay, inputs) = mpsc::channel(INPUTS);
        Self {
            head,
            source,
            is_handed: false,
            relay: Some(relay),
            inputs: Some(inputs),
            queued: VecDeque::new(),
            place,
            begin: place,
            wanted: None,
            is_over: false,
        }
    }

    /// GitLab has everything before `place`, as far as the agent knows: the relay begins there.
    pub(super) fn begin_at(&mut self, place: u64) {
        if self.inputs.is_some() {
            (self.place, self.begin) = (place, place);
        }
    }

    /// What goes into the relay, which takes it from now on. Once only.
    pub(super) fn start(&mut self) -> Option<mpsc::Receiver<Input>> {
        let inputs = self.inputs.take()?;
        // The relay begins there even if the verdict is known already and is what it is told next.
        self.queued.push_front(Input::Trace { offset: self.begin, bytes: Bytes::new() });
        self.feed_head();
        Some(inputs)
    }

    /// Whether the relay has been started.
    pub(super) fn is_started(&self) -> bool {
        self.inputs.is_none()
    }

    /// Whether something waits for the relay.
    pub(super) fn is_pending(&self) -> bool {
        self.is_started() && !self.queued.is_empty()
    }

    /// Gives the relay one thing that waits for it.
    pub(super) async fn flush(&mut self) {
        let Some(relay) = &self.relay else {
            self.queued.clear();
            return;
        };
        match relay.reserve().await {
            Ok(permit) => {
                if let Some(input) = self.queued.pop_front() {
                    permit.send(input);
                }
            }
            // The relay has ended and says itself how.
            Err(_) => self.queued.clear(),
        }
        self.let_end();
    }

    /// Puts something behind all that waits, or gives it to the relay at once: most pieces are some
    /// lines, and the job's task would look at everything once more for each.
    fn pass(&mut self, input: Input) {
        let is_first = self.is_started() && self.queued.is_empty();
        let Some(relay) = self.relay.as_ref().filter(|_| is_first) else { return self.queued.push_back(input) };
        if let Err(TrySendError::Full(input)) = relay.try_send(input) {
            self.queued.push_back(input);
        }
    }

    /// The head as it is, for the plan. From now on it does not grow: the agent may have it.
    pub(super) fn hand_over(&mut self) -> String {
        self.is_handed = true;
        self.head.text()
    }

    /// Appends lines about waiting to the head. False if it must not grow any more.
    pub(super) fn say(&mut self, lines: &[String]) -> bool {
        if self.is_handed || self.source == Source::Agent {
            return false;
        }
        for line in lines {
            self.head.waiting(line, Timestamp::now());
        }
        self.feed_head();
        true
    }

    /// Appends other lines to the head. False if it must not grow any more.
    pub(super) fn note(&mut self, notes: &[HeadLine]) -> bool {
        if self.is_handed || self.source == Source::Agent {
            return false;
        }
        self.head.lines(notes, Timestamp::now());
        self.feed_head();
        true
    }

    /// There is a connection over which the head may go, and come back with the agent's trace.
    pub(super) fn agent_is_there(&mut self) {
        if self.source == Source::Head {
            self.source = Source::Undecided;
        }
    }

    /// That connection is gone.
    pub(super) fn agent_is_gone(&mut self) {
        if self.source == Source::Undecided {
            self.source = Source::Head;
        }
    }

    /// The agent has the plan.
    pub(super) fn agent_writes(&mut self) {
        self.source = Source::Agent;
        self.head.handed_over();
    }

    /// Whether the agent writes the trace.
    pub(super) fn is_agents(&self) -> bool {
        self.source == Source::Agent
    }

    /// Passes on what is new of the head while it is ours.
    fn feed_head(&mut self) {
        if self.is_started() && self.source == Source::Head {
            self.feed_text();
        }
    }

    fn feed_text(&mut self) {
        let bytes = rest(&self.head.text(), self.place);
        if !bytes.is_empty() {
            self.trace(self.place, bytes);
        }
    }

    /// Passes on a piece of the trace.
    pub(super) fn trace(&mut self, offset: u64, bytes: Bytes) {
        let end = offset.saturating_add(bytes.len() as u64);
        if offset <= self.place {
            self.place = self.place.max(end);
        }
        if self.is_agents() {
            // The agent sends the head back, and may be asked for all of it again.
            self.head.forget_until(self.place);
        }
        self.pass(Input::Trace { offset, bytes });
    }

    /// From where a new connection is to send the trace.
    pub(super) fn follow_from(&mut self) -> u64 {
        self.wanted.take().map_or(self.place, |wanted| wanted.min(self.place))
    }

    /// The relay needs the trace again. What we have of it is passed on at once; what is the
    /// agent's, with the next connection.
    pub(super) fn want(&mut self, offset: u64) {
        if self.source == Source::Agent {
            self.wanted = Some(offset);
        } else {
            let bytes = rest(&self.head.text(), offset);
            self.pass(Input::Trace { offset, bytes });
        }
    }

    /// The agent has closed the verdict.
    pub(super) fn close(&mut self, closed: FinishedTrace) {
        self.pass(Input::Closed(Box::new(closed)));
    }

    /// Ends the job without its agent: what is known of the trace, what the cluster has said last,
    /// the verdict.
    pub(super) fn end(&mut self, (words, verdict): (&[HeadLine], &Verdict), of_agent: bool, plan: &TracePlan) {
        let now = Timestamp::now();
        if !of_agent {
            self.source = Source::Head;
            self.head.lines(words, now);
            self.head.end(verdict, now);
            self.feed_text();
            let text = self.head.text();
            return self.close(FinishedTrace {
                verdict: verdict.clone(),
                trace_bytes: text.len() as u64,
                trace_crc32: Some(crc32fast::hash(text.as_bytes())),
            });
        }
        // The agent may have died before it has sent back the head.
        self.feed_text();
        let line = epilogue(plan, words, verdict, now).into();
        self.pass(Input::FinalLine { line, verdict: Box::new(verdict.clone()) });
        // A head of our own can be sent again, an agent's trace cannot.
        self.end_trace();
    }

    /// Nothing more of the trace can come: a relay that misses a part of it must not wait for it.
    pub(super) fn end_trace(&mut self) {
        self.is_over = true;
        self.let_end();
    }

    /// Closes the relay's inputs behind the last one.
    fn let_end(&mut self) {
        if self.is_over && self.queued.is_empty() && self.is_started() {
            self.relay = None;
        }
    }
}

/// The part of `text` from `offset` on.
fn rest(text: &str, offset: u64) -> Bytes {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    Bytes::copy_from_slice(&text.as_bytes()[from..])
}

#[cfg(test)]
mod tests;
