//! Makes plans from texts and shows them. What every plan has in common (flags at their default,
//! start commands) is left out of pictures: it would hide what a case is about.

use gantry_core::job::JobSpec;
use gantry_plan::picture::{Detail, Picture};
use gantry_plan::{Context, HeadLine, JobPlan, PlanError};
use gantry_wire::layout::{BUILD, HELPER};
use gantry_wire::ticket::TicketKey;
use serde_json::{Value, json};

/// The one job token of all cases.
pub(crate) const TOKEN: &str = "glcbt-64_Kf9sQ2mXw7TzRb4pYc1J";

/// A file with one entry: the least it needs, then `more` keys of its own, then `more` tables.
fn load(more: &str) -> gantry_config::Loaded {
    let text = format!(
        "[[runners]]\nname = \"cluster-1\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-t1_aaa0bbb11ccc22\"\n\
         executor = \"kubernetes\"\n{more}"
    );
    gantry_config::load(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// Why the entry cannot be used, where that is found when the file is read.
pub(crate) fn refused_at_load(more: &str) -> Option<String> {
    Some(load(more).unusable.first()?.errors.first()?.to_string())
}

/// The settings of a runner.
pub(crate) fn runner(more: &str) -> gantry_config::RunnerSettings {
    let loaded = load(more);
    loaded.settings.runners.into_iter().next().expect("one runner")
}

/// What tickets are sealed with.
pub(crate) fn ticket_key() -> TicketKey {
    TicketKey::derive(&"the key of all cases".into())
}

/// What a manager knows, always the same.
pub(crate) fn context() -> Context {
    Context {
        revision: "0.1.0-abc".to_owned(),
        git_user_agent: "gantry 0.1.0 linux/amd64".to_owned(),
        concurrent_id: 3,
        concurrent_project_id: 1,
        correlation_id: Some("01J9ZQ".to_owned()),
        ticket_key: ticket_key(),
        ..Context::example()
    }
}

/// The payload of a job that only says hello, with `more` merged into it.
pub(crate) fn payload(more: &Value) -> Value {
    let mut job = json!({
        "id": 98765,
        "token": TOKEN,
        "allow_git_fetch": true,
        "job_info": {"name": "unit", "stage": "test", "project_id": 4711, "project_name": "shop", "project_full_path": "acme/web/shop",
            "root_namespace_id": 7},
        "git_info": {"repo_url": format!("https://gitlab-ci-token:{TOKEN}@gitlab.example.com/acme/web/shop.git"), "ref": "main",
            "sha": "6f1c2d3e4f5061728394a5b6c7d8e9f001122334", "before_sha": "0".repeat(40), "ref_type": "branch",
            "refspecs": ["+refs/pipelines/314:refs/pipelines/314"], "depth": 20},
        "runner_info": {"timeout": 3600},
        "image": {"name": "ruby:3.3"},
        "steps": [{"name": "script", "script": ["echo hello"]}],
        "features": {"trace_sections": true, "failure_reasons": ["script_failure"]}
    });
    merge(&mut job, more);
    job
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// Reads a payload as the coordinator client does.
pub(crate) fn job(payload: Value) -> JobSpec {
    serde_json::from_value(payload).expect("a payload")
}

/// The plan of a job, or why there is none.
pub(crate) fn try_plan(more_config: &str, more_job: &Value) -> Result<JobPlan, PlanError> {
    gantry_plan::plan(&job(payload(more_job)), &runner(more_config), &context(), &gantry_plan::Links::default())
}

/// The plan of a job that must have one.
pub(crate) fn plan(more_config: &str, more_job: &Value) -> JobPlan {
    try_plan(more_config, more_job).unwrap_or_else(|error| panic!("{error}"))
}

/// A variable of a payload.
pub(crate) fn variable(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value, "public": true})
}

/// Lines of the head, one each.
pub(crate) fn lines(lines: &[HeadLine]) -> Vec<String> {
    lines.iter().map(|line| format!("{:?}: {}", line.level, line.text)).collect()
}

/// Everything about a plan, as `gantry plan` prints it, by topic; with texts of several lines as
/// lines.
pub(crate) fn topics(plan: &JobPlan) -> [(&'static str, Value); 8] {
    let Picture { objects, stages, mut agent, .. } = Picture::of(plan, Detail::Brief);
    let [others @ .., pod] = objects.as_slice() else { panic!("no pod") };
    let mut pod = pod.clone();
    let mut log = json!({
        "1 banner": lines(&plan.banner),
        "2 executor": lines(&plan.executor),
        "3 limits": {"timeout": plan.timeout.as_secs(), "start": plan.start_timeout.as_secs(), "grace": plan.cleanup_grace_seconds},
        "4 namespace": plan.namespace,
        "5 services": plan.services,
    });
    if !others.is_empty() {
        log["6 other objects"] = others.into();
    }
    let metadata = pod["metadata"].take();
    let Value::Array(containers) = pod["spec"]["containers"].take() else { panic!("no containers") };
    let is_ours = |container: &Value| container["name"] == HELPER || container["name"] == BUILD;
    let (containers, services): (Vec<Value>, Vec<Value>) = containers.into_iter().partition(is_ours);
    let environment = agent["environment"].take();
    let mut topics = [
        ("log", log),
        ("metadata", metadata),
        ("containers", containers.into()),
        ("service_containers", services.into()),
        ("pod", pod),
        ("environment", environment),
        ("stages", stages.into()),
        ("agent", agent),
    ];
    for (_, value) in &mut topics {
        tidy(value);
    }
    topics
}

/// The pod alone.
pub(crate) fn pod(plan: &JobPlan) -> Value {
    let [pod] = Picture::of(plan, Detail::Brief).objects.try_into().expect("one object");
    let mut shown: Value = pod;
    tidy(&mut shown);
    shown
}

/// One field of each container.
pub(crate) fn of_containers(plan: &JobPlan, fields: &[&str]) -> Value {
    let pod = pod(plan);
    let mut shown = serde_json::Map::new();
    for container in pod["spec"]["containers"].as_array().expect("containers") {
        let some = fields.iter().map(|field| ((*field).to_owned(), container[field].clone())).collect();
        shown.insert(container["name"].as_str().expect("a name").to_owned(), Value::Object(some));
    }
    Value::Object(shown)
}

/// Leaves out start commands, which all plans share, and shows texts of several lines as lines.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(list) => {
            if let [_, _, Value::String(script)] = list.as_mut_slice()
                && script.starts_with("trap ")
            {
                "(start command)".clone_into(script);
            }
            list.iter_mut().for_each(tidy);
        }
        Value::Object(map) => {
            map.values_mut().for_each(tidy);
        }
        Value::String(text) if text.contains('\n') => *value = text.lines().map(Value::from).collect(),
        _ => {}
    }
}

/// Compares with `tests/goldens/<name>.snap`.
macro_rules! golden {
    ($name:literal, $value:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../goldens");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_yaml_snapshot!($name, $value));
    }};
}
pub(crate) use golden;

/// Compares a whole plan with `tests/goldens/<name>/<topic>.snap`.
macro_rules! golden_plan {
    ($name:literal, $plan:expr) => {{
        for (topic, value) in topics($plan) {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(concat!("../goldens/", $name));
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_yaml_snapshot!(topic, value));
        }
    }};
}
pub(crate) use golden_plan;
