//! Commands that ask nobody, and those that exchange tokens or run for a while and end.

use std::net::TcpListener;
use std::path::Path;

use crate::harness::{GitLab, Home};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gantry");

fn entry(url: &str, token: &str, more: &str) -> String {
    format!(
        "[[runners]]\nname = \"ours\" # this one\nurl = \"{url}\"\ntoken = \"{token}\"\nexecutor = \"kubernetes\"\n{more}"
    )
}

fn write(home: &Home, text: &str) {
    std::fs::create_dir_all(home.config().parent().expect("it works")).expect("it works");
    std::fs::write(home.config(), text).expect("it works");
}

/// Runs a shell line that calls the program `$0`.
async fn shell(home: &Home, line: &str) -> (Option<i32>, String) {
    let mut command = home.command(Path::new("sh"), &["-c", line, PROGRAM]);
    let output = command.output().await.expect("it works");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

const JOB: &str = r#"{"id": 7, "token": "glcbt-canary-of-the-job", "job_info": {"project_id": 1},
    "git_info": {"repo_url": "https://gitlab-ci-token:glcbt-canary-of-the-job@gitlab.test/a/b.git", "ref": "main",
        "sha": "6f1c2d3e4f5061728394a5b6c7d8e9f001122334"},
    "variables": [{"key": "PASSWORD", "value": "canary-of-a-variable", "masked": true}],
    "image": {"name": "ruby:3.3"}, "steps": [{"name": "script", "script": ["use canary-of-a-variable"]}]}"#;

#[tokio::test]
async fn a_plan_is_printed_and_nothing_is_touched() {
    let home = Home::new();
    write(&home, &entry("https://gitlab.test", "glrt-aaa0bbb11-canary", "[runners.kubernetes]\nnamespace = \"ci\"\n"));
    let job = home.path().join("job.json");
    std::fs::write(&job, JOB).expect("it works");
    let job = job.to_str().expect("it works");
    let ended = home.gantry(&["plan", "--job", job]).await;
    let ended =
        ended.succeeded(&["kind: Pod", "namespace: ci", "image: ruby:3.3", "name: get_sources", "use [MASKED]"]);
    assert!(!ended.text.contains("canary"), "{}", ended.text);
    let beside: Vec<_> = std::fs::read_dir(home.config().parent().expect("it works")).expect("it works").collect();
    assert_eq!(beside.len(), 1, "no system id was made: {beside:?}");
    let (code, text) = shell(&home, &format!("\"$0\" plan --job - < {job} | head -n 1")).await;
    assert_eq!((code, text.as_str()), (Some(0), "log:\n"));
    let (code, text) = shell(&home, &format!("\"$0\" plan --job {job} > /dev/full")).await;
    assert!(code == Some(1) && text.contains("the output cannot be written: No space left"), "{code:?} {text}");
}

#[tokio::test]
async fn a_plan_that_is_refused() {
    let home = Home::new();
    let (a, b) =
        (entry("https://gitlab.test", "a", ""), entry("https://gitlab.test", "b", "").replace("ours", "other"));
    write(&home, &format!("{a}{b}"));
    let job = home.path().join("job.json");
    std::fs::write(&job, JOB.replace("ruby:3.3", "")).expect("it works");
    let job = job.to_str().expect("it works");
    home.gantry(&["plan", "--job", job]).await.failed(&["choose with --runner one of \"ours\", \"other\""]);
    home.gantry(&["plan", "--job", job, "--runner", "none"]).await.failed(&["no usable runner \"none\""]);
    home.gantry(&["plan", "--job", job, "-r", "other"]).await.failed(&["the job would be refused", "image"]);
    std::fs::write(job, "{\"id\": 1}").expect("it works");
    home.gantry(&["plan", "--job", job, "-r", "other"]).await.failed(&["job.json", "no token"]);
}

