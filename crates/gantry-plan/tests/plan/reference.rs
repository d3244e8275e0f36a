//! What each key of `[runners.kubernetes]` makes of the pod, as GitLab Runner 19.4 does it
//! (`executors/kubernetes`), in `tests/reference.toml`: written by hand, from its code and its
//! tests.
//!
//! A setting is compared by what it changes: nothing else of the pod may become another. Volumes,
//! mounts, labels and annotations of our own are left out, and so are the variables of every job.
//! What of our pod is no setting's (the helper comes first, no `init-permissions`) is in the
//! goldens.

use std::collections::{BTreeMap, BTreeSet};

use gantry_config::key::Form;
use gantry_core::Effect;
use gantry_plan::JobPlan;
use gantry_plan::picture::{Detail, Picture};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::bench::{plan, refused_at_load, variable};

const FILE: &str = include_str!("../reference.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    elsewhere: Vec<Elsewhere>,
    setting: Vec<Setting>,
}

/// Keys whose effect is none of the pod's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    keys: Vec<String>,
    /// Where it is seen instead.
    seen: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    /// Lines below `[runners.kubernetes]`.
    config: String,
    /// Lines that are there before; without them the table is empty.
    #[serde(default)]
    before: String,
    /// What the payload has beside the least.
    #[serde(default)]
    job: String,
    /// Its variables, all public.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// What becomes another in the pod, as a JSON merge patch. Lists of named objects are objects
    /// with their names as keys.
    pod: String,
}

#[test]
fn every_setting_changes_in_the_pod_what_it_changes_in_that_of_the_reference() {
    let file: File = toml::from_str(FILE).expect("a table of settings");
    let mut wrong = Vec::new();
    for Setting { config, before, job, variables, pod: expected } in &file.setting {
        let variables: Vec<_> = variables.iter().map(|(key, value)| variable(key, value)).collect();
        let mut payload = json!({"services": [{"name": "redis:7"}], "variables": variables});
        if !job.is_empty() {
            json_patch::merge(&mut payload, &read(job));
        }
        if let Some(why) = [before, config].into_iter().find_map(|lines| refused_at_load(&section(lines))) {
            wrong.push(format!("{config}\nis refused: {why}"));
            continue;
        }
        let made = |lines: &str| shown(pod(&plan(&section(lines), &payload)));
        let changed = difference(&made(before), &made(config)).unwrap_or_else(|| json!({}));
        if changed != read(expected) {
            wrong.push(format!("{config}\nchanges {changed:#}\nand not {:#}", read(expected)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A new key comes with what the reference makes of it, or with where else its effect is seen.
#[test]
fn every_key_is_compared() {
    let file: File = toml::from_str(FILE).expect("a table of settings");
    let mut compared = BTreeSet::new();
    for Setting { config, before, .. } in &file.setting {
        for lines in [config, before] {
            let table: Value = toml::from_str(&section(lines)).expect("lines of a config");
            paths(&table["runners"], "runners[]", &mut compared);
        }
    }
    for Elsewhere { keys, seen } in &file.elsewhere {
        assert!(!seen.is_empty(), "{keys:?}");
        compared.extend(keys.iter().map(|key| format!("runners[].kubernetes.{key}")));
    }
    // Tables with free keys are compared by one of these, and whole tables may be seen elsewhere.
    let is_below =
        |path: &str, table: &str| path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let keys = gantry_config::keys().iter().filter(|key| {
        key.path.starts_with("runners[].kubernetes.")
            && key.effect == Effect::Acts
            && !matches!(key.form, Form::Table | Form::Tables)
    });
    let missing: Vec<_> = keys
        .map(|key| key.path.as_str())
        .filter(|path| !compared.iter().any(|one| is_below(path, one) || is_below(one, path)))
        .collect();
    assert!(missing.is_empty(), "not in tests/reference.toml: {missing:#?}");
}

/// The last object: a namespace of its own comes first.
fn pod(plan: &JobPlan) -> Value {
    Picture::of(plan, Detail::Brief).objects.pop().expect("a pod")
}

fn section(lines: &str) -> String {
    format!("[runners.kubernetes]\n{lines}")
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Adds the paths of all keys of some lines, with `[]` behind lists of tables.
fn paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                paths(value, &format!("{path}.{key}"), into);
            }
        }
        Value::Array(list) if list.first().is_some_and(Value::is_object) => {
            for value in list {
                paths(value, &format!("{path}[]"), into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

/// The pod without what is ours alone, and its lists of named objects as objects.
fn shown(mut pod: Value) -> Value {
    for map in ["/metadata/labels", "/metadata/annotations"] {
        if let Some(Value::Object(map)) = pod.pointer_mut(map) {
            map.retain(|key, _| !key.starts_with("gantry.dev/"));
        }
    }
    named(&mut pod["spec"]["volumes"], "name");
    named(&mut pod["spec"]["containers"], "name");
    if let Value::Object(containers) = &mut pod["spec"]["containers"] {
        for container in containers.values_mut() {
            named(&mut container["volumeMounts"], "mountPath");
            named(&mut container["env"], "name");
            if let Value::Object(env) = &mut container["env"] {
                env.retain(|name, _| !name.starts_with("CI_") && !name.starts_with("RUNNER_"));
                // That of the build container has them only where something reads them.
                if env.is_empty() {
                    container["env"].take();
                }
            }
        }
    }
    pod
}

/// Makes a list of objects one object.
fn named(list: &mut Value, key: &str) {
    let Value::Array(items) = list else { return };
    let is_ours = |item: &Value| item["name"].as_str().is_some_and(|name| name.starts_with("gantry"));
    let items = items.iter().filter(|item| !is_ours(item));
    *list = items
        .map(|item| (item[key].as_str().unwrap_or_default().to_owned(), item.clone()))
        .collect::<Map<_, _>>()
        .into();
}

/// The merge patch that makes one value of another; `None` where they are the same.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return (from != to).then(|| to.clone()) };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let other =
        new.iter().filter_map(|(key, to)| Some((key.clone(), difference(old.get(key).unwrap_or(&Value::Null), to)?)));
    let patch: Map<_, _> = gone.chain(other).collect();
    (!patch.is_empty()).then(|| patch.into())
}
