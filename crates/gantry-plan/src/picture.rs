//! A plan as people read it: the log's first lines, the objects, the stages, and what else the
//! agent is told. Nothing in it is secret: what the plan itself keeps as one is replaced, wherever
//! a text repeats it.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::feature_flags::FLAGS;
use gantry_core::redactor::Redactor;
use gantry_core::secret::MASKED;
use gantry_core::{NoteLevel, Secret, error_chain::chain};
use gantry_wire::plan::{Action, PodPlan};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{ANNOTATION_TICKET, Awaited, Fallback, HeadLine, JobPlan, Making, PullSecret};

/// A plan to print. Fields are in the order in which a job meets them.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// What the job log begins with.
    pub log: Vec<String>,
    /// How long things may take.
    pub limits: Limits,
    /// What is made in Kubernetes, as manifests.
    pub objects: Vec<Value>,
    /// What the agent does, in order.
    pub stages: Vec<Value>,
    /// What else it is told.
    pub agent: Value,
}

/// Limits of the manager; the agent has its own.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// The job's time-out.
    pub job_seconds: u64,
    /// How long the pod may take to start.
    pub start_seconds: u64,
    /// Grace period of the pod's deletion; absent for the pod's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_seconds: Option<i64>,
    /// How long objects are tried to be removed; absent for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal_seconds: Option<u64>,
    /// Tries of requests; absent where they are only limited by the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
    /// The same for some errors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tries_by_error: BTreeMap<String, u32>,
    /// The longest pause between two tries; absent for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u128>,
    /// What must be there before the pod is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<String>,
    /// Pull policies that are tried after the first, by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other_pull_policies: BTreeMap<String, Vec<String>>,
    /// The API server is asked with a token of the job's own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub with_token_of_job: bool,
}

impl Limits {
    fn of(plan: &JobPlan) -> Self {
        /// What the default of `cleanup_resources_timeout` is not worth a line for.
        const USUAL_REMOVAL: Duration = Duration::from_mins(5);
        let Making { awaited, fallbacks, tries, cleanup_timeout, bearer_token, .. } = &plan.making;
        let named = |awaited: &Awaited| {
            let account = awaited.service_account.iter().map(|name| format!("ServiceAccount/{name}"));
            let secrets = awaited.pull_secrets.iter().map(|name| format!("Secret/{name}"));
            account.chain(secrets).map(|what| format!("{what} ({} looks)", awaited.attempts + 1)).collect()
        };
        let words = |fallback: &Fallback| {
            let words = fallback.policies.iter().map(|policy| policy.unwrap_or("the cluster's").to_owned());
            (fallback.container.clone(), words.collect())
        };
        Self {
            job_seconds: plan.timeout.as_secs(),
            start_seconds: plan.start_timeout.as_secs(),
            deletion_grace_seconds: plan.cleanup_grace_seconds,
            removal_seconds: (*cleanup_timeout != USUAL_REMOVAL).then_some(cleanup_timeout.as_secs()),
            tries: tries.limit,
            tries_by_error: tries.by_text.clone(),
            pause_ms: tries.longest_pause.map(|pause| pause.as_millis()),
            awaited: awaited.as_ref().map(named).unwrap_or_default(),
            other_pull_policies: fallbacks.iter().map(words).collect(),
            with_token_of_job: bearer_token.is_some(),
        }
    }
}

/// How much of a plan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    All,
    /// Without the variables of feature flags that have their default, which are in every
    /// container.
    Brief,
}

/// Without what is secret in it.
fn secret(secret: &PullSecret) -> Value {
    let PullSecret { name, registries, .. } = secret;
    let entries: serde_json::Map<String, Value> = registries.iter().map(|name| (name.clone(), json!(MASKED))).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": {"auths": entries}},
    })
}

impl Picture {
    /// Takes a picture of a plan.
    pub fn of(plan: &JobPlan, detail: Detail) -> Self {
        let redactor = Redactor::new(secrets(&plan.pod_plan));
        let shown = |mut value: Value| {
            clean(&mut value, &redactor, &plan.pod_plan, detail);
            value
        };
        let mut agent = shown(json!(plan.pod_plan));
        let stages = agent.as_object_mut().and_then(|agent| agent.remove("stages"));
        let line = |line: &HeadLine| {
            let start = if line.level == NoteLevel::Warning { "WARNING: " } else { "" };
            format!("{start}{}", redactor.redact(&line.text))
        };
        Self {
            log: plan.banner.iter().chain(&plan.executor).map(line).collect(),
            limits: Limits::of(plan),
            objects: (plan.making.namespace.iter().map(|namespace| json!(namespace)))
                .chain(plan.pull_secret.iter().map(secret))
                .chain(plan.making.disruption_budget.iter().map(|budget| json!(budget)))
                .chain([shown(json!(plan.pod))])
                .collect(),
            stages: stages.as_ref().and_then(Value::as_array).cloned().unwrap_or_default(),
            agent,
        }
    }

    /// The picture as YAML.
    ///
    /// # Errors
    /// Only if the writer has a bug: every value that is here can be written.
    pub fn yaml(&self) -> Result<String, String> {
        serde_saphyr::to_string(self).map_err(|error| chain(&error))
    }
}

/// Everything in the plan that is a secret by its nature. Scripts and ordinary variables travel
/// like secrets too, but are what one wants to see.
fn secrets(plan: &PodPlan) -> impl Iterator<Item = &Secret> {
    let downloads = plan.stages.iter().flat_map(|stage| match &stage.action {
        Action::DownloadArtifacts(downloads) => downloads.as_slice(),
        _ => &[],
    });
    let tokens = downloads.map(|download| &download.token);
    plan.trace.masks.iter().chain([&plan.job_token]).chain(tokens)
}

/// Takes secrets out of every text below `value`, and what is not worth showing out of every list.
fn clean(value: &mut Value, redactor: &Redactor, plan: &PodPlan, detail: Detail) {
    match value {
        Value::Array(list) => {
            list.retain(|item| detail == Detail::All || !is_default_flag(item));
            for item in list.iter_mut() {
                clean(item, redactor, plan, detail);
            }
        }
        Value::Object(map) => {
            let is_secret_object = map.get("kind").is_some_and(|kind| kind == "Secret");
            if let Some(ticket) = map.get_mut(ANNOTATION_TICKET) {
                *ticket = "(sealed)".into();
            }
            for (key, below) in map.iter_mut() {
                if is_secret_object && ["data", "stringData"].contains(&key.as_str()) {
                    for (_, text) in below.as_object_mut().into_iter().flatten() {
                        *text = MASKED.into();
                    }
                }
                clean(below, redactor, plan, detail);
            }
        }
        Value::String(text) => {
            // A short one is looked for as a whole only: it would be found everywhere.
            let is_secret = plan.trace.masks.iter().any(|mask| mask.expose().trim() == text.trim());
            let shown = if is_secret && !text.is_empty() { MASKED.into() } else { redactor.redact(text) };
            if shown != *text {
                *text = shown.into_owned();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_default_flag(item: &Value) -> bool {
    let name = item["key"].as_str().or(item["name"].as_str());
    FLAGS.iter().any(|flag| {
        Some(flag.name) == name && item["value"].as_str() == Some(if flag.default { "true" } else { "false" })
    })
}
