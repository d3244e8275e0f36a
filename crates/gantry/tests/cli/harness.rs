//! A simulated GitLab that runs for one test, and the program as people start it: other processes,
//! a clean environment, a directory of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use gantry_sim_gitlab::{Config, Settings, SimGitlab, Timing};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::oneshot;

/// No command takes longer, even on a busy machine; a test that would hang fails instead.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// With this token runners may register.
pub(crate) const REGISTRATION_TOKEN: &str = "FoN6VUuscn2tfbHJwdsada";

/// An administrator's token, for tokens of runners.
pub(crate) const ACCESS_TOKEN: &str = "glpat-administrator";

/// A GitLab.
pub(crate) struct GitLab {
    pub(crate) url: String,
    pub(crate) runner_token: String,
    client: reqwest::Client,
    /// Dropped to stop it.
    _stop: oneshot::Sender<()>,
}

impl GitLab {
    pub(crate) async fn start() -> Self {
        Self::with(Some(REGISTRATION_TOKEN)).await
    }

    /// Without a registration token none is taken.
    pub(crate) async fn with(registration_token: Option<&str>) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no other TLS provider");
        });
        let config = Config {
            registration_token: registration_token.map(str::to_owned),
            settings: Settings { access_token: Some(ACCESS_TOKEN.to_owned()), ..Settings::default() },
            timing: Timing { long_poll: Duration::from_millis(300), ..Timing::default() },
            ..Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let sim = SimGitlab::bind(config).await.expect("a simulated GitLab");
        let (url, runner_token) = (sim.url(), sim.runner_token().to_owned());
        let (stop, stopped) = oneshot::channel::<()>();
        spawn(async {
            let _ = sim
                .serve(async {
                    let _ = stopped.await;
                })
                .await;
        });
        let client = reqwest::Client::builder().no_proxy().timeout(LONG).build().expect("a client");
        Self { url, runner_token, client, _stop: stop }
    }

    /// Something that the simulator shows under `/sim/`.
    pub(crate) async fn shows(&self, what: &str) -> Vec<Value> {
        let answer = self.client.get(format!("{}/sim/{what}", self.url)).send().await.expect("an answer");
        answer.json().await.expect("a list")
    }

    /// The runner with this description.
    pub(crate) async fn runner(&self, description: &str) -> Option<Value> {
        self.shows("runners").await.into_iter().find(|runner| runner["description"] == description)
    }

    /// The system ids of the runner that exists from the start.
    pub(crate) async fn managers(&self) -> Vec<String> {
        let runner = self.runner("preset runner").await.expect("the preset runner");
        let managers = runner["managers"].as_array().expect("a list").iter();
        managers.map(|manager| manager["system_id"].as_str().expect("a text").to_owned()).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "servers run beside the test")]
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

/// A directory with a configuration, and the environment of the commands about it.
pub(crate) struct Home {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Standard output, then standard error, without colours.
    pub(crate) text: String,
}

impl Ended {
    /// Fails unless the command succeeded and said all of `words`.
    pub(crate) fn succeeded(self, words: &[&str]) -> Self {
        self.expect(0, words)
    }

    /// Fails unless the command failed and said all of `words`.
    pub(crate) fn failed(self, words: &[&str]) -> Self {
        self.expect(1, words)
    }

    fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "{word:?} is not in:\n{}", self.text);
        }
        self
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), env: Vec::new() }
    }

    /// With variables for all commands.
    pub(crate) fn with(env: &[(&str, &str)]) -> Self {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { env, ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration, which is not there at first.
    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("etc/gitlab-runner/config.toml")
    }

    pub(crate) fn config_text(&self) -> String {
        std::fs::read_to_string(self.config()).expect("a configuration")
    }

    /// A command that has not been started, under the name of `program`.
    pub(crate) fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.path()).env("CONFIG_FILE", self.config()).env("PATH", "/usr/bin:/bin");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn gantry(&self, args: &[&str]) -> Ended {
        end(self.command(Path::new(env!("CARGO_BIN_EXE_gantry")), args)).await
    }

    /// Runs it where no file can grow, as on a full disk.
    pub(crate) async fn without_space(&self, args: &[&str]) -> Ended {
        let script = r#"trap "" XFSZ; ulimit -f 0; exec "$0" "$@""#;
        let args = [&["-c", script, env!("CARGO_BIN_EXE_gantry")], args].concat();
        end(self.command(Path::new("sh"), &args)).await
    }

    /// Runs it under the name that people's scripts use.
    pub(crate) async fn gitlab_runner(&self, args: &[&str]) -> Ended {
        let link = self.path().join("gitlab-runner");
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gantry"), &link).expect("a link");
        }
        end(self.command(&link, args)).await
    }
}

async fn end(mut command: Command) -> Ended {
    let output = tokio::time::timeout(LONG, command.output()).await.expect("ends in time").expect("can be started");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ended { code: output.status.code(), text }
}
