//! What holds for every plan, whatever the job and the settings say.

use std::collections::BTreeSet;

use gantry_plan::{JobPlan, PlanError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bench::{TOKEN, context, job, payload, runner};

/// Values that no plan may show. Long and odd, so that they are in no text by chance.
const SECRETS: [&str; 4] = ["Zq7\"vX\\kP2mW9", "pass\nphrase-LT4$x", "ÄÖ-unsichtbar-42", "swordfish-%-88"];

/// Texts with everything that has a meaning somewhere.
fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "",
        "a",
        "A=B",
        "../..",
        "/gantry-agent",
        "/gantry",
        "/builds",
        "/builds/x",
        "gantry-agent",
        "repo",
        "build",
        "helper",
        "svc-0",
        "$S0",
        "${S1}",
        "$$",
        "${",
        "$P0/$P1",
        "none",
        "empty",
        "clone",
        "true",
        "-1",
        "99999999999999999999",
        "1000:0",
        "\u{0}",
        "\n",
        "\u{1b}[31m",
        "ü",
        "db, db",
        "postgres:16",
        "registry.example.com:5000/a/b@sha256:0",
        "KUBERNETES_CPU_LIMIT",
        ":(exclude)",
    ]);
    prop_oneof![3 => words.prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => "[a-z0-9.-]{1,70}"]
}

/// Names that mean something to the runner.
const KEYS: [&str; 17] = [
    "S0",
    "P0",
    "P1",
    "GIT_STRATEGY",
    "GIT_CLONE_PATH",
    "GIT_SUBMODULE_STRATEGY",
    "CI_PROJECT_PATH",
    "CI_PROJECT_DIR",
    "CI_BUILDS_DIR",
    "FF_TIMESTAMPS",
    "FF_SCRIPT_SECTIONS",
    "RUNNER_SCRIPT_TIMEOUT",
    "CI_DEBUG_TRACE",
    "KUBERNETES_NAMESPACE_OVERWRITE",
    "KUBERNETES_NODE_TOLERATIONS_1",
    "KUBERNETES_CPU_LIMIT",
    "WHERE",
];

/// A name and a value that mostly go together.
fn setting() -> impl Strategy<Value = (String, String)> {
    let usual = prop::sample::select(vec![
        ("GIT_CLONE_PATH", "$CI_BUILDS_DIR/$CI_CONCURRENT_ID/$P0"),
        ("GIT_CLONE_PATH", "/builds/data/../../builds/x"),
        ("GIT_SUBMODULE_STRATEGY", "recursive"),
        ("KUBERNETES_NAMESPACE_OVERWRITE", "ci-2"),
        ("KUBERNETES_CPU_LIMIT", "1500m"),
        ("WHERE", "data"),
        ("WHERE", "gantry-agent/x"),
        ("WHERE", "gantry"),
        ("P0", "p"),
        ("P1", "$S0"),
        ("URL", "https://user:$S1@host/"),
        ("URL", "$S2$S3"),
        ("CI_PROJECT_NAMESPACE", "$S2"),
    ]);
    let odd = (prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned), text());
    let any = (text(), text());
    prop_oneof![6 => usual.prop_map(|(key, value)| (key.to_owned(), value.to_owned())), 2 => odd, 3 => any]
}

/// Any variable but a masked one. Its value may refer to masked ones, as may those of everything
/// that is expanded.
fn variable() -> impl Strategy<Value = Value> {
    (setting(), any::<(bool, bool, bool)>())
        .prop_map(|((key, value), (public, file, raw))| json!({"key": key, "value": value, "public": public, "file": file, "raw": raw}))
}

/// A text that refers to no secret: for what a job puts into the pod's spec itself.
fn harmless() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('$', ""))
}

/// An image: mostly one that can be.
fn image() -> impl Strategy<Value = String> {
    let usual = prop::sample::select(vec!["postgres:16", "registry.example.com:5000/a/b@sha256:0", "a", "tools/$P0"]);
    prop_oneof![12 => usual.prop_map(str::to_owned), 1 => harmless()]
}

/// Aliases of a service: mostly some that can be, and often the same ones.
fn aliases() -> impl Strategy<Value = String> {
    let usual = prop::sample::select(vec!["", "db", "db,build", "helper", "svc-0 svc-1", "a.b.c", "build"]);
    prop_oneof![12 => usual.prop_map(str::to_owned), 1 => harmless()]
}

