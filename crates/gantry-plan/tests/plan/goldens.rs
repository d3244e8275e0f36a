//! Pictures of plans. Each case is about one thing; the first two show everything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gantry_config::RunnerSettings;
use gantry_core::ClientIdentity;
use gantry_plan::picture::{Detail, Picture};
use gantry_plan::{ANNOTATION_TICKET, Context, Fleet, LABEL_FLEET};
use gantry_wire::session::JobSession;
use gantry_wire::ticket::{Ticket, TicketBinding};
use serde_json::{Value, json};

use crate::bench::{
    TOKEN, context, golden, golden_plan, job, lines, of_containers, payload, plan, pod, runner, ticket_key, topics,
    try_plan, variable,
};

#[test]
fn minimal_job() {
    golden_plan!("minimal_job", &plan("", &json!({})));
}

#[test]
fn a_realistic_job() {
    let config = include_str!("../goldens/realistic.toml");
    let job: Value = serde_json::from_str(include_str!("../goldens/realistic.json")).unwrap();
    golden_plan!("a_realistic_job", &plan(config, &job));
}

/// The settings of a deployment that asks for very little: a service account's token, a CA, one
/// namespace.
#[test]
fn a_small_deployment() {
    let config = r#"
        [runners.kubernetes]
        host = "https://10.96.0.1:443"
        ca_file = "/etc/ssl/cluster/ca.crt"
        bearer_token = "eyJhbGciOi.small-deployment.token"
        namespace = "ci-jobs"
        service_account = "job-runner"
        helper_image = "registry.example.com/tools/gitlab-runner-helper:x86_64-$CI_RUNNER_VERSION"
        pull_policy = "if-not-present"
        poll_timeout = 600
    "#;
    let plan = plan(config, &json!({}));
    let shown = json!({"banner": lines(&plan.banner), "executor": lines(&plan.executor), "start": plan.start_timeout.as_secs(), "pod": pod(&plan)});
    assert!(!shown.to_string().contains("small-deployment"));
    golden!("a_small_deployment", shown);
}

#[test]
fn clone_url() {
    let mut shown = serde_json::Map::new();
    for url in [
        "http://gitlab.internal:8080/sub/",
        "https://user:pass@mirror.example.com",
        "ssh://git@mirror.example.com:2222",
        "no-scheme",
    ] {
        let plan = plan(
            &format!("clone_url = {url:?}\n"),
            &json!({"variables": [variable("CI_PROJECT_PATH", "acme/web/shop")]}),
        );
        let sources = &json!(plan.pod_plan)["stages"][1]["action"]["sources"];
        shown.insert(url.to_owned(), json!({"url": sources["url"], "credentials": sources["credentials"]}));
    }
    golden!("clone_url", shown);
}

#[test]
fn submodules_by_https() {
    let variables = json!([
        variable("GIT_SUBMODULE_STRATEGY", "recursive"),
        variable("GIT_SUBMODULE_FORCE_HTTPS", "true"),
        variable("GIT_SUBMODULE_PATHS", "lib/a :(exclude)lib/b"),
        variable("GIT_SUBMODULE_DEPTH", "1"),
        variable("CI_SERVER_HOST", "gitlab.example.com"),
        variable("CI_SERVER_SHELL_SSH_PORT", "2222"),
    ]);
    let plan = plan("", &json!({"variables": variables}));
    golden!("submodules_by_https", &json!(plan.pod_plan)["stages"][1]["action"]["sources"]);
}

#[test]
fn resources_and_security() {
    let config = r#"
        [runners.kubernetes]
        namespace = "ci"
        privileged = false
        allow_privilege_escalation = false
        cap_add = ["SYS_PTRACE", "CHOWN"]
        cap_drop = ["CHOWN"]
        cpu_request = "500m"
        cpu_limit = "2"
        memory_limit = "4Gi"
        ephemeral_storage_limit = "10Gi"
        helper_memory_request = "128Mi"
        service_cpu_request = "100m"
        pod_memory_limit = "6Gi"
        [runners.kubernetes.pod_security_context]
        fs_group = 2000
        run_as_non_root = true
        supplemental_groups = [3000]
        [runners.kubernetes.pod_security_context.seccomp_profile]
        type = "RuntimeDefault"
        [runners.kubernetes.build_container_security_context]
        run_as_user = 1000
        read_only_root_filesystem = true
        proc_mount = "unmasked"
        [runners.kubernetes.build_container_security_context.capabilities]
        add = ["NET_ADMIN"]
        drop = ["ALL"]
        [runners.kubernetes.helper_container_security_context]
        selinux_type = "container_t"
        [runners.kubernetes.helper_container_security_context.app_armor_profile]
        type = "Localhost"
        localhost_profile = "ci-helper"
    "#;
    let plan = plan(config, &json!({"services": [{"name": "redis:7"}]}));
    let spec = &pod(&plan)["spec"];
    golden!(
        "resources_and_security",
        json!({
            "pod": {"resources": spec["resources"], "securityContext": spec["securityContext"]},
            "containers": of_containers(&plan, &["resources", "securityContext"]),
        })
    );
}

