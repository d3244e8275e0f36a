//! The job payload: the body of a 201 from `jobs/request` (GitLab Runner 19.4, job spec). Built
//! when the job is handed out, because the token, the runner and the dependencies are known only
//! then. Pure: reads the state, changes nothing.

mod definition;
mod job_variables;
mod raw;

use serde_json::{Value, json};

use crate::repo::Checkout;
use crate::state::World;
use crate::state::job::{Job, Source};
use crate::state::put::KNOWN_REASONS;
use crate::variables;

/// Commits fetched when nothing else is said (GitLab server: default of new projects).
const DEFAULT_DEPTH: u64 = 20;

/// The payload of a job that has just been handed out; `null` if there is no such job.
pub(crate) fn of(world: &World, id: u64) -> Value {
    let Some(job) = world.jobs.get(&id) else { return Value::Null };
    match &job.new.source {
        Source::Raw(raw) => raw::payload(world, job, raw),
        Source::Pipeline { id, job: definition } => match world.pipelines.get(id) {
            Some(pipeline) => definition::payload(world, job, pipeline, definition),
            None => Value::Null,
        },
    }
}

/// `features.failure_reasons` of a payload, as far as they are texts.
pub(crate) fn accepted_reasons(payload: &Value) -> Vec<String> {
    let reasons = payload.pointer("/features/failure_reasons").and_then(Value::as_array);
    reasons.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The jobs that a payload names as dependencies.
pub(crate) fn dependency_ids(payload: &Value) -> Vec<u64> {
    let dependencies = payload.get("dependencies").and_then(Value::as_array);
    dependencies.into_iter().flatten().filter_map(|dependency| dependency.get("id")?.as_u64()).collect()
}

/// What this server can do.
fn features() -> Value {
    json!({"trace_sections": true, "token_mask_prefixes": ["glpat-"], "failure_reasons": KNOWN_REASONS})
}

fn runner_info(job: &Job) -> Value {
    json!({"timeout": job.new.timeout.as_secs(), "runner_session_url": null})
}

fn job_info(world: &World, job: &Job, pipeline: u64, checkout: Option<&Checkout>) -> Value {
    let path = checkout.map_or("sim/jobs", |checkout| checkout.repo.name.as_str());
    let project = checkout.map_or(1, |checkout| checkout.repo.id);
    let waited = job.queued_at.map_or(0.0, |queued| world.now().wall.duration_since(queued).as_secs_f64());
    json!({
        "id": job.id,
        "name": job.new.name,
        "stage": job.new.stage,
        "pipeline_id": pipeline,
        "project_id": project,
        "project_name": variables::last_part(path),
        "project_full_path": path,
        "namespace_id": 1,
        "root_namespace_id": 1,
        "organization_id": 1,
        "instance_id": "sim",
        "instance_uuid": "00000000-0000-0000-0000-000000000000",
        "user_id": 1,
        "scoped_user_id": null,
        "time_in_queue_seconds": waited.max(0.0),
        "project_jobs_running_on_instance_runners_count": "0",
        "queue_size": 0,
        "queue_depth": 0,
    })
}

/// The repository part. The commit itself is fetched by its id, into the ref that GitLab keeps for
/// the pipeline: so a branch that has moved on does not matter, and the served repository needs no
/// ref of ours.
fn git_info(world: &World, job: &Job, pipeline: u64, checkout: &Checkout, depth: Option<u64>) -> Value {
    let revision = &checkout.revision;
    let (name, sha) = (&revision.name, &revision.sha);
    let named = revision.full_ref.as_ref().map(|full| {
        if revision.is_tag { format!("+{full}:{full}") } else { format!("+{full}:refs/remotes/origin/{name}") }
    });
    let mut refspecs = vec![format!("+{sha}:refs/pipelines/{pipeline}")];
    refspecs.extend(named);
    let depth = depth.unwrap_or(DEFAULT_DEPTH);
    if depth == 0 {
        refspecs.truncate(1);
        refspecs.push("+refs/heads/*:refs/remotes/origin/*".to_owned());
        refspecs.push("+refs/tags/*:refs/tags/*".to_owned());
    }
    json!({
        "repo_url": variables::repository_url(&world.url, &checkout.repo.name, &job.token),
        "repo_object_format": if sha.len() == 64 { "sha256" } else { "sha1" },
        "ref": name,
        "sha": sha,
        "before_sha": variables::before(revision),
        "ref_type": if revision.is_tag { "tag" } else { "branch" },
        "refspecs": refspecs,
        "depth": depth,
        "protected": variables::is_protected(checkout),
    })
}

/// A dependency, fetched with the token of the job that needs it.
fn dependency(job: &Job, other: &Job) -> Option<Value> {
    let archive = other.archive()?;
    Some(json!({
        "id": other.id,
        "name": other.new.name,
        "token": job.token,
        "artifacts_file": {"filename": archive.filename, "size": archive.size},
    }))
}
