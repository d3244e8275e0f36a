//! Questions to the user's repository. Nothing here changes it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Variables that git sets for its hooks: they would point git at another repository than the one
/// in question.
pub(super) const OF_HOOKS: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
];

/// Standard output of git, or what it complained about.
pub(super) fn git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    for variable in OF_HOOKS {
        command.env_remove(variable);
    }
    let output = command
        // A mere question must not refresh the index while its owner works.
        .args(["--no-optional-locks", "-c", "safe.directory=*"])
        .args(args)
        .current_dir(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(complaint(&output.stderr))
}

/// What git complained about, on one line: its last verdict with the advice that follows.
pub(super) fn complaint(error: &[u8]) -> String {
    let error = String::from_utf8_lossy(error);
    let lines: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let verdict = lines.iter().rposition(|line| line.starts_with("fatal: ")).unwrap_or(lines.len().saturating_sub(1));
    match lines.get(verdict..) {
        None | Some([]) => "git failed".to_owned(),
        Some(lines) => lines.join(" ").trim_start_matches("fatal: ").to_owned(),
    }
}

/// Whether git knows this name as one of exactly this kind (`refs/heads/`, …).
pub(super) fn has_ref(dir: &Path, full: &str) -> bool {
    git(dir, &["show-ref", "--verify", "--quiet", full]).is_ok()
}

/// The commit that a name stands for, tags peeled.
pub(super) fn commit_of(dir: &Path, name: &str) -> Option<String> {
    git(dir, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])
        .ok()
        .filter(|sha| !sha.is_empty())
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn a_complaint_is_shown_with_its_advice() {
        for (error, shown) in [
            (
                "fatal: detected dubious ownership in repository at '/srv/app'\nTo add an exception for this directory, call:\n\n\tgit config \
                 --global --add safe.directory /srv/app\n",
                "detected dubious ownership in repository at '/srv/app' To add an exception for this directory, call: git config --global \
                 --add safe.directory /srv/app",
            ),
            (
                "warning: old\nfatal: not a git repository (or any of the parent directories): .git\n",
                "not a git repository (or any of the parent directories): .git",
            ),
            ("error: one\nerror: two\n", "error: two"),
            ("\n", "git failed"),
        ] {
            assert_eq!(complaint(error.as_bytes()), shown);
        }
    }
}
