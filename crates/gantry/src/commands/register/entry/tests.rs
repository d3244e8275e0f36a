//! Entries, seen as texts, and as the daemon reads them.

use std::collections::BTreeMap;

use super::*;
use crate::commands::register::flags::{self, Kind};

fn identity() -> Identity {
    Identity {
        id: Some(42),
        token: Secret::new("t0ken-of-the-runner"),
        obtained: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        expires: None,
    }
}

fn settings(given: &[(&str, &str)], env: &[(&str, &str)]) -> Settings {
    let mut uses: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
    for (flag, text) in given {
        uses.entry((*flag).to_owned()).or_default().push(Secret::new(*text));
    }
    let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned());
    Settings::read(&flags::all(), &uses, &env).unwrap()
}

/// The text, which must be one that the daemon takes without an error. Also says what it warns
/// about.
fn written(given: &[(&str, &str)], env: &[(&str, &str)], template: &Template) -> (String, Vec<String>) {
    let entry = text(&flags::all(), &settings(given, env), template, &identity()).unwrap();
    let file = appended(&gantry_config::edit::new_file(4), &entry).unwrap();
    let loaded = gantry_config::load(&file, &|_| None).unwrap_or_else(|problems| panic!("{problems}\n{file}"));
    (file, loaded.warnings.iter().map(ToString::to_string).collect())
}

/// What a `ConfigMap` of a runner that runs in its own cluster sets.
const IN_CLUSTER: [(&str, &str); 18] = [
    ("RUNNER_NAME", "10.0.0.7"),
    ("REGISTER_NON_INTERACTIVE", "true"),
    ("REGISTER_LOCKED", "false"),
    ("CI_SERVER_URL", "http://172.20.5.54/"),
    ("REGISTRATION_TOKEN", "FoN6VUuscn2tfbHJwdsada"),
    ("METRICS_SERVER", "0.0.0.0:9100"),
    ("RUNNER_CONCURRENT_BUILDS", "4"),
    ("RUNNER_REQUEST_CONCURRENCY", "4"),
    ("RUNNER_TAG_LIST", "k8s-runner"),
    ("RUNNER_EXECUTOR", "kubernetes"),
    ("KUBERNETES_NAMESPACE", "gitlab"),
    ("KUBERNETES_PULL_POLICY", "if-not-present"),
    ("KUBERNETES_HELPER_IMAGE", "gitlab/gitlab-runner-helper:x86_64-latest"),
    ("DOCKER_HELPER_IMAGE", "gitlab/gitlab-runner-helper:x86_64-latest"),
    ("KUBERNETES_HOST", "https://172.20.2.225:6443"),
    ("KUBERNETES_CA_FILE", "/etc/ssl/ca.crt"),
    ("KUBERNETES_SERVICE_ACCOUNT", "runner-executor"),
    ("KUBERNETES_BEARER_TOKEN", "bearer"),
];

#[test]
fn a_runner_in_its_cluster() {
    let (file, warnings) = written(&[], &IN_CLUSTER, &Template::empty());
    assert_eq!(warnings, [""; 0]);
    insta::assert_snapshot!(file);
}

#[test]
fn a_runner_on_a_machine_outside() {
    let given = [
        ("non-interactive", "true"),
        ("url", "https://gitlab.example.com"),
        ("registration-token", "GITLAB_CI_TOKEN"),
        ("executor", "kubernetes"),
        ("name", "kubernetes-runner"),
        ("tag-list", "k8s-runner"),
        ("kubernetes-host", "https://KUBERNETES_URL"),
        ("kubernetes-ca-file", "/etc/k8s/ca.crt"),
        ("kubernetes-bearer_token", "SERVICE_ACCOUNT_BEARER_TOKEN"),
    ];
    let (file, warnings) = written(&given, &[], &Template::empty());
    assert_eq!(warnings, [""; 0]);
    insta::assert_snapshot!(file);
}

const REQUIRED: [(&str, &str); 2] = [("url", "https://gitlab.example.com"), ("executor", "kubernetes")];

