//! Submodules, in the order and with the words of GitLab Runner 19.4.

use std::path::Path;

use gantry_core::Ending;
use gantry_wire::plan::{Sources, SubmoduleStrategy};

use super::git::{Git, has_judged};
use crate::stages::StageContext;
use crate::tasks;
use crate::trees;

/// Flags of `git clean` where the job gives none.
const CLEAN_FLAGS: &str = "-ffdx";

/// Updates all of them. `is_lasting` says whether an earlier job may have left some.
pub(super) async fn update(
    context: &StageContext,
    git: &Git<'_>,
    sources: &Sources,
    is_lasting: bool,
) -> Result<(), Ending> {
    let calls = Calls::of(sources);
    let how = if calls.recursive.is_empty() { "" } else { " recursively" };
    let depth = match sources.submodules.depth {
        0 => String::new(),
        depth => format!(" with git depth set to {depth}"),
    };
    context.outlet.notice(&format!("Updating/initializing submodules{how}{depth}...")).await;
    git.must_with_submodules(&["submodule", "init"]).await?;
    if first_try(git, &calls).await?.is_ok() {
        context.outlet.notice("Updated submodules").await;
    } else {
        context.outlet.warning("Updating submodules failed. Retrying...").await;
        let second = second_try(git, &calls).await?;
        if second.is_err() && is_lasting && can_be_done(context, git, &calls).await? {
            context.outlet.warning("What an earlier job has left of the submodules is removed. Retrying...").await;
            remove_all(context, git).await?;
            second_try(git, &calls).await??;
        } else {
            second?;
        }
    }
    git.must_with_submodules(&calls.clean()).await?;
    if sources.lfs && git.has_lfs().await? {
        context.outlet.notice("Pulling LFS files...").await;
        git.must_with_submodules(&calls.each(&["git", "lfs", "pull"])).await?;
    }
    Ok(())
}

/// What went wrong in git, which may be tried again.
type Tried = Result<(), Ending>;

async fn first_try(git: &Git<'_>, calls: &Calls<'_>) -> Result<Tried, Ending> {
    for call in [calls.sync(), calls.clean(), calls.reset()] {
        if let Err(ending) = again(git.must_with_submodules(&call).await)? {
            return Ok(Err(ending));
        }
    }
    let update = calls.update();
    let update: Vec<&str> = update.iter().map(String::as_str).collect();
    if let Err(ending) = again(git.must_with_submodules(&update).await)? {
        return Ok(Err(ending));
    }
    again(git.must_with_submodules(&calls.sync()).await)
}

async fn second_try(git: &Git<'_>, calls: &Calls<'_>) -> Result<Tried, Ending> {
    let update = calls.update();
    let update = update.iter().map(String::as_str).collect();
    let fetch = calls.remote.then(|| calls.each(&["git", "fetch", "origin", "+refs/heads/*:refs/remotes/origin/*"]));
    for call in fetch.into_iter().chain([calls.sync(), update, calls.reset()]) {
        if let Err(ending) = again(git.must_with_submodules(&call).await)? {
            return Ok(Err(ending));
        }
    }
    Ok(Ok(()))
}

/// Tells a call of git that failed, which may be tried again, from a git that cannot be called.
fn again(result: Result<(), Ending>) -> Result<Tried, Ending> {
    match result {
        Err(ending) if !has_judged(&ending) => Err(ending),
        result => Ok(result),
    }
}

/// Whether git understands the job's flags, and there is a submodule at each of its paths. What is
/// here already has no part in that: the flags are tried where there are no submodules.
async fn can_be_done(context: &StageContext, git: &Git<'_>, calls: &Calls<'_>) -> Result<bool, Ending> {
    let paths = calls.paths();
    if !paths.is_empty() && !git.succeeds(&[vec!["ls-files", "--error-unmatch"], paths].concat()).await? {
        return Ok(false);
    }
    let empty = context.layout.agent_dir().join("git-empty");
    let empty = empty.to_string_lossy();
    let flags = calls.sources.submodules.update_flags.iter().map(String::as_str);
    let update: Vec<&str> = ["-C", &empty, "submodule", "update", "--init"].into_iter().chain(flags).collect();
    Ok(!git.succeeds(&["init", &empty]).await? || git.succeeds(&update).await?)
}

/// Leaves nothing of the submodules but their entries in the project's configuration.
async fn remove_all(context: &StageContext, git: &Git<'_>) -> Result<(), Ending> {
    let links = super::modules::paths(git).await?;
    let project = Path::new(&context.plan.paths.project_dir).to_owned();
    let removed = tasks::blocking(move || {
        trees::remove_tree(&project.join(".git/modules"))?;
        links.iter().try_for_each(|link| trees::empty(&project.join(link)))
    });
    let removed = removed.await.and_then(|result| result);
    removed.map_err(|error| context.trouble("cannot remove the submodules", &error))
}

/// The argument lists of one job.
struct Calls<'a> {
    sources: &'a Sources,
    /// `--recursive` or nothing.
    recursive: Vec<&'a str>,
    /// Whether submodules follow their branches.
    remote: bool,
}

impl<'a> Calls<'a> {
    fn of(sources: &'a Sources) -> Self {
        let recursive = match sources.submodules.strategy {
            SubmoduleStrategy::Recursive => vec!["--recursive"],
            _ => Vec::new(),
        };
        let remote = sources.submodules.update_flags.iter().any(|flag| flag.eq_ignore_ascii_case("--remote"));
        Self { sources, recursive, remote }
    }

    fn paths(&self) -> Vec<&'a str> {
        let paths = &self.sources.submodules.paths;
        if paths.is_empty() { Vec::new() } else { [vec!["--"], paths.iter().map(String::as_str).collect()].concat() }
    }

    fn sync(&self) -> Vec<&'a str> {
        [vec!["submodule", "sync"], self.recursive.clone(), self.paths()].concat()
    }

    fn each(&self, command: &[&'a str]) -> Vec<&'a str> {
        [vec!["submodule", "foreach"], self.recursive.clone(), command.to_vec()].concat()
    }

    fn clean(&self) -> Vec<&'a str> {
        let flags = self.sources.clean_flags.as_ref().filter(|flags| !flags.is_empty());
        let flags = flags.map_or(vec![CLEAN_FLAGS], |flags| flags.iter().map(String::as_str).collect());
        self.each(&[vec!["git", "clean"], flags].concat())
    }

    fn reset(&self) -> Vec<&'a str> {
        self.each(&["git", "reset", "--hard"])
    }

    fn update(&self) -> Vec<String> {
        let mut call = [vec!["submodule", "update", "--init"], self.recursive.clone()].concat();
        let depth = self.sources.submodules.depth.to_string();
        if self.sources.submodules.depth > 0 {
            call.extend(["--depth", &depth]);
        }
        call.extend(self.sources.submodules.update_flags.iter().map(String::as_str));
        call.extend(self.paths());
        call.into_iter().map(str::to_owned).collect()
    }
}
