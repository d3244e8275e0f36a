//! `register`, `list`, `verify`, `unregister`: what they say, how they end, what they write, and
//! what GitLab knows then.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::harness::{ACCESS_TOKEN, GitLab, Home, REGISTRATION_TOKEN};

/// A registration with a registration token, as a shell script outside the cluster has it.
fn with_registration_token<'a>(gitlab: &'a GitLab, token: &'a str) -> Vec<&'a str> {
    vec![
        "register",
        "--non-interactive",
        "--url",
        &gitlab.url,
        "--registration-token",
        token,
        "--executor",
        "kubernetes",
        "--description",
        "kubernetes-runner",
        "--tag-list",
        "k8s-runner,linux",
        "--kubernetes-host",
        "https://192.0.2.1:6443",
        "--kubernetes-bearer_token",
        "service-account-secret",
    ]
}

fn with_runner_token(gitlab: &GitLab) -> Vec<&str> {
    vec!["register", "-n", "-u", &gitlab.url, "-t", &gitlab.runner_token, "--executor=kubernetes", "--name=mine"]
}

#[tokio::test]
async fn with_a_registration_token() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let path = home.config().display().to_string();
    let said = home.gantry(&with_registration_token(&gitlab, REGISTRATION_TOKEN)).await;
    let saved = format!("Configuration (with the authentication token) was saved in \"{path}\"");
    let said = said.succeeded(&["Runner registered successfully.", &saved, "deprecated"]);
    let runner = gitlab.runner("kubernetes-runner").await.expect("a runner");
    assert_eq!((&runner["tags"], &runner["locked"]), (&json!(["k8s-runner", "linux"]), &json!(true)));
    assert_eq!(runner["run_untagged"], false);

    let config = home.config_text();
    let settings = gantry_config::load(&config, &|_| None).expect("a configuration").settings;
    let written = &settings.runners[0];
    assert_eq!(written.id, runner["id"].as_u64());
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&home.config()), mode(home.config().parent().expect("a directory"))), (0o600, 0o700));
    for secret in [written.token.expose(), REGISTRATION_TOKEN, "service-account-secret"] {
        assert!(!said.text.contains(secret), "{}", said.text);
    }

    let listed = home.gitlab_runner(&["list"]).await.succeeded(&["Listing configured runners", "kubernetes-runner"]);
    assert!(!listed.text.contains(written.token.expose()), "{}", listed.text);
    home.gitlab_runner(&["verify", "--url="]).await.succeeded(&["is alive"]);
    home.gantry(&["verify", "--url", &gitlab.url]).await.failed(&["no runner in"]);
    home.gantry(&["unregister", "--name", "other"]).await.failed(&["\"other\" is not in config"]);
    assert_eq!(home.config_text(), config);

    home.gantry(&["unregister", "-n", "kubernetes-runner"])
        .await
        .succeeded(&["Unregistering runner from GitLab succeeded", "Updated"]);
    assert!(gitlab.runner("kubernetes-runner").await.is_none());
    assert!(!home.config_text().contains("[[runners]]"));
    home.gantry(&["verify"]).await.succeeded(&["there is no runner"]);
    assert_eq!(gitlab.shows("violations").await, [json!(null); 0]);
}

#[tokio::test]
async fn with_the_token_of_a_created_runner() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let said = ["Verifying runner... is valid", "Runner registered successfully."];
    home.gantry(&with_runner_token(&gitlab)).await.succeeded(&said);
    assert_eq!(gitlab.managers().await.len(), 1);
    home.gantry(&["verify", "-token", &gitlab.runner_token]).await.succeeded(&["is valid"]);
    assert_eq!(gitlab.managers().await.len(), 1, "the same manager asks again");
    home.gantry(&with_runner_token(&gitlab)).await.succeeded(&["already"]);
    assert_eq!(home.config_text().matches("[[runners]]").count(), 2);
    let said = home
        .gantry(&["unregister", "--all-runners"])
        .await
        .succeeded(&["Unregistering runner manager from GitLab succeeded", "Updated"]);
    assert!(!said.text.contains("stays"), "entries of one token are one runner manager: {}", said.text);
    assert_eq!(gitlab.managers().await, [""; 0]);
    assert!(gitlab.runner("preset runner").await.is_some(), "only the manager goes");
    assert!(!home.config_text().contains("[[runners]]"));
    assert_eq!(gitlab.shows("violations").await, [json!(null); 0]);
}

#[tokio::test]
async fn options_that_gitlab_keeps() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let args = [with_runner_token(&gitlab), vec!["--tag-list", "a", "--locked=false"]].concat();
    home.gantry(&args).await.failed(&["locked, tag-list cannot be given with a runner authentication token"]);
    let env = [
        ("CI_SERVER_URL", gitlab.url.as_str()),
        ("REGISTRATION_TOKEN", &gitlab.runner_token),
        ("RUNNER_TAG_LIST", "a"),
    ];
    let home = Home::with(&env);
    home.gantry(&["register", "-n", "-executor", "kubernetes"]).await.succeeded(&["tag-list are ignored"]);
}

