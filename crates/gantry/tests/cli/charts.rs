//! What GitLab's own chart does with its image, done with ours: register from a template, become
//! the runner, be looked for and asked.

use std::path::Path;
use std::process::Stdio;

use crate::harness::{GitLab, Home, LONG};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gantry");

#[tokio::test]
async fn the_image_in_gitlabs_chart() {
    let gitlab = GitLab::start().await;
    let home = Home::with(&[
        ("CI_SERVER_URL", &gitlab.url),
        ("CI_SERVER_TOKEN", &gitlab.runner_token),
        ("RUNNER_EXECUTOR", "kubernetes"),
        ("KUBERNETES_NAMESPACE", "ci"),
        ("RUNNER_NAME", ""),
        ("RUNNER_TAG_LIST", ""),
    ]);
    std::fs::create_dir_all(home.config().parent().expect("a directory")).expect("made");
    std::fs::write(
        home.config(),
        "concurrent = 10\ncheck_interval = 3\nlog_level = \"info\"\nlisten_address = \"127.0.0.1:0\"\n",
    )
    .expect("written");
    let template = home.path().join("config.template.toml");
    std::fs::write(&template, "[[runners]]\n  [runners.kubernetes]\n    image = \"ubuntu:22.04\"\n    host = \"https://127.0.0.1:1\"\n    bearer_token = \"x\"\n").expect("written");
    let entrypoint = home.path().join("entrypoint");
    std::os::unix::fs::symlink(PROGRAM, &entrypoint).expect("a link");

    let args = ["register", "--template-config", template.to_str().expect("a path"), "--non-interactive"];
    let registered = home.command(&entrypoint, &args).output().await.expect("started");
    assert!(registered.status.success(), "{}", String::from_utf8_lossy(&registered.stderr));
    let text = home.config_text();
    assert!(text.contains("image = \"ubuntu:22.04\"") && text.contains("namespace = \"ci\""), "{text}");

    let directory = format!("--working-directory={}", home.path().display());
    let run = ["run", "--user=gitlab-runner", &directory];
    let mut runner = home.command(&entrypoint, &run).stderr(Stdio::null()).spawn().expect("started");
    let id = runner.id().expect("it runs").to_string();
    let name = format!("/proc/{id}/comm");
    let found = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
        while std::fs::read_to_string(&name).unwrap_or_default().trim() != "gitlab-runner" {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LONG, found).await.expect("the name that probes look for");
    let probed = home.command(Path::new("pgrep"), &["gitlab.*runner"]).output().await.expect("pgrep");
    let ids = String::from_utf8_lossy(&probed.stdout).into_owned();
    assert!(ids.lines().any(|line| line == id), "{id} is not among:\n{ids}");
    home.gitlab_runner(&["verify", "--url="]).await.succeeded(&["is valid"]);
    runner.kill().await.expect("ended");
}
