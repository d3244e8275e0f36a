//! The variables that stages and scripts see: those of the plan, and those that scripts have left.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gantry_wire::plan::PodPlan;
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;

use crate::limits::GITLAB_ENV_FILE;
use crate::process::environment::{is_possible, is_shell_name};
use crate::stages::temporary;

/// Name of the file in the job's temporary directory whose lines become variables of later scripts
/// (GitLab Runner 19.4).
pub(crate) const GITLAB_ENV: &str = "gitlab_runner_env";

/// The plan's variables as every stage sees them, without what earlier scripts have added.
pub(crate) fn variables(plan: &PodPlan, status: JobStatus) -> Vec<(String, SecretText)> {
    let temp = &plan.paths.temp_dir;
    let own = ["CI_JOB_STATUS", "GITLAB_ENV"];
    let planned = plan.environment.iter().filter(|variable| !own.contains(&variable.key.as_str())).map(|variable| {
        let value = if variable.file { format!("{temp}/{}", variable.key).into() } else { variable.value.clone() };
        (variable.key.clone(), SecretText(value))
    });
    let made = [
        ("CI_JOB_STATUS".to_owned(), SecretText(status.as_str().into())),
        ("GITLAB_ENV".to_owned(), SecretText(format!("{temp}/{GITLAB_ENV}").into())),
    ];
    planned.chain(made).collect()
}

/// The variables that the scripts so far have left in the file `GITLAB_ENV`. Names and paths of
/// artifacts and caches may hold them too.
pub(crate) fn added_variables(plan: &PodPlan) -> Vec<(String, SecretText)> {
    read_gitlab_env(&temporary::found(&plan.paths).join(GITLAB_ENV))
}

/// The `KEY=VALUE` lines that scripts have left. Lines that are none are skipped: a stray blank
/// line must not end a job.
fn read_gitlab_env(path: &Path) -> Vec<(String, SecretText)> {
    let flags = (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits();
    let Ok(file) = fs::OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Vec::new() };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    if file.take(GITLAB_ENV_FILE).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    parse_gitlab_env(&String::from_utf8_lossy(&bytes))
}

fn parse_gitlab_env(text: &str) -> Vec<(String, SecretText)> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs
        .filter(|(key, value)| is_shell_name(key) && is_possible(key, value))
        .map(|(key, value)| (key.to_owned(), SecretText(value.into())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_variables_are_skipped() {
        let pairs = parse_gitlab_env("A=1\n\n B=x=y \nnonsense\n1C=2\nD=\n");
        let shown: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.0.expose())).collect();
        assert_eq!(shown, [("A", "1"), ("B", "x=y"), ("D", "")]);
    }

    #[test]
    fn what_scripts_have_left_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "A=1").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(GITLAB_ENV)).unwrap();
        assert!(read_gitlab_env(&directory.path().join(GITLAB_ENV)).is_empty());
    }
}