/// Nothing in the pod is root: every container says so, and the group owns what they share.
#[test]
fn non_root() {
    let config = r#"
        [runners.kubernetes]
        namespace = "ci"
        allow_privilege_escalation = false
        cap_drop = ["ALL"]
        [runners.kubernetes.pod_security_context]
        run_as_non_root = true
        run_as_user = 1000
        run_as_group = 1000
        fs_group = 1000
        [runners.kubernetes.helper_container_security_context]
        run_as_user = 1001
    "#;
    let plan = plan(config, &json!({"services": [{"name": "redis:7"}]}));
    golden!(
        "non_root",
        json!({
            "pod": pod(&plan)["spec"]["securityContext"],
            "containers": of_containers(&plan, &["securityContext", "volumeMounts"]),
        })
    );
}

/// What proves who calls goes to the agent and, as files, to scripts; the key is in no log and, as
/// everything of it, in no pod's spec.
#[test]
fn client_certificate() {
    let identity = ClientIdentity { cert_pem: "CERTIFICATE".to_owned(), key_pem: "PRIVATE KEY".into() };
    let context = Context { identity: Some(identity), ..context() };
    let spec = job(payload(&json!({"services": [{"name": "redis:7"}]})));
    let plan = gantry_plan::plan(&spec, &runner(""), &context, &gantry_plan::Links::default()).unwrap();
    let pod = json!(plan.pod).to_string();
    assert!(!pod.contains("CERTIFICATE") && !pod.contains("PRIVATE KEY"));
    let agent = json!(plan.pod_plan);
    let expected = json!({"cert_pem": "CERTIFICATE", "key_pem": "PRIVATE KEY"});
    assert_eq!(agent["coordinator"]["identity"], expected);
    let of_scripts = |name: &str| {
        let variables = agent["environment"].as_array().unwrap();
        variables.iter().find(|variable| variable["key"] == name).is_some_and(|variable| variable["file"] == true)
    };
    assert!(of_scripts("CI_SERVER_TLS_CERT_FILE") && of_scripts("CI_SERVER_TLS_KEY_FILE"));
    assert!(agent["trace"]["masks"].as_array().unwrap().contains(&json!("PRIVATE KEY")));
}

/// Roots of trust go to git and to scripts as a file, never into the pod's spec.
#[test]
fn roots_of_trust() {
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned();
    let context = Context { tls_ca_pem: Some(pem.clone()), configured_ca_pem: Some(pem), ..context() };
    let spec = job(payload(&json!({"services": [{"name": "redis:7"}]})));
    let plan = gantry_plan::plan(&spec, &runner(""), &context, &gantry_plan::Links::default()).unwrap();
    assert!(!json!(plan.pod).to_string().contains("CERTIFICATE"));
    let agent = json!(plan.pod_plan);
    let of_scripts =
        agent["environment"].as_array().unwrap().iter().find(|variable| variable["key"] == "CI_SERVER_TLS_CA_FILE");
    assert_eq!(of_scripts.unwrap()["file"], true);
    assert!(
        agent["coordinator"]["ca_pem"].is_string() && agent["stages"][1]["action"]["sources"]["ca_pem"].is_string()
    );
    let env = of_containers(&plan, &["env"])["svc-0"]["env"].clone();
    let of_service = env.as_array().unwrap().iter().find(|variable| variable["name"] == "CI_SERVER_TLS_CA_FILE");
    assert_eq!(of_service.unwrap()["value"], "/builds/acme/web/shop.tmp/CI_SERVER_TLS_CA_FILE");
}

