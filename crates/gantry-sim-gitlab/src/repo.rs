//! Questions to git about the served repositories: what a ref is, what a commit says, what a file
//! contains. Read-only: nothing here, and nothing else in the crate, writes to a repository.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::limits;

/// A served repository.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    /// The project's path, `group/project`.
    pub(crate) name: String,
    /// Its place in the list of projects, from 1.
    pub(crate) id: u64,
    /// The git directory (`.git` of a work tree, or the bare repository itself).
    pub(crate) git_dir: PathBuf,
    pub(crate) default_branch: String,
}

/// A ref and the commit it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The ref's short name; the commit's id where there is no ref.
    pub(crate) name: String,
    pub(crate) is_tag: bool,
    /// The ref of the served repository; none for a commit alone, which is neither a branch's nor a
    /// tag's.
    pub(crate) full_ref: Option<String>,
    pub(crate) sha: String,
    /// `Name <address>`.
    pub(crate) author: String,
    /// Strict ISO 8601.
    pub(crate) timestamp: String,
    /// The whole message.
    pub(crate) message: String,
    /// The message's first line.
    pub(crate) title: String,
    /// The message without its first line.
    pub(crate) description: String,
    /// The message of an annotated tag.
    pub(crate) tag_message: String,
    /// Where the branch was before the push that the pipeline stands for; `None` for a tag and for
    /// a new branch.
    pub(crate) before: Option<String>,
}

/// What a job works on: a repository at a revision.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    pub(crate) repo: Repo,
    pub(crate) revision: Revision,
}

impl Repo {
    /// Checks a project path and finds its git directory. Blocks.
    pub(crate) fn open(name: &str, path: &Path, id: u64) -> Result<Self, Error> {
        let name = name.trim_matches('/').trim_end_matches(".git");
        if let Some(what) = bad_name(name) {
            return Err(Error::ProjectPath { name: name.to_owned(), what });
        }
        let failed = |what: String| Error::Repository { name: name.to_owned(), path: path.to_owned(), what };
        let found = git(None, &["-C".as_ref(), path.as_os_str(), "rev-parse".as_ref(), "--absolute-git-dir".as_ref()])
            .map_err(failed)?;
        let git_dir = PathBuf::from(String::from_utf8_lossy(&found).trim_end_matches('\n'));
        let mut repo = Self { name: name.to_owned(), id, git_dir, default_branch: String::new() };
        repo.default_branch = repo.find_default_branch();
        Ok(repo)
    }

