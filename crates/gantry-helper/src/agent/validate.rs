//! Checks a plan before it is accepted: what would otherwise go wrong half-way, or touch what no
//! job may touch.

use std::path::{Component, Path};

use gantry_wire::plan::PodPlan;

use crate::limits::STAGES;

/// Why a plan is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlanProblem {
    /// A path that is not absolute, not below `/`, or not plain.
    #[error("the {what} {path:?} is not an absolute path without \"..\"")]
    Path {
        /// Which one.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// Nothing to do, or absurdly much.
    #[error("it has {0} stages; 1 to {STAGES} are possible")]
    Stages(usize),
    /// A name that would not survive a section marker.
    #[error("the stage name {0:?} has characters other than letters, digits and underscores")]
    StageName(String),
    /// A file variable whose name is no file name.
    #[error("the file variable {0:?} has a name that is no file name")]
    FileVariable(String),
}

/// Says what is wrong with `plan`, if something is.
///
/// # Errors
/// The first problem found.
pub(crate) fn validate(plan: &PodPlan) -> Result<(), PlanProblem> {
    let paths = &plan.paths;
    let volume = paths.temp_volume.as_ref().map(|volume| ("temp_volume", volume));
    let named = [("builds_dir", &paths.builds_dir), ("project_dir", &paths.project_dir), ("temp_dir", &paths.temp_dir)];
    for (what, path) in named.into_iter().chain(volume) {
        if !is_plain(Path::new(path)) {
            return Err(PlanProblem::Path { what, path: path.clone() });
        }
    }
    if plan.stages.is_empty() || plan.stages.len() > STAGES {
        return Err(PlanProblem::Stages(plan.stages.len()));
    }
    if let Some(stage) = plan.stages.iter().find(|stage| !is_word(&stage.name)) {
        return Err(PlanProblem::StageName(stage.name.clone()));
    }
    match plan.environment.iter().find(|variable| variable.file && !is_file_name(&variable.key)) {
        Some(variable) => Err(PlanProblem::FileVariable(variable.key.clone())),
        None => Ok(()),
    }
}

fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && path.components().count() > 1
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.to_string_lossy().contains('\0')
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn is_file_name(key: &str) -> bool {
    !key.is_empty() && key != "." && key != ".." && !key.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_their_place_are_refused() {
        for (path, plain) in
            [("/builds/g/p", true), ("/", false), ("builds", false), ("/builds/../etc", false), ("", false)]
        {
            assert_eq!(is_plain(Path::new(path)), plain, "{path}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(is_word("step_script") && !is_word("a\rb") && !is_word(""));
        assert!(is_file_name("KUBECONFIG") && !is_file_name("../x") && !is_file_name(".."));
    }
}
