//! What a trial needs: a simulated GitLab in this process, managers that are processes of this
//! program, and the cluster that their pods come to. Nothing but the pods of their fleet, which has
//! a name of its own, is touched there.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_kube::{Cluster, PodRef};
use gantry_plan::{Fleet, LABEL_FLEET};
use gantry_sim_gitlab::{Config, SimGitlab};
use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::configuration::Configuration;
use super::proxy::Proxy;
use crate::commands::dev::spawn;
use crate::commands::sim_api::SimApi;

/// Variables that name a proxy for the API server. Where one is set, ours cannot stand in between.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// How long a manager may take until it asks for jobs.
const START: Duration = Duration::from_secs(60);

/// How long a manager may take until it asks the API server for pods.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long a manager may take that leaves its jobs.
const LEAVING: Duration = Duration::from_secs(20);

/// The image of jobs where nobody has named one.
const IMAGE: &str = "alpine:latest";

/// Between two looks whether something has come about.
const LOOK: Duration = Duration::from_millis(200);

/// Everything that a trial needs.
pub(super) struct Stage {
    pub(super) gitlab: SimApi,
    /// Between managers and the API server, where one can be.
    pub(super) proxy: Option<Proxy>,
    configuration: Configuration,
    directory: TempDir,
    program: PathBuf,
    cluster: Cluster,
    selector: String,
    /// Those that run, the eldest first.
    managers: Vec<Manager>,
    started: u32,
    /// Ends GitLab and the watch of the cluster.
    stop: CancellationToken,
}

struct Manager {
    process: Child,
    log: PathBuf,
}

impl Stage {
    /// Sets it up: no manager runs yet.
    ///
    /// # Errors
    /// The cluster cannot be asked for pods, or something cannot be started.
    pub(super) async fn set(
        listen: SocketAddr,
        url: Option<String>,
        mut configuration: Configuration,
    ) -> anyhow::Result<Self> {
        let sim = SimGitlab::bind(Config { external_url: url, ..Config::new(listen) });
        let sim = sim.await.context("the simulated GitLab cannot start")?;
        configuration.gitlab(&sim.url(), sim.runner_token());
        configuration.default_image(IMAGE)?;
        let label = Fleet::of(Some(&configuration.fleet), "", "").label();
        let selector = format!("{LABEL_FLEET}={label}");
        let settings = configuration.settings()?;
        let access = gantry_daemon::wiring::cluster(&settings);
        let namespace = configuration.namespace.clone();
        let (cluster, driver) = Cluster::connect(access, namespace.clone(), selector.clone()).await?;
        let stop = CancellationToken::new();
        let (until, also_until) = (stop.clone(), stop.clone());
        spawn(async move { also_until.run_until_cancelled_owned(driver).await.unwrap_or_default() });
        let local = SocketAddr::from(([127, 0, 0, 1], sim.addr().port()));
        let near = if listen.ip().is_unspecified() || listen.ip().is_loopback() { local } else { sim.addr() };
        let gitlab = SimApi::new(&format!("http://{near}"))?;
        spawn(async move {
            if let Err(error) = sim.serve(until.cancelled_owned()).await {
                tracing::error!("the simulated GitLab has ended: {error}");
            }
        });
        let found = cluster.list_pods(&selector).await;
        found.with_context(|| format!("pods cannot be listed in namespace {namespace}"))?;
        let has_proxy = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        let proxy = if has_proxy { None } else { Some(Proxy::start().await?) };
        Ok(Self {
            gitlab,
            proxy,
            configuration,
            directory: tempfile::Builder::new().prefix("gantry-chaos-").tempdir()?,
            program: std::env::current_exe().context("cannot find the running executable")?,
            cluster,
            selector,
            managers: Vec::new(),
            started: 0,
            stop,
        })
    }

