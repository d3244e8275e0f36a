//! A key that is said to act is read by somebody. The proof is a difference: taken out of a file
//! that has them all (`every-key.toml`), it changes what is planned for a job, or makes the entry
//! unusable. What acts elsewhere than in plans must be used by name outside of gantry-config.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gantry_config::key::Form;
use gantry_config::{Key, RunnerSettings, keys};
use gantry_core::job::JobSpec;
use gantry_daemon::wiring;
use gantry_wire::plan::Alone;
use serde_json::{Value, json};

use crate::assert_none;
use crate::project::{File, read, rust_files};

/// Each acting key in a line of its own, with a value other than its default.
const FILE: &str = "tests/tidy/every-key.toml";

/// Keys that keep others from acting: without them those are seen.
const STRONGER: [&str; 10] = [
    "runners.kubernetes.namespace_per_job",
    "runners.kubernetes.use_service_account_image_pull_secrets",
    "runners.kubernetes.helper_image",
    "runners.kubernetes.container_lifecycle.post_start.exec.command",
    "runners.kubernetes.container_lifecycle.pre_stop.exec.command",
    "runners.custom_build_dir.enabled",
    "runners.kubernetes.build_container_security_context.",
    "runners.kubernetes.helper_container_security_context.",
    "runners.kubernetes.service_container_security_context.",
    "runners.kubernetes.node_selector",
];

/// Older names of keys: what is read where the key itself is missing, in gantry-config alone.
const OLDER: [&str; 1] = ["runners[].cache.s3.UploadRoleARN"];

/// Fields that are called like much else, and what they are used through where they act.
const USED_THROUGH: [(&str, &str); 4] = [
    ("runners.limit", "settings.limit"),
    ("runners.labels", "settings.labels"),
    ("runners.kubernetes.host", "kubernetes.host"),
    ("runners.kubernetes.context", "kubernetes.context"),
];

#[test]
fn keys_that_act_are_used() {
    let all = read(FILE);
    let is_stronger = |path: &str| {
        STRONGER.iter().any(|stronger| path == *stronger || (stronger.ends_with('.') && path.starts_with(stronger)))
    };
    let stronger: Vec<usize> =
        lines(&all).into_iter().filter(|(path, _)| is_stronger(path)).flat_map(|(_, numbers)| numbers).collect();
    let worlds = [World::of(&all), World::of(&without_commands(&without(&all, &stronger)))];
    let files: Vec<File> = rust_files().into_iter().filter(is_product).collect();
    let mut problems = Vec::new();
    // A key without a field that acts is an older name, which the field of another one is read
    // from.
    let has_value = |key: &&Key| key.field.is_some() && !matches!(key.form, Form::Table | Form::Tables);
    for key in keys().iter().filter(has_value).filter(|key| key.effect.acts()) {
        let path = key.path.replace("[]", "");
        if !worlds[0].lines.contains_key(&path) {
            problems.push(format!("{}: add it to {FILE}, with a value other than its default", key.path));
            continue;
        }
        let is_seen = worlds.iter().any(|world| world.changes_without(&path));
        if !is_seen
            && !OLDER.contains(&key.path.as_str())
            && !key.field.as_ref().is_some_and(|field| is_named(field, &files))
        {
            problems.push(format!("{}: it is said to act, and nobody reads it (.never(\"…\") says so)", key.path));
        }
    }
    assert_none("keys that act", &problems);
}

/// A key of the parity list of the reference is a key, or in a table that is not read.
#[test]
fn every_key_of_the_reference_is_declared() {
    let known: BTreeMap<String, &Key> = keys().iter().map(|key| (key.path.replace("[]", ""), key)).collect();
    let list = read("crates/gantry-config/tests/data/config-keys.tsv");
    let mut problems = Vec::new();
    for path in list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split('\t').next()) {
        let path = path.replace("[]", "");
        let mut above = path.as_str();
        let is_in_unread = std::iter::from_fn(|| {
            above = above.rsplit_once('.')?.0;
            Some(above)
        })
        .any(|table| known.get(table).is_some_and(|key| key.form == Form::Anything));
        if !known.contains_key(&path) && !is_in_unread {
            problems.push(path);
        }
    }
    assert_none("keys of the reference", &problems);
}

fn is_product(file: &File) -> bool {
    file.path.starts_with("crates/")
        && !file.path.starts_with("crates/gantry-sim-")
        && !file.path.starts_with("crates/gantry-config/")
}

/// Whether a field is used by its name.
fn is_named(field: &str, files: &[File]) -> bool {
    let through = USED_THROUGH.iter().find(|(of, _)| *of == field).map(|(_, through)| (*through).to_owned());
    let last = field.rsplit('.').next().unwrap_or_default();
    let wanted = through.unwrap_or_else(|| format!(".{last}"));
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    files.iter().flat_map(File::production).any(|line| {
        let code = line.split("//").next().unwrap_or_default();
        code.match_indices(&wanted).any(|(at, _)| is_end(&code[at + wanted.len()..]))
    })
}

/// The lines of each key, by its path without `[]`.
fn lines(text: &str) -> BTreeMap<String, Vec<usize>> {
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut table = String::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut table);
        } else if let Some((key, _)) = line.split_once(" = ") {
            let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            found.entry(path).or_default().push(number);
        }
    }
    found
}

fn without(text: &str, numbers: &[usize]) -> String {
    let kept = text.lines().enumerate().filter(|(number, _)| !numbers.contains(number));
    kept.fold(String::new(), |text, (_, line)| text + line + "\n")
}

/// A file, and what becomes of jobs by it.
struct World {
    text: String,
    lines: BTreeMap<String, Vec<usize>>,
    jobs: Vec<(String, JobSpec)>,
}

