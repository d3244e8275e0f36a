//! Removes what the job leaves beside its work tree, and what could run in a later job's git.
//! Matters where volumes outlive pods.

use std::io;
use std::path::Path;

use gantry_core::Ending;
use gantry_wire::plan::{Action, GitStrategy, PodPlan};

use super::{StageContext, sources, temporary};
use crate::event::StageEvent;
use crate::layout::Layout;
use crate::stages::variables::GITLAB_ENV;
use crate::tasks;
use crate::trees;

pub(super) async fn run(context: &StageContext) -> Result<(), Ending> {
    let project = Path::new(&context.plan.paths.project_dir).to_owned();
    if let Ok(Some(bytes)) = tasks::blocking(move || trees::size(&project)).await {
        context.outlet.send(StageEvent::Disk(bytes)).await;
    }
    let sources = context.plan.stages.iter().find_map(|stage| match &stage.action {
        Action::Sources(sources) => Some(sources),
        _ => None,
    });
    if let Some(sources) = sources.filter(|sources| sources.options.clean_up) {
        sources::tidy(context, sources).await?;
    }
    let (plan, layout) = (std::sync::Arc::clone(&context.plan), context.layout.clone());
    let removed = tasks::blocking(move || remove(&plan, &layout)).await.and_then(|result| result);
    removed.map_err(|error| context.trouble("cannot clean up", &error))
}

fn remove(plan: &PodPlan, layout: &Layout) -> io::Result<()> {
    sources::credentials::remove(&layout.git_config())?;
    sources::credentials::remove(&layout.git_helper_config())?;
    let temp = temporary::found(&plan.paths);
    let files = plan.environment.iter().filter(|variable| variable.file).map(|variable| variable.key.as_str());
    for name in files.chain([GITLAB_ENV]) {
        trees::remove_file(&temp.join(name))?;
    }
    temporary::unlink(&plan.paths)?;
    let sources = plan.stages.iter().find_map(|stage| match &stage.action {
        // Without git the repository, if there is one, is the jobs' own (GitLab Runner 19.4).
        Action::Sources(sources) if sources.strategy != GitStrategy::None => Some(sources),
        _ => None,
    });
    let project = Path::new(&plan.paths.project_dir);
    // What took the directory's place is not ours to clean.
    if let Some(sources) = sources
        && trees::is_real_below(Path::new(&plan.paths.builds_dir), project)
    {
        sources::leftovers::secure(project, &sources::module_config(layout, sources))?;
    }
    Ok(())
}
