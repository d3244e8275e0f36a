//! Leaves the project's directory at the end of a job as the next one would like to find it (GitLab
//! Runner 19.4, `FF_ENABLE_JOB_CLEANUP`): for volumes that outlive their pods.

use gantry_core::Ending;
use gantry_wire::plan::{GitStrategy, Sources, SubmoduleStrategy};

use super::git::Git;
use super::{empty_project_dir, has_submodules, secure};
use crate::stages::StageContext;

/// Flags of `git clean` where the job gives none.
const CLEAN_FLAGS: &str = "-ffdx";

/// Cleans the directory in the way that fits how the sources were got.
pub(in crate::stages) async fn tidy(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    match sources.strategy {
        GitStrategy::Clone | GitStrategy::Empty => empty_project_dir(context).await,
        GitStrategy::None => {
            context.outlet.notice("Skipping build directory cleanup step").await;
            Ok(())
        }
        GitStrategy::Fetch => clean(context, sources).await,
    }
}

async fn clean(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    // What the job has left in git's directory must not run here.
    if !secure(context, sources).await?.repository {
        return empty_project_dir(context).await;
    }
    let git = Git::prepare(context, sources)?;
    let flags: Vec<&str> = match &sources.clean_flags {
        Some(flags) if !flags.is_empty() => flags.iter().map(String::as_str).collect(),
        _ => vec![CLEAN_FLAGS],
    };
    git.must(&[&["clean"], flags.as_slice()].concat()).await?;
    git.must(&["reset", "--hard"]).await?;
    if has_submodules(sources) {
        let recursive: &[&str] =
            if sources.submodules.strategy == SubmoduleStrategy::Recursive { &["--recursive"] } else { &[] };
        let each = |command: &[&'static str]| [&["submodule", "foreach"], recursive, command].concat();
        let clean = [&["submodule", "foreach"], recursive, &["git", "clean"], flags.as_slice()].concat();
        git.must_with_submodules(&clean).await?;
        git.must_with_submodules(&each(&["git", "reset", "--hard"])).await?;
    }
    Ok(())
}
