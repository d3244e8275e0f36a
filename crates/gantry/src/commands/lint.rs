//! `gantry lint`: everything that is wrong with a configuration, each on a line of its own, in the
//! form that editors and CI turn into links.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_config::pod_patch::PatchKind;
use gantry_config::settings::pod::{PatchSource, PodSpecPatch};
use gantry_config::{Problem, RunnerSettings, Settings, Severity};
use gantry_core::NoteLevel;
use gantry_daemon::wiring;
use gantry_plan::{HeadLine, Links};

use crate::commands::config_path::ConfigArg;
use crate::commands::runner_file::env;
use crate::commands::{counted, output};
use crate::exit_status;

/// Arguments of `gantry lint`.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = exit_status::help("", "lint"))]
pub(crate) struct LintArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Checks the file. As in the reference a key that nobody knows is an error here; what is known and
/// does nothing is a warning.
pub(crate) fn main(args: &LintArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.resolve();
    let file = path.display().to_string();
    let text = gantry_daemon::config_write::read(&path).with_context(|| format!("{file} cannot be read"))?;
    if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        bail!(
            "{file} is YAML, and this checks config.toml: of the values of GitLab's chart that is the text under runners.config"
        );
    }
    let mut lines = String::new();
    let mut errors = 0_usize;
    let problems = match gantry_config::load(&text, &env) {
        Ok(loaded) => {
            for patches in loaded.settings.runners.iter().filter_map(|runner| check_patches(&loaded.settings, runner)) {
                let (word, problem) = match patches {
                    Ok(warning) => ("warning", warning),
                    Err(error) => ("error", error),
                };
                errors += usize::from(word == "error");
                lines = lines + &file + ": " + word + ": " + &problem + "\n";
            }
            loaded.unusable.into_iter().flat_map(|entry| entry.errors).chain(loaded.warnings).collect()
        }
        Err(problems) => problems.list,
    };
    let mut problems: Vec<Problem> = problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    for problem in &problems {
        let is_error = problem.severity == Severity::Error || problem.is_unknown_key();
        errors += usize::from(is_error);
        lines += &line(&file, problem, is_error);
    }
    if errors == 0 {
        lines += "Configuration file is valid.\n";
    }
    output(&lines)?;
    match errors {
        0 => Ok(ExitCode::SUCCESS),
        errors => bail!("{file} has {}", counted(errors, "error")),
    }
}

/// What is wrong with a runner's patches once they are in a pod: an error where it is none any
/// more, a warning where a part of them is lost. Those in files may be on another machine, and
/// where a JSON patch points depends on the job.
fn check_patches(settings: &Settings, runner: &RunnerSettings) -> Option<Result<String, String>> {
    let fits_all = |patch: &PodSpecPatch| match patch.source {
        PatchSource::Inline(_) => patch.kind != PatchKind::Json,
        PatchSource::File(_) => false,
    };
    let context = wiring::context("", &wiring::hostname(), &wiring::alone(settings));
    let name = &runner.name;
    let mut runner = runner.clone();
    runner.kubernetes.pod_spec.retain(fits_all);
    runner.kubernetes.allowed_images.clear();
    runner.feature_flags.insert("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION".to_owned(), true);
    let job = gantry_daemon::trial::job(&runner.url, "image").ok()?;
    let plan = |runner: &RunnerSettings| gantry_plan::plan(&job, runner, &context, &Links::default());
    match plan(&runner) {
        Ok(plan) => {
            let is_about = |line: &&HeadLine| {
                line.level == NoteLevel::Warning && line.text.contains("[[runners.kubernetes.pod_spec]]")
            };
            plan.executor.iter().find(is_about).map(|line| Ok(format!("runner {name:?}: {}", line.text)))
        }
        Err(error) => {
            runner.kubernetes.pod_spec.clear();
            // Whatever else is wrong shows with jobs.
            plan(&runner).is_ok().then(|| Err(format!("runner {name:?}: {error}")))
        }
    }
}

/// `file:line:column: error: key: what (what to do)`; an unknown key in the words of the reference.
fn line(file: &str, problem: &Problem, is_error: bool) -> String {
    let severity = if is_error { "error" } else { "warning" };
    let place = match (problem.line, problem.column) {
        (0, _) => String::new(),
        (line, 0) => format!("{line}:"),
        (line, column) => format!("{line}:{column}:"),
    };
    let what = match (problem.is_unknown_key(), problem.path.as_str()) {
        (true, path) => format!("unknown key: {path}"),
        (false, "") => problem.message.clone(),
        (false, path) => format!("{path}: {}", problem.message),
    };
    let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{file}:{place} {severity}: {what}{hint}\n")
}
