//! Pictures of what is made and waited for around a pod.

use std::collections::BTreeMap;

use gantry_plan::picture::{Detail, Picture};
use gantry_wire::plan::Action;
use serde_json::{Value, json};

use crate::bench::{context, golden, job, lines, of_containers, payload, plan, pod, runner, variable};

/// What is made besides the pod, and the limits.
fn around(config: &str, job: &Value) -> Value {
    let plan = plan(config, job);
    let Picture { limits, mut objects, agent, .. } = Picture::of(&plan, Detail::Brief);
    objects.retain(|object| object["kind"] != "Pod");
    let agent = ["get_sources_timeout_ms", "posix_shell", "keep_failed", "start"].map(|key| (key, agent[key].clone()));
    let agent: serde_json::Map<String, Value> = agent.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    json!({"namespace": plan.namespace, "limits": limits, "objects": objects, "agent": agent, "executor": lines(&plan.executor),
        "deadline": pod_of(&plan)["spec"]["activeDeadlineSeconds"]})
}

fn pod_of(plan: &gantry_plan::JobPlan) -> Value {
    json!(plan.pod)
}

#[test]
fn a_namespace_for_each_job_and_a_budget() {
    let config = r#"
        [runners.kubernetes]
        namespace_per_job = true
        namespace_overwrite_allowed = ".*"
        pod_disruption_budget = true
        [runners.kubernetes.retry_limits]
        "exceeded quota" = 20
    "#;
    let job = json!({"variables": [variable("KUBERNETES_NAMESPACE_OVERWRITE", "mine")]});
    golden!("a_namespace_for_each_job", around(config, &job));
}

#[test]
fn limits_and_tries() {
    let config = r#"
        prepare_timeout = "1m"
        get_sources_timeout = "5m"
        shell = "sh"
        [runners.kubernetes]
        namespace = "ci"
        service_account = "jobs"
        image_pull_secrets = ["corp"]
        resource_availability_check_max_attempts = 3
        retry_limit = 7
        retry_backoff_max = 1500
        cleanup_resources_timeout = "2m"
        pull_policy = ["always", "if-not-present"]
        allowed_pull_policies = ["always", "if-not-present", "never"]
    "#;
    let job = json!({"image": {"pull_policy": ["always"]}, "services": [{"name": "redis", "pull_policy": ["never", "always"]}]});
    golden!("limits_and_tries", around(config, &job));
}

#[test]
fn a_failed_pod_is_kept() {
    let config = "[runners.gantry]\nkeep_failed_pods = \"10m\"\n[runners.kubernetes]\nnamespace = \"ci\"\n";
    golden!("a_failed_pod_is_kept", around(config, &json!({})));
    let mut context = context();
    context.may_mark = false;
    let links = gantry_plan::Links::default();
    let plan = gantry_plan::plan(&job(payload(&json!({}))), &runner(config), &context, &links).unwrap();
    assert_eq!(plan.pod_plan.keep_failed, None);
    assert!(lines(&plan.executor).iter().any(|line| line.contains("keep_failed_pods")), "{:?}", plan.executor);
}

#[test]
fn git_mirrors() {
    let mut shown = BTreeMap::new();
    for (mirror, more) in [
        ("/var/lib/gantry/git/", json!({})),
        ("git-mirror", json!({})),
        ("/var/lib/gantry/git", json!({"variables": [variable("GIT_STRATEGY", "none")]})),
        ("/var/lib/gantry/git", json!({"job_info": {"project_id": 0}})),
    ] {
        let config = format!("[runners.gantry]\ngit_mirror = {mirror:?}\n[runners.kubernetes]\nnamespace = \"ci\"\n");
        let plan = plan(&config, &more);
        let spec = plan.pod.spec.unwrap();
        let volumes: Vec<_> = spec.volumes.iter().flatten().filter(|volume| volume.name == "gantry-mirror").collect();
        let mounts = spec.containers.iter().map(|container| {
            let mounts = container.volume_mounts.iter().flatten();
            (container.name.clone(), json!(mounts.filter(|mount| mount.name == "gantry-mirror").collect::<Vec<_>>()))
        });
        let mounts: BTreeMap<_, _> = mounts.collect();
        let sources = plan.pod_plan.stages.iter().find_map(|stage| match &stage.action {
            Action::Sources(sources) => Some(sources.mirror),
            _ => None,
        });
        let key = format!("{mirror} {more}");
        shown.insert(key, json!({"volumes": volumes, "mounts": mounts, "sources": sources}));
    }
    golden!("git_mirrors", shown);
}

