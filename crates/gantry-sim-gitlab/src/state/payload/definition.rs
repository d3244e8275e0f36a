//! The payload of a job that a `.gitlab-ci.yml` defines. Pure.

use serde_json::{Map, Value, json};

use super::job_variables;
use crate::ci::{CiArtifact, CiCache, CiImage, CiJob, CiJobInput, CiNode, CiVariable, When};
use crate::state::World;
use crate::state::job::Job;
use crate::state::pipelines::Pipeline;
use crate::variables::{self, Variable};

pub(super) fn payload(world: &World, job: &Job, pipeline: &Pipeline, definition: &CiJob) -> Value {
    let checkout = &pipeline.checkout;
    let sources = sources(world, pipeline, definition);
    let variables = variables(world, job, pipeline, definition, &sources);
    let depth = last(&variables, "GIT_DEPTH").and_then(|depth| depth.trim().parse().ok());
    let list = variables.iter().map(Variable::to_json).collect::<Value>();
    let protected = variables::is_protected(checkout);
    json!({
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": true,
        "job_info": super::job_info(world, job, pipeline.id, Some(checkout)),
        "git_info": super::git_info(world, job, pipeline.id, checkout, depth),
        "runner_info": super::runner_info(job),
        "inputs": definition.inputs.iter().map(input).collect::<Value>(),
        "variables": list,
        "steps": steps(job, definition),
        "hooks": hooks(definition),
        "image": definition.image.as_ref().map(image),
        "services": definition.services.iter().map(service).collect::<Value>(),
        "artifacts": definition.artifacts.iter().map(artifact).collect::<Value>(),
        "cache": definition.cache.iter().map(|entry| cache(entry, protected)).collect::<Value>(),
        "credentials": [],
        "dependencies": sources.iter().filter_map(|other| super::dependency(job, other)).collect::<Value>(),
        "features": super::features(),
    })
}

/// In the order in which GitLab sends them; the last of a name wins, so what a person gave for the
/// pipeline beats the dotenv reports of earlier jobs, those beat the file, and the file beats what
/// is predefined.
fn variables(world: &World, job: &Job, pipeline: &Pipeline, definition: &CiJob, sources: &[&Job]) -> Vec<Variable> {
    let path = &pipeline.checkout.repo.name;
    let mut all = job_variables::job(world, job, path);
    all.extend(variables::server(&world.url));
    all.extend(variables::checkout(&world.url, &pipeline.checkout));
    let created_at = pipeline.created_at.to_string();
    let origin = variables::Origin { id: pipeline.id, created_at: &created_at, source: pipeline.source };
    all.extend(variables::pipeline(&world.url, path, &origin));
    if let Some(name) = &pipeline.name {
        all.push(Variable::public("CI_PIPELINE_NAME", name.as_str()));
    }
    if let Some(CiNode { index, total }) = definition.parallel {
        all.push(Variable::public("CI_NODE_INDEX", index.to_string()));
        all.push(Variable::public("CI_NODE_TOTAL", total.to_string()));
    }
    if definition.when == When::Manual {
        all.push(Variable::public("CI_JOB_MANUAL", "true"));
    }
    all.extend(definition.variables.iter().map(variable));
    let reported = sources.iter().flat_map(|other| other.dotenv());
    all.extend(reported.map(|(key, value)| Variable::private(key, value.as_str())));
    all.extend(pipeline.variables.iter().cloned());
    if let Some(environment) = &definition.environment {
        all.extend(variables::environment(environment, &all));
    }
    variables::expand(&mut all, variables::Literal::ForRunner);
    all
}

fn variable(variable: &CiVariable) -> Variable {
    Variable {
        key: variable.key.clone(),
        value: variable.value.clone(),
        public: !variable.masked,
        masked: variable.masked,
        file: variable.file,
        raw: !variable.expand,
    }
}

fn last<'a>(variables: &'a [Variable], key: &str) -> Option<&'a str> {
    variables.iter().rev().find(|variable| variable.key == key).map(|variable| variable.value.as_str())
}

fn steps(job: &Job, definition: &CiJob) -> Value {
    let timeout = job.new.timeout.as_secs();
    let script: Vec<&String> = definition.before_script.iter().chain(&definition.script).collect();
    let mut steps = vec![json!({
        "name": "script", "script": script, "timeout": timeout, "when": "on_success", "allow_failure": false,
    })];
    if !definition.after_script.is_empty() {
        steps.push(json!({
            "name": "after_script", "script": definition.after_script,
            "timeout": timeout, "when": "always", "allow_failure": true,
        }));
    }
    Value::Array(steps)
}

