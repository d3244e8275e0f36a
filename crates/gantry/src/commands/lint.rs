//! `gantry lint`: everything that is wrong with a configuration, each on a line of its own, in the
//! form that editors and CI turn into links.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_config::edit::{Editor, Value};
use gantry_config::pod_patch::PatchKind;
use gantry_config::settings::pod::{PatchSource, PodSpecPatch};
use gantry_config::{Problem, RunnerSettings, Settings, Severity, UnusableRunner};
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
            "{file} is YAML, and this checks config.toml: of the values of GitLab's chart that is the text under runners.config, once it is rendered (`helm template …`)"
        );
    }
    let mut lines = String::new();
    let mut errors = 0_usize;
    let problems = match gantry_config::load(&text, &env) {
        Ok(loaded) => {
            let completed = completed(&text, &loaded.unusable);
            let settings = completed.as_ref().unwrap_or(&loaded.settings);
            for patches in settings.runners.iter().filter_map(|runner| check_patches(settings, runner)) {
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
    let templates = take_missing(&mut problems);
    problems.sort_by_key(|problem| (problem.line, problem.column));
    for problem in &problems {
        let is_error = problem.severity == Severity::Error || problem.is_unknown_key();
        errors += usize::from(is_error);
        lines += &line(&file, problem, is_error);
    }
    match (errors, templates) {
        (0, 0) => lines += "Configuration file is valid.\n",
        (0, _) => lines += "The template is valid.\n",
        _ => {}
    }
    output(&lines)?;
    match errors {
        0 => Ok(ExitCode::SUCCESS),
        errors => bail!("{file} has {}", counted(errors, "error")),
    }
}

/// What `register` brings into an entry that has none of it.
const BROUGHT: [&str; 3] = ["url", "token", "executor"];

/// The entries that are templates, as they have neither an address nor a token. One that has one of
/// the two is a runner that lacks the other.
fn templates(problems: &[Problem]) -> Vec<String> {
    let is_missing = |path: &str| problems.iter().any(|problem| problem.is_missing() && problem.path == path);
    let entries = problems.iter().filter_map(|problem| problem.path.strip_suffix(".url"));
    let is_template = |entry: &&str| ["url", "token"].iter().all(|key| is_missing(&format!("{entry}.{key}")));
    entries.filter(is_template).map(str::to_owned).collect()
}

/// Replaces what templates lack by one line for each, and says how many there are.
fn take_missing(problems: &mut Vec<Problem>) -> usize {
    let templates = templates(problems);
    for path in &templates {
        let is_brought = |problem: &Problem| {
            problem.is_missing() && BROUGHT.iter().any(|key| problem.path == format!("{path}.{key}"))
        };
        let place = problems.iter().find(|problem| is_brought(problem)).map(|problem| (problem.line, problem.column));
        let (line, column) = place.unwrap_or_default();
        problems.retain(|problem| !is_brought(problem));
        problems.push(Problem {
            severity: Severity::Warning,
            line,
            column,
            path: path.clone(),
            message: "is a template, because it has neither url nor token: `register --template-config` brings \
                      these and the executor, and `run` does not take the entry as it is"
                .to_owned(),
            hint: None,
        });
    }
    templates.len()
}

/// The settings with those templates that are right but for what they lack, if there are any.
fn completed(text: &str, unusable: &[UnusableRunner]) -> Option<Settings> {
    let templates: Vec<_> = unusable.iter().filter(|entry| !templates(&entry.errors).is_empty()).collect();
    if templates.is_empty() {
        return None;
    }
    let mut editor = Editor::parse(text).ok()?;
    for entry in templates {
        let values = ["https://gitlab.example.com", "of-a-template", "kubernetes"];
        for (key, value) in BROUGHT.iter().zip(values) {
            editor.set_runner(entry.index, &[(*key).to_owned()], &Value::Text(value.to_owned())).ok()?;
        }
    }
    Some(gantry_config::load(&editor.text(), &env).ok()?.settings)
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
