//! Which commit a pipeline is of, and as what GitLab would know it: what is checked out, or what
//! `--ref` names.

use std::path::Path;

use super::git::{commit_of, git, has_ref};

/// A commit, and the branch or tag whose pipeline is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision {
    /// Full name in the repository, such as `refs/heads/main`; none where no branch and no tag has
    /// the commit.
    pub(super) full_ref: Option<String>,
    pub(super) sha: String,
    /// What the user should know about the choice of the ref.
    pub(super) note: Option<String>,
}

impl Revision {
    /// The branch or tag as people call it.
    pub(super) fn title(&self) -> String {
        let Some(full) = &self.full_ref else { return "neither a branch nor a tag".to_owned() };
        match full.strip_prefix("refs/tags/") {
            Some(tag) => format!("tag {tag}"),
            None => format!("branch {}", branch_name(full)),
        }
    }

    /// Looks up what the user asked for, or what is checked out. The error is a sentence without
    /// its subject.
    pub(super) fn find(dir: &Path, wanted: Option<&str>) -> Result<Self, String> {
        match wanted {
            None | Some("HEAD" | "@") => Self::checked_out(dir),
            Some(wanted) => Self::named(dir, wanted),
        }
    }

    fn checked_out(dir: &Path) -> Result<Self, String> {
        let branch = git(dir, &["symbolic-ref", "--quiet", "HEAD"]).ok();
        let Some(sha) = commit_of(dir, "HEAD") else {
            return Err(match branch {
                Some(branch) if git(dir, &["rev-list", "--all", "--max-count=1"]).is_ok_and(|any| any.is_empty()) => {
                    format!("has no commit yet: commit something on {} first", branch_name(&branch))
                }
                Some(branch) => {
                    format!(
                        "has no commit on {}, which is checked out: choose another with --ref",
                        branch_name(&branch)
                    )
                }
                None => "has a HEAD without a commit".to_owned(),
            });
        };
        match branch {
            Some(full) => Ok(Self { full_ref: Some(full), sha, note: None }),
            None => Ok(Self::of_commit(dir, sha, "HEAD is detached", true)),
        }
    }

    fn named(dir: &Path, wanted: &str) -> Result<Self, String> {
        let mut places: Vec<String> =
            ["refs/heads/", "refs/tags/", "refs/remotes/"].iter().map(|kind| format!("{kind}{wanted}")).collect();
        places.extend(wanted.starts_with("refs/").then(|| wanted.to_owned()));
        // As `git switch` does, which makes a branch of that name.
        places.extend(tracking(dir, wanted));
        let is_usable =
            |full: &String| ["refs/heads/", "refs/tags/", "refs/remotes/"].iter().any(|kind| full.starts_with(kind));
        for full in places.into_iter().filter(is_usable) {
            if has_ref(dir, &full)
                && let Some(sha) = commit_of(dir, &full)
            {
                return Ok(Self { full_ref: Some(full), sha, note: None });
            }
        }
        match commit_of(dir, wanted) {
            Some(sha) => Ok(Self::of_commit(dir, sha, &format!("{wanted} is no branch and no tag"), false)),
            None => Err(format!(
                "has no branch, tag or commit {wanted}: `git branch --all` and `git tag` list what there is"
            )),
        }
    }

    /// A commit by itself. GitLab runs pipelines of branches and tags only, and rules ask for them,
    /// so it runs as one of a branch or tag that has it.
    fn of_commit(dir: &Path, sha: String, why: &str, is_head: bool) -> Self {
        let points = format!("--points-at={sha}");
        let contains = format!("--contains={sha}");
        let at_tag = || first(dir, &points, "refs/tags/");
        let found = first(dir, &points, "refs/heads/")
            .or_else(|| first(dir, &points, "refs/remotes/"))
            // Checking out a tag detaches HEAD.
            .or_else(|| if is_head { at_tag() } else { None })
            .or_else(|| first(dir, &contains, "refs/heads/"))
            .or_else(|| first(dir, &contains, "refs/remotes/"))
            .or_else(at_tag);
        let mut revision = Self { full_ref: found, sha, note: None };
        revision.note = Some(match &revision.full_ref {
            Some(_) => format!("{why}: the pipeline runs as one of {}", revision.title()),
            None => format!(
                "{why}, and no branch has the commit: CI_COMMIT_BRANCH and CI_COMMIT_TAG are not set, so rules that ask for them leave jobs \
                 out"
            ),
        });
        revision
    }
}

/// The branch of a remote that has one of this name, if only one remote has.
fn tracking(dir: &Path, branch: &str) -> Option<String> {
    let pattern = format!("refs/remotes/*/{branch}");
    if branch.contains(['*', '?', '[', '\\']) {
        return None;
    }
    let found = git(dir, &["for-each-ref", "--format=%(refname)", &pattern]).ok()?;
    let mut found = found.lines();
    let only = found.next()?.to_owned();
    found.next().is_none().then_some(only)
}

/// The first ref of this kind that fits: the branch that is checked out, the usual names of default
/// branches, and then by name.
fn first(dir: &Path, filter: &str, kind: &str) -> Option<String> {
    let listed = git(dir, &["for-each-ref", filter, "--format=%(refname)", kind]).ok()?;
    let head = git(dir, &["symbolic-ref", "--quiet", "HEAD"]).ok();
    let rank = |full: &&str| {
        let name = branch_name(full);
        match name {
            _ if head.as_deref() == Some(*full) => 0,
            "main" | "master" => 1,
            _ => 2,
        }
    };
    listed
        .lines()
        .filter(|full| !(kind == "refs/remotes/" && full.ends_with("/HEAD")))
        .min_by_key(rank)
        .map(str::to_owned)
}

/// A branch without `refs/heads/`, or without the remote that it is a copy of.
fn branch_name(full: &str) -> &str {
    if let Some(tracked) = full.strip_prefix("refs/remotes/") {
        return tracked.split_once('/').map_or(tracked, |(_, branch)| branch);
    }
    full.strip_prefix("refs/heads/").unwrap_or(full)
}

#[cfg(test)]
mod tests;