    /// The branch that the remote repository calls its default, else the one with a usual name,
    /// else the one that is checked out. A bare repository says itself which it is.
    fn find_default_branch(&self) -> String {
        let remote = self.ask(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]);
        let remote = remote.and_then(|name| name.strip_prefix("origin/").map(str::to_owned));
        let is_bare = self.ask(&["rev-parse", "--is-bare-repository"]).is_some_and(|answer| answer == "true");
        let usual = ["main", "master"].into_iter().filter(|_| !is_bare).find(|name| !self.places_of(name).is_empty());
        let found = remote.or_else(|| usual.map(str::to_owned)).or_else(|| self.checked_out());
        found.unwrap_or_else(|| "main".to_owned())
    }

    /// The branch that is checked out.
    fn checked_out(&self) -> Option<String> {
        self.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"])
    }

    /// The refs under which a branch is known here: its own, and what was last fetched of it.
    fn places_of(&self, branch: &str) -> Vec<String> {
        let refs = [format!("refs/heads/{branch}"), format!("refs/remotes/origin/{branch}")];
        refs.into_iter().filter(|name| self.commit_of(name).is_some()).collect()
    }

    /// Looks up a branch or tag, by short or full name; an empty name is the default branch, and
    /// `HEAD` what is checked out. A remote-tracking branch (`refs/remotes/<remote>/<branch>`)
    /// counts as the branch. Blocks.
    pub(crate) fn revision(&self, wanted: &str) -> Result<Revision, String> {
        self.look_up(wanted).map(|revision| self.complete(revision))
    }

    fn look_up(&self, wanted: &str) -> Result<Revision, String> {
        let checked_out;
        let is_here = |branch: &str| self.commit_of(&format!("refs/heads/{branch}")).is_some();
        let wanted = match wanted {
            "" if is_here(&self.default_branch) => self.default_branch.as_str(),
            "" | "HEAD" => match self.git(&["symbolic-ref", "--quiet", "HEAD"]) {
                Ok(branch) => {
                    checked_out = String::from_utf8_lossy(&branch).trim().to_owned();
                    checked_out.as_str()
                }
                Err(_) => return self.commit("HEAD"),
            },
            wanted => wanted,
        };
        let tracked = wanted.strip_prefix("refs/remotes/").and_then(|tracked| tracked.split_once('/'));
        let branch = wanted.strip_prefix("refs/heads/").unwrap_or(wanted);
        let tag = wanted.strip_prefix("refs/tags/").unwrap_or(wanted);
        let places = [
            (false, branch, format!("refs/heads/{branch}")),
            (true, tag, format!("refs/tags/{tag}")),
            (false, tracked.map_or(branch, |(_, branch)| branch), wanted.to_owned()),
        ];
        for (is_tag, short, full) in places.into_iter().take(if tracked.is_some() { 3 } else { 2 }) {
            if let Some(sha) = self.commit_of(&full) {
                let revision = self.describe(short, sha)?;
                return Ok(Revision { is_tag, full_ref: Some(full), ..revision });
            }
        }
        Err(format!("{} has no branch or tag {wanted:?}", self.name))
    }

    /// Looks up a commit that need not be the newest of its branch: with a ref as one of that ref,
    /// without one as a commit alone. Blocks.
    pub(crate) fn revision_at(&self, wanted: &str, sha: &str) -> Result<Revision, String> {
        let found = self.commit(sha)?;
        if wanted.is_empty() {
            return Ok(self.complete(found));
        }
        let Revision { name, is_tag, full_ref, .. } = self.look_up(wanted)?;
        Ok(self.complete(Revision { name, is_tag, full_ref, ..found }))
    }

    /// Adds what depends on the ref.
    fn complete(&self, revision: Revision) -> Revision {
        if !revision.is_tag {
            return Revision { before: self.before(&revision.name, &revision.sha), ..revision };
        }
        let tag = format!("refs/tags/{}", revision.name);
        let format = "--format=%(if:equals=tag)%(objecttype)%(then)%(contents)%(end)";
        Revision { tag_message: self.ask(&["for-each-ref", format, &tag]).unwrap_or_default(), ..revision }
    }

    fn commit(&self, id: &str) -> Result<Revision, String> {
        let sha = self.commit_of(id).ok_or_else(|| format!("{} has no commit {id:?}", self.name))?;
        self.describe(&sha.clone(), sha)
    }

    fn commit_of(&self, name: &str) -> Option<String> {
        // These are never part of a ref's name or of an id; in a revision they would mean another
        // commit.
        if name.contains(['~', '^', ':', '?', '*', '[', '\\', ' ']) || name.contains("@{") || name.starts_with('-') {
            return None;
        }
        let spec = format!("{name}^{{commit}}");
        let sha = self.git(&["rev-parse", "--verify", "--quiet", &spec]).ok()?;
        Some(String::from_utf8_lossy(&sha).trim().to_owned()).filter(|sha| !sha.is_empty())
    }

    fn describe(&self, name: &str, sha: String) -> Result<Revision, String> {
        let shown = self.git(&["show", "-s", "--no-show-signature", "--format=%an <%ae>%x00%cI%x00%B", &sha])?;
        let shown = String::from_utf8_lossy(&shown);
        let mut parts = shown.splitn(3, '\0');
        let (author, timestamp) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let message = parts.next().unwrap_or_default().trim_end_matches('\n');
        let (title, description) = message.split_once('\n').unwrap_or((message, ""));
        Ok(Revision {
            name: name.to_owned(),
            is_tag: false,
            full_ref: None,
            author: author.to_owned(),
            timestamp: timestamp.to_owned(),
            title: title.to_owned(),
            description: description.trim_start_matches('\n').to_owned(),
            message: message.to_owned(),
            tag_message: String::new(),
            before: None,
            sha,
        })
    }

    /// Where a branch was before what a pipeline of this commit is about: the default branch at the
    /// commit before, any other where it left the default branch. `None` for a branch without a
    /// commit of its own, which is new.
    fn before(&self, branch: &str, sha: &str) -> Option<String> {
        if branch == self.default_branch {
            return self.ask(&["rev-parse", "--verify", "--quiet", &format!("{sha}^1")]);
        }
        let places = self.places_of(&self.default_branch);
        let mut arguments = vec!["merge-base", sha];
        arguments.extend(places.iter().map(String::as_str));
        let left = (!places.is_empty()).then(|| self.ask(&arguments)).flatten();
        left.filter(|left| left != sha)
    }

    /// Where the history of a commit left that of a branch, tag or other commit; `None` if there is
    /// no such one, or nothing in common. Blocks.
    pub(crate) fn left(&self, git_ref: &str, sha: &str) -> Option<String> {
        let full = ["", "refs/heads/", "refs/tags/", "refs/remotes/origin/"].map(|prefix| format!("{prefix}{git_ref}"));
        let is_id = |name: &String| name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found = full.iter().filter(|name| name.starts_with("refs/") || is_id(name));
        let commit = found.find_map(|name| self.commit_of(name))?;
        self.ask(&["merge-base", &commit, sha])
    }

    /// The files that differ between two commits; a renamed one counts with both its names. Blocks.
    pub(crate) fn changed(&self, from: &str, to: &str) -> Option<Vec<String>> {
        Some(names(&self.git(&["diff-tree", "-r", "--name-only", "--no-renames", "-z", from, to]).ok()?))
    }

    /// Every file of a commit. Blocks.
    pub(crate) fn paths(&self, sha: &str) -> Vec<String> {
        names(&self.git(&["ls-tree", "-r", "--name-only", "-z", "--full-tree", sha]).unwrap_or_default())
    }

    /// Short names of branches and tags, the latest first. Blocks.
    pub(crate) fn refs(&self) -> Result<Vec<String>, String> {
        let count = format!("--count={}", limits::REFS);
        let listed = self.git(&[
            "for-each-ref",
            "--sort=-creatordate",
            &count,
            "--format=%(refname:lstrip=2)",
            "refs/heads/",
            "refs/tags/",
        ])?;
        Ok(String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect())
    }

    /// A file of a commit; `None` if it is not there, is no text, or is too large. Blocks.
    pub(crate) fn file(&self, sha: &str, path: &str) -> Option<String> {
        self.text(sha, path).ok()
    }

    /// The same, and why there is none.
    pub(crate) fn text(&self, sha: &str, path: &str) -> Result<String, NoText> {
        let spec = format!("{sha}:{}", path.trim_start_matches('/'));
        text(self.git(&["cat-file", "blob", &spec]).map_err(|_| NoText::Missing)?)
    }

    /// An answer without the blanks around it, if it is not empty.
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let answer = self.git(arguments).ok()?;
        Some(String::from_utf8_lossy(&answer).trim().to_owned()).filter(|line| !line.is_empty())
    }

    fn git(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        git(Some(&self.git_dir), &arguments)
    }
}

