//! Whole files, good and bad. What is read is compared as a picture, what is wrong line by line.

mod collection;
mod idle;

use proptest::prelude::*;

use crate::key::{Form, Key};
use crate::keys::keys;
use crate::settings::GitMirror;
use crate::{Problem, Quantity, Settings, load};

fn env(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "glrt-t1_secret".to_owned())
}

fn good(text: &str) -> (Settings, String) {
    let loaded = load(text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    (loaded.settings, lines(&loaded.warnings))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |lines, problem| lines + &format!("{:?} {problem}\n", problem.severity))
}

/// All problems of a file that must not load.
fn bad(text: &str) -> String {
    lines(&load(text, &env).unwrap_err().list)
}

/// What is wrong with the entries that cannot be used, of a file that can.
fn broken(text: &str) -> String {
    let loaded = load(text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.unusable.iter().map(|entry| lines(&entry.errors)).collect()
}

/// The least that a runner needs, and then `more`.
fn runner(more: &str) -> String {
    format!("[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n{more}")
}

/// A picture of settings without the lines of one field, and those lines.
fn cut(picture: &str, field: &str) -> (String, String) {
    let lines: Vec<&str> = picture.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let start = lines.iter().position(|line| line.trim_start().starts_with(&format!("{field}: "))).expect("the field");
    let inside = lines[start + 1..].iter().take_while(|line| indent(line) > indent(lines[start])).count();
    let end = start + inside + 2;
    let rest = format!(
        "{}\n{}{field}: (a snapshot of its own),\n",
        lines[..start].join("\n"),
        " ".repeat(indent(lines[start]))
    );
    (rest + &lines[end..].join("\n"), lines[start..end].join("\n"))
}

#[test]
fn errors_say_what_to_write() {
    let errors = broken(&runner("[runners.kubernetes.volumes.empty_dir]\nname = \"a\"\nmount_path = \"/a\"\n"));
    let said = "must be a list of tables, not a table (write [[runners.kubernetes.volumes.empty_dir]], and not \
                [runners.kubernetes.volumes.empty_dir])";
    assert!(errors.contains(said), "{errors}");
    let errors = broken(&runner("[runners.kubernetes.node_tolerations]\n\"dagger=enabled:NoSchedule\" = \"\"\n"));
    assert!(errors.contains("has the effect in it: write \"dagger=enabled\" = \"NoSchedule\""), "{errors}");
}

#[test]
fn templates_of_helm_are_named() {
    const HINT: &str = "(this is a template of Helm: render it first (`helm template …`))";
    let errors = broken(&runner("[runners.kubernetes]\nnamespace = \"{{.Release.Namespace}}\"\n"));
    assert!(errors.contains("cannot be a namespace") && errors.contains(HINT), "{errors}");
    let errors = bad("{{- if .Values.x }}\nconcurrent = 1\n");
    assert!(errors.contains(HINT), "{errors}");
    let (_, warnings) = good(&runner(
        "pre_build_script = \"docker ps --format '{{.ID}}'\"\n[runners.kubernetes]\nimage = \"{{ .Values.image }}\"\n",
    ));
    assert_eq!(
        warnings,
        format!("Warning config.toml:7: runners[0].kubernetes.image: is as Helm should have filled it in {HINT}\n")
    );
}

#[test]
fn nothing_means_the_defaults() {
    let (settings, warnings) = good("");
    assert_eq!(warnings, "");
    insta::assert_debug_snapshot!(settings);
}

#[test]
fn a_runner_with_nothing_but_its_tokens() {
    let (settings, warnings) = good(&runner(""));
    assert_eq!(warnings, "");
    let (runner, kubernetes) = cut(&format!("{:#?}", settings.runners), "kubernetes");
    insta::assert_snapshot!("a_runner_with_nothing_but_its_tokens", runner);
    insta::assert_snapshot!("a_runner_with_nothing_but_its_tokens_kubernetes", kubernetes);
}

#[test]
fn a_file_as_the_reference_saves_it() {
    let (settings, warnings) = good(include_str!("../tests/data/saved.toml"));
    assert_eq!(
        warnings,
        "Warning config.toml:10: runners[0].request_concurrency: 4 is more than concurrent (1), which limits it: raise concurrent\n"
    );
    let runner = &settings.runners[0];
    assert_eq!(runner.id, Some(42));
    assert_eq!(runner.token_expires_at, None);
    assert!(runner.token_obtained_at.is_some());
    assert_eq!(
        runner.kubernetes,
        crate::KubernetesSettings {
            host: Some("https://172.20.2.225:6443".to_owned()),
            ca_file: Some("/etc/ssl/ca.crt".into()),
            bearer_token: Some("abc".into()),
            namespace: Some("gitlab".to_owned()),
            pull_policy: vec![crate::settings::PullPolicy::IfNotPresent],
            helper_image: Some("gitlab/gitlab-runner-helper:x86_64-latest".to_owned()),
            service_account: Some("runner-executor".to_owned()),
            ..crate::KubernetesSettings::default()
        }
    );
}

#[test]
fn a_full_file() {
    let (settings, warnings) = good(include_str!("../tests/data/full.toml"));
    let (file, kubernetes) = cut(&format!("{settings:#?}"), "kubernetes");
    let (kubernetes, resources) = cut(&kubernetes, "resources");
    let (kubernetes, volumes) = cut(&kubernetes, "volumes");
    insta::assert_snapshot!("a_full_file_warnings", warnings);
    insta::assert_snapshot!("a_full_file", file);
    insta::assert_snapshot!("a_full_file_kubernetes", kubernetes);
    insta::assert_snapshot!("a_full_file_resources", resources);
    insta::assert_snapshot!("a_full_file_volumes", volumes);
    assert_eq!(settings.runners[0].token.expose(), "glrt-t1_secret");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    insta::assert_snapshot!(bad(include_str!("../tests/data/bad.toml")));
}

/// An entry is bad, the one beside it is good and is used.
#[test]
fn one_bad_entry_is_its_own_problem() {
    let url = "url = \"https://gitlab.example.com\"\n";
    let rest = "token = \"x\"\nexecutor = \"kubernetes\"\n";
    for (entry, words) in [
        ("name = \"empty\"\n".to_owned(), "runners[0].token: is missing"),
        (
            format!("{url}executor = \"kubernetes\"\ntoken = \"glrt-x\\n\"\n"),
            "runners[0].token: holds a blank or the end of a line",
        ),
        (format!("url = \"gitlab.example.com\"\n{rest}"), "must begin with http:// or https://"),
        (format!("{url}token = \"x\"\nexecutor = \"docker\"\n"), "\"docker\" is not supported"),
        (format!("{url}{rest}shell = \"pwsh\"\n"), "\"pwsh\" is not supported"),
        (format!("{url}{rest}limit = \"many\"\n"), "must be a whole number"),
        (format!("{url}{rest}kubernetes = []\n"), "must be a table, not a list"),
        (format!("{url}{rest}[runners.kubernetes]\nnamespace = \"Bad_NS!\"\n"), "cannot be a namespace"),
        (format!("{url}{rest}[runners.kubernetes]\nnamespace = \"$NS\"\n"), "no variable is put in here"),
        (format!("{url}{rest}[runners.kubernetes]\nmemory_limit = \"4GB\"\n"), "\"4GB\" is not a quantity"),
        (format!("{url}{rest}[runners.kubernetes]\npull_policy = \"IfNotPresent\"\n"), "is not one of always"),
        (format!("{url}{rest}[[runners.kubernetes.volumes.pvc]]\nmount_path = \"/x\"\n"), "pvc[0].name: is missing"),
        (format!("{url}{rest}[runners.labels]\na = \"too short\"\n"), "the name of a label"),
    ] {
        let good = runner("name = \"good\"\n");
        let text = format!("log_format = \"json\"\n[[runners]]\n{entry}{good}");
        let loaded = load(&text, &env).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(loaded.settings.runners.len(), 1, "{text}");
        assert_eq!(loaded.settings.runners[0].name, "good");
        let [unusable] = loaded.unusable.as_slice() else { panic!("{:?}\n{text}", loaded.unusable) };
        let said = lines(&unusable.errors);
        assert!(unusable.index == 0 && said.contains(words) && !said.contains("runners[1]"), "{said}\n{text}");
        assert!(!lines(&loaded.warnings).contains("Error"));
        // Where the file itself cannot be used, its list is complete all the same.
        let problems = load(&format!("concurrent = 0\n{text}"), &env).unwrap_err();
        assert!(lines(&problems.list).contains(words), "{problems}");
        assert_eq!(problems.log.format, Some(crate::settings::LogFormat::Json));
    }
}

/// Settings of `[runners.kubernetes]` that an API server would refuse with every pod, or no
/// container could start with, and what is said.
const NO_CLUSTER: &[(&str, &str)] = &[
    ("cpu_request = \"2\"\ncpu_limit = \"1500m\"\n", "cpu_request: 2 is more than cpu_limit (1500m)"),
    (
        "pod_memory_request = \"2Gi\"\npod_memory_limit = \"1Gi\"\n",
        "pod_memory_request: 2Gi is more than pod_memory_limit",
    ),
    ("memory_limit = \"-1Gi\"\n", "memory_limit: \"-1Gi\" is less than nothing"),
    (
        "privileged = true\nallow_privilege_escalation = false\n",
        "allow_privilege_escalation: cannot be false where privileged is true",
    ),
    ("cap_add = [\"SYS_ADMIN\"]\nallow_privilege_escalation = false\n", "where the capability SYS_ADMIN is added"),
    (
        "[runners.kubernetes.pod_security_context]\nrun_as_user = 0\nrun_as_non_root = true\n",
        "pod_security_context.run_as_non_root: is true, and run_as_user is 0",
    ),
    ("[runners.kubernetes.build_container_security_context]\nrun_as_user = -1\n", "-1 is no number of a user or group"),
    ("[runners.kubernetes.pod_security_context]\nfs_group = 2147483648\n", "fs_group: 2147483648 is no number"),
    (
        "[runners.kubernetes.pod_security_context]\nsupplemental_groups = [1, -2]\n",
        "supplemental_groups[1]: -2 is no number of a user or group: those are from 0 to 2147483647",
    ),
    ("pod_termination_grace_period_seconds = -1\n", "pod_termination_grace_period_seconds: -1 is less than 0"),
    ("dns_policy = \"none\"\n", "dns_policy: is \"none\", which needs nameservers"),
    (
        "[runners.kubernetes.dns_config]\nnameservers = [\"dns.example.com\"]\n",
        "nameservers[0]: \"dns.example.com\" is not an IP address",
    ),
    (
        "[runners.kubernetes.dns_config]\nnameservers = [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"::1\"]\n",
        "are 4, and a pod can have at most 3",
    ),
    ("host_aliases = [{ ip = \"here\", hostnames = [\"a\"] }]\n", "host_aliases[0].ip: \"here\" is not an IP address"),
    ("service_account = \"My Account\"\n", "service_account: \"My Account\" cannot be the name of an object"),
    ("image_pull_secrets = [\"a\", \"B_c\"]\n", "image_pull_secrets[1]: \"B_c\" cannot be the name"),
    ("node_selector = { \"a b\" = \"c\" }\n", "node_selector.\"a b\": is no name of a label"),
    ("node_selector = { \"disk=ssd\" = \"\" }\n", "perhaps behind a domain and '/'; is disk:ssd meant?"),
    ("node_selector = { a = \"b c\" }\n", "node_selector.a: \"b c\" is no value of a label"),
    (
        "node_tolerations = { \"dedicated=ci\" = \"NoScheduled\" }\n",
        "is not one of NoSchedule, PreferNoSchedule, NoExecute (did you mean NoSchedule?)",
    ),
    ("pod_labels = { \"a/b/c\" = \"d\" }\n", "is no name of a label"),
    (
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"My_Vol\"\nmount_path = \"/x\"\n",
        "\"My_Vol\" cannot be a volume",
    ),
    (
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/x:y\"\n[[runners.kubernetes.volumes.secret]]\nname = \"b\"\nmount_path = \"x:y\"\n",
        "\"/x:y\" is where the volume \"b\" is mounted",
    ),
    (
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/x\"\nsub_path = \"../y\"\n",
        "must be a path within the volume",
    ),
    (
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/x\"\nmedium = \"memory\"\n",
        "\"memory\" is not Memory",
    ),
    (
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/x\"\n[[runners.kubernetes.volumes.secret]]\nname = \"a\"\nmount_path = \"/y\"\n",
        "\"a\" is the name of another volume too",
    ),
    (
        "[[runners.kubernetes.volumes.secret]]\nname = \"a\"\nmount_path = \"/x\"\n[[runners.kubernetes.volumes.secret]]\nname = \"b\"\nmount_path = \"/x/\"\n",
        "is where the volume \"a\" is mounted",
    ),
    (
        "[[runners.kubernetes.volumes.host_path]]\nname = \"a\"\nmount_path = \"/x\"\nmount_propagation = \"Bidirectional\"\n",
        "mount_propagation: is only for privileged containers",
    ),
    ("[runners.kubernetes.container_lifecycle.post_start.exec]\n", "post_start.exec.command: is missing"),
    (
        "[[runners.kubernetes.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms]]\nmatch_expressions = [{ key = \"a\", operator = \"in\", values = [\"b\"] }]\n",
        "operator: \"in\" is not one of In",
    ),
    (
        "[[runners.kubernetes.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms]]\nmatch_expressions = [{ key = \"a\", operator = \"In\" }]\n",
        "values: is empty, and this operator needs values",
    ),
    (
        "[[runners.kubernetes.affinity.pod_affinity.required_during_scheduling_ignored_during_execution]]\nnamespaces = [\"a\"]\n",
        "topology_key: is missing",
    ),
];

#[test]
fn what_no_cluster_takes_is_an_error_of_the_entry() {
    for (config, words) in NO_CLUSTER {
        let said = broken(&runner(&format!("[runners.kubernetes]\n{config}")));
        assert!(said.contains(words), "{said}\n{config}");
        assert_eq!(said.lines().count(), 1, "{said}\n{config}");
    }
    assert!(broken(&runner("builds_dir = \"builds\"\n")).contains("builds_dir: must be an absolute path below /"));
}

/// The same claim, mounted twice, and what variables may still change.
#[test]
fn what_a_cluster_may_take_is_left_to_it() {
    let (_, warnings) = good(&runner(
        "[runners.kubernetes]\nprivileged = true\ncap_drop = [\"SYS_ADMIN\"]\nnode_tolerations = { \"\" = \"\", \"a\" = \"\" }\n\
         [[runners.kubernetes.volumes.pvc]]\nname = \"cache-$CI_CONCURRENT_ID\"\nmount_path = \"/$A\"\nmount_propagation = \"Bidirectional\"\n\
         [[runners.kubernetes.volumes.pvc]]\nname = \"cache-$CI_CONCURRENT_ID\"\nmount_path = \"/b\"\nsub_path = \"..b/c\"\n",
    ));
    assert_eq!(warnings, "");
    let (_, warnings) = good(&runner(
        "[runners.kubernetes]\ncap_add = [\"CAP_CHOWN\"]\nallowed_images = [\"a{b\", \"**/ok:*\"]\npull_policy = \"always\"\nallowed_pull_policies = [\"never\"]\n",
    ));
    insta::assert_snapshot!(warnings, @r#"
    Warning config.toml:6: runners[0].kubernetes.cap_add[0]: "CAP_CHOWN" is written without CAP_ here: write "CHOWN"
    Warning config.toml:7: runners[0].kubernetes.allowed_images[0]: "a{b" is no pattern and matches nothing: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
    Warning config.toml:9: runners[0].kubernetes.allowed_pull_policies: has none of pull_policy in it: jobs that do not choose one will fail
    "#);
}

#[test]
fn the_names_of_unusable_entries_are_known() {
    let text = format!("{}[[runners]]\nname = \"empty\"\n", runner(""));
    let unusable = load(&text, &env).unwrap().unusable;
    assert_eq!((unusable[0].index, unusable[0].name.as_str(), unusable[0].errors.len()), (1, "empty", 3));
}

#[test]
fn the_same_entry_twice_is_kept_and_said() {
    let (settings, warnings) = good(&(runner("") + &runner("[runners.kubernetes]\nnamespace = \"other\"\n")));
    assert_eq!(settings.runners.len(), 2);
    assert_eq!(warnings.lines().count(), 1);
    assert!(warnings.contains("runners[1]: has the url, token and name of runners[0]"), "{warnings}");
    assert_eq!(good(&(runner("") + &runner("name = \"b\"\n"))).1, "");
    let verify = "[runners.experimental.boot_verify]\nenabled = true\n";
    let pair = |first: &str, second: &str| {
        let other = runner(second).replace("gitlab.example.com", "other.example.com");
        good(&(runner(first) + &other)).1
    };
    for (first, second) in [("", ""), (verify, ""), ("", verify)] {
        assert_eq!(pair(first, second), "");
    }
    let warnings = pair(verify, verify);
    assert!(warnings.contains("runners[1]: has the name of runners[0]: boot_verify takes the two"), "{warnings}");
}

#[test]
fn entries_that_would_share_pause_pods_are_named() {
    let pausing = |name: &str, namespace: &str| {
        let policy = "[[runners.kubernetes.autoscaler.policy]]\nidle_count = 1\n";
        runner(&format!("name = \"{name}\"\n[runners.kubernetes]\nnamespace = \"{namespace}\"\n{policy}"))
    };
    let (_, warnings) = good(&(pausing("a", "ci") + &pausing("b", "ci")));
    assert!(warnings.contains("runners[1]: has the token and namespace of runners[0]"), "{warnings}");
    let plain = runner("name = \"b\"\n[runners.kubernetes]\nnamespace = \"ci\"\n");
    for other in [pausing("b", "other"), plain] {
        assert!(!good(&(pausing("a", "ci") + &other)).1.contains("pause pods"));
    }
}

/// What the TOML library of the reference leaves out without a word.
#[test]
fn a_list_in_the_place_of_a_free_table_is_a_warning() {
    for (table, key) in [
        ("[[runners.kubernetes.node_tolerations]]\nkey = \"dedicated\"\noperator = \"Equal\"\n", "node_tolerations"),
        ("[[runners.kubernetes.node_selector]]\nkey = \"a\"\n", "node_selector"),
        ("[runners.kubernetes]\npod_labels = [\"a=b\"]\n", "pod_labels"),
        ("[runners.kubernetes]\npod_annotations = \"a=b\"\n", "pod_annotations"),
        ("[runners.kubernetes]\nretry_limits = 5\n", "retry_limits"),
        ("feature_flags = [\"FF_TIMESTAMPS\"]\n", "feature_flags"),
        ("labels = [\"abc\"]\n", "labels"),
        (
            "[[runners.kubernetes.volumes.secret]]\nname = \"s\"\nmount_path = \"/s\"\nitems = [{ key = \"a\", path = \"b\" }]\n",
            "volumes.secret[0].items",
        ),
        (
            "[[runners.kubernetes.volumes.csi]]\nname = \"s\"\nmount_path = \"/s\"\ndriver = \"d\"\nvolume_attributes = []\n",
            "volumes.csi[0].volume_attributes",
        ),
    ] {
        let (settings, warnings) = good(&runner(table));
        assert_eq!(settings.runners.len(), 1, "{warnings}");
        assert!(warnings.contains(&format!("{key}: must be a table, not a")), "{warnings}");
        assert!(warnings.contains("and has no effect"), "{warnings}");
    }
    let (settings, _) = good(&runner("[[runners.kubernetes.node_tolerations]]\nkey = \"a\"\n"));
    assert!(settings.runners[0].kubernetes.node_tolerations.is_empty());
}

#[test]
fn the_end_of_a_token() {
    for end in ["2030-01-02T03:04:05Z", "\"2030-01-02T03:04:05Z\""] {
        let (settings, warnings) = good(&runner(&format!("token_expires_at = {end}\n")));
        assert!(settings.runners[0].token_expires_at.is_some() && warnings.is_empty(), "{warnings}");
    }
    let (settings, warnings) = good(&runner("token_expires_at = 0001-01-01T00:00:00Z\n"));
    assert_eq!((settings.runners[0].token_expires_at, warnings.as_str()), (None, ""));
}

#[test]
fn what_has_no_effect_is_said_where_it_says_something() {
    let text = |executor: &str| {
        runner(&format!(
            "safe_directory_checkout = false\nclean_git_config = true\n[runners.{executor}]\nimage = \"a\"\n"
        ))
    };
    let (_, warnings) = good(&("user = \"gitlab-runner\"\n".to_owned() + &text("docker")));
    for words in [
        "config.toml:1: user: accepted, has no effect: jobs run in pods",
        "runners[0].safe_directory_checkout: accepted, has no effect: git always trusts",
        "runners[0].docker: accepted, has no effect: it is for another executor",
    ] {
        assert!(warnings.contains(words), "{words} is not in {warnings}");
    }
    assert_eq!(warnings.lines().count(), 3, "{warnings}");
    let blank = runner(
        "safe_directory_checkout = true\ncache_dir = \"\"\n[runners.docker]\ntls_verify = false\nimage = \"\"\n[runners.kubernetes]\npoll_interval = 0\n",
    );
    assert_eq!(good(&blank).1, "");
}

#[test]
fn feature_flags_that_change_nothing_are_said() {
    let flags = "[runners.feature_flags]\nFF_TIMESTAMPS = false\nFF_USE_FASTZIP = true\nFF_NETWORK_PER_BUILD = true\n";
    let (_, warnings) = good(&runner(flags));
    assert_eq!(
        warnings,
        "Warning config.toml:8: runners[0].feature_flags.FF_NETWORK_PER_BUILD: accepted, has no effect: it is for another executor\n"
    );
}

#[test]
fn variables_of_the_operator_that_change_nothing_are_said() {
    let (_, warnings) = good(&runner(
        "environment = [\"FF_NETWORK_PER_BUILD=1\", \"FF_TIMESTAMPS=false\", \"FASTZIP_ARCHIVER_CONCURRENCY=1s\", \"A=b\"]\n",
    ));
    insta::assert_snapshot!(warnings, @r"
    Warning config.toml:5: runners[0].environment[0]: FF_NETWORK_PER_BUILD is accepted, has no effect: it is for another executor
    Warning config.toml:5: runners[0].environment[2]: FASTZIP_ARCHIVER_CONCURRENCY is accepted, has no effect: the built-in archiver needs no settings but ARTIFACT_COMPRESSION_LEVEL
    ");
}

#[test]
fn every_level_of_the_reference_is_known() {
    for level in ["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace", "DEBUG"] {
        let (settings, warnings) = good(&format!("log_level = \"{level}\"\n"));
        assert!(settings.log.level.is_some() && warnings.is_empty(), "{level}");
    }
}

#[test]
fn keys_in_the_wrong_table_get_a_hint() {
    let (_, warnings) = good(
        &("privileged = true\n".to_owned()
            + &runner(
                "namespace = \"ci\"\nconcurrent = 4\ntags = [\"a\"]\nlocked = false\n[runners.kubernetes]\nlimit = 3\n",
            )),
    );
    insta::assert_snapshot!(warnings, @r"
    Warning config.toml:1: privileged: unknown key (it belongs under [runners.kubernetes])
    Warning config.toml:6: runners[0].namespace: unknown key (it belongs under [runners.kubernetes])
    Warning config.toml:7: runners[0].concurrent: unknown key (it belongs at the top of the file, before the first table)
    Warning config.toml:8: runners[0].tags: has no effect: GitLab keeps it, and not this file (set it on the runner's page in GitLab, and leave it out here)
    Warning config.toml:9: runners[0].locked: has no effect: GitLab keeps it, and not this file (set it on the runner's page in GitLab, and leave it out here)
    Warning config.toml:11: runners[0].kubernetes.limit: unknown key (it belongs under [[runners]])
    ");
}

#[test]
fn what_is_not_toml_is_said_with_its_line() {
    insta::assert_snapshot!(bad("concurrent = 1\ncheck_interval = = 3\n[[runners]\nname = \"x\n"));
}

#[test]
fn keys_are_found_whatever_their_case() {
    let (settings, warnings) =
        good(&format!("CONCURRENT = 3\n{}[runners.Kubernetes]\nNAMESPACE = \"ci\"\n", runner("Limit = 2\n")));
    assert_eq!(warnings, "");
    assert_eq!(settings.concurrent.get(), 3);
    assert_eq!(settings.runners[0].limit.map(std::num::NonZeroU32::get), Some(2));
    assert_eq!(settings.runners[0].kubernetes.namespace.as_deref(), Some("ci"));
    assert_eq!(good("concurrent = 2\nCONCURRENT = 3\n").0.concurrent.get(), 2);
}

#[test]
fn durations_are_texts_or_nanoseconds() {
    for (text, millis) in [("\"90s\"", 90_000), ("1500000000", 1500), ("0", 0), ("-5", 0), ("\"-5s\"", 0), ("\"0\"", 0)]
    {
        let age = good(&format!("connection_max_age = {text}\n")).0.connection_max_age;
        assert_eq!(age.as_millis(), millis, "{text}");
    }
}

/// What the reference takes as if it were not there, and without a word: it means nothing, and
/// somebody has meant something.
#[test]
fn numbers_below_zero_are_said() {
    let values = |form: &Form| match form {
        Form::Duration | Form::DurationFromZero => &["-5", "\"-5s\""][..],
        _ => &["-5"],
    };
    let mut said = 0;
    let is_a_number = |key: &&Key| {
        key.effect.acts()
            && matches!(
                key.form,
                Form::Positive | Form::Seconds | Form::Duration | Form::DurationFromZero | Form::CountMap
            )
    };
    for key in keys().iter().filter(is_a_number) {
        for value in values(&key.form) {
            let value = if key.form == Form::CountMap { format!("{{ a = {value} }}") } else { (*value).to_owned() };
            let path: Vec<&str> = key.path.split('.').collect();
            let text = match path.as_slice() {
                ["runners[]", name] => runner(&format!("{name} = {value}\n")),
                ["runners[]", tables @ .., name] => {
                    let table = format!("runners.{}", tables.join("."));
                    let header = match table.strip_suffix("[]") {
                        Some(list) => format!("[[{list}]]"),
                        None => format!("[{table}]"),
                    };
                    runner(&format!("{header}\n{name} = {value}\n"))
                }
                [name] => format!("{name} = {value}\n"),
                [tables @ .., name] => format!("[{}]\n{name} = {value}\n", tables.join(".")),
                [] => unreachable!("a key has a path"),
            };
            let (_, warnings) = good(&text);
            assert!(warnings.contains(" is less than 0 and does not count: "), "{}: {warnings}\n{text}", key.path);
            assert_eq!(warnings.lines().count(), 1, "{}: {warnings}", key.path);
            said += 1;
        }
    }
    assert!(said > 30, "{said}");
    let (settings, warnings) = good(&runner("limit = -1\n[runners.kubernetes]\npoll_timeout = -180\n"));
    assert_eq!(settings.runners[0].limit, None);
    insta::assert_snapshot!(warnings, @r"
    Warning config.toml:5: runners[0].limit: -1 is less than 0 and does not count: it is as if the key were not there
    Warning config.toml:7: runners[0].kubernetes.poll_timeout: -180 is less than 0 and does not count: the default is in force, 180
    ");
    assert!(bad("concurrent = -1\n").contains("concurrent: must be from 1 to 4294967295, not -1"));
    let own_answers = "[runners.kubernetes]\nresource_availability_check_max_attempts = -1\n[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nBucketName = \"b\"\nAssumeRoleMaxConcurrency = -1\n";
    assert_eq!(good(&runner(own_answers)).1, "");
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let (_, warnings) = good(&runner(
        "clone_url = \"gitlab.example.com\"\nprepare_timeout = 120\n[runners.kubernetes]\n\
         allowed_images = [\"\", \"a:1,b:2\", \"{a,b}:*\"]\nallowed_pull_policies = [\"never\"]\n\
         image_pull_secrets = [\"\"]\ncpu_limit = \"1\"\nCPU_LIMIT = \"2\"\nMemory_Limit = \"1Gi\"\n",
    ));
    insta::assert_snapshot!(warnings);
    for listens in ["listen_address = \"9252\"\n", "[session_server]\nlisten_address = \"9252\"\n"] {
        assert!(bad(listens).contains("listen_address: \"9252\" is no address: write \":9252\" for this port"));
    }
}

#[test]
fn the_grace_of_a_script_has_a_limit() {
    let with = |grace: &str| runner(&format!("[runners.gantry]\nscript_termination_grace_period = \"{grace}\"\n"));
    let (settings, warnings) = good(&with("90s"));
    assert_eq!(settings.runners[0].script_termination_grace_period.as_secs(), 90);
    assert_eq!(warnings, "");
    let problem = broken(&with("3m"));
    assert!(problem.contains("runners[0].gantry.script_termination_grace_period: must be at most 2m"), "{problem}");
}

#[test]
fn a_git_mirror_is_a_directory_or_a_claim() {
    let with = |place: &str| runner(&format!("[runners.gantry]\ngit_mirror = {place:?}\n"));
    for (place, expected) in [
        ("/var/lib/gantry/git/", GitMirror::HostPath("/var/lib/gantry/git".to_owned())),
        ("git-mirror", GitMirror::Claim("git-mirror".to_owned())),
    ] {
        let (settings, warnings) = good(&with(place));
        assert_eq!((settings.runners[0].git_mirror.as_ref(), &*warnings), (Some(&expected), ""), "{place}");
    }
    for (place, words) in [
        ("/", "must be a directory of the nodes below /"),
        ("/var/../etc", "without '..'"),
        ("var/lib", "is neither an absolute path of the nodes"),
        ("$X", "nor the name of a claim"),
    ] {
        let problem = broken(&with(place));
        assert!(problem.contains("runners[0].gantry.git_mirror: ") && problem.contains(words), "{place}: {problem}");
    }
    assert_eq!(good(&with("")).0.runners[0].git_mirror, None);
}

#[test]
fn a_git_mirror_has_a_limit() {
    let with =
        |limit: &str| runner(&format!("[runners.gantry]\ngit_mirror = \"claim\"\ngit_mirror_limit = {limit:?}\n"));
    for (limit, bytes) in [("1.5Ki", 1536), ("20G", 20_000_000_000), ("1500m", 2)] {
        let (settings, warnings) = good(&with(limit));
        let read = settings.runners[0].git_mirror_limit.as_ref().map(Quantity::whole);
        assert_eq!((read, &*warnings), (Some(bytes), ""), "{limit}");
    }
    let problem = broken(&with("20 GB"));
    assert!(problem.contains("runners[0].gantry.git_mirror_limit: \"20 GB\" is not a quantity"), "{problem}");
}

#[test]
fn problems_never_show_a_secret() {
    let text = runner("id = \"s3cret\"\n[runners.kubernetes]\nhost = \"h\"\nbearer_token = [\"s3cret\"]\n[runners.cache.s3]\nSecretKey = { a = \"s3cret\" }\n")
        .replace("token = \"x\"", "token = 5");
    let shown = broken(&text);
    assert_eq!(shown.lines().count(), 5, "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn settings_never_show_a_secret() {
    let (settings, _) = good(&runner(
        "[runners.kubernetes]\nhost = \"h\"\nbearer_token = \"s3cret\"\n[runners.cache.s3]\nSecretKey = \"s3cret\"\n",
    ));
    assert!(!format!("{settings:?}").contains("s3cret"));
}

/// A file with one key of the parity list, `runners[].kubernetes.volumes.nfs[].path` for instance,
/// with a value of its type.
fn file_with(key: &str, kind: &str) -> String {
    let value = match kind.trim_start_matches('*') {
        "bool" => "true".to_owned(),
        "int" | "int64" | "int32" | "RequestRetryLimit" | "RequestRetryBackoffMax" => "1".to_owned(),
        "float64" => "1.5".to_owned(),
        "time.Duration" => "\"1m\"".to_owned(),
        "time.Time" => "2026-01-02T03:04:05Z".to_owned(),
        "[]int64" => "[1]".to_owned(),
        "[]float64" => "[1.5]".to_owned(),
        "map[string]string" | "Labels" => "{ abc = \"x\" }".to_owned(),
        "map[string]bool" => "{ FF_TIMESTAMPS = true }".to_owned(),
        "RequestRetryLimits" => "{ abc = 2 }".to_owned(),
        "KubernetesHostAliasesFlag" => "[{ ip = \"1.2.3.4\", hostnames = [\"a\"] }]".to_owned(),
        "monitoring.JobQueuingDurations" => "[{ periods = [\"* * * * *\"] }]".to_owned(),
        "referees.Config" => "{}".to_owned(),
        kind if kind.starts_with("[]") => "[\"x\"]".to_owned(),
        _ => "\"x\"".to_owned(),
    };
    let mut value = value;
    let mut path = key;
    while let Some((rest, last)) = path.rsplit_once('.') {
        let (name, list) = last.strip_suffix("[]").map_or((last, false), |name| (name, true));
        value = if list { format!("[{{ {value} }}]") } else { value };
        value =
            if value.contains('=') && !value.starts_with(['{', '[', '"']) { format!("{{ {value} }}") } else { value };
        value = format!("{name} = {value}");
        path = rest;
    }
    match path.strip_suffix("[]") {
        Some(name) => format!("{name} = [{{ {value} }}]\n"),
        None if value.contains('=') && !value.starts_with(['{', '[', '"']) => format!("{path} = {{ {value} }}\n"),
        None => format!("{path} = {value}\n"),
    }
}

#[test]
fn every_key_of_the_reference_is_known() {
    let list = include_str!("../tests/data/config-keys.tsv");
    let mut count = 0;
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut columns = line.split('\t');
        let (key, kind) = (columns.next().unwrap(), columns.next().unwrap());
        let file = file_with(key, kind);
        let all = |loaded: crate::Loaded| {
            let errors = loaded.unusable.into_iter().flat_map(|entry| entry.errors);
            errors.chain(loaded.warnings).collect()
        };
        let problems: Vec<Problem> = load(&file, &env).map_or_else(|problems| problems.list, all);
        let is_wrong_type = |message: &str| message.starts_with("must be ") && message.contains(", not ");
        let unexpected = |problem: &Problem| {
            problem.path.is_empty() || problem.message.contains("unknown key") || is_wrong_type(&problem.message)
        };
        assert!(!problems.iter().any(unexpected), "{key}: {file}{}", lines(&problems));
        count += 1;
    }
    assert!(count > 400, "{count}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}|[a-z_.=\\[\\]{}\"'0-9\n# ,-]{0,200}") {
        let _ = load(&text, &env).map_err(|problems| problems.to_string());
        let _ = crate::edit::Editor::parse(&text).map(|editor| (editor.text(), editor.runners(&env)));
    }

    #[test]
    fn no_value_makes_it_panic(
        line in prop::sample::select(include_str!("../tests/data/config-keys.tsv").lines().skip(1).collect::<Vec<_>>()),
        kind in prop::sample::select(vec!["bool", "int", "[]int64", "float64", "time.Time", "map[string]string", "string", "Labels", "[]string"]),
    ) {
        let key = line.split('\t').next().unwrap_or_default();
        let _ = load(&file_with(key, kind), &env).map_err(|problems| problems.to_string());
    }
}

#[test]
fn what_is_not_toml_says_what_helps() {
    let said = bad("[runners]\nkubernetes.io/arch = \"amd64\"\n");
    assert!(said.contains(":2: ") && said.contains("in quotes: \"example.com/team\" = …"), "{said}");
    let said = bad("concurrent = 1\nlog_level = “info”\n");
    assert_eq!(said.matches("(write plain quotes, \" or '").count(), 1, "{said}");
    assert!(!bad("a = 1\na = 2\n").contains("in quotes"));
}

#[test]
fn what_has_no_end_is_said_where_it_begins() {
    let entry = "token = \"x\"\nexecutor = \"kubernetes\"\n[runners.kubernetes]\nnamespace = \"ci\"\n";
    for (text, said) in [
        (
            format!("[[runners]]\nenvironment = [\"A=1\",\n  \"B=2\"\n{entry}"),
            ":2: runners[0].environment: the list that begins here has no ] at its end: line 4 is no part of it",
        ),
        (
            "[[runners]]\n[runners.kubernetes]\nallowed_images = [\"a\"\nb = \"c\"\ncap_add = [\"d\"]".to_owned(),
            ":3: runners[0].kubernetes.allowed_images: the list that begins here has no ] at its end: line 4 is no part of it",
        ),
        ("a = [1, 2\n".to_owned(), ":1: a: the list that begins here has no ] at its end"),
        (
            format!("x = {{ a = 1, b = 2\n[[runners]]\n{entry}"),
            ":1: x: the table that begins here has no } at its end: line 2 is no part of it",
        ),
        (
            format!("[[runners]]\npre_build_script = \"\"\"\necho\n{entry}"),
            ":2: runners[0].pre_build_script: the text that begins here has no \"\"\" at its end",
        ),
        (format!("x = '''\n{entry}"), ":1: x: the text that begins here has no ''' at its end"),
    ] {
        assert_eq!(bad(&text), format!("Error config.toml{said}\n"), "{text}");
    }
    insta::assert_snapshot!(bad("a = = 1\nb = [A=1, B=2]\nc = [\n1\nd = 2\n"));
}

#[test]
fn a_text_in_another_encoding_says_which_line() {
    assert_eq!(crate::text_of("# ü\n".into()).unwrap(), "# ü\n");
    let error = crate::text_of(b"a = 1\n# \xFC\n".to_vec()).unwrap_err();
    assert_eq!(error, "line 2 holds a character that is not in UTF-8: save the file as UTF-8");
    for utf_16 in [b"\xFF\xFEa\0".as_slice(), b"a\0=\0", b"\0a\0="] {
        assert_eq!(crate::text_of(utf_16.to_vec()).unwrap_err(), "it is in UTF-16: save it as UTF-8");
    }
    assert_eq!(good("\u{feff}concurrent = 3\n").0.concurrent.get(), 3, "a mark of UTF-8 is no character");
}

#[test]
fn an_address_of_gitlab_is_that_of_the_instance() {
    let said = |url: &str| good(&runner("").replace("https://gitlab.example.com", url)).1;
    for wrong in ["https://gitlab.example.com/api/v4", "http://h/api/v4/", "https://h/sub/api/v4/runners"] {
        assert!(said(wrong).contains("runners[0].url: holds /api/v4, which is added to it"), "{wrong}");
    }
    for right in ["https://gitlab.example.com", "https://h/api", "https://h/gitlab", "https://api/v4"] {
        assert_eq!(said(right), "", "{right}");
    }
}

#[test]
fn an_advertised_address_of_ipv6_has_brackets() {
    let told = |address: &str| {
        let text = format!("[session_server]\nlisten_address = \":8093\"\nadvertise_address = \"{address}\"\n");
        let env = |name: &str| (name == "POD_IP").then(|| "fd00::5".to_owned());
        load(&text, &env).unwrap().settings.session_server.advertise_address.unwrap()
    };
    assert_eq!(told("$POD_IP:18093"), "[fd00::5]:18093");
    assert_eq!(told("$POD_IP:8093"), "[fd00::5]:8093");
    for as_it_is in ["[fd00::5]:8093", "10.0.0.5:8093", "runner.example.com:8093", "runner"] {
        assert_eq!(told(as_it_is), as_it_is);
    }
}
