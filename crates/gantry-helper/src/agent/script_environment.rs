//! What a user script finds when it starts: its variables, the files of file variables, and a tree that its user may write to.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gantry_wire::plan::{Action, PodPlan};
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;

use crate::limits::GITLAB_ENV_FILE;
use crate::ports::{Handover, User};
use crate::process::environment::{is_possible, is_shell_name};
use crate::stages::sources::credentials;
use crate::stages::{ownership, temporary};
use crate::tasks;

/// Name of the file in the job's temporary directory whose lines become variables of later scripts (GitLab Runner 19.4).
pub(crate) const GITLAB_ENV: &str = "gitlab_runner_env";

/// Prepares, and gives the script's variables.
pub(crate) async fn prepare(handover: Handover) -> io::Result<Vec<(String, SecretText)>> {
    tasks::blocking(move || prepare_now(&handover)).await?
}

fn prepare_now(handover: &Handover) -> io::Result<Vec<(String, SecretText)>> {
    let plan = &handover.plan;
    let temp = write_files(plan)?;
    if let Some(User { uid, gid }) = handover.new_owner {
        ownership::give(Path::new(&plan.paths.project_dir), uid, gid)?;
        ownership::give(temp, uid, gid)?;
    }
    let mut environment = variables(plan, handover.status);
    environment.extend(git_credentials(plan));
    environment.extend(read_gitlab_env(&temp.join(GITLAB_ENV)));
    Ok(environment)
}

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

/// Scripts may fetch and push too, as they may in the reference; there the rules are in a file, here nothing is left on disk.
fn git_credentials(plan: &PodPlan) -> Vec<(String, SecretText)> {
    let sources = plan.stages.iter().find_map(|stage| match &stage.action {
        Action::Sources(sources) => Some(sources),
        _ => None,
    });
    let Some(sources) = sources else { return Vec::new() };
    if plan.environment.iter().any(|variable| variable.key.starts_with("GIT_CONFIG_COUNT")) {
        return Vec::new();
    }
    credentials::as_variables(&credentials::rules(sources), 0)
}

/// Writes the files of file variables, makes sure that the file for new variables exists, and says where they are. The directory belongs to
/// the job, so nothing in it is followed or trusted: every file is made anew and put in place.
pub(crate) fn write_files(plan: &PodPlan) -> io::Result<&Path> {
    let directory = temporary::make(&plan.paths)?;
    for variable in plan.environment.iter().filter(|variable| variable.file) {
        put(directory, &variable.key, variable.value.expose().as_bytes())?;
    }
    let env_file = directory.join(GITLAB_ENV);
    if fs::symlink_metadata(&env_file).is_err() {
        put(directory, GITLAB_ENV, b"")?;
    }
    Ok(directory)
}

fn put(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let hidden = directory.join(format!(".{name}.new"));
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The umask is 0: the shim's user, whoever that is, must be able to read it.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&hidden)?;
    file.write_all(content)?;
    fs::rename(&hidden, directory.join(name))
}

/// The `KEY=VALUE` lines that scripts have left. Lines that are none are skipped: a stray blank line must not end a job.
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
    fn a_link_in_place_of_a_file_is_replaced_and_never_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let temp = directory.path().join("tmp");
        fs::create_dir(&temp).unwrap();
        std::os::unix::fs::symlink(&victim, temp.join("KEY")).unwrap();
        put(&temp, "KEY", b"content").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(fs::read_to_string(temp.join("KEY")).unwrap(), "content");
        std::os::unix::fs::symlink(&victim, temp.join(GITLAB_ENV)).unwrap();
        assert!(read_gitlab_env(&temp.join(GITLAB_ENV)).is_empty());
    }
}
