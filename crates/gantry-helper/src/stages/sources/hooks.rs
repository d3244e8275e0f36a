//! User scripts around getting the sources. They run in the helper container, with git's
//! environment. What the one before git exports is that of git and of the one behind it, as if all
//! were one script (GitLab Runner 19.4).

use std::io;
use std::path::Path;

use gantry_core::Ending;
use gantry_core::error_chain::chain;
use gantry_wire::plan::Script;

use super::git::Git;
use crate::process::handed::{self, Handed};
use crate::process::launch::Launched;
use crate::process::{script, shell};
use crate::stages::StageContext;
use crate::tasks;

/// Runs the hook before git, and lets git have what it has exported.
pub(super) async fn before(context: &StageContext, git: &mut Git<'_>, hook: &Script) -> Result<(), Ending> {
    let trouble = |error: io::Error| context.trouble("cannot get what a hook has exported", &error);
    let file = tempfile::Builder::new().prefix("hook").tempfile_in(context.layout.agent_dir()).map_err(trouble)?;
    let hand_over = handed::command(&context.layout.shim_binary(), file.path());
    // A hook may end itself, or have a trap of its own.
    let text = format!("trap {} EXIT\n{}\n{hand_over}\n", handed::quote(&hand_over), hook.text.expose());
    run(context, git, &text).await?;
    let read = tasks::blocking(move || handed::read(file.path())).await.and_then(|result| result).map_err(trouble)?;
    let Some(Handed { variables, lost }) = read else {
        let text = "what the hook before getting the sources has exported is not known, so git does not get it: the hook has \
                    replaced its shell (exec), or ended it with a trap for EXIT of its own, or exported too much";
        context.outlet.warning(text.to_owned()).await;
        return Ok(());
    };
    for name in lost {
        let text = format!("the value of {name} is not UTF-8: git and later hooks do not get it");
        context.outlet.warning(text).await;
    }
    git.take(variables);
    Ok(())
}

/// Runs the hook behind git.
pub(super) async fn after(context: &StageContext, git: &Git<'_>, hook: &Script) -> Result<(), Ending> {
    // As before git, it fails where its shell ends, and not by the status of its last command.
    run(context, git, &format!("{}\n:\n", hook.text.expose())).await
}

async fn run(context: &StageContext, git: &Git<'_>, text: &str) -> Result<(), Ending> {
    let shell = shell::find().ok_or_else(|| Ending::HelperUnusable {
        message: format!(
            "there is no shell in the helper image for the hook of this job: looked for {}",
            shell::candidates()
        ),
    })?;
    let script = script::Script {
        shell,
        text,
        environment: &git.environment,
        inherits: !git.is_whole,
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