impl World {
    fn of(text: &str) -> Self {
        let before = runner(text).unwrap_or_else(|why| panic!("{FILE} cannot be used: {why}"));
        let jobs: Vec<(String, JobSpec)> = jobs().into_iter().map(|job| (planned(&job, &before), job)).collect();
        for (plan, job) in &jobs {
            assert_eq!(planned(job, &before), *plan, "plans that differ by themselves prove nothing");
        }
        Self { text: text.to_owned(), lines: lines(text), jobs }
    }

    /// Whether a key makes a difference.
    fn changes_without(&self, path: &str) -> bool {
        let Some(numbers) = self.lines.get(path) else { return false };
        match runner(&without(&self.text, numbers)) {
            Ok(after) => self.jobs.iter().any(|(plan, job)| planned(job, &after) != *plan),
            // It is needed.
            Err(_) => true,
        }
    }
}

/// Without the tables of commands, of which there is one in every hook.
fn without_commands(text: &str) -> String {
    ["post_start", "pre_stop"].iter().fold(text.to_owned(), |text, hook| {
        text.replace(&format!("[runners.kubernetes.container_lifecycle.{hook}.exec]\n"), "")
    })
}

/// The one runner of a file, or why it cannot be used.
fn runner(text: &str) -> Result<RunnerSettings, String> {
    let loaded = gantry_config::load(text, &|_| None).map_err(|problems| problems.to_string())?;
    if let Some(entry) = loaded.unusable.first() {
        return Err(format!("{:?}", entry.errors));
    }
    loaded.settings.runners.into_iter().next().ok_or_else(|| "it has no runner".to_owned())
}

/// Everything about a plan that anybody can see.
fn planned(job: &JobSpec, runner: &RunnerSettings) -> String {
    let mut context = wiring::context("r_0123456789ab", "manager", &Alone::default());
    context.patch_files.insert("/patch.yaml".into(), Ok("setHostnameAsFQDN: true".to_owned()));
    let links = gantry_plan::Links::unsigned(&gantry_plan::wants(job, runner, &context));
    let plan = match gantry_plan::plan(job, runner, &context, &links) {
        Ok(plan) => plan,
        Err(error) => return format!("{error:?}"),
    };
    let mut text = format!("{} {:?} {:?}\n", plan.namespace, plan.start_timeout, plan.cleanup_grace_seconds);
    for line in plan.banner.iter().chain(&plan.executor) {
        let _ = writeln!(text, "{}", line.text);
    }
    format!("{text}{:?}\n{}\n{}", plan.making, json!(plan.pod), json!(plan.pod_plan))
}

/// Jobs that between them touch everything: one that leaves all to the runner, one that overwrites
/// all it may, and some that are refused.
fn jobs() -> Vec<JobSpec> {
    let own = [
        json!({}),
        json!({ "image": {"name": "mine"}, "variables": overwrites() }),
        json!({ "image": {"name": "ours"}, "cache": [{"key": "k", "paths": ["x"], "policy": "pull-push"}] }),
        json!({ "image": {"name": "example.com/not-allowed"} }),
        json!({ "image": {"name": "ours"}, "services": [{"name": "example.com/not-allowed"}] }),
        json!({ "image": {"name": "ours", "pull_policy": ["never"]} }),
        json!({ "image": {"name": "ours", "executor_opts": {"kubernetes": {"user": "0:0"}}} }),
        json!({ "image": {"name": "ours"}, "variables": [variable("GIT_CLONE_PATH", "/builds-here/elsewhere")] }),
        json!({ "image": {"name": "ours"}, "variables": [variable("CI_DEBUG_TRACE", "true")] }),
    ];
    own.into_iter().map(|own| serde_json::from_value(job(own)).expect("a payload")).collect()
}

fn overwrites() -> Vec<Value> {
    let mut variables = vec![
        variable("KUBERNETES_NAMESPACE_OVERWRITE", "theirs"),
        variable("KUBERNETES_BEARER_TOKEN", "theirs"),
        variable("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "theirs"),
        variable("KUBERNETES_NODE_SELECTOR_1", "theirs=x"),
        variable("KUBERNETES_NODE_TOLERATIONS_1", "theirs=x:NoSchedule"),
        variable("KUBERNETES_POD_LABELS_1", "theirs=x"),
        variable("KUBERNETES_POD_ANNOTATIONS_1", "theirs=x"),
    ];
    let ceilings = keys().iter().filter_map(|key| key.name().strip_suffix("_overwrite_max_allowed"));
    variables.extend(ceilings.map(|key| variable(&format!("KUBERNETES_{}", key.to_ascii_uppercase()), "3")));
    variables
}

fn variable(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value, "public": true})
}

fn job(own: Value) -> Value {
    let mut job = json!({
        "id": 7, "token": "glcbt-64_x", "allow_git_fetch": true,
        "job_info": {"name": "unit", "stage": "test", "project_id": 1, "project_name": "p", "project_full_path": "g/p"},
        "git_info": {"repo_url": "https://gitlab-ci-token:x@gitlab.example.com/g/p.git", "ref": "main", "sha": "6f1c2d3e4f5061728394a5b6c7d8e9f001122334",
            "before_sha": "0".repeat(40), "ref_type": "branch", "refspecs": ["+refs/pipelines/1:refs/pipelines/1"], "depth": 20},
        "runner_info": {"timeout": 3600},
        "steps": [{"name": "script", "script": ["true"]}],
        "artifacts": [{"paths": ["x"], "artifact_type": "archive", "artifact_format": "zip"}],
        "features": {"trace_sections": true},
    });
    if let (Value::Object(job), Value::Object(own)) = (&mut job, own) {
        job.extend(own);
    }
    job
}
