//! The simulators and the daemon of `gantry dev`, each started as its own command would start it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gantry_daemon::{App, Ended, HelperBinaries, ListenAddress, Network, Options, Signal, signal_channel};
use gantry_sim_gitlab::{Settings, SimGitlab, Timing};
use gantry_sim_kube::container::Runtime;
use gantry_sim_kube::{HostTools, ImageStore, SimKube};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::BadInput;
use super::cluster::Target;
use super::image_files::{HELPER_IMAGE, PULL};
use super::project::Project;

/// The namespace of job pods.
const NAMESPACE: &str = "ci";

/// Jobs at once.
pub(super) const CONCURRENT: u32 = 4;

/// How long the token of the runner's service account lives: longer than anybody watches a
/// pipeline.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long ending may take: jobs have their grace periods.
pub(super) const END: Duration = Duration::from_secs(40);

/// How soon new output of a job is shown. A GitLab whose user watches the log asks for it every
/// three seconds; here the user always watches, and the way is short.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The simulators, and the runner once it is needed.
pub(super) struct World {
    gitlab_url: String,
    /// Counts the changes of anything in the simulated GitLab.
    pub(super) changes: watch::Receiver<u64>,
    config: RunnerConfig,
    stop: CancellationToken,
    parts: Vec<JoinHandle<()>>,
    runner: Option<Runner>,
    /// The runner was told: a second time would mean "at once".
    is_stopping: bool,
}

/// The runner of this run.
struct Runner {
    signals: mpsc::Sender<Signal>,
    task: JoinHandle<()>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<Ended>>,
}

/// What images are to the jobs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    /// Names.
    Names,
    /// Files that are unpacked here.
    Here,
    /// What the nodes of a cluster pull.
    OfNodes,
}

/// Where the pods of a run are.
pub(super) enum Pods {
    /// In a simulated cluster, with these tools.
    Here(HostTools),
    /// In the same, with images from an engine, and these tools for the helper container.
    WithImages(HostTools, Arc<dyn ImageStore>),
    /// In a real one.
    In(Target),
}

/// Where the simulated GitLab answers, and whom.
struct GitlabAddress {
    listen: SocketAddr,
    /// The host under which runners and pods reach it; nothing: as it listens.
    advertised: Option<String>,
    /// Whether the page is for other machines too.
    people_elsewhere: bool,
}

impl GitlabAddress {
    fn new(pods: &Pods, page: Option<SocketAddr>) -> Self {
        let here = page.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        match pods {
            Pods::Here(_) | Pods::WithImages(..) => Self { listen: here, advertised: None, people_elsewhere: true },
            Pods::In(target) => Self {
                listen: target.advertised.listen(page),
                advertised: Some(target.advertised.host.clone()),
                people_elsewhere: page.is_some_and(|page| !page.ip().is_loopback()),
            },
        }
    }
}

/// Directories of a run.
pub(super) struct Places<'a> {
    /// Where everything is kept.
    pub(super) dir: &'a Path,
    /// Where caches are kept for later runs, if anywhere.
    pub(super) caches: Option<&'a Path>,
    /// What stands for other projects and for URLs.
    pub(super) includes: Vec<(String, PathBuf)>,
}

impl World {
    /// Starts the simulators; the outer error is ours, the inner one something that the user can
    /// change. `page`: where somebody wants the simulated GitLab to be.
    pub(super) async fn start(
        project: &Project,
        pods: Pods,
        page: Option<SocketAddr>,
        places: &Places<'_>,
    ) -> anyhow::Result<Result<Self, BadInput>> {
        let gitlab = match bind_gitlab(project, &GitlabAddress::new(&pods, page), places).await? {
            Ok(gitlab) => gitlab,
            Err(bad) => return Ok(Err(bad)),
        };
        let (kube, settings) = match pods {
            Pods::In(target) => (None, target.settings()),
            Pods::Here(tools) => match simulated_cluster(tools, None, places).await? {
                Ok((kube, settings)) => (Some(kube), settings),
                Err(bad) => return Ok(Err(bad)),
            },
            Pods::WithImages(tools, store) => match simulated_cluster(tools, Some(store), places).await? {
                Ok((kube, settings)) => (Some(kube), settings),
                Err(bad) => return Ok(Err(bad)),
            },
        };
        let config = RunnerConfig::new(places, &gitlab, settings);
        let mut world = Self::serve(gitlab, config);
        if let Some(kube) = kube {
            let until = world.stop.clone();
            world.parts.push(spawn(async move {
                if let Err(error) = kube.serve(until.cancelled_owned()).await {
                    tracing::error!("the simulated Kubernetes has ended: {error}");
                }
            }));
        }
        Ok(Ok(world))
    }

