//! What a user script finds when it starts: its variables, the files of file variables, and a tree
//! that its user may write to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use gantry_core::Ending;
use gantry_wire::plan::{EnvVar, PodPlan};
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;
use nix::unistd::geteuid;

use super::file_variables::{Directory, put};
use super::variables::{GITLAB_ENV, added_variables, variables};
use crate::layout::Layout;
use crate::ports::{ScriptSetup, User};
use crate::stages::sources::credentials;
use crate::stages::{ownership, temporary};
use crate::tasks;

/// Prepares, and gives the script's variables.
pub(crate) async fn prepare(setup: ScriptSetup, layout: Layout) -> Result<Vec<(String, SecretText)>, Ending> {
    if let Some(ending) = without_directory(&setup) {
        return Err(ending);
    }
    if let Some(warning) = not_given(&setup) {
        setup.outlet.warning(warning).await;
    }
    give_files(&setup).await.map_err(|error| trouble(&error))?;
    let outlet = setup.outlet.clone();
    let prepared = tasks::blocking(move || prepare_now(&setup, &layout)).await.and_then(|result| result);
    let (environment, warnings) = prepared.map_err(|error| trouble(&error))?;
    for warning in warnings {
        outlet.warning_once(warning).await;
    }
    Ok(environment)
}

fn trouble(error: &io::Error) -> Ending {
    Ending::Runner { message: format!("the script's files cannot be prepared in the pod: {error}") }
}

/// Gives the files of file variables back to the script, whatever an earlier one has done to them.
async fn give_files(setup: &ScriptSetup) -> io::Result<()> {
    let (plan, user) = (Arc::clone(&setup.plan), setup.user);
    match tasks::blocking(move || write_files(&plan, Some(user)).map(|_| ())).await? {
        // That must not cost the job its after_script.
        Err(error) if setup.status != JobStatus::Running => {
            setup.outlet.warning(format!("a file variable cannot be written: {error}")).await;
            Ok(())
        }
        written => written,
    }
}

/// Why there is no place for the script to start in, if there is none: nobody but the job can have
/// taken away what every stage makes.
fn without_directory(setup: &ScriptSetup) -> Option<Ending> {
    let project = &setup.plan.paths.project_dir;
    let state = match fs::symlink_metadata(project) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there any more",
        Ok(metadata) if metadata.is_file() => "is a file now and no directory",
        _ => return None,
    };
    let stage = setup.plan.stages.get(setup.stage).map_or("", |stage| stage.name.as_str());
    Some(Ending::StageFailed {
        stage: stage.to_owned(),
        message: format!(
            "{stage} cannot start: the project directory {project} {state}; the job has removed or replaced it"
        ),
        exit_code: 1,
    })
}

/// A script's variables, and what its log is to say about them.
type Environment = (Vec<(String, SecretText)>, Vec<String>);

fn prepare_now(setup: &ScriptSetup, layout: &Layout) -> io::Result<Environment> {
    let plan = &setup.plan;
    let temp = temporary::found(&plan.paths);
    if let Some(User { uid, gid }) = setup.new_owner {
        ownership::give(Path::new(&plan.paths.project_dir), uid, gid)?;
        ownership::give(temp, uid, gid)?;
    }
    let mut environment = variables(plan, setup.status);
    environment.extend(git_settings(plan, layout));
    let added = added_variables(plan);
    environment.extend(added.variables);
    Ok((environment, added.warnings))
}

/// The project's repository includes the rules for its credentials by itself. With this they hold
/// outside of it too: for a second clone of the project, and for submodules that a script clones. A
/// job that passes settings of its own this way keeps them.
fn git_settings(plan: &PodPlan, layout: &Layout) -> Vec<(String, SecretText)> {
    let file = layout.git_config();
    if !file.exists() || plan.environment.iter().any(|variable| variable.key == "GIT_CONFIG_COUNT") {
        return Vec::new();
    }
    credentials::as_variables(&[credentials::include(&file)], 0)
}

/// A directory in which the group may write, and whose files are the group's.
const GROUP_MAY: u32 = 0o2020;

/// Why the script may not be able to write to its own tree, if that is so.
fn not_given(setup: &ScriptSetup) -> Option<String> {
    let (own, User { uid, .. }) = (geteuid(), setup.user);
    let is_needed = setup.plan.keep_umask && setup.new_owner.is_some() && uid != 0;
    // Both containers are in the group of the builds directory then.
    let is_shared =
        fs::metadata(&setup.plan.paths.project_dir).is_ok_and(|found| found.mode() & GROUP_MAY == GROUP_MAY);
    (is_needed && !is_shared && !own.is_root() && own.as_raw() != uid).then(|| {
        format!(
            "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR is on, and the helper container runs as user {own}, which cannot give the job's files \
             to user {uid} of the build container: let both run as the same user, or the helper as root"
        )
    })
}

/// Writes the files of file variables, new ones for `owner`, makes sure that the file for new
/// variables exists, and says where they are. The directory belongs to the job, so nothing in it is
/// followed or trusted.
pub(crate) fn write_files(plan: &PodPlan, owner: Option<User>) -> io::Result<&Path> {
    let directory = temporary::make(&plan.paths)?;
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
    Ok(directory)
}

/// The last of several variables of one name wins.
fn last_of_each<'v>(files: impl Iterator<Item = &'v EnvVar>) -> BTreeMap<&'v str, &'v EnvVar> {
    files.map(|variable| (variable.key.as_str(), variable)).collect()
}
