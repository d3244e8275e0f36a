//! Says where the job runs, and puts the files of file variables in place.

use gantry_core::Ending;

use super::{StageContext, host_name, temporary};
use crate::process::environment::is_possible;
use crate::stages::script_environment::write_files;
use crate::stages::variables::GITLAB_ENV;
use crate::trees;

pub(super) async fn run(context: &StageContext) -> Result<(), Ending> {
    let plan = &context.plan;
    context.outlet.plain(&format!("Running on {} via {}...", host_name(), plan.manager_host)).await;
    let make = || {
        // A volume that outlives its pod may hold what another job has left.
        trees::remove_tree(&temporary::make(&plan.paths)?.join(GITLAB_ENV))?;
        write_files(plan, None)
    };
    let directory = make().map_err(|error| context.trouble("cannot write the files of file variables", &error))?;
    if temporary::is_exposed(&plan.paths, directory) {
        let text = format!(
            "the volume at {} has no symbolic links: file variables are kept in it, where services can read them",
            plan.paths.builds_dir
        );
        context.outlet.warning(text).await;
    }
    let lost = plan.environment.iter().filter(|variable| !is_possible(&variable.key, variable.value.expose()));
    for variable in lost.filter(|variable| !variable.file) {
        context
            .outlet
            .warning(format!(
                "the variable {:?} cannot be in any environment (its name has a \"=\", or it has a zero byte) and is left out",
                variable.key
            ))
            .await;
    }
    Ok(())
}
