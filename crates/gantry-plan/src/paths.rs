//! The directories of a job (GitLab Runner 19.4): below the builds directory by the project's path,
//! or where `GIT_CLONE_PATH` says.
//!
//! Nothing a job says may lead out of the builds directory, or to the directories of the agent.

use gantry_config::RunnerSettings;
use gantry_core::job::JobSpec;
use gantry_core::short_token::short_token;
use gantry_core::variables::Variables;
use gantry_wire::layout::TEMP_DIR;
use gantry_wire::plan::{GitStrategy, Paths};

use crate::clean_path::clean;
use crate::volumes::{is_ours, is_shared};
use crate::{Context, PlanError, names};

/// Longest path (Linux), less what is made below it.
const MAX_PATH: usize = 4096 - 1024;

/// Everything that directories are made from.
pub(crate) struct PathArgs<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) context: &'a Context,
    pub(crate) builds_dir: &'a str,
    /// The variables that are known before the directories are, unexpanded.
    pub(crate) early: &'a Variables,
    /// The same, expanded.
    pub(crate) literal: &'a Variables,
    pub(crate) strategy: GitStrategy,
}

/// The root of all builds, from the config.
///
/// # Errors
/// It is no directory that could be mounted.
pub(crate) fn builds_dir(runner: &RunnerSettings) -> Result<String, PlanError> {
    clean(&runner.builds_dir).filter(|path| path != "/" && !is_ours(path) && path.len() <= MAX_PATH).ok_or_else(|| {
        let written = &runner.builds_dir;
        PlanError::Configuration(format!(
            "builds_dir is {written:?}: it must be an absolute path below /, such as /builds"
        ))
    })
}

/// The directories of a job.
///
/// # Errors
/// `GIT_CLONE_PATH` is not allowed, or leads out of the builds directory.
pub(crate) fn paths(args: &PathArgs<'_>) -> Result<Paths, PlanError> {
    let PathArgs { job, runner, context, builds_dir, early, literal, strategy } = args;
    let mut project_dir = (*builds_dir).to_owned();
    if is_shared(&runner.kubernetes.volumes, early, builds_dir) {
        // Jobs that run at once see the same files: each slot gets a tree of its own.
        let token = names::path_part(short_token(runner.token.expose()));
        project_dir = format!("{project_dir}/{token}/{}", context.concurrent_project_id);
    }
    project_dir.push('/');
    project_dir.push_str(&names::project_slug(job.git_info.repo_url.expose(), job.job_info.project_id));
    if *strategy == GitStrategy::Empty {
        project_dir.push_str("-empty");
    }
    if let Some(wanted) = literal.get("GIT_CLONE_PATH").filter(|path| !path.is_empty()) {
        if !runner.custom_build_dir_enabled {
            let message = "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature";
            return Err(PlanError::JobVariable(message.to_owned()));
        }
        let is_below = |path: &String| path.starts_with(&format!("{builds_dir}/")) && !path.contains('\0');
        project_dir = clean(wanted).filter(is_below).ok_or_else(|| {
            PlanError::JobVariable(format!("the GIT_CLONE_PATH={wanted:?} has to be below {builds_dir:?}"))
        })?;
    }
    if project_dir.len() > MAX_PATH {
        return Err(PlanError::InvalidJob(format!("the path of its project is longer than {MAX_PATH} bytes")));
    }
    Ok(Paths {
        temp_dir: format!("{project_dir}.tmp"),
        temp_volume: Some(TEMP_DIR.to_owned()),
        builds_dir: (*builds_dir).to_owned(),
        project_dir,
    })
}