/// The manager knows its rights with its own account, in its own namespace.
#[test]
fn a_pod_is_held_back_for_its_secret_where_the_manager_can_let_it_go() {
    let login = variable("DOCKER_AUTH_CONFIG", r#"{"auths": {"registry.example.com": {"auth": "dTpw"}}}"#);
    let gates = |more: &str, further: Value| {
        let config = format!("[runners.kubernetes]\nnamespace = \"ci\"\n{more}");
        let job_of = json!({"image": {"name": "registry.example.com/a:1"}, "variables": [login, further]});
        let context = gantry_plan::Context { holds_pods: true, ..context() };
        let links = gantry_plan::Links::default();
        let plan = gantry_plan::plan(&job(payload(&job_of)), &runner(&config), &context, &links).unwrap();
        let gates = plan.pod.spec.unwrap().scheduling_gates.map_or(0, |gates| gates.len());
        assert_eq!(plan.pull_secret.unwrap().follows_pod, gates == 1, "{more}");
        gates
    };
    assert_eq!(gates("", variable("X", "1")), 1);
    assert_eq!(gates("namespace_per_job = true\n", variable("X", "1")), 0);
    let other = variable("KUBERNETES_NAMESPACE_OVERWRITE", "ci-2");
    assert_eq!(gates("namespace_overwrite_allowed = \".*\"\n", other), 0);
    let token = variable("KUBERNETES_BEARER_TOKEN", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln");
    assert_eq!(gates("host = \"https://h\"\nbearer_token_overwrite_allowed = true\n", token), 0);
    let patch = "[[runners.kubernetes.pod_spec]]\nname = \"a node\"\npatch = '{\"nodeName\": \"n1\"}'\npatch_type = \"merge\"\n";
    assert_eq!(gates(patch, variable("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "true")), 0);
}

#[test]
fn a_job_with_its_own_token() {
    let config =
        "[runners.kubernetes]\nhost = \"https://h\"\nnamespace = \"ci\"\nbearer_token_overwrite_allowed = true\n";
    let secret = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";
    let job = json!({"variables": [variable("KUBERNETES_BEARER_TOKEN", secret)]});
    let plan = plan(config, &job);
    assert_eq!(plan.making.bearer_token.as_ref().map(gantry_core::Secret::expose), Some(secret));
    assert!(!format!("{:?}", plan.making).contains(secret));
    assert!(lines(&plan.executor).iter().any(|line| line.contains("\"BearerToken\" overwritten with \"XXXXXXXX...\"")));
}

#[test]
fn patches() {
    let config = r#"
        [runners.feature_flags]
        FF_USE_ADVANCED_POD_SPEC_CONFIGURATION = true
        [runners.kubernetes]
        namespace = "ci"
        [[runners.kubernetes.pod_spec]]
        name = "gpu"
        patch = '''
          containers:
          - name: build
            resources: {limits: {nvidia.com/gpu: "1"}}
            env: [{name: NVIDIA_VISIBLE_DEVICES, value: all}]
          hostUsers: false
        '''
        [[runners.kubernetes.pod_spec]]
        name = "spread"
        patch_type = "merge"
        patch = '{"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}'
        [[runners.kubernetes.pod_spec]]
        name = "toleration"
        patch_type = "json"
        patch = '''
        - op: add
          path: /tolerations
          value: [{key: gpu, operator: Exists}]
        - op: add
          path: /containers/2/resources/limits
          value: {cpu: "1"}
        '''
    "#;
    let plan = plan(config, &json!({"services": [{"name": "redis:7", "alias": "cache"}]}));
    let spec = &pod(&plan)["spec"];
    let fields = ["hostUsers", "topologySpreadConstraints", "tolerations", "affinity", "resources", "initContainers"];
    let shown: serde_json::Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), spec[field].clone())).collect();
    golden!(
        "patches",
        json!({"spec": shown, "containers": of_containers(&plan, &["resources"]), "build": spec["containers"][2]["env"],
            "executor": lines(&plan.executor)})
    );
}

/// A hook of the build container sees what one of the reference does: what pods may show.
#[test]
fn commands_of_hooks_see_the_variables_of_the_job() {
    let public = json!({"key": "OWN", "value": "a $$ b", "public": true});
    let masked = json!({"key": "MASKED", "value": "hunter2hunter2", "public": true, "masked": true});
    let hidden = json!({"key": "HIDDEN", "value": "x", "public": false});
    let job = json!({"variables": [public, masked, hidden]});
    let env = |hook: &str| {
        let plan = plan(&format!("[runners.kubernetes.container_lifecycle.{hook}\n"), &job);
        let build = plan.pod.spec.unwrap().containers.into_iter().find(|container| container.name == "build").unwrap();
        let seen = build.env?.into_iter().map(|variable| (variable.name, variable.value.unwrap_or_default()));
        Some(seen.filter(|(name, _)| ["OWN", "MASKED", "HIDDEN", "CI_SERVER"].contains(&name.as_str())).collect())
    };
    let shown: Vec<_> =
        [("CI_SERVER", "yes"), ("OWN", "a $$ b")].map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(env("post_start.exec]\ncommand = [\"true\"]"), Some(shown));
    assert_eq!(env("pre_stop.tcp_socket]\nport = 1"), None);
}
