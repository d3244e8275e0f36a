//! The payload of a job given through `/sim/jobs`: what was given goes out exactly as given, right
//! or wrong, because that is how a test feeds a runner with anything it likes; only keys that are
//! absent get a default.

use serde_json::{Map, Value, json};

use super::job_variables;
use crate::state::World;
use crate::state::job::{Job, RawJob};
use crate::variables::{self, Variable};

pub(super) fn payload(world: &World, job: &Job, raw: &RawJob) -> Value {
    let mut payload = raw.payload.clone();
    if raw.exact {
        return Value::Object(payload);
    }
    complete_variables(&mut payload, world, job, raw);
    complete_dependencies(&mut payload, world, job);
    let checkout = raw.checkout.as_ref();
    let mut default = |key: &str, value: Value| {
        payload.entry(key).or_insert(value);
    };
    default("id", json!(job.id));
    default("token", json!(job.token));
    default("allow_git_fetch", json!(true));
    default("job_info", super::job_info(world, job, job.id, checkout));
    let git_info = checkout.map_or_else(
        || json!({"repo_url": "", "ref": "main", "sha": "", "before_sha": "", "ref_type": "branch", "refspecs": [], "depth": 0}),
        |checkout| super::git_info(world, job, job.id, checkout, None),
    );
    default("git_info", git_info);
    default("runner_info", super::runner_info(job));
    default("steps", json!([]));
    default("image", json!({"name": "alpine:latest"}));
    for list in ["inputs", "services", "artifacts", "cache", "credentials", "hooks", "dependencies"] {
        default(list, json!([]));
    }
    default("features", super::features());
    Value::Object(payload)
}

/// The predefined variables come before the given ones, which therefore win. Something that is no
/// list stays alone.
fn complete_variables(payload: &mut Map<String, Value>, world: &World, job: &Job, raw: &RawJob) {
    let given = match payload.get("variables") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(_) => return,
    };
    let path = raw.checkout.as_ref().map_or("sim/jobs", |checkout| checkout.repo.name.as_str());
    let mut all = job_variables::job(world, job, path);
    all.extend(variables::server(&world.url));
    if let Some(checkout) = &raw.checkout {
        all.extend(variables::checkout(&world.url, checkout));
    } else {
        all.push(Variable::public("CI_PROJECT_ID", "1"));
        all.push(Variable::public("CI_PROJECT_NAME", variables::last_part(path)));
        all.push(Variable::public("CI_PROJECT_PATH", path));
        all.push(Variable::public("CI_PROJECT_PATH_SLUG", variables::slug(path)));
        all.push(Variable::public("CI_PROJECT_URL", format!("{}/{path}", world.url)));
    }
    let created_at = job.created_at.to_string();
    let origin = variables::Origin { id: job.id, created_at: &created_at, source: variables::PUSH };
    all.extend(variables::pipeline(&world.url, path, &origin));
    let has_sources =
        raw.checkout.is_some() || payload.get("git_info").is_some_and(|git| git.get("repo_url").is_some());
    if !has_sources {
        all.push(Variable::public("GIT_STRATEGY", "none"));
    }
    let all = all.iter().map(Variable::to_json).chain(given).chain(raw.extra_variables.iter().cloned());
    payload.insert("variables".to_owned(), all.collect());
}

/// A dependency that names only an `id` gets what a runner needs to fetch it.
fn complete_dependencies(payload: &mut Map<String, Value>, world: &World, job: &Job) {
    let Some(list) = payload.get_mut("dependencies").and_then(Value::as_array_mut) else { return };
    for entry in list.iter_mut().filter_map(Value::as_object_mut) {
        let other = entry.get("id").and_then(Value::as_u64).and_then(|id| world.jobs.get(&id));
        let Some(Value::Object(complete)) = other.and_then(|other| super::dependency(job, other)) else { continue };
        for (key, value) in complete {
            entry.entry(key).or_insert(value);
        }
    }
}
