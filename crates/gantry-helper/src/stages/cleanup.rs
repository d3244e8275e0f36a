//! Removes what the job leaves beside its work tree, and what could run in a later job's git. Matters where volumes outlive pods.

use std::path::Path;

use gantry_core::Ending;
use gantry_wire::plan::Action;

use super::{StageContext, sources, temporary, trees};
use crate::agent::script_environment::GITLAB_ENV;
use crate::tasks;

pub(super) async fn run(context: &StageContext) -> Result<(), Ending> {
    let plan = std::sync::Arc::clone(&context.plan);
    let removed = tasks::blocking(move || {
        let temp = temporary::found(&plan.paths);
        let files = plan.environment.iter().filter(|variable| variable.file).map(|variable| variable.key.as_str());
        for name in files.chain([GITLAB_ENV]) {
            trees::remove_file(&temp.join(name))?;
        }
        temporary::unlink(&plan.paths)?;
        let with_submodules = plan
            .stages
            .iter()
            .any(|stage| matches!(&stage.action, Action::Sources(found) if sources::has_submodules(found)));
        sources::leftovers::clear(Path::new(&plan.paths.project_dir), with_submodules)
    });
    match removed.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(context.trouble("cannot clean up", &error)),
    }
}
