//! Pipelines under `/sim/pipelines`: from a repository's `.gitlab-ci.yml` at a ref to queued jobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CancelQuery, Refusal, admin_error, json_answer};
use crate::choice::Choice;
use crate::ci::{AllowFailure, CiArtifact, CiJob, CiPipeline, Problem};
use crate::hub::{Hub, SharedHub};
use crate::limits;
use crate::reading::{self, CI_FILE, Reading, Unread};
use crate::repo::Checkout;
use crate::state::pipelines::{Pipeline, left_out_view};
use crate::state::view::definition_view;
use crate::tasks;
use crate::variables::{Origin, PUSH, Variable};

/// The body of `POST /sim/pipelines`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineRequest {
    /// May be left out when only one repository is served.
    repo: Option<String>,
    /// The default branch if left out.
    #[serde(default, rename = "ref")]
    git_ref: String,
    /// A commit that is not the newest one of `ref`; without `ref` it is neither a branch's nor a
    /// tag's.
    sha: Option<String>,
    /// Only these jobs.
    jobs: Option<Vec<String>>,
    /// With `jobs`: also what they need.
    #[serde(default)]
    with_needs: bool,
    /// Manual and delayed jobs that need nobody to start them; `*` stands for all.
    #[serde(default)]
    start: Vec<String>,
    /// Lines that a job runs instead of its own.
    #[serde(default)]
    scripts: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
    /// Values for the inputs that `.gitlab-ci.yml` asks for.
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
    /// Nothing is made: the answer is the plan.
    #[serde(default)]
    dry_run: bool,
}

impl PipelineRequest {
    fn choice(&self) -> Choice {
        Choice {
            jobs: self.jobs.clone(),
            with_needs: self.with_needs,
            start: self.start.clone(),
            scripts: self.scripts.clone(),
        }
    }
}

/// `POST /sim/pipelines`.
pub(super) async fn create(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let wanted: PipelineRequest = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return admin_error(StatusCode::BAD_REQUEST, format!("the body does not fit: {error}")),
    };
    let checkout = match look_up(&hub, wanted.repo.as_deref(), &wanted.git_ref, wanted.sha.as_deref()).await {
        Ok(checkout) => Arc::new(checkout),
        Err(refused) => return *refused,
    };
    let given = match wanted.variables.iter().map(|(key, value)| given(key, value)).collect::<Result<Vec<_>, _>>() {
        // Those of the request come last, so that they win.
        Ok(given) => of_project(&hub, &checkout.repo.name).chain(given).collect::<Vec<_>>(),
        Err(what) => return admin_error(StatusCode::BAD_REQUEST, what),
    };
    let (id, url, now) = {
        let mut world = hub.world();
        let id = if wanted.dry_run { world.next_pipeline() } else { world.reserve_pipeline() };
        (id, world.url.clone(), world.now().wall)
    };
    let created_at = now.to_string();
    let origin = Origin { id, created_at: &created_at, source: PUSH };
    let mut known = reading::predefined(&url, &checkout, &origin);
    known.extend(given.iter().map(|variable| (variable.key.clone(), variable.value.clone())));
    let plan = match plan(&hub, &wanted, Arc::clone(&checkout), known).await {
        Ok(plan) => plan,
        Err(refused) => return *refused,
    };
    let warnings = problem_list(&plan.warnings);
    if wanted.dry_run {
        return json_answer(StatusCode::OK, &plan_view(&plan, &warnings));
    }
    let pipeline = Pipeline {
        id,
        checkout,
        name: plan.name.clone(),
        stages: plan.stages.clone(),
        jobs: Vec::new(),
        variables: given,
        created_at: now,
        auto_cancel: plan.auto_cancel,
        cancel_on_failure: plan.cancel_on_failure,
        source: PUSH,
        parent: None,
        left_out: plan.left_out.clone(),
        canceled_by: None,
        choice: wanted.choice(),
    };
    let mut world = hub.world();
    if !world.add_pipeline(pipeline, plan) {
        return admin_error(StatusCode::CONFLICT, format!("there would be more than {} jobs", limits::JOBS));
    }
    let ids = world.pipelines.get(&id).map(|pipeline| pipeline.jobs.as_slice()).unwrap_or_default();
    let jobs = ids.iter().filter_map(|id| world.jobs.get(id));
    let jobs = jobs.map(|job| json!({"id": job.id, "name": job.new.name, "stage": job.new.stage})).collect::<Value>();
    json_answer(StatusCode::CREATED, &json!({"id": id, "jobs": jobs, "warnings": warnings}))
}

