//! What a user script finds when it starts: its variables, the files of file variables, and a tree that its user may write to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use gantry_wire::plan::{Action, EnvVar, PodPlan};
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;
use nix::unistd::geteuid;

use super::file_variables::{Directory, put};
use crate::limits::GITLAB_ENV_FILE;
use crate::ports::{Handover, User};
use crate::process::environment::{is_possible, is_shell_name};
use crate::stages::ownership;
use crate::stages::sources::credentials;
use crate::tasks;

/// Name of the file in the job's temporary directory whose lines become variables of later scripts (GitLab Runner 19.4).
pub(crate) const GITLAB_ENV: &str = "gitlab_runner_env";

/// Prepares, and gives the script's variables.
pub(crate) async fn prepare(handover: Handover) -> io::Result<Vec<(String, SecretText)>> {
    if let Some(warning) = not_given(&handover) {
        handover.outlet.warning(warning).await;
    }
    let (plan, user) = (Arc::clone(&handover.plan), handover.user);
    match tasks::blocking(move || write_files(&plan, Some(user))).await? {
        // What a script has done to its files must not cost the job its after_script.
        Err(error) if handover.status != JobStatus::Running => {
            handover.outlet.warning(format!("a file variable cannot be written: {error}")).await;
        }
        written => written?,
    }
    tasks::blocking(move || prepare_now(&handover)).await?
}

fn prepare_now(handover: &Handover) -> io::Result<Vec<(String, SecretText)>> {
    let plan = &handover.plan;
    if let Some(User { uid, gid }) = handover.new_owner {
        ownership::give(Path::new(&plan.paths.project_dir), uid, gid)?;
        ownership::give(Path::new(&plan.paths.temp_dir), uid, gid)?;
    }
    let mut environment = variables(plan, handover.status);
    environment.extend(git_credentials(plan));
    environment.extend(read_gitlab_env(&Path::new(&plan.paths.temp_dir).join(GITLAB_ENV)));
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

/// Why the script may not be able to write to its own tree, if that is so.
fn not_given(handover: &Handover) -> Option<String> {
    let (own, User { uid, .. }) = (geteuid(), handover.user);
    let is_needed = handover.plan.keep_umask && handover.new_owner.is_some() && uid != 0;
    (is_needed && !own.is_root() && own.as_raw() != uid).then(|| {
        format!(
            "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR is on, and the helper container runs as user {own}, which cannot give the job's files \
             to user {uid} of the build container: let both run as the same user, or the helper as root"
        )
    })
}

/// Writes the files of file variables, new ones for `owner`, and makes sure that the file for new variables exists.
pub(crate) fn write_files(plan: &PodPlan, owner: Option<User>) -> io::Result<()> {
    let directory = Path::new(&plan.paths.temp_dir);
    fs::create_dir_all(directory)?;
    let files = || plan.environment.iter().filter(|variable| variable.file);
    let names: Vec<&str> = files().map(|variable| variable.key.as_str()).collect();
    let place = Directory::new(directory, owner, &names);
    for variable in last_of_each(files()).into_values() {
        put(&place, &variable.key, variable.value.expose().as_bytes())?;
    }
    let env_file = directory.join(GITLAB_ENV);
    if fs::symlink_metadata(&env_file).is_err() {
        put(&place, GITLAB_ENV, b"")?;
    }
    Ok(())
}

/// The last of several variables of one name wins.
fn last_of_each<'v>(files: impl Iterator<Item = &'v EnvVar>) -> BTreeMap<&'v str, &'v EnvVar> {
    files.map(|variable| (variable.key.as_str(), variable)).collect()
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
    fn what_scripts_have_left_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "A=1").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(GITLAB_ENV)).unwrap();
        assert!(read_gitlab_env(&directory.path().join(GITLAB_ENV)).is_empty());
    }
}
