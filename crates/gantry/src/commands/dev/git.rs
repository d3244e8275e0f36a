//! Questions to the user's repository. Nothing here changes it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Variables that git sets for its hooks: they would point git at another repository than the one in question.
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
    let error = String::from_utf8_lossy(&output.stderr);
    let line = error.lines().last().unwrap_or("git failed");
    Err(line.trim_start_matches("fatal: ").to_owned())
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