#[tokio::test]
async fn a_file_is_checked() {
    let home = Home::new();
    home.gantry(&["lint"]).await.failed(&["config.toml cannot be read"]);
    let good = entry("https://gitlab.test", "glrt-canary", "[runners.docker]\nimage = \"x\"\n");
    write(&home, &good);
    let ended = home.gitlab_runner(&["lint"]).await;
    ended.succeeded(&["config.toml:6:", " warning: runners[0].docker: accepted", "Configuration file is valid."]);
    write(
        &home,
        &format!("concurent = 1\n{good}poll_timeout = 1\n[[runners]]\nurl = \"x\"\ntoken = \"glrt-canary\"\n"),
    );
    let ended = home.gantry(&["lint"]).await;
    let ended = ended.failed(&[
        "config.toml:1:1: error: unknown key: concurent (did you mean concurrent?)\n",
        "error: runners[1].url: must begin with http://",
        "error: runners[1].executor: is missing",
        "has 3 errors",
    ]);
    assert!(!ended.text.contains("is valid") && !ended.text.contains("canary"), "{}", ended.text);
    let patch = |name: &str| {
        let patch = format!("{{\"containers\": [{{{name}\"env\": [{{\"name\": \"A\", \"value\": \"b\"}}]}}]}}");
        format!("[[runners.kubernetes.pod_spec]]\nname = \"env\"\npatch_type = \"strategic\"\npatch = '{patch}'\n")
    };
    write(&home, &entry("https://gitlab.test", "glrt-canary", &patch("\"name\": \"build\", ")));
    home.gantry(&["lint"]).await.succeeded(&["Configuration file is valid."]);
    write(&home, &entry("https://gitlab.test", "glrt-canary", &patch("")));
    home.gantry(&["lint"]).await.failed(&[
        "config.toml: error: runner \"ours\": patch \"env\" of [[runners.kubernetes.pod_spec]] cannot be applied",
        "has no name",
    ]);
    let lost = "[[runners.kubernetes.pod_spec]]\nname = \"nodes\"\npatch = 'nodeSelecter: {a: b}'\n";
    write(&home, &entry("https://gitlab.test", "glrt-canary", lost));
    let ended = home.gantry(&["lint"]).await;
    ended.succeeded(&[
        "config.toml: warning: runner \"ours\": after the patches of",
        "the pod has nodeSelecter, which no pod has",
    ]);
    let values = home.path().join("values.yaml");
    std::fs::write(&values, "gitlabUrl: https://gitlab.test\nrunners:\n  config: |\n    [[runners]]\n")
        .expect("it works");
    let values = values.to_str().expect("it works");
    home.gantry(&["lint", "--config", values]).await.failed(&["values.yaml is YAML", "runners.config"]);
    let ignored = "tags = [\"a\"]\n".to_owned() + "[runners.kubernetes]\nresources = {}\n";
    write(&home, &entry("https://gitlab.test", "glrt-canary", &ignored));
    home.gantry(&["lint"]).await.failed(&[
        " warning: runners[0].tags: has no effect: GitLab keeps it",
        " error: unknown key: runners[0].kubernetes.resources (it is a key for each quantity: cpu_request",
        "has 1 error",
    ]);
    assert!(!home.config().with_file_name(".runner_system_id").exists());
}

/// A template for `register`, as a chart's values have it, is checked but for what `register`
/// brings.
#[tokio::test]
async fn a_template_is_checked() {
    let home = Home::new();
    let template = "[[runners]]\n[runners.kubernetes]\n";
    write(&home, &format!("{template}namespace = \"ci\"\n"));
    let ended = home.gantry(&["lint"]).await;
    let ended = ended.succeeded(&[
        "config.toml:1:1: warning: runners[0]: is a template, because it has neither url nor token",
        "The template is valid.",
    ]);
    assert!(!ended.text.contains("is missing"), "{}", ended.text);
    write(&home, &format!("{template}namespace = \"{{{{.Release.Namespace}}}}\"\n"));
    let ended = home.gantry(&["lint"]).await;
    let ended = ended.failed(&["cannot be a namespace", "(this is a template of Helm: render it first", "has 1 error"]);
    assert!(!ended.text.contains("is missing") && !ended.text.contains("is valid"), "{}", ended.text);
    write(
        &home,
        &format!("{template}[[runners.kubernetes.pod_spec]]\nname = \"nodes\"\npatch = 'nodeSelecter: {{a: b}}'\n"),
    );
    home.gantry(&["lint"]).await.succeeded(&["the pod has nodeSelecter, which no pod has"]);
    write(&home, "[[runners]]\nurl = \"https://gitlab.test\"\n");
    home.gantry(&["lint"]).await.failed(&["runners[0].token: is missing", "executor: is missing", "has 2 errors"]);
}

