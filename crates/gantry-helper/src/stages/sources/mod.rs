//! Gets the project: git, called with argument lists, never through a shell. The job token reaches
//! git by a file that belongs to the pod (see `credentials`) and is in no argument and no remote.
//! What an earlier job has left is made safe before git looks at it.

pub(crate) mod credentials;
mod git;
mod hooks;
pub(crate) mod leftovers;
mod mirror;
mod modules;
mod native;
mod submodules;
mod tidying;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use gantry_core::Ending;
use gantry_wire::plan::{GitStrategy, Sources, SubmoduleStrategy};

use self::git::Git;
pub(crate) use self::git::module_config;
pub(super) use self::tidying::tidy;
use super::StageContext;
use crate::event::StageEvent;
use crate::tasks;
use crate::trees;

/// The header by which Gitaly's log knows the job.
const CORRELATION: &str = "X-Gitaly-Correlation-ID: ";

/// Whether submodules are wanted.
fn has_submodules(sources: &Sources) -> bool {
    sources.submodules.strategy != SubmoduleStrategy::None
}

pub(super) async fn run(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    context.make_project_dir().await?;
    match sources.strategy {
        GitStrategy::None => {
            context.outlet.notice("Skipping Git repository setup").await;
            write_credentials(context, sources)
        }
        GitStrategy::Empty => {
            context.outlet.notice("Skipping Git repository setup and creating an empty build directory").await;
            empty_project_dir(context).await?;
            write_credentials(context, sources)
        }
        GitStrategy::Fetch | GitStrategy::Clone => get(context, sources).await,
    }
}

/// Without a repository of ours the rules still serve scripts that fetch the project themselves.
fn write_credentials(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    credentials::write(&context.layout.git_config(), sources, &[])
        .map_err(|error| context.trouble("cannot write the settings for git", &error))
}

async fn get(context: &StageContext, sources: &Sources) -> Result<(), Ending> {
    if context.attempt == 2 {
        clear_worktree(context).await?;
    }
    let mut found = secure(context, sources).await?;
    let mut git = Git::prepare(context, sources)?;
    if let Some(script) = &sources.pre_script {
        hooks::before(context, &mut git, script).await?;
        context.make_project_dir().await?;
    }
    if sources.strategy == GitStrategy::Clone {
        empty_project_dir(context).await?;
        found = EarlierClone::default();
    }
    for id in sources.http_headers.iter().filter_map(|header| header.strip_prefix(CORRELATION)) {
        context.outlet.notice(&format!("Gitaly correlation ID: {id}")).await;
    }
    match fetch_and_check_out(context, &git, sources, &found).await {
        Err(Failed { ending, is_here: true }) if found.repository => {
            let why = ending.verdict().message;
            let text =
                format!("{why}. The repository that an earlier job has left cannot be used: starting without it");
            context.outlet.warning(text).await;
            remove_repository(context).await?;
            found.repository = false;
            fetch_and_check_out(context, &git, sources, &found).await
        }
        result => result,
    }
    .map_err(|failed| failed.ending)?;
    if has_submodules(sources) {
        if sources.mirror {
            context.outlet.notice("Submodules come from GitLab: the git mirror of this node has none").await;
        }
        submodules::update(context, &git, sources, found.files).await?;
    } else {
        context.outlet.notice("Skipping Git submodules setup").await;
    }
    let urls = modules::urls(Path::new(&context.plan.paths.project_dir), &sources.url);
    credentials::write(&context.layout.git_config(), sources, &urls)
        .map_err(|error| context.trouble("cannot write the settings for git", &error))?;
    if let Some(script) = &sources.post_script {
        hooks::after(context, &git, script).await?;
    }
    Ok(())
}

/// What earlier jobs have left.
#[derive(Clone, Copy, Default)]
struct EarlierClone {
    /// A repository that git may use.
    repository: bool,
    /// Anything at all.
    files: bool,
}

