//! The stages that run in the helper container, each in a task of its own that reports to the engine. Dropping the task stops the stage
//! and kills what it has started.

mod artifacts;
mod cleanup;
pub(crate) mod ownership;
mod prepare;
pub(crate) mod sources;
mod trees;

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use gantry_core::Ending;
use gantry_wire::frame::NoteLevel;
use gantry_wire::plan::{Action, PodPlan, StagePlan};
use gantry_wire::stage::JobStatus;
use tokio::sync::mpsc;

use crate::agent::event::{Event, StageEvent};
use crate::layout::Layout;
use crate::process::launch::{Happening, launch};
use crate::process::reaper::{Exit, Reaper};

/// What a stage works with.
pub(crate) struct StageContext {
    pub(crate) plan: Arc<PodPlan>,
    /// Index of the stage in the plan.
    pub(crate) stage: usize,
    /// 1 for the first try.
    pub(crate) attempt: u32,
    pub(crate) status: JobStatus,
    pub(crate) layout: Layout,
    pub(crate) reaper: Reaper,
    pub(crate) outlet: Outlet,
}

/// Where a stage's output goes. Sending waits while the engine is busy, which slows down the tool that writes.
#[derive(Clone)]
pub(crate) struct Outlet {
    events: mpsc::Sender<Event>,
    task: u64,
}

impl Outlet {
    pub(crate) fn new(events: mpsc::Sender<Event>, task: u64) -> Self {
        Self { events, task }
    }

    /// Tells the engine. An engine that is gone needs to know nothing.
    pub(crate) async fn send(&self, event: StageEvent) {
        let _ = self.events.send(Event::Stage { task: self.task, event }).await;
    }

    /// Output of a tool.
    pub(crate) async fn output(&self, bytes: Bytes) {
        self.send(StageEvent::Output(bytes)).await;
    }

    /// A green line, as the scripts of the reference print them.
    pub(crate) async fn notice(&self, text: &str) {
        self.output(format!("\x1b[32;1m{text}\x1b[0;m\n").into()).await;
    }

    /// A plain line.
    pub(crate) async fn plain(&self, text: &str) {
        self.output(format!("{text}\n").into()).await;
    }

    /// A warning of the runner.
    pub(crate) async fn warning(&self, text: impl Into<String>) {
        self.send(StageEvent::Note(NoteLevel::Warning, text.into())).await;
    }
}

/// Runs one try of a stage and reports how it ended.
pub(crate) async fn run(context: StageContext) {
    let plan = Arc::clone(&context.plan);
    let result = match plan.stages.get(context.stage) {
        Some(stage) => perform(&context, stage).await,
        None => Ok(()),
    };
    let ending = result.err().unwrap_or(Ending::Succeeded);
    context.outlet.send(StageEvent::Ended(ending)).await;
}

async fn perform(context: &StageContext, stage: &StagePlan) -> Result<(), Ending> {
    match &stage.action {
        Action::Prepare => prepare::run(context).await,
        Action::Sources(sources) => sources::run(context, sources).await,
        Action::DownloadArtifacts(downloads) => artifacts::download(context, downloads).await,
        Action::UploadArtifacts { artifacts, .. } => artifacts::upload(context, artifacts).await,
        Action::Cleanup => cleanup::run(context).await,
        _ => Err(Ending::Runner {
            message: format!("this helper does not know how to do the stage {}: use a newer helper image", stage.name),
        }),
    }
}

impl StageContext {
    /// Name of the stage, for messages.
    pub(crate) fn name(&self) -> &str {
        self.plan.stages.get(self.stage).map_or("", |stage| stage.name.as_str())
    }

    /// Runs a program with its output in the log.
    pub(crate) async fn tool(&self, command: Command) -> std::io::Result<Exit> {
        let mut process = launch(&self.reaper, command)?;
        loop {
            match process.next().await {
                Happening::Output(bytes) => self.outlet.output(bytes).await,
                Happening::Ended(exit) => return Ok(exit),
            }
        }
    }

    /// Runs a program whose output nobody wants.
    pub(crate) async fn quiet_tool(&self, command: Command) -> std::io::Result<Exit> {
        let mut process = launch(&self.reaper, command)?;
        loop {
            if let Happening::Ended(exit) = process.next().await {
                return Ok(exit);
            }
        }
    }

    /// A failure of this stage that the pod itself is to blame for.
    pub(crate) fn trouble(&self, what: &str, error: &std::io::Error) -> Ending {
        Ending::Runner { message: format!("{} failed in the pod: {what}: {error}", self.name()) }
    }
}

/// The pod's name: a container's host name is that unless the pod says otherwise.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