#[tokio::test]
async fn tokens_are_exchanged() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    write(&home, &entry(&gitlab.url, &gitlab.runner_token, "id = 1\n"));
    home.gantry(&["reset-token"]).await.failed(&["--all-runners"]);
    home.gantry(&["reset-token", "-n", "none"]).await.failed(&["\"none\" is not in config"]);
    home.gitlab_runner(&["reset-token", "--name", "ours"]).await.succeeded(&["Updated", "config.toml"]);
    let text = home.config_text();
    assert!(!text.contains(&gitlab.runner_token) && text.contains("name = \"ours\" # this one\n"), "{text}");
    assert!(text.contains("token_obtained_at = ") && text.contains("token_expires_at = "), "{text}");
    home.gantry(&["verify"]).await.succeeded(&["Verifying runner... is valid"]);
    // Another one, although the one in the file is dead.
    write(&home, &text.replace("token = \"glrt-", "token = \"glrt-dead"));
    home.gantry(&["reset-token", "-n", "ours"]).await.failed(&["runner \"ours\"", "403"]);
    home.gantry(&["reset-token", "--all-runners"]).await.succeeded(&["has no new token", "403"]);
    assert_eq!(home.config_text(), text.replace("token = \"glrt-", "token = \"glrt-dead"), "nothing was written");
}

#[tokio::test]
async fn a_single_run_waits_for_jobs_and_ends() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let run = ["run-single", "--url", &gitlab.url, "--token", &gitlab.runner_token, "--executor", "kubernetes"];
    let options = ["--kubernetes-host", "https://127.0.0.1:1", "--kubernetes-bearer_token", "x", "--docker-image", "y"];
    let ended = home.gantry(&[&run[..], &options, &["--wait-timeout", "1"]].concat()).await;
    ended.succeeded(&["no job for 1 s (--wait-timeout): the run ends", "All workers stopped."]);
    home.gantry(&run[..5]).await.failed(&["--executor: is missing"]);
    let other = ["run-single", "-r", "ours", "-c", home.config().to_str().expect("it works"), "--wait-timeout=1"]
        .map(str::to_owned);
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    home.gantry(&other).await.failed(&["runner \"ours\" is not in config"]);
    let kubernetes = "[runners.kubernetes]\nhost = \"https://127.0.0.1:1\"\nbearer_token = \"x\"\n";
    write(&home, &format!("concurrent = 7\n{}", entry(&gitlab.url, &gitlab.runner_token, kubernetes)));
    home.gantry(&other).await.succeeded(&["no job for 1 s", "concurrent=1 "]);
    assert!(!home.config().with_file_name(".runner_system_id").exists(), "it has an id of its own");
    // Neither limit is ever reached by a runner that cannot work.
    write(&home, &entry(&gitlab.url, &gitlab.runner_token, "[runners.kubernetes]\ncontext = \"none\"\n"));
    for limit in ["--wait-timeout=1", "--max-builds=1"] {
        let ended = home.gantry(&[&other[..5], &[limit]].concat()).await;
        ended.failed(&["the runner cannot work: the kubeconfig"]);
    }
}

#[tokio::test]
async fn words_of_the_file_and_of_the_environment() {
    let home = Home::with(&[("LOG_FORMAT", "JSON")]);
    write(&home, &entry("https://gitlab.test", "x", "").replace("kubernetes", "shell"));
    home.gantry(&["list"]).await.succeeded(&["\"Executor\":\"shell\"", "{\""]);
    std::fs::write(home.config(), b"concurrent = 1\n# caf\xE9\n").expect("it works");
    for command in ["lint", "verify"] {
        home.gantry(&[command]).await.failed(&["config.toml cannot be read", "line 2 holds a character", "save"]);
    }
}