    /// Starts the simulated GitLab alone, for who only wants to know what would be run.
    pub(super) async fn without_cluster(
        project: &Project,
        listen: SocketAddr,
        places: &Places<'_>,
    ) -> anyhow::Result<Result<Self, BadInput>> {
        let door = GitlabAddress { listen, advertised: None, people_elsewhere: true };
        Ok(bind_gitlab(project, &door, places).await?.map(|gitlab| {
            let config = RunnerConfig::new(places, &gitlab, String::new());
            Self::serve(gitlab, config)
        }))
    }

    /// A world in which the simulated GitLab answers.
    fn serve(gitlab: SimGitlab, config: RunnerConfig) -> Self {
        let (gitlab_url, changes) = (near(gitlab.addr()), gitlab.changes());
        let stop = CancellationToken::new();
        let until = stop.clone();
        let parts = vec![spawn(async move {
            if let Err(error) = gitlab.serve(until.cancelled_owned()).await {
                tracing::error!("the simulated GitLab has ended: {error}");
            }
        })];
        Self { gitlab_url, changes, config, stop, parts, runner: None, is_stopping: false }
    }

    /// Starts the runner. Once there are jobs: its first question is answered with one then, and
    /// none is asked in vain. `concurrent`: jobs at once.
    pub(super) async fn run_jobs(&mut self, helper: HelperBinaries, concurrent: u32) -> anyhow::Result<()> {
        self.config.write(concurrent)?;
        let app = App::build(Options {
            outside: Arc::new(Network),
            config: self.config.path.clone(),
            listen_address: Some(ListenAddress {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string(),
                set_by: "gantry dev".to_owned(),
            }),
            helper,
            on_log_settings: Box::new(|_| {}),
            registration_token: None,
            built_at: crate::arguments::built_at(),
        })
        .await?;
        let (signals, receiver) = signal_channel();
        let (told, ended) = watch::channel(None);
        let task = spawn(async move {
            told.send_replace(Some(app.run(receiver).await));
        });
        self.runner = Some(Runner { signals, task, ended });
        Ok(())
    }

    /// Where the simulated GitLab is.
    pub(super) fn gitlab_url(&self) -> &str {
        &self.gitlab_url
    }

    /// Tells the runner to end, and with it its jobs. Does not wait for that.
    pub(super) fn stop_runner(&mut self) {
        if let Some(runner) = &self.runner
            && !std::mem::replace(&mut self.is_stopping, true)
        {
            // The queue is full only of signals that say the same.
            let _ = runner.signals.try_send(Signal::Stop("SIGINT"));
        }
    }

    /// Whether the runner was told to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Ready when there is no runner any more.
    pub(super) async fn runner_ended(&self) {
        if let Some(runner) = &self.runner {
            // An error means that its task is gone.
            let _ = runner.ended.clone().wait_for(Option::is_some).await;
        }
    }

    /// Whether there is no runner any more.
    pub(super) fn has_runner_ended(&self) -> bool {
        self.runner.as_ref().is_none_or(|runner| runner.task.is_finished() || runner.ended.borrow().is_some())
    }

    /// What went wrong with a runner that has ended.
    pub(super) fn left_behind(&self) -> Option<&'static str> {
        let ended = self.runner.as_ref().and_then(|runner| *runner.ended.borrow());
        (ended.is_some_and(|ended| ended != Ended::Clean)).then_some("the runner had to leave jobs behind")
    }

    /// Ends everything in order: the runner with its jobs, then the simulators with their
    /// containers. False if that took too long.
    pub(super) async fn end(mut self) -> bool {
        self.stop_runner();
        let end = async {
            if let Some(runner) = self.runner.take() {
                let _ = runner.task.await;
            }
            self.stop.cancel();
            for part in self.parts.drain(..) {
                let _ = part.await;
            }
        };
        tokio::time::timeout(END, end).await.is_ok()
    }
}

/// The simulated GitLab with the project; the inner error is something that the user can change.
async fn bind_gitlab(
    project: &Project,
    door: &GitlabAddress,
    places: &Places<'_>,
) -> anyhow::Result<Result<SimGitlab, BadInput>> {
    let timing =
        Timing { trace_interval_watched: LOG_INTERVAL, trace_interval_idle: LOG_INTERVAL, ..Timing::default() };
    let gitlab_config = gantry_sim_gitlab::Config {
        repos: project.served(),
        variables: project.masked_variables(),
        includes: places.includes.clone(),
        artifact_dir: Some(places.dir.to_owned()),
        timing,
        settings: Settings { token_access: project.token_access(), ..Settings::default() },
        people_elsewhere: door.people_elsewhere,
        external_host: door.advertised.clone(),
        ..gantry_sim_gitlab::Config::new(door.listen)
    };
    match SimGitlab::bind(gitlab_config).await {
        Ok(gitlab) => Ok(Ok(gitlab)),
        Err(error @ gantry_sim_gitlab::Error::AddressInUse { .. }) => Ok(Err(BadInput(error.to_string()))),
        Err(error) => Err(error).context("the simulated GitLab cannot start"),
    }
}