#[test]
fn users_that_jobs_ask_for() {
    let config = "[runners.kubernetes]\nnamespace = \"ci\"\nallowed_groups = [\"0\", \"100\"]\n\
                  [runners.kubernetes.service_container_security_context]\nrun_as_user = 999\n";
    let job = json!({
        "image": {"executor_opts": {"kubernetes": {"user": "1000:0"}}},
        "services": [{"name": "redis:7", "executor_opts": {"kubernetes": {"user": 1001}}}],
    });
    let admin =
        "[runners.kubernetes]\nnamespace = \"ci\"\n[runners.kubernetes.pod_security_context]\nrun_as_user = 2000\n";
    let user = |user: &str| json!({"executor_opts": {"kubernetes": {"user": user}}});
    // What the settings say is never asked whether it is allowed.
    let both = json!({"image": user("0:100"), "services": [{"name": "redis:7", "executor_opts": {"kubernetes": {"user": "bob"}}}]});
    let (ours, overruled) = (plan(config, &job), plan(admin, &both));
    let group = plan("[runners.kubernetes]\nnamespace = \"ci\"\n", &json!({"image": user(":100")}));
    golden!(
        "users_that_jobs_ask_for",
        json!({
            "granted": of_containers(&ours, &["securityContext"]),
            "group alone": of_containers(&group, &["securityContext"])["build"],
            "overruled": {"lines": lines(&overruled.executor), "containers": of_containers(&overruled, &["securityContext"])},
        })
    );
}

/// The helper is pulled as the operator allows, the job's wish last: no job fails because of it.
#[test]
fn pull_policies_of_the_helper() {
    let allowed = "allowed_pull_policies = [\"never\", \"if-not-present\"]\n";
    let job = json!({"image": {"pull_policy": ["never"]}});
    let of = |more: &str| {
        let plan = plan(&format!("[runners.kubernetes]\n{allowed}{more}"), &job);
        let containers = pod(&plan)["spec"]["containers"].clone();
        let policies = containers
            .as_array()
            .unwrap()
            .iter()
            .map(|container| format!("{}: {}", container["name"].as_str().unwrap(), container["imagePullPolicy"]));
        let shown = lines(&plan.executor).into_iter().filter(|line| line.contains("pull policy"));
        policies.chain(shown).collect::<Vec<_>>()
    };
    golden!(
        "pull_policies_of_the_helper",
        json!({
            "no policy": of(""),
            "a policy that jobs may not have": of("pull_policy = \"always\"\n"),
            "another policy": of("pull_policy = \"if-not-present\"\n"),
        })
    );
}

/// The build container's own words, without the text of our command.
fn start_of_build(plan: &gantry_plan::JobPlan) -> Value {
    let mut build = of_containers(plan, &["command", "args", "env", "terminationMessagePolicy"])["build"].clone();
    // A text of several lines is a list of them in the picture.
    let long = |word: &Value| word.is_array();
    for words in ["command", "args"] {
        for word in build[words].as_array_mut().into_iter().flatten().filter(|word| long(word)) {
            *word = json!("(waits for the shim and becomes it)");
        }
    }
    if let Some(env) = build["env"].as_array_mut() {
        let kept = ["CI_PROJECT_DIR", "OWN", "FILE", "MASKED", "HIDDEN"];
        env.retain(|variable| variable["name"].as_str().is_some_and(|name| kept.contains(&name)));
    }
    build
}

/// `FF_KUBERNETES_HONOR_ENTRYPOINT`, with the image's entrypoint and with the job's.
#[test]
fn entrypoints() {
    let config = "[runners.kubernetes]\nnamespace = \"ci\"\n";
    let variables = |flag: &str| {
        json!([
            variable("FF_KUBERNETES_HONOR_ENTRYPOINT", flag),
            {"key": "OWN", "value": "a $CI_PROJECT_DIR", "public": true},
            {"key": "FILE", "value": "content", "public": true, "file": true},
            {"key": "MASKED", "value": "hunter2hunter2", "public": true, "masked": true},
            {"key": "HIDDEN", "value": "not public", "public": false},
        ])
    };
    let with = |flag: &str, entrypoint: &[&str]| {
        plan(config, &json!({"variables": variables(flag), "image": {"name": "ruby:3", "entrypoint": entrypoint}}))
    };
    let off = with("false", &["/entrypoint.sh"]);
    golden!(
        "entrypoints",
        json!({
            "of the image": start_of_build(&with("true", &[])),
            "of the job": start_of_build(&with("true", &["/entrypoint.sh", "--quiet"])),
            "a shell": start_of_build(&with("true", &["/bin/bash", "-lc"])),
            "none": start_of_build(&with("true", &[""])),
            "flag off": {"build": start_of_build(&off), "lines": lines(&off.banner)},
        })
    );
}

