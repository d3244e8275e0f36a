//! The stages that run in the helper container, each in a task of its own that reports to the engine. Dropping the task stops the stage
//! and kills what it has started.

mod artifacts;
mod cleanup;
pub(crate) mod ownership;
mod prepare;
pub(crate) mod sources;
pub(crate) mod temporary;
pub(crate) mod trees;

use std::io;
use std::process::Command;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Ending;
use gantry_wire::plan::{Action, PodPlan, StagePlan};
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;

use crate::agent::outlet::Outlet;
use crate::agent::script_environment;
use crate::layout::Layout;
use crate::ports::{Exit, Handover, Happening, Process as _, StageTry, Workshop};
use crate::process::launch::launch;
use crate::process::reaper::Reaper;

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

/// Does the stages in this container, with its tools and its files.
pub(crate) struct Tools {
    pub(crate) layout: Layout,
    pub(crate) reaper: Reaper,
}

impl Workshop for Tools {
    fn perform(&self, work: StageTry, outlet: Outlet) -> BoxFuture<'static, Result<(), Ending>> {
        let StageTry { plan, stage, attempt, status } = work;
        let (layout, reaper) = (self.layout.clone(), self.reaper.clone());
        let context = StageContext { plan, stage, attempt, status, layout, reaper, outlet };
        async move {
            let plan = Arc::clone(&context.plan);
            match plan.stages.get(context.stage) {
                Some(stage) => perform(&context, stage).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn prepare(&self, handover: Handover) -> BoxFuture<'static, io::Result<Vec<(String, SecretText)>>> {
        script_environment::prepare(handover).boxed()
    }
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
    pub(crate) async fn tool(&self, command: Command) -> io::Result<Exit> {
        let mut process = launch(&self.reaper, command)?;
        loop {
            match process.next().await {
                Happening::Output(bytes) => self.outlet.output(bytes).await,
                Happening::Ended(exit) => return Ok(exit),
            }
        }
    }

    /// Runs a program whose output nobody wants.
    pub(crate) async fn quiet_tool(&self, command: Command) -> io::Result<Exit> {
        let mut process = launch(&self.reaper, command)?;
        loop {
            if let Happening::Ended(exit) = process.next().await {
                return Ok(exit);
            }
        }
    }

    /// A failure of this stage that the pod itself is to blame for.
    pub(crate) fn trouble(&self, what: &str, error: &io::Error) -> Ending {
        Ending::Runner { message: format!("{} failed in the pod: {what}: {error}", self.name()) }
    }
}

/// The pod's name: a container's host name is that unless the pod says otherwise.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
