//! Submodules, in the order and with the words of GitLab Runner 19.4. They inherit the credentials of the project through the environment.

use gantry_core::Ending;
use gantry_wire::plan::{Sources, SubmoduleStrategy};

use super::git::Git;
use crate::stages::StageContext;

/// Flags of `git clean` where the job gives none.
const CLEAN_FLAGS: &str = "-ffdx";

pub(super) async fn update(context: &StageContext, git: &Git<'_>, sources: &Sources) -> Result<(), Ending> {
    let calls = Calls::of(sources);
    let how = if calls.recursive.is_empty() { "" } else { " recursively" };
    let depth = match sources.submodules.depth {
        0 => String::new(),
        depth => format!(" with git depth set to {depth}"),
    };
    context.outlet.notice(&format!("Updating/initializing submodules{how}{depth}...")).await;
    git.must(&["submodule", "init"]).await?;
    git.must(&calls.sync()).await?;
    git.must(&calls.clean()).await?;
    git.must(&calls.reset()).await?;
    let update = calls.update();
    let update: Vec<&str> = update.iter().map(String::as_str).collect();
    if git.tries(&update).await? {
        context.outlet.notice("Updated submodules").await;
        git.must(&calls.sync()).await?;
    } else {
        context.outlet.warning("Updating submodules failed. Retrying...").await;
        if calls.remote {
            git.must(&calls.each(&["git", "fetch", "origin", "+refs/heads/*:refs/remotes/origin/*"])).await?;
        }
        git.must(&calls.sync()).await?;
        git.must(&update).await?;
        git.must(&calls.reset()).await?;
    }
    git.must(&calls.clean()).await?;
    if sources.lfs && git.has_lfs().await? {
        context.outlet.notice("Pulling LFS files...").await;
        git.must(&calls.each(&["git", "lfs", "pull"])).await?;
    }
    Ok(())
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