/// Options for the Docker executor: one line each where they would change something.
#[test]
fn options_for_docker() {
    let config = "[runners.kubernetes]\nnamespace = \"ci\"\nnode_selector_overwrite_allowed = \".*\"\n";
    let docker = |platform: &str, user: &str| json!({"docker": {"platform": platform, "user": user}});
    let both = json!({"docker": {"user": "dave"}, "kubernetes": {"user": "1000"}});
    let selected = variable("KUBERNETES_NODE_SELECTOR_ARCH", "kubernetes.io/arch=arm64");
    let with = |options: Value, variables: Value| {
        let service = json!({"name": "redis:7", "executor_opts": docker("linux/s390x", "")});
        plan(config, &json!({"image": {"executor_opts": options}, "services": [service], "variables": variables}))
    };
    let arch = variable("ARCH", "arm64");
    golden!(
        "options_for_docker",
        json!({
            "platform and user": lines(&with(docker("linux/$ARCH/v8", "dave"), json!([arch])).banner),
            "the node is selected": lines(&with(docker("linux/arm64", ""), json!([selected])).banner),
            "a user for both": lines(&with(both, json!([])).banner),
            "as it is anyway": lines(&with(docker("linux/amd64", ""), json!([])).banner),
        })
    );
}

#[test]
fn volumes() {
    let config = r#"
        [runners.kubernetes]
        namespace = "ci"
        [[runners.kubernetes.volumes.host_path]]
        name = "docker"
        mount_path = "/var/run/docker.sock"
        read_only = true
        [[runners.kubernetes.volumes.secret]]
        name = "ca"
        mount_path = "/etc/ca"
        sub_path = "$CI_PROJECT_NAMESPACE"
        [runners.kubernetes.volumes.secret.items]
        "ca.crt" = "ca.pem"
        [[runners.kubernetes.volumes.pvc]]
        name = "build-$CI_CONCURRENT_ID"
        mount_path = "/builds/"
        mount_propagation = "HostToContainer"
        [[runners.kubernetes.volumes.pvc]]
        name = "build-$CI_CONCURRENT_ID"
        mount_path = "/all-builds"
        read_only = true
        [[runners.kubernetes.volumes.config_map]]
        name = "settings"
        mount_path = "/settings"
        [[runners.kubernetes.volumes.empty_dir]]
        name = "scratch"
        mount_path = "/scratch"
        medium = "Memory"
        size_limit = "1Gi"
        [[runners.kubernetes.volumes.csi]]
        name = "vault"
        mount_path = "/vault"
        driver = "secrets-store.csi.k8s.io"
        [[runners.kubernetes.volumes.nfs]]
        name = "tools"
        mount_path = "/tools"
        server = "10.0.0.1"
        path = "/export/tools"
    "#;
    let job = json!({"services": [{"name": "redis:7"}], "variables": [variable("CI_PROJECT_NAMESPACE", "acme")]});
    let plan = plan(config, &job);
    golden!(
        "volumes",
        json!({
            "paths": plan.pod_plan.paths,
            "volumes": pod(&plan)["spec"]["volumes"],
            "mounts": of_containers(&plan, &["volumeMounts"]),
        })
    );
}

/// An API server takes both, and a kubelet takes the second as from `/`.
#[test]
fn mount_paths_with_a_colon_or_from_nowhere() {
    let config = r#"
        [[runners.kubernetes.volumes.secret]]
        name = "ca"
        mount_path = "/etc/docker/certs.d/10.0.0.1:5000"
        [[runners.kubernetes.volumes.empty_dir]]
        name = "repo"
        mount_path = "builds"
    "#;
    let plan = plan(config, &json!({}));
    let mounts = of_containers(&plan, &["volumeMounts"]).to_string();
    for path in ["/etc/docker/certs.d/10.0.0.1:5000", "/builds"] {
        assert!(mounts.contains(&format!("\"mountPath\":{path:?}")), "{mounts}");
    }
}

/// A builds directory of the config that ends with the pod is not shared, whatever it is called.
#[test]
fn builds_in_memory() {
    let config =
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"repo\"\nmount_path = \"/builds\"\nmedium = \"Memory\"\n";
    let plan = plan(config, &json!({}));
    golden!(
        "builds_in_memory",
        json!({
            "paths": plan.pod_plan.paths,
            "volumes": pod(&plan)["spec"]["volumes"],
            "mounts": of_containers(&plan, &["volumeMounts"]),
        })
    );
}

/// A service that may do everything anyway also gets what jobs mount into containers of their own.
#[test]
fn privileged_services() {
    let config = "[runners.kubernetes]\nprivileged = true\n";
    let plan = plan(config, &json!({"services": [{"name": "docker:dind"}]}));
    golden!("privileged_services", of_containers(&plan, &["volumeMounts"]));
}

