//! The repository that `gantry dev` runs: the user's own, or the sample that ships with the
//! program.

use std::path::{Path, PathBuf};

use gantry_sim_gitlab::{ProjectVariable, TokenAccess};

use super::BadInput;
use super::git::{commit_of, git};
use super::revision::Revision;
use super::submodules::{Neighbour, Submodules};
use super::which::{CI_FILE, Which};
use super::work_tree::WorkTree;

/// The sample project, file by file.
const SAMPLE: [(&str, &str); 5] = [
    (".gitlab-ci.yml", include_str!("../../../sample/.gitlab-ci.yml")),
    ("README.md", include_str!("../../../sample/README.md")),
    ("src/tally.sh", include_str!("../../../sample/src/tally.sh")),
    ("tests/fetch.sh", include_str!("../../../sample/tests/fetch.sh")),
    ("tests/run.sh", include_str!("../../../sample/tests/run.sh")),
];

/// The value of the sample's masked variable: any text would do, it must only never be seen.
const SAMPLE_TOKEN: &str = "tally-3f9c2b7d51";

/// A repository to run.
pub(super) struct Project {
    dir: PathBuf,
    name: String,
    revision: Revision,
    /// The first line of the commit's message.
    subject: String,
    is_sample: bool,
    /// What is not committed, where it is run too.
    work_tree: Option<WorkTree>,
    /// The tree that is run, and what `title` says of it.
    uncommitted: Option<(String, String)>,
    neighbours: Vec<Neighbour>,
    notes: Vec<String>,
}

impl Project {
    /// Opens the user's repository, or makes the sample one in `scratch`.
    pub(super) fn open(which: Which, wanted: &ProjectOptions<'_>, scratch: &Path) -> Result<Self, BadInput> {
        if git(Path::new("."), &["--version"]).is_err() {
            return Err(BadInput("git is not installed, and job pods need it: install the package git".to_owned()));
        }
        match which {
            Which::Own(dir) => Self::own(&dir, wanted, scratch),
            Which::Sample(note) => {
                let sample = Self::sample(scratch);
                let mut sample =
                    sample.map_err(|what| BadInput(format!("the sample project cannot be made: {what}")))?;
                sample.notes.extend(note);
                Ok(sample)
            }
        }
    }

    fn own(dir: &Path, wanted: &ProjectOptions<'_>, scratch: &Path) -> Result<Self, BadInput> {
        let shown = dir.display();
        let dir = dir.canonicalize().map_err(|error| BadInput(format!("{shown}: {error}")))?;
        if !dir.is_dir() {
            return Err(BadInput(format!("{shown} is a file: --repo wants the directory of a git repository")));
        }
        let work_dir = git(&dir, &["rev-parse", "--show-toplevel"]);
        let has_files = work_dir.is_ok() && wanted.git_ref.is_none() && !wanted.is_committed;
        let top = work_dir
            .or_else(|_| git(&dir, &["rev-parse", "--absolute-git-dir"]))
            .map_err(|what| BadInput(format!("{shown} cannot be used: {what}")))?;
        let dir = PathBuf::from(top);
        let found = Revision::find(&dir, wanted.git_ref);
        let name = dir.file_name().map_or_else(|| "project".to_owned(), |name| slug(&name.to_string_lossy()));
        let name = format!("local/{name}");
        let mut notes: Vec<String> = Vec::new();
        let (revision, work) =
            if has_files { work_tree(&dir, scratch, found) } else { found.map(|revision| (revision, Work::default())) }
                .map_err(|what| BadInput(format!("{shown} {what}")))?;
        notes.extend(revision.note.clone());
        let git_dir = work.copy.as_ref().map_or(dir.as_path(), WorkTree::git_dir);
        if git(git_dir, &["cat-file", "-e", &format!("{}:{CI_FILE}", revision.sha)]).is_err() {
            let what = if dir.join(CI_FILE).exists() {
                "commit it first, or leave out --committed and --ref"
            } else {
                "write one"
            };
            let of = revision.title();
            return Err(BadInput(format!("{shown} has no {CI_FILE} in what is to be run ({of}): {what}")));
        }
        if !has_files && commit_of(&dir, "HEAD").as_ref() == Some(&revision.sha) {
            notes.extend(
                uncommitted(&dir).map(|what| format!("the commit is run, not the work tree, which has {what}")),
            );
        }
        let shared = git(&dir, &["rev-parse", "--path-format=absolute", "--git-common-dir"]).unwrap_or_default();
        let modules_of = commit_of(&dir, &revision.sha).or_else(|| commit_of(&dir, "HEAD")).unwrap_or_default();
        let Submodules { neighbours, missing } = Submodules::find(Path::new(&shared), &name, &modules_of);
        notes.extend(missing.into_iter().map(|name| {
            format!("there is no copy of submodule {name:?} for jobs that want it: git submodule update --init")
        }));
        let subject = subject(git_dir, &revision);
        let Work { copy: work_tree, uncommitted } = work;
        Ok(Self { dir, name, revision, subject, is_sample: false, work_tree, uncommitted, neighbours, notes })
    }