fn input(input: &CiJobInput) -> Value {
    json!({"key": input.name, "value": {"type": input.kind, "content": input.content, "sensitive": false}})
}

fn hooks(definition: &CiJob) -> Value {
    if definition.pre_get_sources_script.is_empty() {
        return json!([]);
    }
    json!([{"name": "pre_get_sources_script", "script": definition.pre_get_sources_script}])
}

fn image(image: &CiImage) -> Value {
    json!({
        "name": image.name,
        "entrypoint": none_if_empty(&image.entrypoint),
        "ports": [],
        "pull_policy": none_if_empty(&image.pull_policy),
        "executor_opts": executor_options(image),
    })
}

fn service(service: &CiImage) -> Value {
    json!({
        "name": service.name,
        "alias": service.alias,
        "entrypoint": none_if_empty(&service.entrypoint),
        "command": none_if_empty(&service.command),
        "ports": [],
        "pull_policy": none_if_empty(&service.pull_policy),
        "variables": service.variables.iter().map(|entry| variable(entry).to_json()).collect::<Value>(),
        "executor_opts": executor_options(service),
    })
}

fn executor_options(image: &CiImage) -> Value {
    let options = [
        ("docker", "platform", &image.docker_platform),
        ("docker", "user", &image.docker_user),
        ("kubernetes", "user", &image.kubernetes_user),
    ];
    let mut groups = Map::new();
    for (executor, key, value) in options {
        let Some(value) = value else { continue };
        let group = groups.entry(executor).or_insert_with(|| json!({}));
        if let Some(group) = group.as_object_mut() {
            group.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(groups)
}

fn none_if_empty(list: &[String]) -> Option<&[String]> {
    (!list.is_empty()).then_some(list)
}

fn artifact(artifact: &CiArtifact) -> Value {
    json!({
        "name": artifact.name,
        "untracked": artifact.untracked,
        "paths": artifact.paths,
        "exclude": artifact.exclude,
        "when": artifact.when,
        "expire_in": artifact.expire_in,
        "artifact_type": artifact.artifact_type,
        "artifact_format": artifact.format,
    })
}

/// Protected branches have caches of their own: GitLab marks every key with its side.
fn cache(cache: &CiCache, protected: bool) -> Value {
    let side = if protected && !cache.unprotect { "protected" } else { "non_protected" };
    let mark = |key: &String| format!("{key}-{side}");
    json!({
        "key": mark(&cache.key),
        "untracked": cache.untracked,
        "policy": cache.policy,
        "paths": cache.paths,
        "when": cache.when,
        "fallback_keys": cache.fallback_keys.iter().map(mark).collect::<Value>(),
    })
}

/// The jobs whose archives are fetched and whose dotenv variables count: those named by
/// `dependencies`, else by `needs`, else all of earlier stages.
fn sources<'a>(world: &'a World, pipeline: &'a Pipeline, definition: &CiJob) -> Vec<&'a Job> {
    let position = |name: &str| pipeline.stages.iter().position(|stage| stage == name);
    let own_stage = position(&definition.stage);
    let wanted = |other: &CiJob| match (&definition.dependencies, &definition.needs) {
        (Some(names), _) => names.contains(&other.name),
        (None, Some(needs)) => needs.iter().any(|need| need.artifacts && need.job == other.name),
        (None, None) => position(&other.stage) < own_stage,
    };
    let others = world.current_jobs(pipeline).filter(|(_, other)| wanted(other));
    others.map(|(other, _)| other).chain(upstream(world, pipeline, definition)).collect()
}

/// The jobs of parent pipelines whose artifacts are asked for (`needs:pipeline:job`).
fn upstream<'a>(world: &'a World, pipeline: &'a Pipeline, definition: &CiJob) -> Vec<&'a Job> {
    let known = |name: &str| {
        let given = pipeline.variables.iter().rev().find(|variable| variable.key == name);
        given.map(|variable| variable.value.clone())
    };
    let found = definition.upstream.iter().filter_map(|(id, name)| {
        let id = match id.strip_prefix('$') {
            Some(variable) => known(variable.trim_start_matches('{').trim_end_matches('}'))?,
            None => id.clone(),
        };
        let parent = world.pipelines.get(&id.trim().parse().ok()?)?;
        world.current_jobs(parent).find(|(_, other)| other.name == *name).map(|(other, _)| other)
    });
    found.collect()
}