#[test]
fn placement() {
    let config = r#"
        [runners.kubernetes]
        namespace = "ci"
        helper_image_flavor = "ubuntu"
        priority_class_name = "ci"
        runtime_class_name = "gvisor"
        scheduler_name = "bin-packer"
        dns_policy = "none"
        pod_termination_grace_period_seconds = 5
        automount_service_account_token = false
        image_pull_secrets = ["corp-registry"]
        host_aliases = [{ ip = "10.0.0.7", hostnames = ["cache.internal"] }]
        [runners.kubernetes.node_selector]
        "kubernetes.io/arch" = "arm64"
        [runners.kubernetes.node_tolerations]
        "dedicated=ci" = "NoSchedule"
        "spot" = ""
        [runners.kubernetes.dns_config]
        nameservers = ["1.2.3.4"]
        searches = ["ci.local"]
        options = [{ name = "ndots", value = "2" }, { name = "edns0" }]
        [runners.kubernetes.container_lifecycle.post_start.exec]
        command = ["sh", "-c", "touch /tmp/started"]
        [runners.kubernetes.container_lifecycle.pre_stop.http_get]
        path = "/stop"
        port = 8080
        http_headers = [{ name = "X-By", value = "ci" }]
        [[runners.kubernetes.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution]]
        weight = 10
        [[runners.kubernetes.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution.preference.match_expressions]]
        key = "zone"
        operator = "In"
        values = ["a", "b"]
        [[runners.kubernetes.affinity.pod_anti_affinity.required_during_scheduling_ignored_during_execution]]
        topology_key = "kubernetes.io/hostname"
        namespaces = ["ci"]
        match_label_keys = ["pod"]
        [runners.kubernetes.affinity.pod_anti_affinity.required_during_scheduling_ignored_during_execution.label_selector.match_labels]
        heavy = "true"
    "#;
    golden!("placement", pod(&plan(config, &json!({}))));
}

#[test]
fn labels_and_annotations() {
    let config = r#"
        [runners.kubernetes]
        namespace = "ci"
        [runners.kubernetes.pod_labels]
        team = "$TEAM"
        pod = "mine"
        "Job.Runner.GitLab.com/pod" = "not mine"
        "gantry.dev/managed" = "false"
        [runners.kubernetes.pod_annotations]
        "job.runner.gitlab.com/name" = "renamed $CI_JOB_NAME"
        "gantry.dev/claim" = "stolen"
    "#;
    let variables = json!([
        variable("TEAM", "core/ci team-"),
        variable("CI_JOB_NAME", "unit"),
        variable("CI_PROJECT_NAMESPACE", "acme/web")
    ]);
    let job =
        json!({"variables": variables, "job_info": {"project_name": "Café (old)"}, "git_info": {"ref": "feature/é"}});
    golden!("labels_and_annotations", &pod(&plan(config, &job))["metadata"]);
}

#[test]
fn git_strategies() {
    let mut shown = serde_json::Map::new();
    for strategy in ["fetch", "clone", "none", "empty", "", "copy", "$CHOSEN"] {
        let variables = json!([
            variable("GIT_STRATEGY", strategy),
            variable("CHOSEN", "clone"),
            variable("GIT_SUBMODULE_STRATEGY", "normal")
        ]);
        let plan = plan("", &json!({"variables": variables, "allow_git_fetch": strategy.is_empty()}));
        let sources = &json!(plan.pod_plan)["stages"][1]["action"]["sources"];
        shown.insert(
            format!("{strategy:?}"),
            json!({
                "strategy": sources["strategy"],
                "checkout": sources["checkout"],
                "submodules": sources["submodules"]["strategy"],
                "project_dir": plan.pod_plan.paths.project_dir,
                "warnings": lines(&plan.banner[2..]),
            }),
        );
    }
    golden!("git_strategies", shown);
}

#[test]
fn clone_paths() {
    let mut shown = serde_json::Map::new();
    for path in [
        "$CI_BUILDS_DIR/$CI_CONCURRENT_ID/${CI_PROJECT_NAME}",
        "/builds/./a//b/",
        "/builds",
        "/builds/../etc",
        "/builds-of-others/x",
        "relative",
        "/gantry-agent/x",
        "",
    ] {
        let variables = json!([variable("GIT_CLONE_PATH", path), variable("CI_PROJECT_NAME", "shop")]);
        let result = try_plan("", &json!({"variables": variables}))
            .map_or_else(|error| json!(error.to_string()), |plan| json!(plan.pod_plan.paths));
        shown.insert(format!("{path:?}"), result);
    }
    let off = try_plan(
        "[runners.custom_build_dir]\nenabled = false\n",
        &json!({"variables": [variable("GIT_CLONE_PATH", "/builds/x")]}),
    );
    shown.insert("turned off".to_owned(), json!(off.unwrap_err().to_string()));
    golden!("clone_paths", shown);
}