#[tokio::test]
async fn ports_are_waited_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("it works");
    let open = listener.local_addr().expect("it works").port().to_string();
    let home = Home::new();
    home.gantry(&["health-check", "--port", &open, "--timeout", "60s"]).await.succeeded(&["is open after"]);
    home.gantry(&["health-check"]).await.failed(&["nothing to check"]);
    home.gantry(&["health-check", "--port", "18080,16443"]).await.failed(&["not a port", "repeat --port"]);
    let ended = home.gantry(&["health-check", "-p", &open, "-p", "1", "--timeout", "10ms"]).await;
    ended.failed(&["not everything is open after"]);
    let linked = Home::with(&[("DB_TCP_ADDR", "127.0.0.1"), ("DB_TCP_PORT", &open), ("DB_ADMIN_TCP_PORT", "1")]);
    linked.gantry(&["health-check", "--timeout", "60s"]).await.succeeded(&["is open after"]);
}

#[tokio::test]
async fn what_is_generated_from_the_command_line() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        home.gantry(&["completions", shell]).await.succeeded(&["gantry", "reset-token", "kubernetes-namespace"]);
    }
    let pages = home.path().join("man");
    home.gantry(&["man", pages.to_str().expect("it works")]).await.succeeded(&[]);
    let page = std::fs::read_to_string(pages.join("gantry-run.1")).expect("it works");
    assert!(page.starts_with(".ie") && page.contains("listen\\-address"), "{page}");
    let section = |page: &str, name: &str| {
        let begins = if name.contains(' ') { format!(".SH \"{name}\"\n") } else { format!(".SH {name}\n") };
        let (_, behind) = page.split_once(&begins).unwrap_or_else(|| panic!("no {name} in:\n{page}"));
        behind.split("\n.SH ").next().unwrap_or_default().replace("\\-", "-")
    };
    for (name, words) in [
        ("SYNOPSIS", "gantry run [OPTIONS]"),
        ("ENVIRONMENT", "CONFIG_FILE"),
        ("ENVIRONMENT", "LISTEN_ADDRESS"),
        ("ENVIRONMENT", "KUBECONFIG"),
        ("ENVIRONMENT", "HTTPS_PROXY"),
        ("FILES", "/etc/gitlab-runner/config.toml"),
        ("FILES", "~/.gitlab-runner/config.toml"),
        ("FILES", ".runner_system_id"),
        ("EXIT STATUS", "a second signal"),
    ] {
        assert!(section(&page, name).contains(words), "{name}: {words}\n{page}");
    }
    // Each way in which `dev` ends is said once, on its page and in its help.
    let page = std::fs::read_to_string(pages.join("gantry-dev.1")).expect("it works");
    assert!(section(&page, "EXIT STATUS").contains("There is nothing to run"), "{page}");
    assert!(section(&page, "FILES").contains(".gantry-variables"), "{page}");
    assert!(!section(&page, "NOTES").contains("There is nothing to run"), "{page}");
    home.gantry(&["dev", "--help"]).await.succeeded(&["Exit status:\n  0 ", "\n  2    There is nothing to run"]);
    assert!(pages.join("gantry.1").exists() && pages.join("gantry-plan.1").exists());
    for words in ["--help", "--version", "completions bash"] {
        let (code, text) = shell(&home, &format!("\"$0\" {words} > /dev/full")).await;
        assert!(code == Some(1) && text.contains("the output cannot be written"), "{words}: {code:?} {text}");
    }
}

#[tokio::test]
async fn commands_about_the_service_are_those_of_systemd() {
    let home = Home::new();
    for (command, instead) in [("restart", "restart"), ("status", "status"), ("install", "enable --now")] {
        let ended = home.gitlab_runner(&[command]).await;
        assert!(!ended.text.contains("similar"), "{}", ended.text);
        ended.failed(&[&format!("systemctl {instead} gantry")]);
    }
    home.gantry(&["--log-level", "debug", "stop"]).await.failed(&["systemctl stop gantry"]);
    for nested in [["sim", "start"], ["config", "status"]] {
        let ended = home.gantry(&nested).await;
        assert!(!ended.text.contains("systemctl"), "{}", ended.text);
        ended.failed(&["unrecognized subcommand", nested[1]]);
    }
    home.gantry(&["unregistre"]).await.failed(&["similar", "unregister"]);
}