/// Makes what earlier jobs have left safe.
async fn secure(context: &StageContext, sources: &Sources) -> Result<EarlierClone, Ending> {
    let project = Path::new(&context.plan.paths.project_dir).to_owned();
    let config = module_config(&context.layout, sources);
    let secured = tasks::blocking(move || {
        let repository = leftovers::secure(&project, &config)?;
        if repository {
            // For hooks; git's own part writes another.
            fs::write(project.join(".git/config"), &config)?;
        }
        Ok(EarlierClone { repository, files: fs::read_dir(&project)?.next().is_some() })
    });
    let secured = secured.await.and_then(|result| result);
    secured.map_err(|error| context.trouble("cannot remove what earlier jobs have left", &error))
}

/// A failure, and whether it may lie in what was here before.
struct Failed {
    ending: Ending,
    is_here: bool,
}

impl Failed {
    fn here(ending: Ending) -> Self {
        let is_here = git::has_judged(&ending);
        Self { ending, is_here }
    }

    fn elsewhere(ending: Ending) -> Self {
        Self { ending, is_here: false }
    }
}

async fn fetch_and_check_out(
    context: &StageContext,
    git: &Git<'_>,
    sources: &Sources,
    found: &EarlierClone,
) -> Result<(), Failed> {
    fetch(context, git, sources, found).await?;
    if sources.checkout {
        checkout(context, git, sources, found).await
    } else {
        context.outlet.notice("Skipping Git checkout").await;
        Ok(())
    }
}

async fn fetch(context: &StageContext, git: &Git<'_>, sources: &Sources, found: &EarlierClone) -> Result<(), Failed> {
    if !found.repository
        && let Some(flags) = native::flags(context, git, sources).await.map_err(Failed::elsewhere)?
    {
        return native::clone(context, git, sources, flags).await.map_err(Failed::elsewhere);
    }
    let project = &context.plan.paths.project_dir;
    let notice = match sources.depth {
        0 => "Fetching changes...".to_owned(),
        depth => format!("Fetching changes with git depth set to {depth}..."),
    };
    context.outlet.notice(&notice).await;
    // The repository's configuration is always written anew: a hook that ran before may have left
    // one.
    let removed = trees::remove_tree(&Path::new(project).join(".git/config"));
    removed.map_err(|error| Failed::elsewhere(context.trouble("cannot write git's configuration anew", &error)))?;
    let template = git::template_dir(&context.layout);
    let mut init = vec!["init", project, "--template", &template];
    if !matches!(sources.object_format.as_str(), "" | "sha1") {
        init.extend(["--object-format", &sources.object_format]);
    }
    git.must(&init).await.map_err(Failed::here)?;
    git.must(&["remote", "add", "origin", &sources.url]).await.map_err(Failed::here)?;
    if !found.repository {
        context.outlet.notice("Created fresh repository.").await;
    }
    let mut fetch = vec!["fetch", "origin", "--no-recurse-submodules"];
    fetch.extend(sources.refspecs.iter().map(String::as_str));
    let depth = sources.depth.to_string();
    if sources.depth > 0 {
        fetch.extend(["--depth", &depth]);
    }
    fetch.extend(sources.fetch_flags.iter().map(String::as_str));
    if sources.depth == 0 && Path::new(project).join(".git/shallow").exists() {
        fetch.push("--unshallow");
    }
    let is_seeded = mirror::is_wanted(context, sources, found.repository) && mirror::seed(context, git, sources).await;
    let fetched = git.must(&fetch).await;
    if is_seeded {
        mirror::release(git).await.map_err(Failed::elsewhere)?;
    }
    let Err(ending) = fetched else { return Ok(()) };
    if !found.repository {
        return Err(Failed::elsewhere(ending));
    }
    // A server that does not answer is no reason to throw a repository away.
    let can_be_had = git.remote_has(&sources.url, &wanted_refs(&sources.refspecs)).await.map_err(Failed::elsewhere)?;
    Err(if can_be_had { Failed::here(ending) } else { Failed::elsewhere(ending) })
}

