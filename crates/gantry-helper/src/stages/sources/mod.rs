//! Gets the project: git, called with argument lists, never through a shell. Credentials reach git through its environment and nothing
//! else: they are in no argument, no remote, no file.

pub(crate) mod credentials;
mod git;
mod hooks;
pub(crate) mod leftovers;
mod submodules;

use std::fs;
use std::path::Path;

use gantry_core::Ending;
use gantry_wire::plan::{GitStrategy, Sources, SubmoduleStrategy};

use self::git::Git;
use super::{StageContext, trees};
use crate::agent::event::StageEvent;
use crate::tasks;

/// Whether submodules are wanted.
pub(crate) fn has_submodules(sources: &Sources) -> bool {
    sources.submodules.strategy != SubmoduleStrategy::None
}

pub(super) async fn run(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    match sources.strategy {
        GitStrategy::None => {
            context.outlet.notice("Skipping Git repository setup").await;
            make_project_dir(context)
        }
        GitStrategy::Empty => {
            context.outlet.notice("Skipping Git repository setup and creating an empty build directory").await;
            empty_project_dir(context).await?;
            make_project_dir(context)
        }
        GitStrategy::Fetch | GitStrategy::Clone => get(context, sources).await,
    }
}

async fn get(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    if context.attempt == 2 {
        clear_worktree(context).await?;
    }
    let git = Git::prepare(context, sources)?;
    if let Some(script) = &sources.pre_script {
        make_project_dir(context)?;
        hooks::run(context, &git, script).await?;
    }
    if sources.strategy == GitStrategy::Clone {
        empty_project_dir(context).await?;
    }
    fetch(context, &git, sources).await?;
    if sources.checkout {
        checkout(context, &git, sources).await?;
    } else {
        context.outlet.notice("Skipping Git checkout").await;
    }
    if has_submodules(sources) {
        submodules::update(context, &git, sources).await?;
    } else {
        context.outlet.notice("Skipping Git submodules setup").await;
    }
    if let Some(script) = &sources.post_script {
        hooks::run(context, &git, script).await?;
    }
    Ok(())
}

async fn fetch(context: &StageContext, git: &Git<'_>, sources: &Sources) -> Result<(), Ending> {
    let project = Path::new(&context.plan.paths.project_dir).to_owned();
    let with_submodules = has_submodules(sources);
    let cleared = {
        let project = project.clone();
        tasks::blocking(move || leftovers::clear(&project, with_submodules)).await.and_then(|result| result)
    };
    cleared.map_err(|error| context.trouble("cannot remove what earlier jobs have left", &error))?;
    let notice = match sources.depth {
        0 => "Fetching changes...".to_owned(),
        depth => format!("Fetching changes with git depth set to {depth}..."),
    };
    context.outlet.notice(&notice).await;
    let template = git.template().map_err(|error| context.trouble("cannot write git's template", &error))?;
    let mut init = vec!["init", &context.plan.paths.project_dir, "--template", &template];
    if !matches!(sources.object_format.as_str(), "" | "sha1") {
        init.extend(["--object-format", &sources.object_format]);
    }
    make_project_dir(context)?;
    git.must(&init).await?;
    if git.succeeds(&["remote", "add", "origin", &sources.url]).await? {
        context.outlet.notice("Created fresh repository.").await;
    } else {
        git.must(&["remote", "set-url", "origin", &sources.url]).await?;
    }
    let mut fetch = vec!["fetch", "origin", "--no-recurse-submodules"];
    fetch.extend(sources.refspecs.iter().map(String::as_str));
    let depth = sources.depth.to_string();
    if sources.depth > 0 {
        fetch.extend(["--depth", &depth]);
    }
    fetch.extend(sources.fetch_flags.iter().map(String::as_str));
    if sources.depth == 0 && project.join(".git/shallow").exists() {
        fetch.push("--unshallow");
    }
    git.must(&fetch).await
}

async fn checkout(context: &StageContext, git: &Git<'_>, sources: &Sources) -> Result<(), Ending> {
    let short: String = sources.sha.chars().take(8).collect();
    let notice = format!("Checking out {short} as detached HEAD (ref is {})...", sources.git_ref);
    context.outlet.notice(&notice).await;
    git.must(&["-c", "submodule.recurse=false", "checkout", "-f", "-q", &sources.sha]).await?;
    if let Some(flags) = sources.clean_flags.as_ref().filter(|flags| !flags.is_empty()) {
        let mut clean = vec!["clean"];
        clean.extend(flags.iter().map(String::as_str));
        git.must(&clean).await?;
    }
    if sources.lfs && git.has_lfs().await? {
        git.must(&["lfs", "pull"]).await?;
        context.outlet.plain("").await;
    }
    Ok(())
}

/// The first try left something that git cannot go on with: start from nothing.
async fn clear_worktree(context: &StageContext) -> Result<(), Ending> {
    let name = "clear_worktree";
    let title = "Deleting all tracked and untracked files due to source fetch failure";
    context.outlet.send(StageEvent::SectionStart { name, title }).await;
    context.outlet.notice("Deleting tracked and untracked files...").await;
    let result = empty_project_dir(context).await;
    context.outlet.send(StageEvent::SectionEnd { name }).await;
    result
}

async fn empty_project_dir(context: &StageContext) -> Result<(), Ending> {
    let project = Path::new(&context.plan.paths.project_dir).to_owned();
    let emptied = tasks::blocking(move || trees::empty(&project)).await.and_then(|result| result);
    emptied.map_err(|error| context.trouble("cannot empty the project directory", &error))
}

fn make_project_dir(context: &StageContext) -> Result<(), Ending> {
    fs::create_dir_all(&context.plan.paths.project_dir)
        .map_err(|error| context.trouble("cannot make the project directory", &error))
}
