//! What a cluster's events say about a pod: why it does not start, where its status does not say
//! so, and what went wrong when it is over. Nothing here asks: it says when to, and takes the
//! answers.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::events::{explanations, pulls};
use gantry_kube::facts::{self, PodFacts};
use gantry_kube::{ApiError, Fault, PodEvent};
use gantry_plan::HeadLine;

use super::Terms;
use crate::job::events::{Effect, Timer};

/// How long a pod with a node may say nothing about why it has not started before its events are
/// asked, at most: most start sooner, and a kubelet that cannot mount a volume has said so by then.
const UNEXPLAINED: Duration = Duration::from_secs(2);

/// How many times as long such a pod waits until a log says where to ask, if the runner may not: on
/// a busy node most pods are that slow, and their jobs need no advice.
const HINTED_AFTER: u32 = 2;

/// Longest time between two looks at the events of such a pod.
const PERIOD: Duration = Duration::from_secs(30);

/// Time between two looks where a job wants to see all events (`FF_PRINT_POD_EVENTS`): an API
/// server notices nothing.
const PRINT_PERIOD: Duration = Duration::from_secs(2);

/// Warnings that are told of a pod that is over: a failed pull alone makes four.
const MOST_FINAL_LINES: usize = 8;

/// What is known from events.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// Name and namespace of the pod.
    pod: (String, String),
    /// Causes are asked for (`print_pod_warning_events`).
    explains: bool,
    /// A table of all events is shown (`FF_PRINT_POD_EVENTS`).
    prints: bool,
    /// What the config mounts, in words: a node may wait for it.
    volumes: Vec<String>,
    /// They may be asked, as far as known.
    may: bool,
    /// The pod says nothing of what it waits for, or there is a table to fill: they are asked now
    /// and again.
    is_open: bool,
    /// How long that has to be so before they are asked.
    first: Duration,
    /// Until they are asked again: a kubelet on a busy node is slow to say what it has tried.
    wait: Duration,
    /// The pod has said nothing of what it waits for, for long.
    overdue: bool,
    /// Why it does not start.
    lines: Vec<String>,
    /// What to say next if they may not be asked.
    hint: Option<String>,
    /// Where to look for the cause if the pod does not say it.
    clue: Option<String>,
    /// Something was begun whose end should be told.
    owes: bool,
    /// The question that is under way is the last one.
    ends: bool,
    /// Everything that was said, and all rows of the table.
    said: BTreeSet<String>,
}

impl Evidence {
    pub(super) fn new(terms: &Terms) -> Self {
        let first = UNEXPLAINED.min(terms.start_timeout / 4);
        Self {
            pod: (terms.pod.clone(), terms.namespace.clone()),
            explains: terms.asks_events,
            prints: terms.prints_events,
            volumes: terms.volumes.clone(),
            may: terms.asks_events || terms.prints_events,
            is_open: false,
            first,
            wait: first,
            overdue: false,
            lines: Vec::new(),
            hint: None,
            clue: None,
            owes: terms.prints_events,
            ends: false,
            said: BTreeSet::new(),
        }
    }

    /// Whether causes may be asked for, as far as known.
    pub(super) fn may_explain(&self) -> bool {
        self.may && self.explains
    }

    /// Takes note of how the pod is, if it can be seen.
    pub(super) fn look(&mut self, facts: Option<&PodFacts>, out: &mut Vec<Effect>) {
        let is_unexplained = facts.is_some_and(facts::is_unexplained);
        let is_pending = facts.is_some_and(|facts| facts.phase == facts::Phase::Pending);
        let is_open = is_unexplained || (self.may && self.prints && is_pending);
        if is_open && !self.is_open {
            out.push(Effect::Arm(Timer::Events, self.first));
        } else if !is_open && self.is_open {
            out.push(Effect::Disarm(Timer::Events));
            self.wait = self.first;
        }
        self.is_open = is_open;
        if !is_unexplained {
            (self.overdue, self.hint) = (false, None);
            self.lines.clear();
        }
        if self.may && self.owes && facts.is_some() && !is_pending {
            (self.owes, self.ends) = (false, true);
            out.push(Effect::AskEvents);
        }
    }

    /// It is time: asks, beside what the watch shows, or says where to ask.
    pub(super) fn act(&mut self, out: &mut Vec<Effect>) {
        if !self.is_open {
            return;
        }
        self.overdue = true;
        if let Some(hint) = self.hint.take() {
            self.lines = vec![hint];
        } else if self.may {
            out.extend([Effect::AskEvents, Effect::Arm(Timer::Events, self.wait)]);
            self.wait = (self.wait * 2).min(if self.prints { PRINT_PERIOD } else { PERIOD });
        }
    }

