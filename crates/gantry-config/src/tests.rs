//! Whole files, good and bad. What is read is compared as a picture, what is wrong line by line.

use proptest::prelude::*;

use crate::{Problem, Settings, load};

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

/// The least that a runner needs, and then `more`.
fn runner(more: &str) -> String {
    format!("[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n{more}")
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
    insta::assert_debug_snapshot!(settings.runners);
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
    insta::assert_snapshot!(warnings);
    insta::assert_debug_snapshot!(settings);
    assert_eq!(settings.runners[0].token.expose(), "glrt-t1_secret");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    insta::assert_snapshot!(bad(include_str!("../tests/data/bad.toml")));
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

#[test]
fn the_grace_of_a_script_has_a_limit() {
    let with = |grace: &str| runner(&format!("[runners.gantry]\nscript_termination_grace_period = \"{grace}\"\n"));
    let (settings, warnings) = good(&with("90s"));
    assert_eq!(settings.runners[0].script_termination_grace_period.as_secs(), 90);
    assert_eq!(warnings, "");
    let problem = bad(&with("3m"));
    assert!(problem.contains("runners[0].gantry.script_termination_grace_period: must be at most 2m"), "{problem}");
}

#[test]
fn problems_never_show_a_secret() {
    let text = runner("id = \"s3cret\"\n[runners.kubernetes]\nhost = \"h\"\nbearer_token = [\"s3cret\"]\n[runners.cache.s3]\nSecretKey = { a = \"s3cret\" }\n")
        .replace("token = \"x\"", "token = 5");
    let shown = bad(&text);
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

/// A file with one key of the parity list, `runners[].kubernetes.volumes.nfs[].path` for instance, with a value of its type.
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
        let problems = load(&file, &env).map_or_else(|problems| problems.list, |loaded| loaded.warnings);
        let unexpected = |problem: &Problem| {
            problem.path.is_empty()
                || ["unknown key", "must be a", "must be true"].iter().any(|words| problem.message.contains(words))
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
