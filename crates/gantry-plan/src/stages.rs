//! The stages of a job, in order, with their names and titles (GitLab Runner 19.4,
//! `common/build.go`).

use gantry_core::job::{Artifact, JobSpec};
use gantry_core::{Secret, variables::Variables};
use gantry_wire::plan::{Action, ArtifactDownload, ArtifactFormat, ArtifactUpload, Script, StagePlan};
use gantry_wire::provenance::Provenance;

use crate::PlanError;
use crate::caches::{Caches, Links};
use crate::job_settings::Flags;
use crate::script::{ScriptStyle, compose};
use crate::sources::{Inputs, sources, without_credentials};

/// Most steps of a job: the agent takes a plan of 1000 stages.
const MAX_STEPS: usize = 900;

/// All stages of a job. Those with nothing to do are left out.
pub(crate) fn stages(inputs: &Inputs<'_>, caches: &Caches<'_>, links: &Links) -> Result<Vec<StagePlan>, PlanError> {
    let mut stages = vec![stage("prepare_script", "Preparing environment", 1, Action::Prepare)];
    let settings = inputs.settings;
    let get_sources = Action::Sources(Box::new(sources(inputs)?));
    stages.push(stage("get_sources", "Getting source from Git repository", settings.get_sources_attempts, get_sources));
    if let Some(restore) = caches.restore(links) {
        let attempts = settings.restore_cache_attempts;
        stages.push(stage("restore_cache", "Restoring cache", attempts, Action::RestoreCache(restore)));
    }
    let downloads = downloads(inputs.job);
    if !downloads.is_empty() {
        let attempts = settings.artifact_download_attempts;
        let action = Action::DownloadArtifacts(downloads);
        stages.push(stage("download_artifacts", "Downloading artifacts", attempts, action));
    }
    if inputs.job.steps.len() > MAX_STEPS {
        let message = format!("it has {} steps; {MAX_STEPS} are possible", inputs.job.steps.len());
        return Err(PlanError::InvalidJob(message));
    }
    stages.extend(user_scripts(inputs));
    for (on_success, name, title) in [
        (true, "archive_cache", "Saving cache for successful job"),
        (false, "archive_cache_on_failure", "Saving cache for failed job"),
    ] {
        if let Some(save) = caches.save(on_success, links) {
            stages.push(stage(name, title, 1, Action::SaveCache(save)));
        }
    }
    for (on_success, name, title) in [
        (true, "upload_artifacts_on_success", "Uploading artifacts for successful job"),
        (false, "upload_artifacts_on_failure", "Uploading artifacts for failed job"),
    ] {
        let artifacts = uploads(inputs, on_success)?;
        if !artifacts.is_empty() {
            stages.push(stage(name, title, 1, Action::UploadArtifacts { on_success, artifacts }));
        }
    }
    let title = "Cleaning up project directory and file based variables";
    stages.push(stage("cleanup_file_variables", title, 1, Action::Cleanup));
    Ok(stages)
}

fn stage(name: &str, title: &str, attempts: u32, action: Action) -> StagePlan {
    StagePlan { name: name.to_owned(), title: title.to_owned(), attempts, action }
}

fn user_scripts(inputs: &Inputs<'_>) -> Vec<StagePlan> {
    let Inputs { job, runner, variables, .. } = inputs;
    let mut stages = Vec::new();
    for step in job.steps.iter().filter(|step| step.name != "after_script") {
        let name = format!("step_{}", section_name(&step.name));
        let title = format!("Executing \"{name}\" stage of the job script");
        let lines: Vec<String> =
            if step.name == "release" { expand(variables, &step.script) } else { step.script.clone() };
        let commands = runner.pre_build_script.iter().chain(&lines).chain(&runner.post_build_script);
        let script = script(inputs, commands.map(String::as_str), "script_step");
        stages.push(stage(&name, &title, 1, Action::Script(script)));
    }
    let after = job.steps.iter().find(|step| step.name == "after_script").filter(|step| !step.script.is_empty());
    if let Some(step) = after {
        let script = script(inputs, step.script.iter().map(String::as_str), "after_script_step");
        stages.push(stage("after_script", "Running after_script", 1, Action::AfterScript(script)));
    }
    stages
}