/// The plan of what was asked for, or why there is none.
async fn plan(
    hub: &SharedHub,
    wanted: &PipelineRequest,
    checkout: Arc<Checkout>,
    known: Vec<(String, String)>,
) -> Result<CiPipeline, Refusal> {
    let inputs = wanted.inputs.iter().map(|(key, value)| Ok((key.clone(), plain_value(key, value)?)));
    let inputs = inputs.collect::<Result<_, String>>().map_err(|what| admin_error(StatusCode::BAD_REQUEST, what))?;
    let copies = Arc::clone(&hub.copies);
    let reading = Reading { checkout, copies, known, inputs, config: None, archives: HashMap::new() };
    let plan = match reading::read(reading).await {
        Ok(plan) => plan,
        Err(Unread::Invalid(problems)) => {
            return Err(unprocessable(&format!("{CI_FILE} is not valid"), &problems).into());
        }
        Err(Unread::NotInTime) => {
            let what = format!("{CI_FILE} could not be read in time");
            return Err(admin_error(StatusCode::INTERNAL_SERVER_ERROR, what).into());
        }
    };
    let plan = wanted.choice().apply(plan).map_err(|what| unprocessable(&what, &[]))?;
    if plan.jobs.is_empty() && !wanted.dry_run {
        return Err(unprocessable("the pipeline has no jobs: rules leave all of them out", &[]).into());
    }
    Ok(plan)
}

/// A plan as people see it.
fn plan_view(plan: &CiPipeline, warnings: &Value) -> Value {
    let job = |job: &CiJob| {
        let mut view = definition_view(job);
        let artifacts: Vec<&CiArtifact> = job.artifacts.iter().collect();
        let more = json!({
            "name": job.name,
            "stage": job.stage,
            "not_here": job.not_here,
            "allow_failure": job.allow_failure != AllowFailure::No,
            "tags": job.tags,
            "variables": job.variables.iter().map(|one| json!([one.key, one.value])).collect::<Value>(),
            "before_script": job.before_script,
            "script": job.script,
            "after_script": job.after_script,
            "timeout_seconds": job.timeout_seconds,
            "retries": job.retry.max,
            "interruptible": job.interruptible,
            "caches": job.cache.iter().map(|cache| json!({"key": cache.key, "paths": cache.paths})).collect::<Value>(),
            "artifacts": artifacts.iter().map(|one| json!({"type": one.artifact_type, "paths": one.paths})).collect::<Value>(),
        });
        if let (Some(view), Value::Object(more)) = (view.as_object_mut(), more) {
            view.extend(more);
        }
        view
    };
    json!({
        "name": plan.name,
        "stages": plan.stages,
        "jobs": plan.jobs.iter().map(job).collect::<Value>(),
        "left_out": plan.left_out.iter().map(left_out_view).collect::<Value>(),
        "warnings": warnings,
    })
}

/// The variables in a project's settings.
pub(crate) fn of_project(hub: &Hub, project: &str) -> impl Iterator<Item = Variable> {
    hub.variables.iter().filter(move |variable| variable.project == project).map(|variable| Variable {
        masked: variable.masked,
        ..Variable::private(&variable.key, variable.value.as_str())
    })
}

/// `GET /sim/pipelines/<id>`.
pub(super) async fn show(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    match hub.world().pipeline_view(id) {
        Some(view) => json_answer(StatusCode::OK, &view),
        None => admin_error(StatusCode::NOT_FOUND, format!("no pipeline {id}")),
    }
}

/// `GET /sim/pipelines`: the latest ones, the newest first.
pub(super) async fn list(State(hub): State<SharedHub>) -> Response {
    let view = hub.world().latest_pipelines();
    json_answer(StatusCode::OK, &view)
}

