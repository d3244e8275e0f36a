//! Command lines and configurations as operators have them: what works, what is said, and how a
//! process ends that cannot work.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::harness::{GitLab, Home, LONG};

/// `gantry run` in JSON, and what it logs.
struct Daemon {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// Lines that nobody has asked for.
    seen: Vec<Value>,
}

impl Daemon {
    fn start(home: &Home, args: &[&str]) -> Self {
        Self::start_with(home, args, &[])
    }

    /// With variables.
    fn start_with(home: &Home, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = home.command(Path::new(env!("CARGO_BIN_EXE_gantry")), args);
        command.envs(env.iter().copied());
        let mut child = command.env("LOG_FORMAT", "json").stderr(Stdio::piped()).spawn().expect("started");
        let lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of this level with these words that was not asked for before, and returns
    /// it.
    async fn says(&mut self, level: &str, words: &str) -> Value {
        let is_it = |line: &Value| {
            line["level"] == level && line["msg"].as_str().is_some_and(|message| message.contains(words))
        };
        loop {
            if let Some(at) = self.seen.iter().position(is_it) {
                return self.seen.remove(at);
            }
            match tokio::time::timeout(LONG, self.lines.next_line()).await {
                Ok(Ok(Some(line))) => self.seen.push(serde_json::from_str(&line).expect("one object per line")),
                _ => panic!("no line of level {level} with {words:?} in:\n{:#?}", self.seen),
            }
        }
    }

    /// Waits until the metrics server listens on an address of this machine alone, and returns it.
    async fn metrics(&mut self) -> String {
        loop {
            let line = self.says("info", "Metrics server listening").await;
            let address = line["address"].as_str().expect("an address");
            if address.starts_with("127.") {
                return address.to_owned();
            }
        }
    }

    async fn end(mut self) {
        let kill = format!("kill -TERM {}", self.child.id().expect("it runs"));
        tokio::process::Command::new("sh").args(["-c", &kill]).status().await.expect("a shell");
        let ended = tokio::time::timeout(LONG, self.child.wait()).await.expect("ends in time").expect("a status");
        assert_eq!(ended.code(), Some(0));
    }
}

/// A page, as soon as it says all of `words`.
async fn page(url: &str, words: &[&str]) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().timeout(LONG).build().expect("a client");
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let mut last = (0, String::new());
    let found = tokio::time::timeout(LONG, async {
        loop {
            looks.tick().await;
            if let Ok(answer) = client.get(url).send().await {
                last = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
                if words.iter().all(|word| last.1.contains(word)) {
                    return;
                }
            }
        }
    });
    assert!(found.await.is_ok(), "{words:?} is not in {url}: {last:?}");
    last
}

fn entry(url: &str, token: &str) -> String {
    format!(
        "[[runners]]\nname = \"good\"\nurl = \"{url}\"\ntoken = \"{token}\"\nexecutor = \"kubernetes\"\n\
         [runners.kubernetes]\nhost = \"https://127.0.0.1:1\"\n"
    )
}

fn write(home: &Home, text: &str) {
    std::fs::create_dir_all(home.config().parent().expect("a directory")).expect("made");
    std::fs::write(home.config(), text).expect("written");
}

#[tokio::test]
async fn the_version_in_six_lines() {
    let home = Home::new();
    for args in [["--version"], ["-version"], ["-v"], ["-V"]] {
        let said = home.gitlab_runner(&args).await.succeeded(&["OS/Arch:      linux/"]);
        let lines: Vec<&str> = said.text.lines().collect();
        assert_eq!(lines.len(), 6, "{}", said.text);
        assert!(lines[0].starts_with("Version:      19."), "{}", said.text);
        for (line, word) in lines.iter().zip(["Version:", "Git revision:", "Git branch:", "GO version:", "Built:"]) {
            assert!(line.starts_with(word) && line.as_bytes()[13] == b' ' && line.as_bytes()[14] != b' ', "{line:?}");
        }
        let built = lines[4].trim_start_matches("Built:").trim();
        let is_known = built.parse::<jiff::Timestamp>().is_ok();
        assert!(is_known || built == "unknown (built without git and without SOURCE_DATE_EPOCH)", "{built:?}");
    }
}

