//! Logs of containers in the job log: those of services (`CI_DEBUG_SERVICES`), and what an
//! entrypoint prints that starts the build container (`FF_KUBERNETES_HONOR_ENTRYPOINT`). Each is
//! followed by a task of its own, and waits there while there is no agent to take its lines, or one
//! that takes none: nothing is kept here but a few lines.

use std::time::Duration;

use gantry_core::NoteLevel;
use gantry_kube::facts::{ContainerFacts, PodFacts};
use gantry_kube::{Cluster, Fault, LogStream, PodRef, PodState};
use gantry_wire::frame::{Frame, Note};
use gantry_wire::services::ServicePlan;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Task;
use crate::job::link::Link;
use crate::job::watched::WatchedPod;

/// Lines of all containers that wait for the job's task.
const LINES: usize = 16;

/// Pause before a log is asked for again that has ended: its container has, or its connection was
/// cut.
const AGAIN: Duration = Duration::from_secs(1);

/// How often that is done in a row without a new line.
const TRIES: u32 = 5;

/// The container that an entrypoint may start.
const BUILD: &str = "build";

/// The logs of the job's containers, as far as they are shown.
#[derive(Default)]
pub(super) struct Logs {
    /// All services have started.
    services_run: bool,
    follows_services: bool,
    follows_entrypoint: bool,
    /// What every follower has a clone of.
    sender: Option<mpsc::Sender<Note>>,
    lines: Option<mpsc::Receiver<Note>>,
}

impl Logs {
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

    fn sender(&mut self) -> mpsc::Sender<Note> {
        let lines = &mut self.lines;
        let make = || {
            let (sender, receiver) = mpsc::channel(LINES);
            *lines = Some(receiver);
            sender
        };
        self.sender.get_or_insert_with(make).clone()
    }
}

impl Task {
    /// Who takes lines of containers: an agent that writes the trace.
    pub(super) fn taker_of_logs(&self) -> Option<mpsc::Sender<Box<Frame>>> {
        let is_open = self.logs.lines.is_some() && self.feed.is_agents() && self.outcome.verdict.is_none();
        self.link.as_ref().filter(|_| is_open).and_then(Link::outgoing)
    }

    /// All services have started.
    pub(super) fn services_run(&mut self) {
        self.logs.services_run = true;
        self.follow_logs();
    }

    /// Begins to follow the logs, as far as the job wants to see them and it is known which.
    pub(super) fn follow_logs(&mut self) {
        self.follow_entrypoint();
        let Some(services) = self.job.services().filter(|services| services.show_logs) else { return };
        if !self.logs.services_run || std::mem::replace(&mut self.logs.follows_services, true) {
            return;
        }
        let services: Vec<ServicePlan> = services.list.clone();
        for (number, service) in (0..=u8::MAX).zip(services) {
            self.follow_log(Followed::Service { service, number });
        }
    }

    /// The same for the build container, if an entrypoint starts it.
    fn follow_entrypoint(&mut self) {
        let watch = self.pod.as_ref().and_then(|pod| pod.watch.clone());
        let is_honored = watch.is_some_and(|mut watch| {
            watch.current().facts().and_then(|pod| pod.container(BUILD)).is_some_and(|build| build.has_entrypoint)
        });
        if is_honored && !std::mem::replace(&mut self.logs.follows_entrypoint, true) {
            self.follow_log(Followed::Entrypoint);
        }
    }

    fn follow_log(&mut self, followed: Followed) {
        let Some(WatchedPod { reference: pod, .. }) = &self.pod else { return };
        let follower = Follower {
            cluster: self.around.cluster.clone(),
            pod: pod.clone(),
            followed,
            last: String::new(),
            lines: self.logs.sender(),
        };
        // What a manager before us has shown is not shown again.
        let since = self.job.is_found.then_some(1);
        self.background.follow_log(follower.run(since));
    }
}

/// Whose log it is.
enum Followed {
    Service {
        service: ServicePlan,
        number: u8,
    },
    /// The build container's: what runs in it later prints to the agent.
    Entrypoint,
}

impl Followed {
    fn container(&self) -> &str {
        match self {
            Self::Service { service, .. } => &service.container,
            Self::Entrypoint => BUILD,
        }
    }

    /// A line of it, which begins with its time.
    fn note(&self, line: &str) -> Note {
        match self {
            Self::Service { service, number } => {
                let text = format!("\u{1b}[0;90m[service:{}] {line}\u{1b}[0;m", service.label);
                Note { service: Some(*number), ..Note::new(NoteLevel::Plain, text) }
            }
            Self::Entrypoint => Note::new(NoteLevel::Plain, line.split_once(' ').map_or("", |(_, text)| text)),
        }
    }

    /// That it cannot be shown. Of all services the first says it for want of a right.
    fn refusal(&self, is_forbidden: bool, why: &str) -> Option<String> {
        match self {
            Self::Service { number, .. } if is_forbidden && *number > 0 => None,
            Self::Service { .. } if is_forbidden => {
                Some(format!("CI_DEBUG_SERVICES: the logs of services cannot be shown: {why}"))
            }
            Self::Service { service, .. } => {
                Some(format!("CI_DEBUG_SERVICES: the logs {} cannot be shown: {why}", service.container))
            }
            Self::Entrypoint => {
                Some(format!("What the entrypoint prints is in the log of container {BUILD} only: {why}"))
            }
        }
    }
}

/// Follows one log.
struct Follower {
    cluster: Cluster,
    pod: PodRef,
    followed: Followed,
    /// The time of the last line.
    last: String,
    lines: mpsc::Sender<Note>,
}

impl Follower {
    async fn run(mut self, mut since: Option<u32>) {
        if !self.has_started().await {
            return;
        }
        let mut tries = 0;
        while tries < TRIES {
            match self.cluster.follow_log(&self.pod, self.followed.container(), since).await {
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

    /// Waits until its container has started; `false` if it never will. Services have, all of them,
    /// before anybody asks.
    async fn has_started(&self) -> bool {
        if !matches!(self.followed, Followed::Entrypoint) {
            return true;
        }
        let started = |pod: &PodFacts| pod.container(BUILD).is_some_and(ContainerFacts::has_started);
        let mut watch = self.cluster.watch_pod(&self.pod);
        let known = watch.until(|sight| match sight {
            PodState::Present(pod) => started(pod).then_some(true),
            PodState::Gone(_) => Some(false),
            PodState::Unknown => None,
        });
        known.await.unwrap_or(false)
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
            let note = self.followed.note(&line);
            self.lines.send(note).await.ok()?;
            count += 1;
        }
        Some(count)
    }

    /// Says that it cannot be shown.
    async fn refused(self, error: &gantry_kube::ApiError) {
        let is_forbidden = error.fault == Fault::Forbidden;
        let why = if is_forbidden {
            let namespace = self.cluster.namespace();
            format!("the runner's service account has no right to get pods/log in namespace {namespace}")
        } else {
            error.to_string()
        };
        if let Some(text) = self.followed.refusal(is_forbidden, &why) {
            let _ = self.lines.send(Note::new(NoteLevel::Warning, text)).await;
        }
    }
}