#[tokio::test]
async fn refused_tokens_leave_nothing_behind() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    home.gantry(&with_registration_token(&gitlab, "wrong")).await.failed(&["GitLab refused the registration token"]);
    let args = ["register", "-n", "-u", &gitlab.url, "-t", "glrt-unknown", "--executor", "kubernetes"];
    home.gantry(&args).await.failed(&["GitLab does not know the runner authentication token"]);
    assert!(!home.config().exists());
    let none = GitLab::with(None).await;
    let said = home.gantry(&with_registration_token(&none, "x")).await;
    said.failed(&["does not take registration tokens any more", "create the runner in GitLab"]);
    assert_eq!(gitlab.shows("runners").await.len(), 1);
}

#[tokio::test]
async fn what_does_not_count_is_said() {
    let gitlab = GitLab::start().await;
    let home = Home::with(&[("CI_SERVER_URL", gitlab.url.as_str()), ("RUNNER_PRE_CLONE_SCRIPT", "true")]);
    let template = home.path().join("template.toml");
    std::fs::write(&template, "[[runners]]\nurl = \"https://gitlab.example.local\"\n").expect("written");
    let template = template.to_str().expect("a path");
    let args = ["register", "-n", "-t", &gitlab.runner_token, "--executor=kubernetes", "--template-config", template];
    home.gantry(&args).await.succeeded(&[
        "of the template these do not count, because a flag or a variable says otherwise: runners.url",
        "nobody reads RUNNER_PRE_CLONE_SCRIPT: it is called RUNNER_PRE_GET_SOURCES_SCRIPT now",
    ]);
}

/// As in the reference: a boolean takes its value after `=` only.
#[tokio::test]
async fn a_word_ends_the_flags() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let args = [with_registration_token(&gitlab, REGISTRATION_TOKEN), vec!["--locked", "false", "--url", "ignored"]];
    home.gantry(&args.concat()).await.succeeded(&["write --flag=false", "2 more arguments are ignored"]);
    assert_eq!(gitlab.runner("kubernetes-runner").await.expect("a runner")["locked"], true);
}

/// Nothing is asked of GitLab for an entry that could not run.
#[tokio::test]
async fn what_cannot_run_is_not_registered() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let good = with_registration_token(&gitlab, REGISTRATION_TOKEN);
    for (more, word) in [
        (vec!["--executor", "docker"], "executor \"docker\" is not supported"),
        (vec!["--access-level", "all"], "--access-level"),
        (vec!["--kubernetes-cpu-limit", "lots"], "kubernetes.cpu_limit: \"lots\""),
        (vec!["--limit", "many"], "--limit: \"many\" is not a whole number"),
        (vec!["--url", "gitlab.example.com"], "must begin with http:// or https://"),
        (vec!["--url", "http://[bad"], "url: has no host that GitLab could be at"),
        (vec!["--nonsense"], "--nonsense"),
        (vec!["--tls-ca-file", "/does/not/exist"], "tls-ca-file /does/not/exist cannot be read"),
        (vec!["--template-config", "/does/not/exist"], "the template /does/not/exist cannot be read"),
    ] {
        let said = home.gantry(&[good.clone(), more].concat()).await.failed(&[word]);
        assert!(!said.text.contains("deprecated"), "of a way that was not gone: {}", said.text);
    }
    home.gantry(&["register", "-n"]).await.failed(&["the URL of GitLab is needed"]);
    home.gantry(&["register", "--url", "x"]).await.failed(&["--non-interactive"]);
    assert_eq!(gitlab.shows("runners").await.len(), 1);
}

/// What was registered is undone when it cannot be written down.
#[tokio::test]
async fn a_runner_that_cannot_be_saved_is_removed_again() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let args = with_registration_token(&gitlab, REGISTRATION_TOKEN);
    home.without_space(&args).await.failed(&["the runner was not registered", "cannot be written"]);
    assert!(gitlab.runner("kubernetes-runner").await.is_none());
    assert!(!home.config().exists());
    std::fs::write(home.config(), "# mine\n").expect("written");
    home.without_space(&[args, vec!["--leave-runner"]].concat()).await.failed(&["was left there"]);
    assert!(gitlab.runner("kubernetes-runner").await.is_some());
    assert_eq!(home.config_text(), "# mine\n");
}

/// A token of a runner that was registered before is only verified, so nothing of it is undone.
#[tokio::test]
async fn a_runner_that_was_there_before_stays() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    home.gantry(&with_registration_token(&gitlab, REGISTRATION_TOKEN)).await.succeeded(&[]);
    let settings = gantry_config::load(&home.config_text(), &|_| None).expect("a configuration").settings;
    let token = settings.runners[0].token.expose();
    let other = Home::new();
    let args = ["register", "--non-interactive", "--url", &gitlab.url, "--token", token, "--executor", "kubernetes"];
    other.without_space(&args).await.failed(&["as it was before", "cannot be written"]);
    assert!(gitlab.runner("kubernetes-runner").await.is_some());
}

