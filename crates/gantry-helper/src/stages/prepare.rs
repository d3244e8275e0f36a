//! Says where the job runs, and puts the files of file variables in place.

use std::path::Path;

use gantry_core::Ending;

use super::{StageContext, host_name};
use crate::agent::script_environment::{GITLAB_ENV, write_files};
use crate::process::environment::is_possible;

pub(super) async fn run(context: &StageContext) -> Result<(), Ending> {
    let plan = &context.plan;
    context.outlet.plain(&format!("Running on {} via {}...", host_name(), plan.manager_host)).await;
    // A volume that outlives its pod may hold what another job has left.
    context.make_directory(&plan.paths.temp_dir).await?;
    let _ = std::fs::remove_file(Path::new(&plan.paths.temp_dir).join(GITLAB_ENV));
    write_files(plan, None).map_err(|error| context.trouble("cannot write the files of file variables", &error))?;
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