/// Why a file of a commit cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoText {
    Missing,
    /// How many bytes it has.
    TooLarge(usize),
    NotUtf8 {
        line: usize,
    },
}

fn text(bytes: Vec<u8>) -> Result<String, NoText> {
    if bytes.len() > limits::CI_FILE {
        return Err(NoText::TooLarge(bytes.len()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        NoText::NotUtf8 { line: before.split(|byte| *byte == b'\n').count() }
    })
}

/// Names that end in a zero byte, as git lists them with `-z`.
fn names(listed: &[u8]) -> Vec<String> {
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// What makes a project path unusable in a URL.
fn bad_name(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
    if name.is_empty() {
        return Some("it is empty");
    }
    for part in name.split('/') {
        if part.is_empty() || !part.chars().all(plain) {
            return Some("only letters, digits, `_ - . +` and single slashes are allowed");
        }
        if part.starts_with(['.', '-']) || part.to_ascii_lowercase().ends_with(".git") {
            return Some("no part may start with `.` or `-` or end with `.git`");
        }
    }
    let reserved = matches!(name.split('/').next(), Some("api" | "sim"));
    reserved.then_some("`api` and `sim` are the simulator's own paths")
}

/// Settings that every git process here gets through its environment: repositories belong to
/// whoever made them, and a pipeline's commit may be fetched by its id even when its branch has
/// moved on.
pub(crate) fn git_config_environment() -> Vec<(String, String)> {
    let settings = [
        ("safe.directory", "*"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("uploadpack.allowFilter", "true"),
        ("http.receivepack", "false"),
    ];
    let mut environment = vec![("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string())];
    for (index, (key, value)) in settings.into_iter().enumerate() {
        environment.push((format!("GIT_CONFIG_KEY_{index}"), key.to_owned()));
        environment.push((format!("GIT_CONFIG_VALUE_{index}"), value.to_owned()));
    }
    environment
}

/// Runs git and returns its output, or what it complained about.
pub(crate) fn git(git_dir: Option<&Path>, arguments: &[&OsStr]) -> Result<Vec<u8>, String> {
    let mut command = Command::new("git");
    if let Some(git_dir) = git_dir {
        command.arg("--git-dir").arg(git_dir);
    }
    // A caller inside a git hook has these set, and they would point git at the caller's own
    // repository.
    for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE"] {
        command.env_remove(inherited);
    }
    command.args(arguments).envs(git_config_environment()).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("git could not be started: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(complaint(&output.stderr))
}

/// What git complained about, on one line: its advice comes after the first.
fn complaint(error: &[u8]) -> String {
    let error = String::from_utf8_lossy(error);
    let lines: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "git failed without a word".to_owned() } else { lines.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_come_with_their_advice() {
        let error = "fatal: detected dubious ownership in repository at '/srv/app'\nTo add an exception, call:\n\n\tgit config --global\n";
        let shown = "fatal: detected dubious ownership in repository at '/srv/app' To add an exception, call: git config --global";
        assert_eq!(complaint(error.as_bytes()), shown);
        assert_eq!(complaint(b""), "git failed without a word");
    }

    #[test]
    fn where_a_file_stops_being_utf_8_is_known() {
        assert_eq!(text(b"a: b\n".to_vec()), Ok("a: b\n".to_owned()));
        assert_eq!(text(b"a: b\n# M\xfcller\n".to_vec()), Err(NoText::NotUtf8 { line: 2 }));
        let large = vec![b'#'; limits::CI_FILE + 1];
        assert_eq!(text(large), Err(NoText::TooLarge(limits::CI_FILE + 1)));
    }

    #[test]
    fn project_paths_are_safe_in_urls() {
        for good in ["project", "group/project", "a/b/c-d_e.f"] {
            assert_eq!(bad_name(good), None, "{good}");
        }
        for bad in ["", "a//b", "../x", "a/..", "a b", "x.git/y", "sim/x", "api", "-x", "ä"] {
            assert!(bad_name(bad).is_some(), "{bad}");
        }
    }
}
