//! User scripts around getting the sources. They run in the helper container, with git's
//! environment.

use std::path::Path;

use gantry_core::Ending;
use gantry_core::error_chain::chain;
use gantry_wire::plan::Script;

use super::git::Git;
use crate::process::launch::Launched;
use crate::process::{script, shell};
use crate::stages::StageContext;

pub(super) async fn run(context: &StageContext, git: &Git<'_>, hook: &Script) -> Result<(), Ending> {
    let shell = shell::find().ok_or_else(|| Ending::HelperUnusable {
        message: format!(
            "there is no shell in the helper image for the hook of this job: looked for {}",
            shell::candidates()
        ),
    })?;
    let script = script::Script {
        shell,
        text: hook.text.expose(),
        environment: &git.environment,
        directory: Path::new(&context.plan.paths.project_dir),
    };
    let started = script::start(&context.reaper, &script)
        .map_err(|error| Ending::Runner { message: format!("a hook could not be started: {}", chain(&error)) })?;
    let process = Launched::from(started.process);
    for warning in started.warnings {
        context.outlet.warning(warning).await;
    }
    let exit = context.told(process).await;
    if exit.success() {
        return Ok(());
    }
    Err(Ending::StageFailed {
        stage: context.name().to_owned(),
        message: format!("a hook around getting the sources ended with exit code {}", exit.code),
        exit_code: exit.code,
    })
}