fn service() -> impl Strategy<Value = Value> {
    let port = prop_oneof![20 => 1..65536_i64, 1 => any::<i64>()];
    (image(), aliases(), prop::collection::vec(harmless(), 0..3), prop::option::of(port)).prop_map(
        |(name, alias, words, port)| {
            let ports: Vec<Value> = port.iter().map(|port| json!({"number": port})).collect();
            let own = json!([{"key": "OWN", "value": alias}, {"key": alias, "value": "x"}]);
            json!({"name": name, "alias": alias, "command": words, "ports": ports, "variables": own})
        },
    )
}

fn any_job() -> impl Strategy<Value = Value> {
    let variables = prop::collection::vec(variable(), 0..8);
    let services = prop::collection::vec(service(), 0..4);
    let numbers = any::<(i64, i64, i64)>();
    (variables, services, numbers, (image(), text(), text()), prop::collection::vec(text(), 0..3)).prop_map(
        |(variables, services, (id, timeout, depth), (image, name, git_ref), script)| {
            // Secrets are the last of their names, so that references find them.
            let masked = SECRETS.iter().enumerate().map(|(at, value)| json!({"key": format!("S{at}"), "value": value, "masked": true, "raw": true}));
            let all: Vec<Value> = variables.into_iter().chain(masked).collect();
            payload(&json!({
                "id": id.checked_abs().unwrap_or(1).max(1),
                "runner_info": {"timeout": timeout},
                "git_info": {"depth": depth, "ref": git_ref.replace('$', "")},
                "job_info": {"name": name.replace('$', ""), "project_id": id},
                "image": {"name": image},
                "services": services,
                "variables": all,
                "steps": [{"name": name, "script": script.clone()}, {"name": "release", "script": script.clone()}, {"name": "after_script", "script": script}],
                "cache": [{"paths": ["x"]}],
            }))
        },
    )
}

fn any_config() -> impl Strategy<Value = String> {
    let kubernetes = prop::sample::subsequence(
        vec![
            "namespace = \"ci\"",
            "image = \"debian:12\"",
            "pull_policy = [\"always\", \"if-not-present\"]",
            "allowed_images = [\"postgres:*\", \"a\", \"registry.example.com:5000/**\"]",
            "cpu_limit_overwrite_max_allowed = \"2\"",
            "namespace_overwrite_allowed = \".*\"",
            "node_tolerations_overwrite_allowed = \".*\"",
            "helper_image_autoset_arch_and_os = true",
            "use_service_account_image_pull_secrets = true",
            "privileged = true",
        ],
        0..=10,
    );
    let tables = prop::sample::subsequence(
        vec![
            "[[runners.kubernetes.services]]\nname = \"$WHERE\"\nalias = \"db\"",
            "[[runners.kubernetes.volumes.pvc]]\nname = \"data\"\nmount_path = \"/data/$WHERE\"",
            "[[runners.kubernetes.volumes.pvc]]\nname = \"other\"\nmount_path = \"/$WHERE\"",
            "[[runners.kubernetes.volumes.empty_dir]]\nname = \"scratch\"\nmount_path = \"/scratch/$CI_CONCURRENT_ID\"",
            "[[runners.kubernetes.volumes.host_path]]\nname = \"repo\"\nmount_path = \"/builds\"",
            "[runners.kubernetes.pod_security_context]\nrun_as_user = 1000",
            "[runners.kubernetes.container_lifecycle.pre_stop.exec]\ncommand = [\"true\"]",
        ],
        0..=3,
    );
    (kubernetes, tables)
        .prop_map(|(keys, tables)| format!("[runners.kubernetes]\n{}\n{}\n", keys.join("\n"), tables.join("\n")))
}

/// The name of a volume's mount point as the runtime sees it.
fn is_below(path: &str, root: &str) -> bool {
    path == root || path.starts_with(&format!("{root}/"))
}

/// JSON without its escapes, as somebody would read it.
fn readable(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.replace("$$", "$")),
        Value::Array(list) => list.iter().for_each(|item| readable(item, out)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            out.push(key.clone());
            readable(item, out);
        }),
        _ => {}
    }
}

fn shows_no_secret(what: &Value) -> Result<(), TestCaseError> {
    let mut texts = Vec::new();
    readable(what, &mut texts);
    for secret in SECRETS.iter().copied().chain([TOKEN]) {
        let found = texts.iter().find(|text| text.contains(secret));
        prop_assert!(found.is_none(), "{:?} shows {:?}", found, secret);
    }
    Ok(())
}