/// Global flags stand before the command in the reference, and people write them behind it too.
#[tokio::test]
async fn global_flags_in_all_their_forms() {
    let home = Home::new();
    write(&home, "");
    for args in [
        vec!["--debug", "list"],
        vec!["-debug", "list"],
        vec!["--debug=true", "list"],
        vec!["list", "--debug"],
        vec!["list", "-debug=1"],
        vec!["-l", "debug", "list"],
        vec!["--log-level", "trace", "list"],
        vec!["list", "-log-level=DEBUG"],
        vec!["--cpuprofile", "file", "list"],
        vec!["--log-format", "json", "-cpuprofile=file", "list", "--log-level", "warn"],
        vec!["--log-format=text", "list"],
        vec!["--debug", "--debug=false", "-l", "debug", "list", "-l", "info", "--config", "/", "-c", "/dev/null"],
    ] {
        let said = home.gitlab_runner(&args).await.succeeded(&[]);
        let is_quiet = args.contains(&"warn");
        assert_eq!(said.text.contains("Listing configured runners"), !is_quiet, "{args:?}\n{}", said.text);
        let has_profile = args.iter().any(|arg| arg.contains("cpuprofile"));
        assert_eq!(said.text.contains("--cpuprofile (CPU_PROFILE) has no effect"), has_profile, "{args:?}");
    }
    for level in ["panic", "fatal", "error", "warning", "warn"] {
        let said = home.gitlab_runner(&["--log-level", level, "list"]).await.succeeded(&[]);
        assert_eq!(said.text, "", "{level}");
    }
    home.gitlab_runner(&["--log-level", "loud", "list"]).await.failed(&["--log-level", "trace, debug, info"]);
    home.gitlab_runner(&["--log-format", "xml", "list"]).await.failed(&["--log-format", "runner, text or json"]);
    let home = Home::with(&[
        ("LOG_LEVEL", ""),
        ("LOG_FORMAT", ""),
        ("RUNNER_DEBUG", "false"),
        ("CPU_PROFILE", ""),
        ("CI_SERVER_TLS_CA_FILE", ""),
    ]);
    let said = home.gitlab_runner(&["list"]).await.succeeded(&["Listing configured runners"]);
    assert!(!said.text.contains("no effect"), "{}", said.text);
    let home = Home::with(&[("CONFIG_FILE", ""), ("CI_SERVER_TLS_CA_FILE", "")]);
    home.gitlab_runner(&["list"]).await.succeeded(&["Listing configured runners"]);
    home.gitlab_runner(&["unregister", "--name", "nobody"]).await.failed(&["\"nobody\" is not in config"]);
}

/// As GitLab's image, its chart and its packages start it.
#[tokio::test]
async fn run_as_others_call_it() {
    let home = Home::with(&[("LISTEN_ADDRESS", "127.0.0.1:0"), ("LOG_SYSLOG", "true")]);
    write(&home, "concurrent = 2\n");
    let directory = home.path().join("etc").display().to_string();
    let args = [
        "--debug",
        "run",
        "--user=gitlab-runner",
        "--working-directory",
        &directory,
        "--service",
        "gitlab-runner",
        "-c",
        "gitlab-runner/config.toml",
    ];
    let mut daemon = Daemon::start(&home, &args);
    daemon.says("info", "Runtime platform").await;
    daemon.says("info", "--user has no effect").await;
    daemon.says("info", "--service has no effect").await;
    daemon.says("warning", "--syslog (LOG_SYSLOG) has no effect").await;
    daemon.says("info", "Starting multi-runner from gitlab-runner/config.toml...").await;
    assert_eq!(daemon.says("info", "Configuration loaded").await["concurrent"], 2);
    daemon.end().await;

    let home = Home::with(&[("LISTEN_ADDRESS", "127.0.0.1:0")]);
    write(&home, "");
    let mut daemon = Daemon::start(&home, &["run", "--working-directory=/does/not/exist", "--syslog", "false", "-x"]);
    daemon.says("warning", "--working-directory /does/not/exist cannot be used").await;
    daemon.says("warning", "\"false\" (write --flag=false) ends the flags: one more argument is ignored").await;
    daemon.says("info", "Configuration loaded").await;
    daemon.end().await;
}

