//! The work tree as a commit: what is not committed yet is run too. The commit lies in a copy of
//! the repository that borrows the user's objects and goes with the run; nothing of the user's
//! repository is written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::git::{OF_HOOKS, commit_of, complaint, git};
use super::revision::Revision;

/// The branch of a repository that has no commit yet.
const FIRST_BRANCH: &str = "refs/heads/main";

/// A copy of a repository in which the work tree can become a commit.
#[derive(Clone, Debug)]
pub(super) struct WorkTree {
    /// The user's work tree.
    dir: PathBuf,
    /// The copy's git directory.
    copy: PathBuf,
    index: PathBuf,
    /// Where the user's objects are.
    objects: PathBuf,
    full_ref: String,
    /// What is checked out, if there is a commit.
    head: Option<String>,
}

impl WorkTree {
    /// Makes the copy in `scratch`. The error is a sentence without its subject.
    pub(super) fn copy(dir: &Path, scratch: &Path, revision: Option<&Revision>) -> Result<Self, String> {
        let copy = scratch.join("work-tree.git");
        let (from, to) = (dir.display().to_string(), copy.display().to_string());
        git(scratch, &["clone", "--quiet", "--mirror", "--shared", &from, &to])?;
        let path =
            |what: &str| git(dir, &["rev-parse", "--path-format=absolute", "--git-path", what]).map(PathBuf::from);
        let (objects, own_index) = (path("objects")?, path("index")?);
        let full_ref = revision.and_then(|revision| revision.full_ref.clone()).unwrap_or_else(|| {
            git(dir, &["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_else(|_| FIRST_BRANCH.to_owned())
        });
        // The simulated GitLab then finds the default branch as it does in the user's own
        // repository.
        git(&copy, &["config", "core.bare", "false"])?;
        let branch = git(dir, &["symbolic-ref", "--quiet", "HEAD"]);
        git(&copy, &["symbolic-ref", "HEAD", branch.as_deref().unwrap_or(FIRST_BRANCH)])?;
        if let Ok(default) = git(dir, &["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]) {
            git(&copy, &["symbolic-ref", "refs/remotes/origin/HEAD", &default])?;
        }
        let index = scratch.join("work-tree.index");
        // What git knows of the files saves reading them; without it they are all read.
        if own_index.is_file() {
            std::fs::copy(&own_index, &index).map_err(|error| error.to_string())?;
        }
        Ok(Self { dir: dir.to_owned(), copy, index, objects, full_ref, head: commit_of(dir, "HEAD") })
    }

    /// The copy's git directory.
    pub(super) fn git_dir(&self) -> &Path {
        &self.copy
    }

    /// What the work tree is now: the id of a tree.
    pub(super) fn tree(&self) -> Result<String, String> {
        self.git(&["add", "--all", "."], None)?;
        self.git(&["write-tree"], None)
    }

    /// Whether a tree is that of the commit which is checked out.
    pub(super) fn is_committed(&self, tree: &str) -> bool {
        git(&self.dir, &["rev-parse", "--verify", "--quiet", "HEAD^{tree}"]).is_ok_and(|head| head == tree)
    }

    /// Makes a tree the newest commit of the branch or tag, and returns its id. Its message and
    /// author are those of the commit that is checked out, because rules may ask for them.
    pub(super) fn commit(&self, tree: &str) -> Result<String, String> {
        let message = match &self.head {
            Some(_) => git(&self.dir, &["show", "-s", "--no-show-signature", "--format=%B", "HEAD"])?,
            None => "Work tree".to_owned(),
        };
        let mut arguments = vec!["commit-tree", "--no-gpg-sign", tree];
        if let Some(head) = &self.head {
            arguments.extend(["-p", head.as_str()]);
        }
        let sha = self.git(&arguments, Some(&message))?;
        self.git(&["update-ref", "--no-deref", &self.full_ref, &sha], None)?;
        Ok(sha)
    }

    /// The revision of that commit.
    pub(super) fn revision(&self, sha: String, of: Option<&Revision>) -> Revision {
        let full_ref = of.map_or_else(|| Some(self.full_ref.clone()), |revision| revision.full_ref.clone());
        Revision { full_ref, sha, note: of.and_then(|revision| revision.note.clone()) }
    }

    /// Runs git on the user's files with an index and an object store of this run.
    fn git(&self, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        use std::io::Write as _;
        let author = |format: &str| git(&self.dir, &["show", "-s", "--no-show-signature", format, "HEAD"]).ok();
        let name = author("--format=%an").filter(|name| !name.is_empty()).unwrap_or_else(|| "Gantry".to_owned());
        let email =
            author("--format=%ae").filter(|email| !email.is_empty()).unwrap_or_else(|| "gantry@localhost".to_owned());
        let mut command = Command::new("git");
        for variable in OF_HOOKS {
            command.env_remove(variable);
        }
        command
            .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "advice.addEmbeddedRepo=false"])
            .args(["-c", "core.safecrlf=false", "-c", "core.bare=false"])
            .arg("--git-dir")
            .arg(&self.copy)
            .arg("--work-tree")
            .arg(&self.dir)
            .args(arguments)
            .current_dir(&self.dir)
            .envs([("LC_ALL", "C"), ("GIT_AUTHOR_NAME", &name), ("GIT_COMMITTER_NAME", &name)])
            .envs([("GIT_AUTHOR_EMAIL", &email), ("GIT_COMMITTER_EMAIL", &email)])
            .env("GIT_INDEX_FILE", &self.index)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(complaint(&output.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        git(dir, &[&identity[..], args].concat()).unwrap();
    }

    #[test]
    fn what_is_not_committed_becomes_a_commit_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, scratch) = (dir.path().join("repo"), dir.path().join("scratch"));
        std::fs::create_dir_all(&repo).unwrap();
        std::fs::create_dir_all(&scratch).unwrap();
        run(&repo, &["init", "-q", "-b", "main"]);
        for (name, text) in [("kept", "1"), ("changed", "1"), ("gone", "1"), (".gitignore", "ignored\n")] {
            std::fs::write(repo.join(name), text).unwrap();
        }
        run(&repo, &["add", "-A"]);
        run(&repo, &["commit", "-q", "-m", "first"]);
        let revision = Revision::find(&repo, None).unwrap();
        let work = WorkTree::copy(&repo, &scratch, Some(&revision)).unwrap();
        assert!(work.is_committed(&work.tree().unwrap()));

        std::fs::write(repo.join("changed"), "22").unwrap();
        std::fs::write(repo.join("new"), "1").unwrap();
        std::fs::write(repo.join("ignored"), "1").unwrap();
        std::fs::remove_file(repo.join("gone")).unwrap();
        let before = git(&repo, &["status", "--porcelain"]).unwrap();
        let tree = work.tree().unwrap();
        assert!(!work.is_committed(&tree));
        let sha = work.commit(&tree).unwrap();
        let show = |what: &str| git(work.git_dir(), &["show", "-s", what, &sha]).unwrap();
        assert_eq!((show("--format=%s").as_str(), show("--format=%an").as_str()), ("first", "A"));
        assert_eq!(commit_of(work.git_dir(), "refs/heads/main").as_ref(), Some(&sha));
        let files = git(work.git_dir(), &["ls-tree", "-r", "--name-only", &sha]).unwrap();
        assert_eq!(files, ".gitignore\nchanged\nkept\nnew");
        assert_eq!(git(&repo, &["status", "--porcelain"]).unwrap(), before, "the user's index is as it was");
        assert!(commit_of(&repo, &sha).is_none(), "the user's repository has no object of ours");
        assert_eq!(work.tree().unwrap(), tree, "nothing changes by looking");
    }

    #[test]
    fn a_repository_without_a_commit_has_a_work_tree_too() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, scratch) = (dir.path().join("repo"), dir.path().join("scratch"));
        std::fs::create_dir_all(&repo).unwrap();
        std::fs::create_dir_all(&scratch).unwrap();
        run(&repo, &["init", "-q", "-b", "trunk"]);
        std::fs::write(repo.join("file"), "1").unwrap();
        let work = WorkTree::copy(&repo, &scratch, None).unwrap();
        let sha = work.commit(&work.tree().unwrap()).unwrap();
        assert_eq!(work.revision(sha, None).full_ref.as_deref(), Some("refs/heads/trunk"));
    }
}