fn check_containers(plan: &JobPlan) -> Result<(), TestCaseError> {
    let spec = plan.pod.spec.as_ref().expect("a spec");
    let volumes: BTreeSet<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    prop_assert_eq!(volumes.len(), spec.volumes.iter().flatten().count(), "volumes have different names");
    let names: BTreeSet<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    prop_assert_eq!(names.len(), spec.containers.len(), "containers have different names");
    let first_and_last = [spec.containers.first(), spec.containers.last()]
        .map(|container| container.map(|container| container.name.as_str()));
    prop_assert_eq!(first_and_last, [Some("helper"), Some("build")]);
    for container in &spec.containers {
        let name = container.name.as_str();
        let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        prop_assert!(!name.is_empty() && name.len() <= 63 && name.chars().all(label), "{name:?} is no DNS label");
        prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{name:?} is no DNS label");
        let mut paths = BTreeSet::new();
        for mount in container.volume_mounts.iter().flatten() {
            prop_assert!(volumes.contains(mount.name.as_str()), "{name} mounts {}, which is no volume", mount.name);
            prop_assert!(
                paths.insert(mount.mount_path.trim_end_matches('/')),
                "{name} mounts {} twice",
                mount.mount_path
            );
            prop_assert!(!mount.mount_path.is_empty());
            if is_below(&mount.mount_path, "/gantry-agent") || mount.name == "gantry-agent" {
                prop_assert_eq!((name, mount.mount_path.as_str()), ("helper", "/gantry-agent"));
            }
            if is_below(&mount.mount_path, "/gantry") || mount.name == "gantry" {
                prop_assert_eq!(mount.mount_path.as_str(), "/gantry");
                prop_assert!(
                    name == "helper" || (name == "build" && mount.read_only == Some(true)),
                    "{name} may write"
                );
            }
            if mount.name == "gantry-tmp" {
                let context = container.security_context.as_ref();
                let is_privileged = context.and_then(|context| context.privileged) == Some(true);
                let may_write = name == "helper" || name == "build" || is_privileged;
                prop_assert!(may_write || mount.read_only == Some(true), "{name} may write file variables");
            }
            if mount.name.starts_with("gantry") || mount.name == "repo" {
                let builds = &plan.pod_plan.paths.builds_dir;
                prop_assert!(!mount.mount_path.starts_with(&format!("{builds}/")), "{name} has a mount in the builds");
            }
        }
    }
    Ok(())
}

fn check_paths(plan: &JobPlan) -> Result<(), TestCaseError> {
    let paths = &plan.pod_plan.paths;
    for path in [&paths.project_dir, &paths.temp_dir] {
        prop_assert!(path.starts_with(&format!("{}/", paths.builds_dir)), "{path} is outside");
        prop_assert!(path.split('/').all(|part| part != ".." && part != "."), "{path} may lead outside");
    }
    Ok(())
}

fn check_agent(plan: &JobPlan) -> Result<(), TestCaseError> {
    for variable in &plan.pod_plan.environment {
        prop_assert!(!variable.key.is_empty() && !variable.key.contains(['=', '\0']));
        prop_assert!(variable.file || !variable.value.expose().contains('\0'));
        prop_assert!(!variable.file || (!variable.key.contains('/') && variable.key != ".."));
    }
    for stage in &plan.pod_plan.stages {
        prop_assert!(
            stage.name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')),
            "{:?}",
            stage.name
        );
    }
    for line in plan.banner.iter().chain(&plan.executor) {
        prop_assert!(!line.text.contains(char::is_control), "{:?} is more than a line", line.text);
    }
    Ok(())
}

fn shown(error: &PlanError) -> Value {
    match error {
        PlanError::DisallowedImage(lines) => json!(lines),
        other => json!(other.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_keeps_its_promises(spec in any_job(), config in any_config()) {
        let (spec, settings) = (job(spec), runner(&config));
        let first = gantry_plan::plan(&spec, &settings, &context(), &gantry_plan::Links::default());
        let second = gantry_plan::plan(&spec, &settings, &context(), &gantry_plan::Links::default());
        match (first, second) {
            (Ok(plan), Ok(again)) => {
                prop_assert_eq!(json!([plan.pod, plan.pod_plan, plan.banner, plan.executor]), json!([again.pod, again.pod_plan, again.banner, again.executor]));
                shows_no_secret(&json!([plan.pod, plan.banner, plan.executor]))?;
                check_containers(&plan)?;
                check_paths(&plan)?;
                check_agent(&plan)?;
            }
            (Err(error), Err(again)) => {
                prop_assert_eq!(&error, &again);
                shows_no_secret(&shown(&error))?;
            }
            _ => prop_assert!(false, "the same question has two answers"),
        }
    }
}