/// What is to be changed is what was set.
#[tokio::test]
async fn a_taken_port_names_its_setting() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    for (args, name, in_file) in [
        (vec!["run"], Some("METRICS_SERVER"), ""),
        (vec!["run"], Some("LISTEN_ADDRESS"), ""),
        (vec!["run", "--listen-address", &address], None, ""),
        (vec!["run", "--metrics-server", &address], None, ""),
        (vec!["run"], None, "listen_address"),
    ] {
        let home = name.map_or_else(Home::new, |name| Home::with(&[(name, &address)]));
        write(&home, &if in_file.is_empty() { String::new() } else { format!("{in_file} = \"{address}\"\n") });
        let set_by = name.unwrap_or_else(|| args.get(1).copied().unwrap_or(in_file));
        let said = home.gantry(&args).await;
        said.failed(&[
            "FATAL: ",
            &format!("change {set_by} to a free address"),
            &format!("cannot listen on {address}"),
        ]);
    }
    let home = Home::with(&[("METRICS_SERVER", "127.0.0.1:0"), ("LISTEN_ADDRESS", "127.0.0.2:0")]);
    write(&home, "listen_address = \"127.0.0.3:0\"\n");
    let mut daemon = Daemon::start(&home, &["run"]);
    daemon.says("warning", "METRICS_SERVER has no effect: LISTEN_ADDRESS says 127.0.0.2:0").await;
    daemon.says("info", "listen_address = \"127.0.0.3:0\" has no effect: LISTEN_ADDRESS says").await;
    assert!(daemon.metrics().await.starts_with("127.0.0.2:"));
    daemon.end().await;
}

/// There is no file, then there is one with a bad entry beside a good one, then it moves the
/// metrics server, then it is gone.
#[tokio::test]
async fn the_life_of_a_configuration() {
    let gitlab = GitLab::start().await;
    let home = Home::new();
    let mut daemon = Daemon::start(&home, &["run"]);
    daemon.says("warning", "config.toml does not exist: waiting for it").await;
    let good = entry(&gitlab.url, &gitlab.runner_token);
    let first = "check_interval = 1\nlisten_address = \"127.0.0.1:0\"\nconnection_max_age = \"1m\"\n";
    write(&home, &format!("{first}[[runners]]\nname = \"empty\"\n{good}{good}"));
    for key in ["url", "token", "executor"] {
        daemon.says("error", &format!("config.toml:4: runners[0].{key}: is missing")).await;
    }
    daemon.says("warning", "runners[2]: has the url, token and name of runners[1]").await;
    daemon.says("info", "listen_address has changed: the metrics server moves to 127.0.0.1:0").await;
    let address = daemon.metrics().await;
    let loaded = daemon.says("info", "Configuration loaded").await;
    assert_eq!((&loaded["runners"], &loaded["unusable"]), (&2.into(), &1.into()), "both of the same are kept");
    let (status, _) =
        page(&format!("http://{address}/health/ready"), &["ready\n", "runner \"empty\" cannot work"]).await;
    assert_eq!(status, 200);
    page(&format!("http://{address}/metrics"), &["gantry_unusable_runners 1"]).await;
    assert!(home.config().with_file_name(".runner_system_id").exists(), "the id is beside the file");

    write(&home, &format!("{first}[[runners]]\nname = \"empty\"\n"));
    daemon.says("info", "Configuration loaded").await;
    let (status, _) = page(&format!("http://{address}/health/ready"), &["no runner can work", "runners[0].url"]).await;
    assert_eq!(status, 503);
    write(&home, &format!("concurrent = \"many\"\n{first}"));
    daemon.says("error", "config.toml:1: concurrent: must be a whole number").await;
    daemon.says("error", "Failed to load config, the old one stays in force").await;
    write(&home, &format!("log_level = \"error\"\n{first}[[runners]]\nname = \"empty\"\n"));
    daemon.says("error", "config.toml:5: runners[0].url: is missing").await;
    let expires = "token_expires_at = 2020-01-02T03:04:05Z\n";
    write(&home, &format!("{first}{}", good.replace("executor", &format!("{expires}executor"))));
    daemon.says("info", "Configuration loaded").await;
    daemon.says("error", "the token of runner \"good\" has ended at 2020-01-02T03:04:05Z").await;
    page(&format!("http://{address}/metrics"), &["gantry_runner_token_expiry_timestamp_seconds{", "} 1577934245"])
        .await;
    std::fs::remove_file(home.config()).expect("removed");
    daemon.says("warning", "config.toml is gone: what it said stays in force").await;
    daemon.end().await;
}

