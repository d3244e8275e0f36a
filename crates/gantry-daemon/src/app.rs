//! The daemon as a whole: built from a configuration, then run until it is told to stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gantry_config::settings::OnTerminate;
use gantry_config::{Loaded, RunnerSettings, Settings};
use gantry_core::error_chain::chain;
use gantry_gitlab::{PROTOCOL_VERSION, RunnerInfo};
use gantry_kube::HelperBinaries;
use gantry_relay::Pace;
use gantry_wire::plan::Alone;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config_file::{ConfigError, ConfigFile, certificate_directories, system_id};
use crate::health::{Health, ProcessState};
use crate::job::StopJobs;
use crate::metrics::{Metrics, RunnerLabels};
use crate::outside::Outside;
use crate::poller::{self, Polling};
use crate::registry::Running;
use crate::runner::{Runner, Shared};
use crate::server::{self, ListenError, Shown};
use crate::slots::{Numbers, Slots};
use crate::sweep;
use crate::tasks;

/// How often the file is looked at (GitLab Runner 19.4: 3 s), and runners that could not be started are tried again.
const LOOK: Duration = Duration::from_secs(3);

/// Signals that wait for the main loop.
const SIGNALS: usize = 4;

/// What the daemon is started with.
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Address of the metrics server from the command line or the environment; beats the file's.
    pub listen_address: Option<String>,
    /// Helpers that can be pushed into job pods.
    pub helper: HelperBinaries,
    /// Told about log settings whenever the file was read.
    pub on_log_settings: Box<dyn Fn(&Settings) + Send + Sync>,
    /// How others are reached: [`crate::Network`], but for simulations.
    pub outside: Arc<dyn Outside>,
}

/// What the daemon is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM and SIGINT: end. The name is for logs.
    Stop(&'static str),
    /// SIGQUIT: no new jobs, let the running ones end, then end.
    Drain,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No usable configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No metrics server.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A metric of the code is ill-formed.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All jobs had ended.
    Clean,
    /// The time for ending jobs was over.
    TimedOut,
    /// A second signal ended it at once.
    Forced,
}

/// The daemon: built, but nothing runs yet.
pub struct App {
    file: ConfigFile,
    settings: Settings,
    shared: Arc<Shared>,
    stop_jobs: watch::Sender<Option<StopJobs>>,
    listener: Option<TcpListener>,
    on_log_settings: Box<dyn Fn(&Settings) + Send + Sync>,
    entries: BTreeMap<String, Entry>,
    by_token: BTreeMap<String, (Slots, Numbers)>,
    stop_polling: CancellationToken,
}

/// A configured runner.
struct Entry {
    settings: Arc<RunnerSettings>,
    check_interval: Duration,
    /// Absent while the runner could not be started.
    stop: Option<CancellationToken>,
    problem: Option<String>,
}

impl App {
    /// Reads the configuration and binds the metrics server's socket.
    ///
    /// # Errors
    /// The configuration cannot be used, or an address that was asked for cannot be listened on.
    pub async fn build(options: Options) -> Result<Self, StartError> {
        let mut file = ConfigFile::new(options.config);
        let Loaded { settings, warnings } = file.load()?;
        (options.on_log_settings)(&settings);
        let path = file.path().display().to_string();
        warn(&path, &warnings);
        tracing::info!("Starting multi-runner from {path}...");
        let metrics = Arc::new(Metrics::new()?);
        metrics.set_version(PROTOCOL_VERSION, RunnerInfo::revision());
        let (stop_jobs, stop_receiver) = watch::channel(None);
        let outside = options.outside;
        let shared = Arc::new(Shared {
            outside: Arc::clone(&outside),
            slots: Slots::new(usize::try_from(settings.concurrent.get()).unwrap_or(usize::MAX)),
            metrics,
            health: Health::default(),
            running: Running::default(),
            helper: Arc::new(options.helper),
            stop_jobs: stop_receiver,
            jobs: TaskTracker::new(),
            system_id: system_id(file.path())?,
            manager_host: hostname(),
            connection_max_age: settings.connection_max_age,
            certificate_directories: certificate_directories(file.path()),
            pace: Pace::default(),
            alone: alone(&settings),
        });
        let asked_for =
            options.listen_address.or_else(|| settings.listen_address.clone()).filter(|text| !text.is_empty());
        let listener = outside.listen(asked_for).await?;
        Ok(Self {
            file,
            settings,
            shared,
            stop_jobs,
            listener,
            on_log_settings: options.on_log_settings,
            entries: BTreeMap::new(),
            by_token: BTreeMap::new(),
            stop_polling: CancellationToken::new(),
        })
    }

