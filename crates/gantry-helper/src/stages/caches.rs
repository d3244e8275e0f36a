//! Caches down and up, in a child process (see `archive/cache/`). No cache is worth a job: whatever
//! goes wrong is a line in its log.

use std::io;
use std::path::Path;
use std::process::Command;

use gantry_core::Ending;
use gantry_wire::cache::{RestoreCaches, SaveCaches};

use super::StageContext;
use super::movers::{Work, object_format, run, started};
use crate::archive::cache::job::{CacheJob, CacheWork};

/// The command of our own program that moves caches.
const COMMAND: &str = "move-caches";

pub(super) async fn restore(context: &StageContext, work: &RestoreCaches) -> Result<(), Ending> {
    in_child(context, CacheWork::Restore(work.clone())).await;
    Ok(())
}

pub(super) async fn save(context: &StageContext, work: &SaveCaches) -> Result<(), Ending> {
    in_child(context, CacheWork::Save(work.clone())).await;
    Ok(())
}

/// What restores caches, and waits at `gate` before it touches the project.
pub(super) fn mover(context: &StageContext, work: &RestoreCaches, gate: &Path) -> io::Result<Command> {
    let gate = Some(gate.to_string_lossy().into_owned());
    let job = CacheJob { gate, ..job(context, CacheWork::Restore(work.clone())) };
    started(context, COMMAND, &job)
}

fn job(context: &StageContext, work: CacheWork) -> CacheJob {
    let plan = &context.plan;
    CacheJob {
        builds_dir: plan.paths.builds_dir.clone(),
        project_dir: plan.paths.project_dir.clone(),
        object_format: object_format(plan).to_owned(),
        tool_path: std::env::var("PATH").unwrap_or_default(),
        scratch_dir: context.layout.agent_dir().to_string_lossy().into_owned(),
        exclude: Vec::new(),
        gate: None,
        work,
    }
}

async fn in_child(context: &StageContext, work: CacheWork) {
    let job = job(context, work);
    let work = Work { command: COMMAND, what: "the caches", description: &job };
    if let Err(ending) = run(context, &work).await {
        context.outlet.warning(ending.verdict().message).await;
    }
}