/// A step's name as it can stand in a section marker.
fn section_name(name: &str) -> String {
    let is_possible = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.to_lowercase().chars().map(|c| if is_possible(c) { c } else { '_' }).collect()
}

fn expand(variables: &Variables, lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| variables.expand(line)).collect()
}

fn script<'a>(inputs: &Inputs<'_>, commands: impl Iterator<Item = &'a str>, prefix: &str) -> Script {
    let flags: &Flags = inputs.flags;
    let sections = flags.is_on("FF_SCRIPT_SECTIONS") && inputs.job.features.trace_sections;
    let style = ScriptStyle {
        xtrace: inputs.settings.debug_trace,
        check_exit_codes: flags.is_on("FF_ENABLE_BASH_EXIT_CODE_CHECK"),
        section_prefix: sections.then_some(prefix),
    };
    Script { text: Secret::new(compose(commands, style)) }
}

fn downloads(job: &JobSpec) -> Vec<ArtifactDownload> {
    job.dependencies
        .iter()
        .filter(|dependency| !dependency.artifacts_file.filename.is_empty())
        .map(|dependency| ArtifactDownload {
            job_id: dependency.id,
            job_name: dependency.name.clone(),
            token: dependency.token.clone(),
        })
        .collect()
}

fn uploads(inputs: &Inputs<'_>, on_success: bool) -> Result<Vec<ArtifactUpload>, PlanError> {
    let mut uploads = Vec::new();
    for artifact in &inputs.job.artifacts {
        if artifact.paths.is_empty() && artifact.exclude.is_empty() && !artifact.untracked {
            continue;
        }
        let wanted = match artifact.when.as_str() {
            "" | "on_success" => on_success,
            "on_failure" => !on_success,
            "always" => true,
            other => {
                let message = format!("artifacts.when is {other:?}, not on_success, on_failure or always");
                return Err(PlanError::InvalidJob(message));
            }
        };
        if wanted {
            uploads.push(upload(inputs, artifact)?);
        }
    }
    Ok(uploads)
}

fn upload(inputs: &Inputs<'_>, artifact: &Artifact) -> Result<ArtifactUpload, PlanError> {
    let format = match artifact.artifact_format.as_str() {
        "" | "zip" => ArtifactFormat::Zip,
        "gzip" => ArtifactFormat::Gzip,
        "raw" => ArtifactFormat::Raw,
        other => {
            let message = format!("artifacts.artifact_format is {other:?}, not zip, gzip or raw");
            return Err(PlanError::InvalidJob(message));
        }
    };
    Ok(ArtifactUpload {
        name: artifact.name.clone(),
        paths: artifact.paths.clone(),
        exclude: artifact.exclude.clone(),
        untracked: artifact.untracked,
        artifact_type: artifact.artifact_type.clone(),
        format,
        expire_in: artifact.expire_in.clone(),
        provenance: (format == ArtifactFormat::Zip).then(|| provenance(inputs)).flatten().map(Box::new),
    })
}

/// What a zip archive says of where it comes from, where the job wants that.
fn provenance(inputs: &Inputs<'_>) -> Option<Provenance> {
    let Inputs { job, runner, context, settings, variables, .. } = inputs;
    if !settings.provenance {
        return None;
    }
    let url = without_credentials(job.git_info.repo_url.expose());
    let mut parameters: Vec<String> = job.variables.iter().map(|variable| variable.key.clone()).collect();
    parameters.sort();
    parameters.dedup();
    Some(Provenance {
        repo_url: url.strip_suffix(".git").unwrap_or(&url).to_owned(),
        sha: job.git_info.sha.clone(),
        job_name: job.job_info.name.clone(),
        runner_id: variables.get("CI_RUNNER_ID").unwrap_or_default().to_owned(),
        runner_name: runner.name.clone(),
        executor: runner.executor.clone(),
        version: context.version.clone(),
        revision: context.revision.clone(),
        started_unix_ms: context.taken_unix_ms,
        parameters,
    })
}