/// A token is renewed when three quarters of its life are over, in the file too; one that would
/// come back at the next start is left alone.
#[tokio::test]
async fn tokens_are_renewed_in_time() {
    let (gitlab, home) = (GitLab::start().await, Home::new());
    let now = jiff::Timestamp::now().as_second();
    let time = |second: i64| jiff::Timestamp::from_second(second).expect("a time").to_string();
    let life = format!("token_obtained_at = {} # then\ntoken_expires_at = {}\n", time(now - 900), time(now + 100));
    let ours = entry(&gitlab.url, &gitlab.runner_token).replace("executor", &format!("{life}executor"));
    write(&home, &format!("check_interval = 1\nlisten_address = \"127.0.0.1:0\"\n# ours\n{ours}"));
    let given = [("CI_SERVER_TOKEN", gitlab.runner_token.as_str())];
    let mut daemon = Daemon::start_with(&home, &["run"], &given);
    daemon.says("warning", "it is not renewed, because CI_SERVER_TOKEN would bring the old one back").await;
    daemon.end().await;
    assert!(home.config_text().contains(&gitlab.runner_token));

    let mut daemon = Daemon::start(&home, &["run"]);
    let address = daemon.metrics().await;
    daemon.says("info", "the token of runner \"good\" was renewed").await;
    daemon.says("info", "polling ends: the entry has changed").await;
    daemon.says("info", "polling").await;
    let text = home.config_text();
    assert!(!text.contains(&gitlab.runner_token) && text.contains("# ours\n") && text.contains("# then"), "{text}");
    page(&format!("http://{address}/health/ready"), &["ready\n"]).await;
    let (_, metrics) = page(&format!("http://{address}/metrics"), &["endpoint=\"reset_token\""]).await;
    assert!(
        metrics.contains("gantry_runner_token_refused{runner=\"")
            && !metrics.contains("} 1\n# HELP gantry_runner_token_refused")
    );

    // Somebody resets it in GitLab.
    write(&home, &text.replace("token = \"glrt-", "token = \"glrt-other"));
    let refusal = daemon.says("error", "GitLab refuses the token of runner \"good\"").await;
    assert_eq!(refusal["status"], 403);
    let (status, _) =
        page(&format!("http://{address}/health/ready"), &["GitLab refuses the token of runner \"good\""]).await;
    assert_eq!(status, 503);
    page(&format!("http://{address}/metrics"), &["gantry_runner_token_refused{", "} 1"]).await;
    daemon.end().await;
}

/// Errors and warnings are told apart, in the format that the file asks for.
#[tokio::test]
async fn problems_of_the_file_are_log_lines() {
    let home = Home::new();
    write(&home, "log_format = \"json\"\nsurprise = 1\nconcurrent = 0\n");
    let said = home.gantry(&["run"]).await.failed(&[]);
    for line in [
        r#"{"level":"error","msg":"PATH:3: concurrent: must be from 1 to 4294967295, not 0""#,
        r#"{"level":"warning","msg":"PATH:2: surprise: unknown key""#,
        r#"{"level":"fatal","msg":"config file PATH cannot be used: it has an error""#,
    ] {
        let line = line.replace("PATH", &home.config().display().to_string());
        assert!(said.text.contains(&line), "{line}\n{}", said.text);
    }
    assert_eq!(said.text.lines().filter(|line| line.starts_with('{')).count(), 4, "every line: {}", said.text);
    assert_eq!(said.text.lines().count(), 4, "{}", said.text);
}

#[tokio::test]
async fn other_commands_beside_an_unusable_entry() {
    let gitlab = GitLab::start().await;
    let home = Home::new();
    write(&home, &format!("[[runners]]\nname = \"empty\"\n{}", entry(&gitlab.url, &gitlab.runner_token)));
    home.gantry(&["list"]).await.succeeded(&["WARNING", "runners[0].url: is missing", "good", &gitlab.url]);
    home.gantry(&["verify", "--name", "good"]).await.succeeded(&["is valid"]);
    home.gantry(&["verify", "--name", "good", "--name", "empty"]).await.succeeded(&["failed"]);
    let no_token = format!("[[runners]]\nname = \"half\"\nurl = \"{}\"\nexecutor = \"kubernetes\"\n", gitlab.url);
    write(&home, &format!("{no_token}{}", entry(&gitlab.url, &gitlab.runner_token)));
    home.gantry(&["verify", "--url="]).await.succeeded(&["is valid", "the entry has no token"]);
    // In the order of the file, although the answer of GitLab comes later.
    write(&home, &format!("{}{no_token}", entry(&gitlab.url, &gitlab.runner_token)));
    let said = home.gantry(&["verify", "--url="]).await.succeeded(&[]).text;
    assert!(said.find("is valid").unwrap() < said.find("the entry has no token").unwrap(), "{said}");
}