    /// Address of the metrics server, if there is one.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Runs until a signal ends it.
    pub async fn run(mut self, signals: mpsc::Receiver<Signal>) -> Ended {
        let stop_server = CancellationToken::new();
        if let Some(listener) = self.listener.take() {
            let shared = &self.shared;
            let shown = Shown {
                metrics: Arc::clone(&shared.metrics),
                running: shared.running.clone(),
                health: shared.health.clone(),
            };
            tasks::spawn(server::serve(listener, shown, stop_server.clone().cancelled_owned()));
        }
        self.apply().await;
        self.set_state(ProcessState::Running);
        let ended = self.main_loop(signals).await;
        stop_server.cancel();
        ended
    }

    async fn main_loop(&mut self, mut signals: mpsc::Receiver<Signal>) -> Ended {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if self.file.has_changed() {
                        self.reload().await;
                    } else {
                        self.retry().await;
                    }
                }
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => self.reload().await,
                    Some(Signal::Drain) => return self.drain(signals).await,
                    Some(Signal::Stop(name)) => return self.stop(name, signals).await,
                    None => return self.stop("the end of its signals", signals).await,
                },
            }
        }
    }

    /// No new jobs; the running ones may end.
    async fn drain(&mut self, mut signals: mpsc::Receiver<Signal>) -> Ended {
        tracing::warn!("Starting graceful shutdown, waiting for builds to finish");
        self.set_state(ProcessState::GracefulShutdown);
        self.stop_polling.cancel();
        self.shared.jobs.close();
        loop {
            let jobs = self.shared.jobs.clone();
            tokio::select! {
                () = jobs.wait() => return clean(),
                signal = signals.recv() => match signal {
                    Some(Signal::Stop(name)) => return self.stop(name, signals).await,
                    Some(Signal::Drain | Signal::Reload) => {}
                    None => return self.stop("the end of its signals", signals).await,
                },
            }
        }
    }

    /// Running jobs are handed over to their agents or ended, in a limited time.
    async fn stop(&mut self, name: &str, mut signals: mpsc::Receiver<Signal>) -> Ended {
        let limit = self.settings.shutdown_timeout;
        tracing::warn!(stop_signal = name, shutdown_timeout = limit.as_secs(), "Starting forceful shutdown");
        self.set_state(ProcessState::ForcefulShutdown);
        self.stop_polling.cancel();
        self.shared.jobs.close();
        let becomes = match self.settings.gantry.on_terminate {
            OnTerminate::HandOver => StopJobs::Leave,
            OnTerminate::Abort => StopJobs::End(name.to_owned()),
        };
        self.stop_jobs.send_replace(Some(becomes));
        let jobs = self.shared.jobs.clone();
        let second = async {
            while let Some(signal) = signals.recv().await {
                if signal != Signal::Reload {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = timeout(limit, jobs.wait()) => {
                if ended.is_ok() {
                    return clean();
                }
                tracing::error!(running = self.shared.running.count(), "shutdown timed out: jobs are left behind");
                Ended::TimedOut
            }
            () = second => {
                tracing::error!("a second signal: jobs are left behind");
                Ended::Forced
            }
        }
    }

    fn set_state(&self, state: ProcessState) {
        self.shared.health.set_state(state);
        self.shared.metrics.set_process_state(state.as_str());
    }

    /// Reads the file again. What cannot be used changes nothing.
    async fn reload(&mut self) {
        match self.file.load() {
            Ok(Loaded { settings, warnings }) => {
                warn(&self.file.path().display().to_string(), &warnings);
                (self.on_log_settings)(&settings);
                self.settings = settings;
                self.apply().await;
            }
            Err(error) => {
                self.shared.metrics.config_errors.inc();
                tracing::error!("Failed to load config, the old one stays in force: {}", chain(&error));
            }
        }
    }

    /// Makes the settings true: bounds, and a set of polling runners.
    async fn apply(&mut self) {
        let concurrent = self.settings.concurrent.get();
        self.shared.metrics.config_loaded.inc();
        self.shared.metrics.concurrent.set(i64::from(concurrent));
        self.shared.slots.resize(usize::try_from(concurrent).unwrap_or(usize::MAX));
        self.shared.health.set_runners(self.settings.runners.len());
        let mut wanted: BTreeMap<String, Arc<RunnerSettings>> = BTreeMap::new();
        for settings in &self.settings.runners {
            let key = format!("{} {} {}", settings.url, settings.token.expose(), settings.name);
            wanted.insert(key, Arc::new(settings.clone()));
        }
        let check_interval = self.settings.check_interval;
        self.entries.retain(|key, entry| {
            let stays = wanted.get(key) == Some(&entry.settings) && entry.check_interval == check_interval;
            if let (false, Some(stop)) = (stays, &entry.stop) {
                stop.cancel();
            }
            stays
        });
        for (key, settings) in wanted {
            self.entries.entry(key).or_insert(Entry { settings, check_interval, stop: None, problem: None });
        }
        tracing::info!(runners = self.entries.len(), concurrent, "Configuration loaded");
        self.retry().await;
    }

    /// Starts the runners that do not run yet.
    async fn retry(&mut self) {
        let waiting: Vec<String> =
            self.entries.iter().filter(|(_, entry)| entry.stop.is_none()).map(|(key, _)| key.clone()).collect();
        for key in waiting {
            let Some(settings) = self.entries.get(&key).map(|entry| Arc::clone(&entry.settings)) else { continue };
            if settings.token.is_empty() {
                continue;
            }
            let result = self.start_runner(&settings).await;
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            match result {
                Ok(stop) => (entry.stop, entry.problem) = (Some(stop), None),
                Err(problem) => {
                    if entry.problem.as_ref() != Some(&problem) {
                        tracing::error!("runner {:?} cannot work: {problem}", settings.name);
                    }
                    entry.problem = Some(problem);
                }
            }
        }
        let problem = self.entries.values().find_map(|entry| entry.problem.clone());
        self.shared.health.set_cluster(problem);
    }

    async fn start_runner(&mut self, settings: &Arc<RunnerSettings>) -> Result<CancellationToken, String> {
        let limit = settings.limit.map(|limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        let (slots, numbers) = self
            .by_token
            .entry(settings.token.expose().to_owned())
            .or_insert_with(|| (Slots::new(limit.unwrap_or(0)), Numbers::default()))
            .clone();
        if let Some(limit) = limit {
            slots.resize(limit);
        }
        let own = limit.map(|_| slots);
        let runner = Runner::new(Arc::clone(settings), Arc::clone(&self.shared), own, numbers)
            .await
            .map_err(|error| chain(&error))?;
        let runner = Arc::new(runner);
        let workers = settings.request_concurrency.get();
        let RunnerLabels { runner: name, .. } = &runner.labels;
        tracing::info!(runner = name, url = settings.url, workers, "polling");
        let limit = settings.limit.map_or(0, |limit| i64::from(limit.get()));
        self.shared.metrics.seed(&runner.labels, limit, i64::from(workers));
        let polling = Arc::new(Polling::new(self.settings.check_interval));
        let stop = self.stop_polling.child_token();
        tasks::spawn(sweep::run(runner.cluster().clone(), stop.clone()));
        for worker in 0..workers {
            tasks::spawn(poller::work(Arc::clone(&runner), Arc::clone(&polling), worker, stop.clone()));
        }
        Ok(stop)
    }
}

fn clean() -> Ended {
    tracing::info!("All workers stopped.");
    Ended::Clean
}

fn alone(settings: &Settings) -> Alone {
    let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Alone {
        self_report_after_ms: millis(settings.gantry.self_report_after),
        abandon_after_ms: millis(settings.gantry.abandon_after),
    }
}

fn warn(path: &str, warnings: &[gantry_config::Problem]) {
    for warning in warnings {
        tracing::warn!("{}", warning.in_file(path));
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// Room for the signals of a process.
pub fn signal_channel() -> (mpsc::Sender<Signal>, mpsc::Receiver<Signal>) {
    mpsc::channel(SIGNALS)
}