#[test]
fn feature_flags() {
    let config = "environment = [\"FF_USE_FASTZIP=false\"]\n[runners.feature_flags]\nFF_TIMESTAMPS = false\n";
    let variables = json!([
        variable("FF_TIMESTAMPS", "true"),
        variable("FF_SCRIPT_SECTIONS", "1"),
        variable("FF_MASK_ALL_DEFAULT_TOKENS", "F"),
        variable("FF_ENABLE_BASH_EXIT_CODE_CHECK", "true"),
        variable("FF_USE_GITALY_CORRELATION_ID", "perhaps"),
        variable("FF_KUBERNETES_HONOR_ENTRYPOINT", "true"),
    ]);
    let plan =
        plan(config, &json!({"variables": variables, "steps": [{"name": "script", "script": ["make\nmake test"]}]}));
    golden_plan!("feature_flags", &plan);
}

#[test]
fn overwrites() {
    let config = r#"
        [runners.kubernetes]
        namespace = "ci"
        cpu_limit = "1"
        cpu_limit_overwrite_max_allowed = "4"
        helper_memory_limit_overwrite_max_allowed = "1Gi"
        service_memory_limit_overwrite_max_allowed = "2Gi"
        pod_cpu_request_overwrite_max_allowed = "8"
        ephemeral_storage_limit_overwrite_max_allowed = "20Gi"
        namespace_overwrite_allowed = "^ci-.*$"
        service_account_overwrite_allowed = "deploy"
        node_selector_overwrite_allowed = ".*"
        node_tolerations_overwrite_allowed = ".*"
        pod_labels_overwrite_allowed = ".*"
        pod_annotations_overwrite_allowed = ".*"
    "#;
    let variables = json!([
        variable("BRANCH", "main"),
        variable("KUBERNETES_NAMESPACE_OVERWRITE", "ci-$BRANCH"),
        variable("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "deployer"),
        variable("KUBERNETES_CPU_LIMIT", "2500m"),
        variable("KUBERNETES_MEMORY_LIMIT", "ignored, for want of a ceiling"),
        variable("KUBERNETES_HELPER_MEMORY_LIMIT", "1024Mi"),
        variable("KUBERNETES_SERVICE_MEMORY_LIMIT", "1Gi"),
        variable("KUBERNETES_POD_CPU_REQUEST", "8"),
        variable("KUBERNETES_EPHEMERAL_STORAGE_LIMIT", "20Gi"),
        variable("KUBERNETES_NODE_SELECTOR_ARCH", "kubernetes.io/arch=arm64"),
        variable("KUBERNETES_NODE_TOLERATIONS_1", "dedicated=ci:NoSchedule"),
        variable("KUBERNETES_POD_LABELS_1", "team=core/web"),
        variable("KUBERNETES_POD_ANNOTATIONS_1", "note=costs 5$$"),
    ]);
    let own = json!([variable("KUBERNETES_SERVICE_MEMORY_LIMIT", "2Gi")]);
    let job = json!({"variables": variables, "services": [{"name": "redis:7"}, {"name": "elastic:9", "alias": "search", "variables": own}]});
    let plan = plan(config, &job);
    let pod = pod(&plan);
    golden!(
        "overwrites",
        json!({
            "lines": lines(&plan.executor),
            "namespace": plan.namespace,
            "account": pod["spec"]["serviceAccountName"],
            "selector": pod["spec"]["nodeSelector"],
            "tolerations": pod["spec"]["tolerations"],
            "team": pod["metadata"]["labels"]["team"],
            "note": pod["metadata"]["annotations"]["note"],
            "pod": pod["spec"]["resources"],
            "containers": of_containers(&plan, &["image", "resources"]),
        })
    );
}

/// What a job's own definition makes readable is told; what it does not, stays out.
#[test]
fn secrets_and_services() {
    let variables = json!([
        {"key": "DB_PASSWORD", "value": "correct-horse-battery", "masked": true},
        {"key": "DB_URL", "value": "postgres://shop:$DB_PASSWORD@db/shop", "public": true},
        {"key": "DB_NAME", "value": "shop", "public": true},
        {"key": "PRIVATE", "value": "not public"},
    ]);
    let services = json!([{"name": "postgres:16", "alias": "db", "variables": [
        {"key": "POSTGRES_PASSWORD", "value": "$DB_PASSWORD"},
        {"key": "POSTGRES_DB", "value": "$DB_NAME"},
        {"key": "COST", "value": "5$$", "raw": true},
        {"key": "SELF", "value": "$POSTGRES_DB"},
        {"key": "not a name", "value": "x"},
    ]}]);
    let plan = plan("", &json!({"variables": variables, "services": services}));
    assert!(!json!([plan.banner, plan.executor]).to_string().contains("correct-horse"));
    golden!("secrets_and_services", json!({"banner": lines(&plan.banner), "db": of_containers(&plan, &["env"])["db"]}));
}

/// Parts of a job that this version does not carry out are told, and so is what cannot be exported.
#[test]
fn warnings() {
    let job = json!({
        "cache": [{"key": "gems", "paths": ["vendor/"]}, {"key": "empty"}],
        "secrets": {"DB_PASSWORD": {"vault": {"path": "db"}}, "API_KEY": {}},
        "inputs": [{"key": "age", "value": {"type": "number", "content": 1}}],
        "variables": [
            variable("", "x"), variable("A=B", "x"), variable("NUL\u{0}", "x"), variable("VALUE", "a\u{0}b"),
            {"key": "../../escape", "value": "x", "file": true}, variable("GET_SOURCES_ATTEMPTS", "11"),
            variable("CI_DEBUG_TRACE", "true"), variable("CI_DEBUG_SERVICES", "true"), variable("DOCKER_AUTH_CONFIG", "{}"),
            variable("GIT_CHECKOUT", "line one\nline two"),
        ],
    });
    let plan = plan("debug_trace_disabled = true\n", &job);
    assert!(!plan.pod_plan.trace.debug_trace);
    golden!("warnings", lines(&plan.banner));
}

#[test]
fn absurd_but_possible() {
    let job = json!({
        "job_info": {"project_id": i64::MIN, "root_namespace_id": i64::MAX, "name": "a\u{0}b\nc", "project_name": ""},
        "git_info": {"depth": -5, "repo_url": format!("https://x:{TOKEN}@host/a:b/../c.git"), "ref": "x".repeat(5000)},
        "runner_info": {"timeout": i64::MAX},
        "steps": [{"name": "", "script": []}, {"name": "Re\nlease\u{1b}[0m", "script": [""]}],
        "dependencies": [{"id": -1, "artifacts_file": {"filename": "x"}}],
    });
    let plan = plan("", &job);
    let stages: Vec<&str> = plan.pod_plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let pod = pod(&plan);
    golden!(
        "absurd_but_possible",
        json!({
            "stages": stages,
            "paths": plan.pod_plan.paths,
            "labels": pod["metadata"]["labels"],
            "name": pod["metadata"]["name"],
            "ref bytes": pod["metadata"]["annotations"]["job.runner.gitlab.com/ref"].as_str().map(str::len),
            "timeout": plan.timeout.as_secs(),
            "deadline": pod["spec"]["activeDeadlineSeconds"],
        })
    );
}

/// What `gantry plan` prints. Nothing of what the job or GitLab keeps secret is in it.
#[test]
fn printed() {
    let config = "[runners.kubernetes]\nnamespace = \"ci\"\n";
    let masked = |key: &str, value: &str| json!({"key": key, "value": value, "masked": true});
    let job = json!({
        "variables": [masked("PASSWORD", "canary-of-a-variable"), masked("PIN", "007"), variable("URL", "https://u:canary@h/"), variable("PLAIN", "yes")],
        "steps": [{"name": "script", "script": ["echo one", "curl -u x:canary-of-a-variable h"]}],
        "dependencies": [{"id": 1, "name": "build", "token": "glcbt-canary-of-another", "artifacts_file": {"filename": "a.zip"}}],
    });
    let yaml = Picture::of(&plan(config, &job), Detail::Brief).yaml().unwrap();
    assert!(!yaml.contains("canary") && !yaml.contains(TOKEN), "{yaml}");
    let agent = yaml.find("\nagent:").expect("the agent's part is the last") + 1;
    for (part, text) in [("pod_and_stages", &yaml[..agent]), ("agent", &yaml[agent..])] {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../goldens/printed");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(part, text));
    }
}

/// What a manager learns from the pod alone. Nothing of it can be read by others.
#[test]
fn the_pod_carries_a_ticket() {
    let (namespace, fleet) =
        ("[runners.kubernetes]\nnamespace = \"ci\"", Fleet::of(None, "https://gitlab.example.com", "ci"));
    let plan = plan(namespace, &json!({"variables": [variable("FF_TIMESTAMPS", "true")]}));
    let metadata = &plan.pod.metadata;
    let (labels, annotations) = (metadata.labels.as_ref().unwrap(), metadata.annotations.as_ref().unwrap());
    assert_eq!(labels[LABEL_FLEET], fleet.label());
    let sealed = &annotations[ANNOTATION_TICKET];
    assert!(
        !sealed.contains(TOKEN)
            && !URL_SAFE_NO_PAD.decode(&sealed[3..]).unwrap().windows(6).any(|part| part == b"glcbt-")
    );
    let pod = metadata.name.as_deref().unwrap();
    let binding = TicketBinding { pod, namespace: "ci", job_id: 98765, fleet: fleet.name() };
    let ticket = Ticket::open(sealed, &ticket_key(), &binding).unwrap();
    assert_eq!(ticket.job_token.expose(), TOKEN);
    golden!("the_pod_carries_a_ticket", ticket_without_token(&ticket));
}

/// GitLab enters the job there, whoever its manager is then; nobody reads it in the pod.
#[test]
fn the_ticket_says_how_the_job_is_entered() {
    let authorization = "canary-word".into();
    let session = JobSession {
        id: "0a1b".into(),
        authorization,
        directory: String::new(),
        ports: Vec::new(),
        authority: gantry_core::Secret::default(),
    };
    let context = Context { session: Some(session.clone()), ..context() };
    let (job, runner) = (job(payload(&json!({}))), runner("[runners.kubernetes]\nnamespace = \"ci\""));
    let plan = gantry_plan::plan(&job, &runner, &context, &gantry_plan::Links::default()).unwrap();
    assert!(!serde_json::to_string(&plan.pod).unwrap().contains("canary"), "the word is in the pod");
    let metadata = &plan.pod.metadata;
    let fleet = Fleet::of(None, "https://gitlab.example.com", "ci");
    let pod = metadata.name.as_deref().unwrap();
    let binding = TicketBinding { pod, namespace: "ci", job_id: 98765, fleet: fleet.name() };
    let sealed = &metadata.annotations.as_ref().unwrap()[ANNOTATION_TICKET];
    let directory = plan.pod_plan.paths.project_dir.clone();
    let ticket = Ticket::open(sealed, &ticket_key(), &binding).unwrap();
    assert_eq!(ticket.session, Some(JobSession { directory, ..session }));
}

fn ticket_without_token(ticket: &Ticket) -> Value {
    let mut shown = json!(ticket);
    shown["job_token"] = Value::Null;
    shown
}

#[test]
fn pause_pods() {
    let config = r#"
        [runners.kubernetes]
        cpu_request = "2"
        memory_request = "4Gi"
        memory_limit = "8Gi"
        service_account = "ci"
        runtime_class_name = "gvisor"
        node_selector = { pool = "ci" }
        node_tolerations = { "dedicated=ci" = "NoSchedule" }
        [runners.kubernetes.autoscaler]
        pause_pod_image = "registry.example.com/pause:1"
        pause_pod_image_pull_secrets = ["logins", ""]
        [[runners.kubernetes.autoscaler.policy]]
        idle_count = 2
    "#;
    let settings = runner(config);
    let fleet = Fleet::of(None, &settings.url, "ci");
    let made = ("r_0123456789ab", &fleet);
    let mut deployment = gantry_plan::pause_deployment(&settings, made, 2, "2026-01-02T03:04:05Z");
    let shown = json!({"deployment": deployment, "class": gantry_plan::pause_class(&settings),
        "selector": gantry_plan::pause_selector()});
    golden!("pause_pods", shown);
    let stranger = Fleet::of(Some("theirs"), &settings.url, "ci");
    let renewed = RunnerSettings { token: "glrt-renewed-1".into(), ..settings.clone() };
    let is_of = |deployment: &_, by_token, by_fleet| gantry_plan::pause_is_of(deployment, by_token, by_fleet);
    assert!(is_of(&deployment, &settings, &stranger) && is_of(&deployment, &renewed, &fleet));
    assert!(!is_of(&deployment, &renewed, &stranger));
    deployment.metadata.labels = None;
    assert!(!is_of(&deployment, &settings, &fleet), "nobody's");
    let other = runner("[runners.kubernetes.autoscaler]\npause_pod_priority_class_name = \"mine\"\n");
    assert_eq!(gantry_plan::pause_class(&other), None, "a class of somebody else is that one's business");
}