    /// One more manager, with a file and a system id of its own, as another pod of a Deployment. It
    /// may still be starting.
    pub(super) fn launch(&mut self) -> anyhow::Result<()> {
        self.started += 1;
        let directory = self.directory.path().join(format!("manager-{}", self.started));
        std::fs::create_dir(&directory)?;
        let config = directory.join("config.toml");
        crate::commands::runner_file::save(&config, &self.configuration.text)?;
        let log = directory.join("log");
        let file = File::create(&log)?;
        let mut command = Command::new(&self.program);
        command.args(["--log-format", "text", "run", "--listen-address", "127.0.0.1:0", "--config"]).arg(&config);
        if let Some(proxy) = &self.proxy {
            command.env("HTTPS_PROXY", proxy.url());
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C is for the trial, which ends its managers in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("a manager cannot be started")?;
        self.managers.push(Manager { process, log });
        Ok(())
    }

    /// One more, ready for jobs.
    pub(super) async fn add(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        let Some(manager) = self.managers.last_mut() else { return Ok(()) };
        let ready = async {
            loop {
                let text = std::fs::read_to_string(&manager.log).unwrap_or_default();
                if text.contains("polling") {
                    return Ok(());
                }
                if let Some(status) = manager.process.try_wait()? {
                    anyhow::bail!("a manager has ended ({status}):\n{text}");
                }
                sleep(LOOK).await;
            }
        };
        timeout(START, ready).await.unwrap_or_else(|_| {
            let text = std::fs::read_to_string(&manager.log).unwrap_or_default();
            Err(anyhow::anyhow!("a manager does not get ready in {} s:\n{text}", START.as_secs()))
        })
    }

    /// Whether managers reach the API server by our proxy, which shows soon.
    pub(super) async fn is_in_between(&self) -> bool {
        let Some(proxy) = &self.proxy else { return false };
        let used = async {
            while !proxy.is_used() {
                sleep(LOOK).await;
            }
        };
        timeout(FIRST_REQUEST, used).await.is_ok()
    }

    /// Sends a signal to the eldest manager.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.managers.first().and_then(|manager| manager.process.id()).context("no manager runs")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal).context("a manager cannot be sent a signal")
    }

    /// Kills the eldest manager.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(!self.managers.is_empty(), "no manager runs");
        Ok(self.managers.remove(0).process.kill().await?)
    }

    /// Waits for the end of the eldest manager, which was told to end.
    pub(super) async fn eldest_ends(&mut self) -> anyhow::Result<()> {
        ensure!(!self.managers.is_empty(), "no manager runs");
        let mut eldest = self.managers.remove(0);
        let status: ExitStatus = timeout(LEAVING, eldest.process.wait())
            .await
            .with_context(|| format!("a manager that was told to end runs on after {} s", LEAVING.as_secs()))??;
        ensure!(status.success(), "a manager that was told to end has ended with {status}");
        Ok(())
    }

    /// The pods of these managers.
    pub(super) async fn pods(&self) -> anyhow::Result<Vec<PodRef>> {
        let found = self.cluster.list_pods(&self.selector).await?;
        Ok(found.iter().filter_map(PodRef::of).collect())
    }

    /// Ends all managers, without a word to anybody.
    pub(super) async fn end_managers(&mut self) {
        for mut manager in self.managers.drain(..) {
            // One that has ended already is no trouble.
            let _ = manager.process.kill().await;
        }
    }

    /// Ends everything, and removes what is left in the cluster.
    ///
    /// # Errors
    /// Pods cannot be removed; the message names them.
    pub(super) async fn clear(mut self) -> anyhow::Result<()> {
        self.end_managers().await;
        let mut left = Vec::new();
        for pod in self.pods().await? {
            if let Err(error) = self.cluster.delete_pod(&pod, Some(0)).await {
                left.push(format!("{}: {error}", pod.name));
            }
        }
        self.stop.cancel();
        ensure!(
            left.is_empty(),
            "these pods are left in namespace {}: {}",
            self.configuration.namespace,
            left.join("; ")
        );
        Ok(())
    }

    /// Where the logs of managers are, kept for whoever wants to know more.
    pub(super) fn keep_logs(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// Sets a fault of the simulated GitLab; gives its number.
    pub(super) async fn fault(&self, fault: &Value) -> anyhow::Result<Value> {
        let answer = self.gitlab.ask(Method::POST, "/sim/faults", Some(fault)).await?;
        let answer: Value = serde_json::from_slice(&answer).context("the simulated GitLab's answer is not JSON")?;
        Ok(answer["id"].clone())
    }

    /// Ends all faults of the simulated GitLab.
    pub(super) async fn no_faults(&self) -> anyhow::Result<()> {
        self.gitlab.ask(Method::DELETE, "/sim/faults", None).await.map(drop)
    }
}