    fn sample(scratch: &Path) -> Result<Self, String> {
        let dir = scratch.join("tally");
        for (path, text) in SAMPLE {
            let path = dir.join(path);
            let parent = path.parent().unwrap_or(&dir);
            std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::write(&path, text))
                .map_err(|error| error.to_string())?;
        }
        git(&dir, &["init", "--quiet", "--initial-branch=main"])?;
        git(&dir, &["add", "."])?;
        let identity = ["-c", "user.name=Gantry", "-c", "user.email=gantry@localhost", "-c", "commit.gpgsign=false"];
        git(&dir, &[&identity[..], &["commit", "--quiet", "--message", "A small tool that counts words"]].concat())?;
        let revision = Revision::find(&dir, None)?;
        let subject = subject(&dir, &revision);
        let name = "sample/tally".to_owned();
        Ok(Self {
            dir,
            name,
            revision,
            subject,
            is_sample: true,
            work_tree: None,
            uncommitted: None,
            neighbours: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// What is run, for the first line of output.
    pub(super) fn title(&self) -> String {
        let place = if self.is_sample { "its sample project".to_owned() } else { self.dir.display().to_string() };
        let short = self.revision.sha.get(..8).unwrap_or(&self.revision.sha);
        match &self.uncommitted {
            Some((_, what)) => format!("{place}, {} ({}), with {what}", self.revision.title(), self.subject),
            None => format!("{place}, {}, commit {short} ({})", self.revision.title(), self.subject),
        }
    }

    /// The work tree, where it is run.
    pub(super) fn work_tree(&self) -> Option<&WorkTree> {
        self.work_tree.as_ref()
    }

    /// Whether this tree is what is run.
    pub(super) fn is_run(&self, tree: &str) -> bool {
        match &self.uncommitted {
            Some((known, _)) => known == tree,
            None => self.work_tree.as_ref().is_none_or(|work| work.is_committed(tree)),
        }
    }

    /// Makes a tree of the work tree the commit that is run.
    pub(super) fn take_up(&mut self, tree: &str) -> Result<(), String> {
        let Some(work) = &self.work_tree else { return Ok(()) };
        self.revision.sha = work.commit(tree)?;
        let what = uncommitted(&self.dir).unwrap_or_else(|| "its changes".to_owned());
        self.uncommitted = Some((tree.to_owned(), what));
        Ok(())
    }

    /// The user's own repository; nothing for the sample.
    pub(super) fn repository(&self) -> Option<&Path> {
        (!self.is_sample).then_some(self.dir.as_path())
    }

    /// What the user should know before it starts.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Its path in the simulated GitLab.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the simulated GitLab serves: project paths and where they are.
    pub(super) fn served(&self) -> Vec<(String, PathBuf)> {
        let neighbours = self.neighbours.iter().map(|other| (other.name.clone(), other.git_dir.clone()));
        let own = self.work_tree.as_ref().map_or(self.dir.as_path(), WorkTree::git_dir);
        std::iter::once((self.name.clone(), own.to_owned())).chain(neighbours).collect()
    }

    /// Which projects let in whose jobs.
    pub(super) fn token_access(&self) -> Vec<TokenAccess> {
        let to_us = |project: &str| TokenAccess { project: project.to_owned(), by: self.name.clone() };
        self.neighbours.iter().map(|other| to_us(&other.name)).collect()
    }

    /// What the pipeline is of.
    pub(super) fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Masked variables in its settings.
    pub(super) fn masked_variables(&self) -> Vec<ProjectVariable> {
        let sample = self.is_sample.then(|| ProjectVariable {
            project: self.name.clone(),
            key: "SAMPLE_TOKEN".to_owned(),
            value: SAMPLE_TOKEN.to_owned(),
            masked: true,
        });
        sample.into_iter().collect()
    }
}

/// A name that a GitLab project can have.
fn slug(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let clean = clean.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let clean = clean.strip_suffix(".git").unwrap_or(clean);
    if clean.is_empty() { "project".to_owned() } else { clean.to_owned() }
}

/// What is asked of a repository beside its place.
pub(super) struct ProjectOptions<'a> {
    pub(super) git_ref: Option<&'a str>,
    /// Only what is committed.
    pub(super) is_committed: bool,
}

/// What there is of a work tree.
#[derive(Default)]
struct Work {
    copy: Option<WorkTree>,
    uncommitted: Option<(String, String)>,
}

/// The work tree as a commit, if it is not the one that is checked out.
fn work_tree(dir: &Path, scratch: &Path, found: Result<Revision, String>) -> Result<(Revision, Work), String> {
    let has_commit = commit_of(dir, "HEAD").is_some();
    let revision = match found {
        Ok(revision) => Some(revision),
        Err(_) if !has_commit => None,
        Err(what) => return Err(what),
    };
    let failed =
        |what: String| format!("has a work tree that cannot be read ({what}): --committed runs the commit alone");
    let copy = WorkTree::copy(dir, scratch, revision.as_ref()).map_err(failed)?;
    let tree = copy.tree().map_err(failed)?;
    if let Some(revision) = revision.clone().filter(|_| copy.is_committed(&tree)) {
        return Ok((revision, Work { copy: Some(copy), uncommitted: None }));
    }
    let sha = copy.commit(&tree).map_err(failed)?;
    let what = uncommitted(dir).unwrap_or_else(|| "its changes".to_owned());
    let revision = copy.revision(sha, revision.as_ref());
    Ok((revision, Work { copy: Some(copy), uncommitted: Some((tree, what)) }))
}

/// What in the work tree is not in the commit, such as "2 uncommitted changes and 1 new file".
fn uncommitted(dir: &Path) -> Option<String> {
    let status = git(dir, &["status", "--porcelain", "--untracked-files=all"]).ok()?;
    let (new, changed): (Vec<&str>, Vec<&str>) = status.lines().partition(|line| line.starts_with("??"));
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    };
    let parts: Vec<String> =
        [counted(changed.len(), "uncommitted change"), counted(new.len(), "new file")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// What may come from a commit and goes to a terminal: one line without control characters, cut
/// where it is too long.
fn subject(dir: &Path, revision: &Revision) -> String {
    const LONGEST: usize = 60;
    let subject = git(dir, &["show", "-s", "--no-show-signature", "--format=%s", &revision.sha]).unwrap_or_default();
    let clean: String = subject.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() <= LONGEST {
        return clean;
    }
    clean.chars().take(LONGEST - 1).chain(['…']).collect()
}