/// `POST /sim/pipelines/<id>/cancel`: all its open jobs, gracefully where their runners can; at
/// once with `force=true`.
pub(super) async fn cancel(
    State(hub): State<SharedHub>,
    Path(id): Path<u64>,
    Query(query): Query<CancelQuery>,
) -> Response {
    match hub.world().cancel_pipeline(id, query.force) {
        None => admin_error(StatusCode::NOT_FOUND, format!("no pipeline {id}")),
        Some(canceled) => json_answer(StatusCode::OK, &json!({"id": id, "canceled_jobs": canceled})),
    }
}

/// A repository at a ref or a commit, or why not.
pub(super) async fn look_up(
    hub: &SharedHub,
    repo: Option<&str>,
    git_ref: &str,
    sha: Option<&str>,
) -> Result<Checkout, Refusal> {
    let Some(repo) = hub.repo(repo).cloned() else {
        let served: Vec<&str> = hub.repos.iter().map(|repo| repo.name.as_str()).collect();
        let what = repo.map_or_else(|| "name one in `repo`".to_owned(), |name| format!("no repository {name:?}"));
        return Err(admin_error(StatusCode::NOT_FOUND, format!("{what}; served are: {}", served.join(", "))).into());
    };
    let (git_ref, sha) = (git_ref.to_owned(), sha.map(str::to_owned));
    let question = tasks::blocking(move || {
        let revision = match sha {
            Some(sha) => repo.revision_at(&git_ref, &sha)?,
            None => repo.revision(&git_ref)?,
        };
        Ok::<_, String>(Checkout { repo, revision })
    });
    match tokio::time::timeout(limits::GIT_QUESTION, question).await {
        Ok(Ok(Ok(checkout))) => Ok(checkout),
        Ok(Ok(Err(what))) => Err(admin_error(StatusCode::NOT_FOUND, what).into()),
        Ok(Err(_)) | Err(_) => Err(admin_error(StatusCode::INTERNAL_SERVER_ERROR, "git did not answer").into()),
    }
}

/// A variable of the pipeline: its value alone, or `{"value", "masked", "file"}` as a project's
/// settings have it.
fn given(key: &str, value: &Value) -> Result<Variable, String> {
    let Value::Object(fields) = value else { return Ok(Variable::private(key, plain_value(key, value)?)) };
    if let Some(unknown) = fields.keys().find(|name| !matches!(name.as_str(), "value" | "masked" | "file")) {
        return Err(format!("variable {key:?} has an unknown field {unknown:?}"));
    }
    let flag = |name: &str| match fields.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("`{name}` of variable {key:?} must be true or false")),
    };
    let value = fields.get("value").ok_or_else(|| format!("variable {key:?} has no `value`"))?;
    let plain = Variable::private(key, plain_value(key, value)?);
    Ok(Variable { masked: flag("masked")?, file: flag("file")?, ..plain })
}

/// Texts as they are; numbers and flags as they are written.
fn plain_value(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(format!("the value of variable {key:?} must be a text")),
    }
}

fn unprocessable(error: &str, problems: &[Problem]) -> Response {
    let body = json!({"error": error, "problems": problem_list(problems)});
    json_answer(StatusCode::UNPROCESSABLE_ENTITY, &body)
}

fn problem_list(problems: &[Problem]) -> Value {
    problems.iter().map(|p| json!({"file": p.file, "line": p.line, "message": p.message})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_given_plainly_or_with_their_settings() {
        let plain = Variable::private("K", "v");
        assert_eq!(given("K", &json!("v")), Ok(plain.clone()));
        assert_eq!(given("K", &json!(7)), Ok(Variable { value: "7".to_owned(), ..plain.clone() }));
        assert_eq!(given("K", &json!({"value": "v"})), Ok(plain.clone()));
        let secret = json!({"value": "v", "masked": true, "file": true});
        assert_eq!(given("K", &secret), Ok(Variable { masked: true, file: true, ..plain }));
    }

    #[test]
    fn variables_that_make_no_sense_are_refused() {
        for value in [
            json!(null),
            json!(["v"]),
            json!({}),
            json!({"value": null}),
            json!({"value": "v", "masked": "yes"}),
            json!({"value": "v", "mask": true}),
        ] {
            assert!(given("K", &value).is_err_and(|what| what.contains("\"K\"")), "{value}");
        }
    }
}