    /// Takes what events say, or that they may not be read. Returns what to show of it once.
    pub(super) fn learn(&mut self, answer: Result<Vec<PodEvent>, ApiError>, out: &mut Vec<Effect>) -> Vec<HeadLine> {
        let ends = std::mem::take(&mut self.ends);
        match answer {
            Ok(events) if ends => {
                let said = &self.said;
                let pulls = pulls(&events).into_iter().filter(|line| !self.prints && !said.contains(line));
                let pulls: Vec<HeadLine> = pulls.map(HeadLine::plain).collect();
                [self.rows(&events), pulls].concat()
            }
            Ok(events) => {
                if self.explains && self.is_open {
                    self.lines = explanations(&events);
                    self.owes |= events.iter().any(|event| event.words.reason == "Pulling");
                    self.said.extend(self.lines.iter().cloned());
                }
                self.rows(&events)
            }
            Err(error) if error.fault == Fault::Forbidden => self.refused(out),
            Err(_) => Vec::new(),
        }
    }

    /// Says what to do where events may not be read.
    fn refused(&mut self, out: &mut Vec<Effect>) -> Vec<HeadLine> {
        self.may = false;
        let (pod, namespace) = &self.pod;
        let hint = format!(
            "its events would say why (FailedMount, how far images are pulled), and the runner may not list them: see kubectl -n {namespace} \
             get events --field-selector involvedObject.name={pod}, or grant list on events"
        );
        (self.hint, self.clue) = (Some(hint.clone()), Some(hint));
        if self.is_open {
            out.push(Effect::Arm(Timer::Events, self.first * HINTED_AFTER));
        }
        let text = format!(
            "FF_PRINT_POD_EVENTS: the runner may not list events in namespace {namespace}: grant list on events"
        );
        if self.prints { vec![HeadLine::warning(text)] } else { Vec::new() }
    }

    /// The rows of events that the table does not have yet.
    fn rows(&mut self, events: &[PodEvent]) -> Vec<HeadLine> {
        if !self.prints {
            return Vec::new();
        }
        let row = |kind: &str, reason: &str, message: &str| format!("{kind:<9}{reason:<24} {message}");
        let kind = |event: &PodEvent| if event.is_warning { "Warning" } else { "Normal" };
        let rows = events.iter().map(|event| row(kind(event), &event.words.reason, &event.words.message));
        std::iter::once(row("Type", "Reason", "Message"))
            .chain(rows)
            .filter(|row| self.said.insert(row.clone()))
            .map(HeadLine::plain)
            .collect()
    }

    /// Why the pod does not start, as far as its status does not say so.
    pub(super) fn lines(&self, facts: &PodFacts) -> Vec<String> {
        let is_silent = self.lines.is_empty() || !self.may;
        let waits = self.overdue && is_silent && facts.sandboxed == Some(false) && !self.volumes.is_empty();
        let volumes = waits.then(|| {
            format!("the node has not mounted its volumes or set up its network yet: {}", self.volumes.join(", "))
        });
        volumes.into_iter().chain(self.lines.iter().cloned()).collect()
    }

    /// Where to look for the cause if the pod does not say it.
    pub(super) fn clue(&self) -> Option<&str> {
        self.clue.as_deref()
    }

    /// What events say about the pod's end, as far as `ending` and the lines that were `shown` do
    /// not say it.
    pub(super) fn final_lines(events: &[PodEvent], ending: &Ending, shown: &[String]) -> Vec<HeadLine> {
        let said = ending.verdict().message;
        let is_new = |event: &&PodEvent| {
            let (line, message) = (facts::line(&event.words), event.words.message.as_str());
            // The kubelet says of most things first what failed, then why.
            let why = message.split_once(": ").map_or(message, |(_, why)| why);
            !said.contains(why)
                && !message.ends_with("ImagePullBackOff")
                && !shown.iter().any(|shown| shown.trim() == line)
        };
        let warnings: Vec<&PodEvent> = events.iter().filter(|event| event.is_warning).filter(is_new).collect();
        let newest = warnings.iter().skip(warnings.len().saturating_sub(MOST_FINAL_LINES));
        newest
            .map(|event| HeadLine::warning(format!("Event retrieved from the cluster: {}", event.words.message)))
            .collect()
    }
}
