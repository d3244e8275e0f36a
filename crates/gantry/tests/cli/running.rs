//! The start of a runner in its cluster: unregister what may be left, register with nothing but the
//! environment, run.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gantry_sim_kube::{Config, SimKube};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::harness::{GitLab, Home, LONG, REGISTRATION_TOKEN, spawn};

/// A cluster with a service account that has the smallest rights: its address, and a token.
async fn cluster(ca_file: &Path) -> (String, String) {
    let loopback = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let kube = SimKube::bind(Config::new(loopback, "/proc/self/exe")).await.expect("a simulated cluster");
    let rules = json!([{
        "apiGroups": [""],
        "resources": ["pods", "pods/exec"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    }]);
    let token = kube.create_service_account_with_role("gitlab", "runner-executor", &rules, LONG).expect("a token");
    std::fs::write(ca_file, kube.ca_pem()).expect("written");
    let url = kube.url();
    spawn(async move {
        let _ = kube.serve(std::future::pending()).await;
    });
    (url, token)
}

/// The address of the metrics server, from the log.
async fn metrics_address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
    let mut seen = String::new();
    while let Some(line) = tokio::time::timeout(LONG, lines.next_line()).await.expect("in time").expect("lines") {
        let fields: Value = serde_json::from_str(&line).unwrap_or_default();
        if fields["msg"] == "Metrics server listening" {
            spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return fields["address"].as_str().expect("an address").to_owned();
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("the runner has ended:\n{seen}");
}

/// Waits until a page answers 200.
async fn until_ok(url: &str) {
    let client = reqwest::Client::builder().no_proxy().timeout(LONG).build().expect("a client");
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let mut last = String::new();
    let found = tokio::time::timeout(LONG, async {
        loop {
            looks.tick().await;
            match client.get(url).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
        }
    });
    let found = found.await;
    assert!(found.is_ok(), "{url}: {last}");
}

#[tokio::test]
async fn from_the_environment_alone() {
    let gitlab = GitLab::start().await;
    let files = tempfile::tempdir().expect("a directory");
    let ca_file = files.path().join("ca.crt");
    let (host, token) = cluster(&ca_file).await;
    let ca_file = ca_file.display().to_string();
    let home = Home::with(&[
        ("RUNNER_NAME", "10.0.0.7"),
        ("REGISTER_NON_INTERACTIVE", "true"),
        ("REGISTER_LOCKED", "false"),
        ("CI_SERVER_URL", &gitlab.url),
        ("REGISTRATION_TOKEN", REGISTRATION_TOKEN),
        ("METRICS_SERVER", "127.0.0.1:0"),
        ("RUNNER_CONCURRENT_BUILDS", "4"),
        ("RUNNER_REQUEST_CONCURRENCY", "4"),
        ("RUNNER_TAG_LIST", "k8s-runner"),
        ("RUNNER_EXECUTOR", "kubernetes"),
        ("KUBERNETES_NAMESPACE", "gitlab"),
        ("KUBERNETES_PULL_POLICY", "if-not-present"),
        ("KUBERNETES_HELPER_IMAGE", "gitlab/gitlab-runner-helper:x86_64-latest"),
        ("DOCKER_HELPER_IMAGE", "gitlab/gitlab-runner-helper:x86_64-latest"),
        ("KUBERNETES_HOST", &host),
        ("KUBERNETES_CA_FILE", &ca_file),
        ("KUBERNETES_SERVICE_ACCOUNT", "runner-executor"),
        ("KUBERNETES_BEARER_TOKEN", &token),
    ]);
    home.gitlab_runner(&["unregister", "-n", "10.0.0.7"]).await.failed(&["not in config"]);
    let said =
        home.gitlab_runner(&["register"]).await.succeeded(&["concurrent = 4", "Runner registered successfully."]);
    assert!(!said.text.contains(&token) && !said.text.contains("has no effect"), "{}", said.text);
    let runner = gitlab.runner("10.0.0.7").await.expect("a runner");
    assert_eq!((&runner["tags"], &runner["locked"]), (&json!(["k8s-runner"]), &json!(false)));
    let loaded = gantry_config::load(&home.config_text(), &|_| None).expect("a configuration");
    assert_eq!((loaded.settings.concurrent.get(), loaded.warnings), (4, Vec::new()));

    let mut command = home.command(Path::new(env!("CARGO_BIN_EXE_gantry")), &["--log-format=json", "run"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
    let address = metrics_address(&mut child).await;
    until_ok(&format!("http://{address}/health/live")).await;
    until_ok(&format!("http://{address}/health/ready")).await;

    home.gitlab_runner(&["unregister", "-n", "10.0.0.7"]).await.succeeded(&["Updated"]);
    assert!(gitlab.runner("10.0.0.7").await.is_none());
    let kill = format!("kill -TERM {}", child.id().expect("it runs"));
    tokio::process::Command::new("sh").args(["-c", &kill]).status().await.expect("a shell");
    let ended = tokio::time::timeout(LONG, child.wait()).await.expect("ends in time").expect("a status");
    assert_eq!(ended.code(), Some(0));
    assert_eq!(gitlab.shows("violations").await, [json!(null); 0]);
}
