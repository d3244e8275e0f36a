//! Every way for a job to have no plan: what it is told, and how it ends.

use gantry_plan::PlanError;
use serde_json::{Value, json};

use crate::bench::{TOKEN, golden, refused_at_load, try_plan, variable};

/// A patch begins.
const PATCHES: &str = "[runners.feature_flags]\nFF_USE_ADVANCED_POD_SPEC_CONFIGURATION = true\n[[runners.kubernetes.pod_spec]]\nname = \"mine\"\n";

fn told(config: &str, job: &Value) -> Value {
    if let Some(error) = refused_at_load(config) {
        return json!({"when the file is read": error});
    }
    let error = try_plan(config, job).expect_err("a job that cannot run");
    let verdict = error.ending().verdict();
    let lines = match &error {
        PlanError::DisallowedImage(lines) => lines.clone(),
        _ => Vec::new(),
    };
    assert!(!format!("{error:?}").contains(TOKEN));
    json!({"says": verdict.message, "reason": format!("{:?}", verdict.reason), "lines": lines})
}

#[test]
fn payloads_that_contradict_themselves() {
    let many: Vec<Value> = (0..20_001).map(|at| variable(&format!("V{at}"), "x")).collect();
    let services: Vec<Value> = (0..101).map(|_| json!({"name": "redis"})).collect();
    let steps: Vec<Value> = (0..901).map(|_| json!({"name": "script"})).collect();
    let artifact = |key: &str, value: &str| json!({"artifacts": [{"paths": ["x"], key: value}]});
    let cases = [
        ("id", json!({"id": -7})),
        ("repo_url", json!({"git_info": {"repo_url": TOKEN}})),
        ("sha", json!({"git_info": {"sha": "--upload-pack=x"}})),
        (
            "sha of a masked value",
            json!({"git_info": {"sha": "swordfish"}, "variables": [{"key": "S", "value": "swordfish", "masked": true}]}),
        ),
        ("refspec", json!({"git_info": {"refspecs": ["-x"]}})),
        ("refspec with a line end", json!({"git_info": {"refspecs": ["a\nb"]}})),
        ("object format", json!({"git_info": {"repo_object_format": "md5"}})),
        ("when", artifact("when", "sometimes")),
        ("format", artifact("artifact_format", "rar")),
        ("variables", json!({"variables": many})),
        ("expansion", json!({"variables": [variable("A", &"x".repeat(100_000)), variable("B", &"$A".repeat(1000))]})),
        ("services", json!({"services": services})),
        ("port", json!({"services": [{"name": "redis", "ports": [{"number": 70000}]}]})),
        ("steps", json!({"steps": steps})),
        ("option of an image", json!({"image": {"executor_opts": {"kubernetes": {"usr": "1"}}}})),
        (
            "option of a service",
            json!({"services": [{"name": "redis", "executor_opts": {"docker": {"platfrom": "linux/arm64"}}}]}),
        ),
        ("options for nobody", json!({"image": {"executor_opts": {"podman": {}, "lxc": 1}}})),
    ];
    let shown: serde_json::Map<_, _> = cases.iter().map(|(name, job)| ((*name).to_owned(), told("", job))).collect();
    golden!("payloads_that_contradict_themselves", shown);
}

#[test]
fn jobs_and_settings_that_do_not_fit() {
    let kubernetes = |more: &str| format!("[runners.kubernetes]\n{more}\n");
    let user = |user: &str| json!({"image": {"executor_opts": {"kubernetes": {"user": user}}}});
    let no_image = json!({"image": {"name": ""}});
    let cases = [
        ("no image", String::new(), no_image),
        ("a path of the job outside", String::new(), json!({"variables": [variable("GIT_CLONE_PATH", "/tmp/x")]})),
        ("not an image", String::new(), json!({"image": {"name": "ruby 3"}})),
        ("disallowed image", kubernetes("allowed_images = [\"alpine:*\"]"), json!({})),
        (
            "disallowed service",
            kubernetes("allowed_services = [\"redis:*\"]"),
            json!({"services": [{"name": "postgres:16"}]}),
        ),
        ("pull policy", kubernetes("pull_policy = \"always\""), json!({"image": {"pull_policy": ["never"]}})),
        ("unknown pull policy", String::new(), json!({"image": {"pull_policy": ["sometimes"]}})),
        ("user by name", String::new(), user("root")),
        ("root", String::new(), user("0")),
        ("huge user", String::new(), user("99999999999")),
        ("root's group", String::new(), user(":0")),
        ("nobody on the list", kubernetes("allowed_users = [\"bob\"]"), user("1000")),
        ("user not on the list", kubernetes("allowed_users = [\"1001\"]"), user("1000")),
        ("alias", String::new(), json!({"services": [{"name": "redis", "alias": "Data_Base"}]})),
        ("submodule strategy", String::new(), json!({"variables": [variable("GIT_SUBMODULE_STRATEGY", "all")]})),
        (
            "submodule paths",
            String::new(),
            json!({"variables": [variable("GIT_SUBMODULE_STRATEGY", "normal"), variable("GIT_SUBMODULE_PATHS", ":(exclude) x")]}),
        ),
        ("native steps", String::new(), json!({"run": "[{\"name\":\"x\"}]"})),
        ("a patch that is none", format!("{PATCHES}patch = \"- a\"\n"), json!({})),
        ("a patch that does not fit", format!("{PATCHES}patch = \"containers: [{{image: x}}]\"\n"), json!({})),
        ("a patch out of a missing file", format!("{PATCHES}patch_path = \"/no/such/file\"\n"), json!({})),
        ("pods that are kept for too long", "[runners.gantry]\nkeep_failed_pods = \"48h\"\n".to_owned(), json!({})),
        ("windows", "[runners.kubernetes.node_selector]\n\"kubernetes.io/os\" = \"windows\"\n".to_owned(), json!({})),
    ];
    let shown: serde_json::Map<_, _> =
        cases.iter().map(|(name, config, job)| ((*name).to_owned(), told(config, job))).collect();
    golden!("jobs_and_settings_that_do_not_fit", shown);
}

