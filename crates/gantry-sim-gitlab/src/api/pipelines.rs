//! Pipelines under `/sim/pipelines`: from a repository's `.gitlab-ci.yml` at a ref to queued jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::CancelQuery;
use super::{Refusal, admin_error, json_answer};
use crate::ci::{self, CiInput, CiJob, CiPipeline, Problem};
use crate::hub::SharedHub;
use crate::limits;
use crate::payload::variables::{self, Variable};
use crate::repo::{Checkout, Repo};
use crate::state::pipelines::Pipeline;
use crate::tasks;
use crate::tree::Tree;

const CI_FILE: &str = ".gitlab-ci.yml";

/// The body of `POST /sim/pipelines`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// May be left out when only one repository is served.
    repo: Option<String>,
    /// The default branch if left out.
    #[serde(default, rename = "ref")]
    git_ref: String,
    /// A commit that is not the newest one of `ref`; without `ref` it is neither a branch's nor a tag's.
    sha: Option<String>,
    /// Only these jobs.
    jobs: Option<Vec<String>>,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
}

/// `POST /sim/pipelines`.
pub(super) async fn create(State(hub): State<SharedHub>, body: Bytes) -> Response {
    let wanted: Wanted = match serde_json::from_slice(&body) {
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
        (world.reserve_pipeline(), world.url.clone(), world.now().wall)
    };
    let mut known = predefined(&url, &checkout, id, &now.to_string());
    known.extend(given.iter().map(|variable| (variable.key.clone(), variable.value.clone())));
    let plan = match read_plan(Arc::clone(&checkout), known).await {
        Ok(plan) => plan,
        Err(refused) => return *refused,
    };
    let plan = match choose(plan, wanted.jobs.as_deref()) {
        Ok(plan) => plan,
        Err(what) => return unprocessable(&what, &[]),
    };
    if plan.jobs.is_empty() {
        return unprocessable("the pipeline has no jobs: rules leave all of them out", &[]);
    }
    let warnings = problem_list(&plan.warnings);
    let pipeline = Pipeline {
        id,
        checkout,
        name: plan.name.clone(),
        stages: plan.stages.clone(),
        jobs: Vec::new(),
        variables: given,
        created_at: now,
        auto_cancel: plan.auto_cancel,
        canceled_by: None,
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

/// The variables in a project's settings.
fn of_project(hub: &SharedHub, project: &str) -> impl Iterator<Item = Variable> {
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

/// `POST /sim/pipelines/<id>/cancel`: all its open jobs, gracefully where their runners can; at once with `force=true`.
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

/// What `rules` and `include` may refer to.
fn predefined(url: &str, checkout: &Checkout, id: u64, created_at: &str) -> Vec<(String, String)> {
    let mut all = variables::server(url);
    all.extend(variables::checkout(url, checkout));
    all.extend(variables::pipeline(url, &checkout.repo.name, id, created_at));
    all.into_iter().map(|variable| (variable.key, variable.value)).collect()
}

async fn read_plan(checkout: Arc<Checkout>, known: Vec<(String, String)>) -> Result<CiPipeline, Refusal> {
    let reading = tasks::blocking(move || read_blocking(&checkout, &known));
    match tokio::time::timeout(limits::GIT_QUESTION, reading).await {
        Ok(Ok(Ok(plan))) => Ok(plan),
        Ok(Ok(Err(problems))) => Err(unprocessable(&format!("{CI_FILE} is not valid"), &problems).into()),
        Ok(Err(_)) | Err(_) => {
            Err(admin_error(StatusCode::INTERNAL_SERVER_ERROR, format!("{CI_FILE} could not be read in time")).into())
        }
    }
}

fn read_blocking(checkout: &Checkout, known: &[(String, String)]) -> Result<CiPipeline, Vec<Problem>> {
    let (repo, sha): (&Repo, &str) = (&checkout.repo, &checkout.revision.sha);
    let Some(yaml) = repo.file(sha, CI_FILE) else {
        let message =
            format!("commit {sha} has no such file, or it is no text, or larger than {} bytes", limits::CI_FILE);
        return Err(vec![Problem { file: CI_FILE.to_owned(), line: 1, message }]);
    };
    let tree = Tree::new(repo, &checkout.revision);
    ci::read(&CiInput { yaml: &yaml, file: CI_FILE, variables: known, repository: &tree })
}

/// Keeps only the named jobs; a name also stands for all instances of a parallel job.
fn choose(mut plan: CiPipeline, names: Option<&[String]>) -> Result<CiPipeline, String> {
    let Some(names) = names else { return Ok(plan) };
    let unknown: Vec<&str> =
        names.iter().filter(|name| !plan.jobs.iter().any(|job| is_named(job, name))).map(String::as_str).collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
        return Err(format!("no such jobs: {}; there are: {}", unknown.join(", "), known.join(", ")));
    }
    plan.jobs.retain(|job| names.iter().any(|name| is_named(job, name)));
    Ok(plan)
}

fn is_named(job: &CiJob, name: &str) -> bool {
    let instance = |rest: &str| job.parallel.is_some() && (rest.starts_with(' ') || rest.starts_with(": ["));
    job.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || instance(rest))
}

/// A variable of the pipeline: its value alone, or `{"value", "masked", "file"}` as a project's settings have it.
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