#[tokio::test]
async fn dead_runners_are_found_and_removed() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    home.gantry(&with_runner_token(&gitlab)).await.succeeded(&[]);
    let dead = "\n# gone\n[[runners]]\nname = \"dead\"\nurl = \"$GITLAB_URL\"\ntoken = \"glrt-dead\"\nexecutor = \"kubernetes\"\n";
    let with_dead = home.config_text() + dead;
    std::fs::write(home.config(), &with_dead).expect("written");
    let unreachable = with_dead.replace(&gitlab.url, "http://127.0.0.1:1");
    let mut command = home.command(std::path::Path::new(env!("CARGO_BIN_EXE_gantry")), &["verify"]);
    let output = command.env("GITLAB_URL", &gitlab.url).output().await.expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is valid") && said.contains("is not valid"), "{said}");
    let mut command = home.command(std::path::Path::new(env!("CARGO_BIN_EXE_gantry")), &["verify", "--delete"]);
    let output = command.env("GITLAB_URL", &gitlab.url).output().await.expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!home.config_text().contains("dead"), "{}", home.config_text());
    // An outage proves nothing.
    std::fs::write(home.config(), unreachable.replace(dead, "")).expect("written");
    home.gantry(&["verify", "--delete"]).await.succeeded(&["failed"]);
    assert_eq!(home.config_text().matches("[[runners]]").count(), 1);
}

#[tokio::test]
async fn nothing_to_unregister() {
    let home = Home::with(&[("RUNNER_NAME", "10.0.0.7")]);
    home.gitlab_runner(&["unregister", "-n", "10.0.0.7"]).await.failed(&["not in config"]);
    assert!(!home.path().join("etc").exists(), "asking makes nothing");
    home.gitlab_runner(&["list"]).await.succeeded(&["Listing configured runners"]);
    home.gitlab_runner(&["register", "--help"])
        .await
        .succeeded(&["--kubernetes-bearer_token", "[env: KUBERNETES_BEARER_TOKEN]"]);
}

/// Command lines, and what GitLab Runner 17.9.3 sent for them to the same simulator, one after the
/// other: method, path, the answer's status and the body without tokens and `info`.
const OF_GITLAB_RUNNER: &[(&str, &[&str])] = &[
    (
        "register --registration-token REGISTRATION --name two --tag-list x,y --run-untagged --locked=false --access-level ref_protected --paused --maximum-timeout 900 --maintenance-note note",
        &[
            r#"POST /api/v4/runners 201 {"access_level":"ref_protected","description":"two","locked":false,"maintenance_note":"note","maximum_timeout":900,"paused":true,"run_untagged":true,"tag_list":"x,y"}"#,
        ],
    ),
    (
        "register --registration-token REGISTRATION --name plain --tag-list t1",
        &[
            r#"POST /api/v4/runners 201 {"description":"plain","locked":true,"paused":false,"run_untagged":false,"tag_list":"t1"}"#,
        ],
    ),
    ("register --token CREATED --name one", &[r#"POST /api/v4/runners/verify 200 {"system_id":"ID"}"#]),
    ("list", &[]),
    ("verify --name one", &[r#"POST /api/v4/runners/verify 200 {"system_id":"ID"}"#]),
    ("reset-token --name two", &["POST /api/v4/runners/reset_authentication_token 201 {}"]),
    ("reset-token --name two --pat ADMIN", &["POST /api/v4/runners/2/reset_authentication_token 201 null"]),
    ("unregister --name two", &["DELETE /api/v4/runners 204 {}"]),
    ("unregister --name two", &[]),
    ("unregister --name one", &[r#"DELETE /api/v4/runners/managers 204 {"system_id":"ID"}"#]),
    ("unregister --all-runners", &["DELETE /api/v4/runners 204 {}"]),
    ("unregister --all-runners", &[]),
];

#[tokio::test]
async fn gitlab_is_asked_for_what_gitlab_runner_asks_it_for() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let mut seen = 0;
    for (line, expected) in OF_GITLAB_RUNNER {
        let words = line.split(' ').map(|word| match word {
            "REGISTRATION" => REGISTRATION_TOKEN,
            "CREATED" => &gitlab.runner_token,
            "ADMIN" => ACCESS_TOKEN,
            word => word,
        });
        let where_to = ["--non-interactive", "--url", &gitlab.url, "--executor", "kubernetes"];
        let is_registration = line.starts_with("register");
        let words: Vec<&str> = words.chain(where_to.into_iter().filter(|_| is_registration)).collect();
        home.gitlab_runner(&words).await;
        let requests = gitlab.shows("requests").await;
        let asked: Vec<String> = requests[seen..].iter().map(asked).collect();
        assert_eq!(asked, *expected, "{line}");
        seen = requests.len();
    }
}

/// A request of the simulator's journal in one line.
fn asked(request: &serde_json::Value) -> String {
    let mut body = request["body"].clone();
    if let Some(keys) = body.as_object_mut() {
        keys.remove("token");
        keys.remove("info");
        keys.entry("system_id").and_modify(|id| *id = json!("ID"));
    }
    let word = |key: &str| request[key].as_str().unwrap_or_default();
    format!("{} {} {} {body}", word("method"), word("path"), request["status"])
}
