//! The logs of services in the job log (`CI_DEBUG_SERVICES`). Each is followed by a task of its
//! own, and waits there while there is no agent to take its lines, or one that takes none: nothing
//! is kept here but a few lines.

use std::time::Duration;

use gantry_core::NoteLevel;
use gantry_kube::{Cluster, Fault, LogStream, PodRef};
use gantry_wire::frame::{Frame, Note};
use gantry_wire::services::ServicePlan;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Task;
use crate::job::link::Link;
use crate::job::watched::WatchedPod;

/// Lines of all services that wait for the job's task.
const LINES: usize = 16;

/// Pause before a log is asked for again that has ended: its container has, or its connection was
/// cut.
const AGAIN: Duration = Duration::from_secs(1);

/// How often that is done in a row without a new line.
const TRIES: u32 = 5;

/// The logs of the job's services, as far as they are shown.
#[derive(Default)]
pub(super) struct ServiceLogs {
    /// All services have started.
    run: bool,
    lines: Option<mpsc::Receiver<Note>>,
}

impl ServiceLogs {
    /// Passes on one line, once there are both a line and somebody who takes it. Safe to be dropped
    /// and called again.
    pub(super) async fn pass_on(&mut self, taker: Option<mpsc::Sender<Box<Frame>>>) {
        let (Some(lines), Some(taker)) = (&mut self.lines, taker) else { return std::future::pending().await };
        // A connection that has ended is noticed elsewhere.
        let Ok(room) = taker.reserve_owned().await else { return std::future::pending().await };
        match lines.recv().await {
            Some(note) => drop(room.send(Box::new(Frame::Note(note)))),
            None => self.lines = None,
        }
    }
}

impl Task {
    /// Who takes lines of services: an agent that writes the trace.
    pub(super) fn taker_of_logs(&self) -> Option<mpsc::Sender<Box<Frame>>> {
        let is_open = self.logs.lines.is_some() && self.feed.is_agents() && self.outcome.verdict.is_none();
        self.link.as_ref().filter(|_| is_open).map(Link::outgoing)
    }

    /// All services have started.
    pub(super) fn services_run(&mut self) {
        self.logs.run = true;
        self.follow_logs();
    }

    /// Begins to follow the logs, if the job wants to see them and it is known which.
    pub(super) fn follow_logs(&mut self) {
        let (Some(services), Some(WatchedPod { reference: pod, .. })) = (self.job.services(), &self.pod) else {
            return;
        };
        if !self.logs.run || !services.show_logs || self.logs.lines.is_some() {
            return;
        }
        let (sender, lines) = mpsc::channel(LINES);
        // What a manager before us has shown is not shown again.
        let since = self.job.is_found.then_some(1);
        for (number, service) in (0..=u8::MAX).zip(&services.list) {
            let follower = Follower {
                cluster: self.around.cluster.clone(),
                pod: pod.clone(),
                service: service.clone(),
                number,
                last: String::new(),
                lines: sender.clone(),
            };
            self.beside.follow_log(follower.run(since));
        }
        self.logs.lines = Some(lines);
    }
}

/// Follows one log.
struct Follower {
    cluster: Cluster,
    pod: PodRef,
    service: ServicePlan,
    number: u8,
    /// The time of the last line.
    last: String,
    lines: mpsc::Sender<Note>,
}

impl Follower {
    async fn run(mut self, mut since: Option<u32>) {
        let mut tries = 0;
        while tries < TRIES {
            match self.cluster.follow_log(&self.pod, &self.service.container, since).await {
                Ok(stream) => match self.pass_on(stream).await {
                    None => return,
                    Some(0) => tries += 1,
                    Some(_) => tries = 0,
                },
                Err(error) if error.fault.is_transient() => tries += 1,
                Err(error) => return self.refused(&error).await,
            }
            // Lines that came already are told by their time.
            since = since.or(Some(600));
            sleep(AGAIN).await;
        }
    }

    /// Passes on the lines that are new; how many, or nothing if nobody wants more.
    async fn pass_on(&mut self, mut stream: LogStream) -> Option<u64> {
        let mut count = 0;
        while let Ok(Some(line)) = stream.next().await {
            let time = line.split(' ').next().unwrap_or_default();
            // Times of one form compare as texts, but for fractions that are cut: a line may then
            // come twice.
            if !self.last.is_empty() && time <= self.last.as_str() && time.ends_with('Z') {
                continue;
            }
            time.clone_into(&mut self.last);
            let text = format!("\u{1b}[0;90m[service:{}] {line}\u{1b}[0;m", self.service.label);
            let note = Note { service: Some(self.number), ..Note::new(NoteLevel::Plain, text) };
            self.lines.send(note).await.ok()?;
            count += 1;
        }
        Some(count)
    }

    /// JobHeaders once, for all services, that their logs cannot be shown.
    async fn refused(self, error: &gantry_kube::ApiError) {
        let why = if error.fault == Fault::Forbidden {
            format!(
                "the runner's service account has no right to get pods/log in namespace {}",
                self.cluster.namespace()
            )
        } else {
            error.to_string()
        };
        if error.fault == Fault::Forbidden && self.number > 0 {
            return;
        }
        let which = if error.fault == Fault::Forbidden { "of services" } else { &self.service.container };
        let text = format!("CI_DEBUG_SERVICES: the logs {which} cannot be shown: {why}");
        let _ = self.lines.send(Note::new(NoteLevel::Warning, text)).await;
    }
}