#[test]
fn values_of_every_kind() {
    let given = [
        ("name", "all \"kinds\""),
        ("limit", "2"),
        ("unhealthy-interval", "1h30m"),
        ("env", "A=1"),
        ("env", "B=two words"),
        ("debug-trace-disabled", "true"),
        ("custom_build_dir-enabled", "false"),
        ("feature-flags", "FF_TIMESTAMPS:false"),
        ("cache-s3-secret-key", "s3cret"),
        ("kubernetes-privileged", "false"),
        ("kubernetes-node-selector", "kubernetes.io/arch:amd64"),
        ("kubernetes-node-tolerations", "a=b:NoSchedule"),
        ("kubernetes-retry-limits", "TLS handshake timeout:7"),
        ("kubernetes-helper-ephemeral_storage-limit-overwrite-max-allowed", "1Gi"),
        ("kubernetes-cleanup_grace_period_seconds", "0"),
        ("kubernetes-host_aliases", r#"[{"ip":"192.0.2.1","hostnames":["a","b"]}]"#),
        ("kubernetes-pod-security-context-supplemental-groups", "7"),
        ("kubernetes-pod-security-context-supplemental-groups", "8"),
        ("kubernetes-build_container_security_context-capabilities-drop", "ALL"),
        ("kubernetes-build_container_security_context-seccomp_profile-type", "RuntimeDefault"),
    ];
    insta::assert_snapshot!(written(&[&REQUIRED[..], &given].concat(), &[], &Template::empty()).0);
}

/// Each flag alone, with a value that fits it: the daemon knows its key and takes it.
#[test]
fn every_key_is_one_that_the_daemon_knows() {
    for flag in flags::all().iter().filter(|flag| !flag.path.is_empty()) {
        let last = flag.path.last().unwrap().as_str();
        let value = match (flag.kind, last) {
            (Kind::Text, "url") => "https://gitlab.example.com",
            (Kind::Text, "executor") => "kubernetes",
            (Kind::Text, "shell") => "sh",
            (Kind::Text, "type") => "RuntimeDefault",
            (Kind::Text, "Type") => "s3",
            (Kind::Text, "AuthenticationType") => "iam",
            (Kind::Text, "ServerSideEncryption") => "KMS",
            (Kind::Text, "dns_policy" | "proc_mount") => "default",
            // With a key and a CA only.
            (Kind::Text, "cert_file") => continue,
            (Kind::Bool | Kind::OptionalBool, _) => "true",
            (Kind::Duration, _) => "1s",
            (Kind::List, "allowed_pull_policies") | (Kind::Words, _) => "always",
            (Kind::List, "environment") => "A=1",
            (Kind::Map, _) => "key:value",
            (Kind::Switches, _) => "FF_TIMESTAMPS:true",
            (Kind::Counts, _) => "text:1",
            (Kind::HostAliases, _) => r#"[{"ip":"192.0.2.1","hostnames":["a"]}]"#,
            (Kind::Text | Kind::Secret | Kind::Int | Kind::OptionalInt | Kind::Ints | Kind::List, _) => "1",
        };
        let given = [&REQUIRED[..], &[(flag.long.as_str(), value)]].concat();
        let (file, warnings) = written(&given, &[], &Template::empty());
        assert!(file.contains(last), "{file}");
        let is_unknown = |warning: &&String| warning.contains("unknown") || warning.contains("did you mean");
        assert_eq!(warnings.iter().find(is_unknown), None, "--{}", flag.long);
    }
}

const TEMPLATE: &str = "\
concurrent = 100

# What all our runners have.
[[runners]]
  name = \"template\"
  token = \"ignored\"
  id = 7
  url = \"$GITLAB\" # ours
  limit = 5
  executor = \"kubernetes\"
  [runners.kubernetes]
    namespace = \"ci\"
    privileged = true
    pull_policy = \"always\"
    [runners.kubernetes.node_selector]
      zone = \"a\"
    # Shared by all jobs.
    [[runners.kubernetes.volumes.empty_dir]]
      name = \"scratch\"
      mount_path = \"/scratch\"

[session_server]
  session_timeout = 1
";

#[test]
fn a_template_fills_what_is_empty() {
    let given = [
        ("name", "mine"),
        ("limit", "0"),
        ("kubernetes-privileged", "false"),
        ("kubernetes-pull-policy", ""),
        ("kubernetes-namespace", "other"),
        ("kubernetes-node-selector", "disk:ssd"),
        ("kubernetes-pod-security-context-supplemental-groups", "7"),
    ];
    let template = Template::parse(TEMPLATE).unwrap();
    assert_eq!((template.get("URL"), template.get("token")), ("$GITLAB".to_owned(), String::new()));
    let entry = text(&flags::all(), &settings(&given, &[]), &template, &identity()).unwrap();
    let file = appended("concurrent = 4\n", &entry).unwrap();
    let env = |name: &str| (name == "GITLAB").then(|| "https://gitlab.example.com".to_owned());
    let loaded = gantry_config::load(&file, &env).unwrap();
    let runner = &loaded.settings.runners[0];
    assert_eq!(runner.kubernetes.privileged, Some(false), "no is not nothing");
    assert_eq!(runner.limit.map(std::num::NonZeroU32::get), Some(5), "0 is nothing");
    insta::assert_snapshot!(file);
}

#[test]
fn templates_that_cannot_be_used() {
    let problem = |text: &str| Template::parse(text).unwrap_err().to_string();
    assert!(problem("concurrent = 1\n").contains("no [[runners]] entry"));
    assert!(problem("[[runners]]\n[[runners]]\n").contains("has 2 [[runners]] entries"));
    assert!(problem("a = = 1").contains("line 1"));
    assert_eq!(Template::parse("runners = [{ url = \"u\", kubernetes = { host = \"h\" } }]").unwrap().get("url"), "u");
}

#[test]
fn what_was_there_stays_as_it_was() {
    let entry = text(&flags::all(), &settings(&REQUIRED, &[]), &Template::empty(), &identity()).unwrap();
    let existing = "# ours\nCONCURRENT=3\n[[runners]]\ntoken='$T' # t\n[gantry]\nfleet = \"x\"";
    let file = appended(existing, &entry).unwrap();
    assert!(file.starts_with(existing), "{file}");
    let file = appended(&file, &entry).unwrap();
    assert_eq!(Editor::parse(&file).unwrap().runners(&|_| None).len(), 3);
    assert!(appended("[[Runners]]\n", &entry).unwrap_err().to_string().contains("[[runners]]"));
}

#[test]
fn a_token_that_expires() {
    let identity = Identity { expires: Some("2027-01-01T00:00:00Z".parse().unwrap()), id: None, ..identity() };
    let entry = text(&flags::all(), &settings(&REQUIRED, &[]), &Template::empty(), &identity).unwrap();
    assert!(entry.contains("token_expires_at = 2027-01-01T00:00:00Z") && !entry.contains("id ="), "{entry}");
}

#[test]
fn what_a_template_says_in_vain() {
    let said = |text: &str| idle(&text.parse().unwrap());
    assert_eq!(said("[[runners]]\nurl = \"u\"\n[runners.kubernetes]\nimage = \"i\"\n"), None);
    let line = said("concurrent = 9\n[[runners]]\nname = \"n\"\nlimit = 1\nTOKEN = \"t\"\n").unwrap();
    assert!(line.contains("no effect: concurrent, runners.name, runners.TOKEN ("), "{line}");
}

#[test]
fn what_of_a_template_is_overruled() {
    let template = Template::parse(TEMPLATE).unwrap();
    let env = |name: &str| (name == "GITLAB").then(|| "https://gitlab.example.com".to_owned());
    let said = |given: &[(&str, &str)], variables: &[(&str, &str)]| {
        template.overruled(&flags::all(), &settings(given, variables), &env)
    };
    let same = [
        ("name", "mine"),
        ("limit", "0"),
        ("kubernetes-namespace", "ci"),
        ("kubernetes-pull-policy", "always"),
        ("kubernetes-node-selector", "disk:ssd"),
        ("kubernetes-image", "alpine"),
    ];
    assert_eq!(
        said(&same, &[("CI_SERVER_URL", "https://gitlab.example.com"), ("RUNNER_EXECUTOR", "kubernetes")]),
        None
    );
    let others = [
        ("limit", "4"),
        ("kubernetes-privileged", "false"),
        ("kubernetes-pull-policy", "never"),
        ("kubernetes-node-selector", "zone:b"),
    ];
    assert_eq!(
        said(&others, &[("CI_SERVER_URL", "http://127.0.0.1"), ("RUNNER_EXECUTOR", "docker")]).unwrap(),
        "of the template these do not count, because a flag or a variable says otherwise: runners.url, \
         runners.executor, runners.limit, runners.kubernetes.privileged, runners.kubernetes.pull_policy, \
         runners.kubernetes.node_selector.zone"
    );
}