#[test]
fn overwrites_that_do_not_fit() {
    let kubernetes = |more: &str| format!("[runners.kubernetes]\n{more}\n");
    let cases = [
        (
            "bearer token",
            kubernetes("bearer_token_overwrite_allowed = true"),
            json!({"variables": [variable("KUBERNETES_BEARER_TOKEN", "t")]}),
        ),
        (
            "overwrite",
            kubernetes("namespace_overwrite_allowed = \"^ci\""),
            json!({"variables": [variable("KUBERNETES_NAMESPACE_OVERWRITE", "default")]}),
        ),
        (
            "overwrite with the name of a service account",
            kubernetes("service_account_overwrite_allowed = \".*\""),
            json!({"variables": [variable("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "Bad Name")]}),
        ),
        (
            "overwrite of a label",
            kubernetes("pod_labels_overwrite_allowed = \".*\""),
            json!({"variables": [variable("KUBERNETES_POD_LABELS_1", "bad name=x")]}),
        ),
        (
            "a request beyond the limit",
            kubernetes("cpu_limit = \"2\"\ncpu_request_overwrite_max_allowed = \"8\""),
            json!({"variables": [variable("KUBERNETES_CPU_REQUEST", "4")]}),
        ),
        (
            "a service's request beyond its limit",
            kubernetes("service_memory_limit = \"1Gi\"\nservice_memory_request_overwrite_max_allowed = \"8Gi\""),
            json!({"services": [{"name": "redis", "variables": [variable("KUBERNETES_SERVICE_MEMORY_REQUEST", "2Gi")]}]}),
        ),
        (
            "a pod that is too small",
            kubernetes("cpu_limit = \"2\"\npod_cpu_limit = \"2\"\ncpu_limit_overwrite_max_allowed = \"8\""),
            json!({"variables": [variable("KUBERNETES_CPU_LIMIT", "4")]}),
        ),
        (
            "overwrite with a masked value",
            kubernetes("node_tolerations_overwrite_allowed = \".*\""),
            json!({"variables": [
                variable("KUBERNETES_NODE_TOLERATIONS_1", "$SECRET"),
                {"key": "SECRET", "value": "swordfish", "masked": true},
            ]}),
        ),
        (
            "overwrite of a service",
            kubernetes("service_cpu_limit_overwrite_max_allowed = \"1\""),
            json!({"services": [{"name": "redis", "variables": [variable("KUBERNETES_SERVICE_CPU_LIMIT", "2")]}]}),
        ),
    ];
    let shown: serde_json::Map<_, _> =
        cases.iter().map(|(name, config, job)| ((*name).to_owned(), told(config, job))).collect();
    golden!("overwrites_that_do_not_fit", shown);
}

#[test]
fn directories_and_volumes_that_do_not_fit() {
    let volume = |more: &str| format!("[[runners.kubernetes.volumes.pvc]]\n{more}\n");
    let path = |path: &str| json!({"variables": [variable("WHERE", path)]});
    let where_job_says = volume("name = \"data\"\nmount_path = \"$WHERE\"");
    let cases = [
        ("builds_dir", "builds_dir = \"/\"\n".to_owned(), json!({})),
        ("builds_dir of the agent", "builds_dir = \"/gantry-agent/b\"\n".to_owned(), json!({})),
        ("mount of the agent", where_job_says.clone(), path("/gantry-agent")),
        ("mount of the agent, relative", where_job_says.clone(), path("x/../gantry-agent/y")),
        ("mount over everything", where_job_says.clone(), path("/")),
        ("mount nowhere", where_job_says.clone(), path("")),
        (
            "two mounts at one place",
            format!("{where_job_says}{}", volume("name = \"other\"\nmount_path = \"/x\"")),
            path("/x"),
        ),
        (
            "two mounts at one place, one of them relative",
            format!("{where_job_says}{}", volume("name = \"other\"\nmount_path = \"/x\"")),
            path("x"),
        ),
        ("sub_path from the root", volume("name = \"data\"\nmount_path = \"/x\"\nsub_path = \"$WHERE\""), path("/etc")),
        (
            "sub_path that leads out",
            volume("name = \"data\"\nmount_path = \"/x\"\nsub_path = \"a/$WHERE\""),
            path("../.."),
        ),
        ("mount over file variables", where_job_says, path("/builds/acme/web/shop.tmp")),
        ("volume of the agent", volume("name = \"$WHERE\"\nmount_path = \"/x\""), path("gantry-agent")),
        ("volume without a name", volume("name = \"$WHERE\"\nmount_path = \"/x\""), path("")),
        ("volume repo elsewhere", volume("name = \"repo\"\nmount_path = \"/x\""), json!({})),
        (
            "two volumes, one name",
            format!(
                "{}[[runners.kubernetes.volumes.secret]]\nname = \"a\"\nmount_path = \"/y\"\n",
                volume("name = \"a\"\nmount_path = \"/x\"")
            ),
            json!({}),
        ),
    ];
    let shown: serde_json::Map<_, _> =
        cases.iter().map(|(name, config, job)| ((*name).to_owned(), told(config, job))).collect();
    golden!("directories_and_volumes_that_do_not_fit", shown);
}
