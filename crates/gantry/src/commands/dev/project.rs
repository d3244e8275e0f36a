//! The repository that `gantry dev` runs: the user's own, or the sample that ships with the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gantry_sim_gitlab::ProjectVariable;
use tempfile::TempDir;

use super::BadInput;

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
    git_ref: String,
    is_sample: bool,
    _temp: Option<TempDir>,
}

impl Project {
    /// Opens the user's repository, or makes the sample one.
    pub(super) fn open(repo: Option<&Path>, git_ref: Option<&str>) -> Result<Self, BadInput> {
        if git(Path::new("."), &["--version"]).is_err() {
            return Err(BadInput("git is not installed, and job pods need it: install the package git".to_owned()));
        }
        match repo {
            Some(dir) => Self::own(dir, git_ref),
            None => Self::sample().map_err(|what| BadInput(format!("the sample project cannot be made: {what}"))),
        }
    }

    fn own(dir: &Path, git_ref: Option<&str>) -> Result<Self, BadInput> {
        let shown = dir.display();
        let dir = dir.canonicalize().map_err(|error| BadInput(format!("{shown}: {error}")))?;
        let top = git(&dir, &["rev-parse", "--show-toplevel"])
            .or_else(|_| git(&dir, &["rev-parse", "--absolute-git-dir"]))
            .map_err(|what| BadInput(format!("{shown} is not a git repository: {what}")))?;
        let dir = PathBuf::from(top);
        let wanted = git_ref.unwrap_or("HEAD");
        git(&dir, &["rev-parse", "--verify", "--quiet", &format!("{wanted}^{{commit}}")]).map_err(|_| {
            BadInput(format!("{shown} has no commit {wanted}: commit something, or choose another --ref"))
        })?;
        let branch = git(&dir, &["symbolic-ref", "--short", "--quiet", "HEAD"]);
        let git_ref = git_ref.map(str::to_owned).or(branch.ok()).unwrap_or_else(|| "HEAD".to_owned());
        if !git(&dir, &["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default().is_empty() {
            eprintln!("\x1b[0;33mWARNING: changes that are not committed are not part of the pipeline\x1b[0;m");
        }
        let name = dir.file_name().map_or_else(|| "project".to_owned(), |name| slug(&name.to_string_lossy()));
        Ok(Self { dir, name: format!("local/{name}"), git_ref, is_sample: false, _temp: None })
    }

    fn sample() -> Result<Self, String> {
        let temp = tempfile::tempdir().map_err(|error| error.to_string())?;
        let dir = temp.path().join("tally");
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
        Ok(Self {
            dir,
            name: "sample/tally".to_owned(),
            git_ref: "main".to_owned(),
            is_sample: true,
            _temp: Some(temp),
        })
    }

    /// For the first line of output.
    pub(super) fn title(&self) -> String {
        if self.is_sample { "its sample project".to_owned() } else { self.dir.display().to_string() }
    }

    /// Its path in the simulated GitLab.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the pipeline is of.
    pub(super) fn git_ref(&self) -> &str {
        &self.git_ref
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
    if clean.is_empty() { "project".to_owned() } else { clean.to_owned() }
}

/// Standard output of git, or the last line of its standard error.
fn git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(error.lines().last().unwrap_or("git failed").to_owned())
}
