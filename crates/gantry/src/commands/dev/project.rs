//! The repository that `gantry dev` runs: the user's own, or the sample that ships with the program.

use std::path::{Path, PathBuf};

use gantry_sim_gitlab::ProjectVariable;

use super::BadInput;
use super::git::{commit_of, git};
use super::revision::Revision;
use super::submodules::{Neighbour, Submodules};

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

/// Where GitLab looks for the pipeline.
const CI_FILE: &str = ".gitlab-ci.yml";

/// A repository to run.
pub(super) struct Project {
    dir: PathBuf,
    name: String,
    revision: Revision,
    /// The first line of the commit's message.
    subject: String,
    is_sample: bool,
    neighbours: Vec<Neighbour>,
    notes: Vec<String>,
}

impl Project {
    /// Opens the user's repository, or makes the sample one in `scratch`.
    pub(super) fn open(repo: Option<&Path>, git_ref: Option<&str>, scratch: &Path) -> Result<Self, BadInput> {
        if git(Path::new("."), &["--version"]).is_err() {
            return Err(BadInput("git is not installed, and job pods need it: install the package git".to_owned()));
        }
        match repo {
            Some(dir) => Self::own(dir, git_ref),
            None => {
                Self::sample(scratch).map_err(|what| BadInput(format!("the sample project cannot be made: {what}")))
            }
        }
    }

    fn own(dir: &Path, git_ref: Option<&str>) -> Result<Self, BadInput> {
        let shown = dir.display();
        let dir = dir.canonicalize().map_err(|error| BadInput(format!("{shown}: {error}")))?;
        if !dir.is_dir() {
            return Err(BadInput(format!("{shown} is a file: --repo wants the directory of a git repository")));
        }
        let top = git(&dir, &["rev-parse", "--show-toplevel"])
            .or_else(|_| git(&dir, &["rev-parse", "--absolute-git-dir"]))
            .map_err(|what| BadInput(format!("{shown} cannot be used: {what}")))?;
        let dir = PathBuf::from(top);
        let revision = Revision::find(&dir, git_ref).map_err(|what| BadInput(format!("{shown} {what}")))?;
        if git(&dir, &["cat-file", "-e", &format!("{}:{CI_FILE}", revision.sha)]).is_err() {
            let what = if dir.join(CI_FILE).exists() { "commit it first" } else { "write one and commit it" };
            let of = revision.title();
            return Err(BadInput(format!("{shown} has no {CI_FILE} in the commit to run ({of}): {what}")));
        }
        let mut notes: Vec<String> = revision.note.iter().cloned().collect();
        if commit_of(&dir, "HEAD").as_ref() == Some(&revision.sha) {
            notes.extend(uncommitted(&dir));
        }
        let name = dir.file_name().map_or_else(|| "project".to_owned(), |name| slug(&name.to_string_lossy()));
        let name = format!("local/{name}");
        let shared = git(&dir, &["rev-parse", "--path-format=absolute", "--git-common-dir"]).unwrap_or_default();
        let Submodules { neighbours, missing } = Submodules::find(Path::new(&shared), &name, &revision.sha);
        notes.extend(missing.into_iter().map(|name| {
            format!("there is no copy of submodule {name:?} for jobs that want it: git submodule update --init")
        }));
        let subject = subject(&dir, &revision);
        Ok(Self { dir, name, revision, subject, is_sample: false, neighbours, notes })
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
        Ok(Self { dir, name, revision, subject, is_sample: true, neighbours: Vec::new(), notes: Vec::new() })
    }

    /// What is run, for the first line of output.
    pub(super) fn title(&self) -> String {
        let place = if self.is_sample { "its sample project".to_owned() } else { self.dir.display().to_string() };
        let short = self.revision.sha.get(..8).unwrap_or(&self.revision.sha);
        format!("{place}, {}, commit {short} ({})", self.revision.title(), self.subject)
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
        std::iter::once((self.name.clone(), self.dir.clone())).chain(neighbours).collect()
    }

    /// Which projects let in whose jobs.
    pub(super) fn token_access(&self) -> Vec<(String, String)> {
        self.neighbours.iter().map(|other| (other.name.clone(), self.name.clone())).collect()
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

/// What in the work tree is not in the commit that is run.
fn uncommitted(dir: &Path) -> Option<String> {
    let status = git(dir, &["status", "--porcelain", "--untracked-files=normal"]).ok()?;
    let (new, changed): (Vec<&str>, Vec<&str>) = status.lines().partition(|line| line.starts_with("??"));
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    };
    let parts: Vec<String> =
        [counted(changed.len(), "change"), counted(new.len(), "new file")].into_iter().flatten().collect();
    let verb = if changed.len() + new.len() == 1 { "is" } else { "are" };
    (!parts.is_empty())
        .then(|| format!("the commit is run, not the work tree: {} {verb} not part of it", parts.join(" and ")))
}

/// What may come from a commit and goes to a terminal: one line without control characters, cut where it is too long.
fn subject(dir: &Path, revision: &Revision) -> String {
    const LONGEST: usize = 60;
    let subject = git(dir, &["show", "-s", "--no-show-signature", "--format=%s", &revision.sha]).unwrap_or_default();
    let clean: String = subject.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() <= LONGEST {
        return clean;
    }
    clean.chars().take(LONGEST - 1).chain(['…']).collect()
}