/// What the refspecs ask the remote for by name.
fn wanted_refs(refspecs: &[String]) -> Vec<&str> {
    let sources = refspecs.iter().map(|refspec| refspec.trim_start_matches('+').split(':').next().unwrap_or_default());
    sources.filter(|source| source.starts_with("refs/")).collect()
}

async fn checkout(
    context: &StageContext,
    git: &Git<'_>,
    sources: &Sources,
    found: &EarlierClone,
) -> Result<(), Failed> {
    let short: String = sources.sha.chars().take(8).collect();
    let notice = format!("Checking out {short} as detached HEAD (ref is {})...", sources.git_ref);
    context.outlet.notice(&notice).await;
    if found.repository && hides_files(git).await.map_err(Failed::elsewhere)? {
        let index = Path::new(&context.plan.paths.project_dir).join(".git/index");
        let removed = trees::remove_tree(&index);
        removed.map_err(|error| Failed::elsewhere(context.trouble("cannot remove git's index", &error)))?;
    }
    let checkout = ["-c", "submodule.recurse=false", "checkout", "-f", "-q", &sources.sha];
    if let Err(ending) = git.must(&checkout).await {
        let is_absent = found.repository && is_absent(git, &sources.sha).await.map_err(Failed::elsewhere)?;
        return Err(if is_absent { Failed::elsewhere(ending) } else { Failed::here(ending) });
    }
    if found.files && has_submodules(sources) && modules::secure(context, git).await.map_err(Failed::elsewhere)? {
        git.must(&checkout).await.map_err(Failed::here)?;
    }
    if let Some(flags) = sources.clean_flags.as_ref().filter(|flags| !flags.is_empty()) {
        let mut clean = vec!["clean"];
        clean.extend(flags.iter().map(String::as_str));
        // The checkout has shown that the repository can be used.
        git.must(&clean).await.map_err(Failed::elsewhere)?;
    }
    if sources.lfs && git.has_lfs().await.map_err(Failed::elsewhere)? {
        git.must(&["lfs", "pull"]).await.map_err(Failed::elsewhere)?;
        context.outlet.plain("").await;
    }
    Ok(())
}

/// Whether the remote is what lacks a commit: it has just been asked for what it has, and of that
/// nothing is missing here.
async fn is_absent(git: &Git<'_>, sha: &str) -> Result<bool, Ending> {
    let is_here = git.succeeds(&["cat-file", "-e", &format!("{sha}^{{commit}}")]).await?;
    Ok(!is_here && git.succeeds(&["rev-list", "--quiet", "--objects", "--exclude-promisor-objects", "--all"]).await?)
}

/// Whether the index, which an earlier job has left, keeps git from looking at some files of the
/// work tree, as a sparse checkout does, or cannot be read. Without it git writes every file.
async fn hides_files(git: &Git<'_>) -> Result<bool, Ending> {
    let Some(listing) = git.answer(&["ls-files", "-v", "-z"]).await? else { return Ok(true) };
    let hidden = tasks::blocking(move || {
        let entries = BufReader::new(listing).split(0);
        // The other tags are those of files that git leaves to themselves.
        entries.map_while(Result::ok).any(|entry| !entry.starts_with(b"H ") && !entry.starts_with(b"M "))
    });
    Ok(hidden.await.unwrap_or(true))
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

async fn remove_repository(context: &StageContext) -> Result<(), Ending> {
    let git = Path::new(&context.plan.paths.project_dir).join(".git");
    let removed = tasks::blocking(move || trees::remove_tree(&git)).await.and_then(|result| result);
    removed.map_err(|error| context.trouble("cannot remove the repository", &error))
}

#[cfg(test)]
mod tests {
    use super::wanted_refs;

    #[test]
    fn refs_are_asked_for_by_name() {
        let refspecs =
            ["+refs/heads/main:refs/remotes/origin/main", "+refs/heads/*:refs/x/*", "+0123abc:refs/pipelines/1"];
        assert_eq!(wanted_refs(&refspecs.map(str::to_owned)), ["refs/heads/main", "refs/heads/*"]);
    }
}