/// The URL for this process: "any address" is one only for listening.
fn near(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    format!("http://{}", SocketAddr::new(ip, addr.port()))
}

/// A simulated cluster, and how the runner uses it: as an operator would write it for a cluster
/// outside of which the runner is, with the smallest rights and those to the logs of services and
/// to events.
async fn simulated_cluster(
    tools: HostTools,
    store: Option<Arc<dyn ImageStore>>,
    places: &Places<'_>,
) -> anyhow::Result<Result<(SimKube, String), BadInput>> {
    let dir = places.dir;
    let checked = async { Runtime::new(dir.join("check"), "/proc/self/exe")?.check().await }.await;
    if let Err(error) = checked {
        return Ok(Err(BadInput(error.to_string())));
    }
    let kube_config = gantry_sim_kube::Config {
        state_dir: Some(dir.to_owned()),
        host_tools: Some(tools),
        image_store: store.clone(),
        ..gantry_sim_kube::Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "/proc/self/exe")
    };
    let kube = SimKube::bind(kube_config).await.context("the simulated Kubernetes cannot start")?;
    let rules = serde_json::json!([{
        "apiGroups": [""],
        "resources": ["pods", "pods/exec", "pods/log", "events"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    }]);
    let token = kube.create_service_account_with_role(NAMESPACE, "runner", &rules, TOKEN_LIFE)?;
    let ca_file = dir.join("ca.crt");
    std::fs::write(&ca_file, kube.ca_pem())?;
    // As names images listen nowhere; as files they may be gigabytes to pull.
    let (waits_for_services, start) = match store {
        None => (false, String::new()),
        Some(_) => (true, format!("    poll_timeout = {}\n", PULL.as_secs())),
    };
    let settings = format!(
        r#"    host = "{host}"
    ca_file = "{ca_file}"
    bearer_token = "{token}"
    namespace = "{NAMESPACE}"
    image = "debian:12"
    pull_policy = "if-not-present"
    allowed_pull_policies = ["always", "if-not-present", "never"]
    helper_image = "{helper_image}"
    cleanup_grace_period_seconds = 0
{start}{caches}
  [runners.gantry]
    wait_for_known_services = {waits_for_services}
"#,
        helper_image = HELPER_IMAGE,
        host = kube.url(),
        ca_file = ca_file.display(),
        caches = places.caches.map(cache_volume).unwrap_or_default(),
    );
    Ok(Ok((kube, settings)))
}

/// The config of the runner, written when it is known how many jobs may run at once.
struct RunnerConfig {
    path: PathBuf,
    url: String,
    token: String,
    /// The lines of `[runners.kubernetes]`, and tables behind it.
    settings: String,
}

impl RunnerConfig {
    fn new(places: &Places<'_>, gitlab: &SimGitlab, settings: String) -> Self {
        let (url, token) = (gitlab.url(), gitlab.runner_token().to_owned());
        Self { path: places.dir.join("config.toml"), url, token, settings }
    }

    fn write(&self, concurrent: u32) -> std::io::Result<()> {
        let Self { path, url, token, settings } = self;
        let text = format!(
            r#"concurrent = {concurrent}
check_interval = 1

[gantry]
  on_terminate = "abort"

[[runners]]
  name = "gantry dev"
  url = "{url}"
  token = "{token}"
  executor = "kubernetes"
  request_concurrency = {concurrent}
  [runners.kubernetes]
{settings}"#
        );
        write_private(path, &text)
    }
}

/// The volume at the usual `cache_dir`.
fn cache_volume(directory: &Path) -> String {
    let directory = toml_edit::Value::from(directory.display().to_string());
    format!(
        "    [[runners.kubernetes.volumes.host_path]]\n      name = \"cache\"\n      mount_path = \"/cache\"\n      host_path = {directory}\n"
    )
}

/// The file holds tokens.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Runs what may block where it blocks nobody.
#[expect(clippy::disallowed_methods, reason = "the one place where the command line spawns")]
pub(super) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

#[expect(clippy::disallowed_methods, reason = "the one place where the command line spawns")]
pub(in crate::commands) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}
