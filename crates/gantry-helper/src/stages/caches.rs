//! Caches down and up, in a child process (see `archive/cache/`). No cache is worth a job: whatever
//! goes wrong is a line in its log.

use gantry_core::Ending;
use gantry_wire::cache::{RestoreCaches, SaveCaches};

use super::StageContext;
use super::movers::{Work, object_format, run};
use crate::archive::cache::job::{CacheJob, CacheWork};

pub(super) async fn restore(context: &StageContext, work: &RestoreCaches) -> Result<(), Ending> {
    in_child(context, CacheWork::Restore(work.clone())).await;
    Ok(())
}

pub(super) async fn save(context: &StageContext, work: &SaveCaches) -> Result<(), Ending> {
    in_child(context, CacheWork::Save(work.clone())).await;
    Ok(())
}

async fn in_child(context: &StageContext, work: CacheWork) {
    let plan = &context.plan;
    let job = CacheJob {
        builds_dir: plan.paths.builds_dir.clone(),
        project_dir: plan.paths.project_dir.clone(),
        object_format: object_format(plan).to_owned(),
        tool_path: std::env::var("PATH").unwrap_or_default(),
        scratch_dir: context.layout.agent_dir().to_string_lossy().into_owned(),
        work,
    };
    let work = Work { command: "move-caches", what: "the caches", description: &job };
    if let Err(ending) = run(context, &work).await {
        context.outlet.warning(ending.verdict().message).await;
    }
}
