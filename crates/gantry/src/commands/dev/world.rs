//! The simulators and the daemon of `gantry dev`, each started as its own command would start it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use gantry_daemon::{App, Ended, HelperBinaries, ListenAddress, Network, Options, Signal, signal_channel};
use gantry_sim_gitlab::SimGitlab;
use gantry_sim_kube::SimKube;
use gantry_sim_kube::container::Runtime;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::BadInput;
use super::project::Project;

/// The namespace of job pods.
const NAMESPACE: &str = "ci";

/// Jobs at once.
const CONCURRENT: u32 = 4;

/// How long the token of the runner's service account lives: longer than anybody watches a pipeline.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long ending may take.
const END: Duration = Duration::from_secs(40);

/// Everything that runs.
pub(super) struct World {
    gitlab_url: String,
    signals: mpsc::Sender<Signal>,
    stop: CancellationToken,
    parts: Vec<JoinHandle<()>>,
    daemon: JoinHandle<()>,
    problem: Arc<Mutex<Option<String>>>,
    _dir: TempDir,
}

impl World {
    /// Starts everything; the outer error is ours, the inner one something that the user can change.
    /// `listen`: where the simulated GitLab is.
    pub(super) async fn start(
        project: &Project,
        helper: HelperBinaries,
        listen: SocketAddr,
    ) -> anyhow::Result<Result<Self, BadInput>> {
        let dir = tempfile::Builder::new().prefix("gantry-dev-").tempdir().context("no temporary directory")?;
        let runtime = Runtime::new(dir.path().join("check"), "/proc/self/exe");
        match runtime {
            Ok(runtime) => {
                if let Err(error) = runtime.check().await {
                    return Ok(Err(BadInput(error.to_string())));
                }
            }
            Err(error) => return Ok(Err(BadInput(error.to_string()))),
        }
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let gitlab_config = gantry_sim_gitlab::Config {
            repos: vec![(project.name().to_owned(), project.dir().to_owned())],
            variables: project.masked_variables(),
            ..gantry_sim_gitlab::Config::new(listen)
        };
        let gitlab = match SimGitlab::bind(gitlab_config).await {
            Ok(gitlab) => gitlab,
            Err(error @ gantry_sim_gitlab::Error::AddressInUse { .. }) => return Ok(Err(BadInput(error.to_string()))),
            Err(error) => return Err(error).context("the simulated GitLab cannot start"),
        };
        let kube = SimKube::bind(gantry_sim_kube::Config::new(loopback, "/proc/self/exe"))
            .await
            .context("the simulated Kubernetes cannot start")?;
        let config = write_config(dir.path(), &gitlab, &kube)?;
        let gitlab_url = gitlab.url();
        let stop = CancellationToken::new();
        let (until, also_until) = (stop.clone(), stop.clone());
        let parts = vec![
            spawn(async move {
                if let Err(error) = gitlab.serve(until.cancelled_owned()).await {
                    tracing::error!("the simulated GitLab has ended: {error}");
                }
            }),
            spawn(async move {
                if let Err(error) = kube.serve(also_until.cancelled_owned()).await {
                    tracing::error!("the simulated Kubernetes has ended: {error}");
                }
            }),
        ];
        let app = App::build(Options {
            outside: Arc::new(Network),
            config,
            listen_address: Some(ListenAddress { address: loopback.to_string(), set_by: "gantry dev".to_owned() }),
            helper,
            on_log_settings: Box::new(|_| {}),
        })
        .await?;
        let (signals, receiver) = signal_channel();
        let problem = Arc::new(Mutex::new(None));
        let told = Arc::clone(&problem);
        let daemon = spawn(async move {
            let ended = app.run(receiver).await;
            if ended != Ended::Clean {
                let text = "the runner had to leave jobs behind".to_owned();
                told.lock().unwrap_or_else(PoisonError::into_inner).replace(text);
            }
        });
        Ok(Ok(Self { gitlab_url, signals, stop, parts, daemon, problem, _dir: dir }))
    }

    /// Where the simulated GitLab is.
    pub(super) fn gitlab_url(&self) -> &str {
        &self.gitlab_url
    }

    /// What is wrong with the runner, if it has ended.
    pub(super) fn runner_problem(&self) -> Option<String> {
        let said = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.or_else(|| self.daemon.is_finished().then(|| "the runner has ended unexpectedly".to_owned()))
    }

    /// Ends everything in order: the runner with its jobs, then the simulators with their containers.
    pub(super) async fn end(self) {
        let _ = self.signals.send(Signal::Stop("SIGINT")).await;
        let end = async {
            let _ = self.daemon.await;
            self.stop.cancel();
            for part in self.parts {
                let _ = part.await;
            }
        };
        if tokio::time::timeout(END, end).await.is_err() {
            eprintln!("gantry dev: not everything has ended in {} s; leaving it behind", END.as_secs());
        }
    }
}

/// The config of the runner: as an operator would write it for a cluster outside of which the runner is, with the smallest rights.
fn write_config(dir: &Path, gitlab: &SimGitlab, kube: &SimKube) -> anyhow::Result<std::path::PathBuf> {
    let rules = serde_json::json!([{
        "apiGroups": [""],
        "resources": ["pods", "pods/exec"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    }]);
    let token = kube.create_service_account_with_role(NAMESPACE, "runner", &rules, TOKEN_LIFE)?;
    let ca_file = dir.join("ca.crt");
    std::fs::write(&ca_file, kube.ca_pem())?;
    let config = dir.join("config.toml");
    let text = format!(
        r#"concurrent = {CONCURRENT}
check_interval = 1

[gantry]
  on_terminate = "abort"

[[runners]]
  name = "gantry dev"
  url = "{url}"
  token = "{runner_token}"
  executor = "kubernetes"
  request_concurrency = {CONCURRENT}
  [runners.kubernetes]
    host = "{host}"
    ca_file = "{ca_file}"
    bearer_token = "{token}"
    namespace = "{NAMESPACE}"
    image = "debian:12"
    helper_image = "gantry-helper"
    cleanup_grace_period_seconds = 0
"#,
        url = gitlab.url(),
        runner_token = gitlab.runner_token(),
        host = kube.url(),
        ca_file = ca_file.display(),
    );
    write_private(&config, &text)?;
    Ok(config)
}

/// The file holds tokens.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[expect(clippy::disallowed_methods, reason = "the one place where the command line spawns")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}
