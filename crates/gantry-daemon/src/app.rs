//! The daemon as a whole: built from a configuration, then run until it is told to stop. What a
//! file that changes does to it is in `reload.rs`.

mod reload;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gantry_config::settings::{LogSettings, OnTerminate};
use gantry_config::{Loaded, Settings};
use gantry_core::Secret;
use gantry_gitlab::{PROTOCOL_VERSION, RunnerInfo};
use gantry_kube::HelperBinaries;
use gantry_relay::Pace;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config_file::{
    ConfigError, ConfigFile, Look, certificate_directories, log_problems, system_id, why_unusable,
};
use crate::entries::{Basis, Entry, Key};
use crate::events::{
    ConfigBack, ConfigGone, ReloadIgnored, Said as _, ShutdownBegins, ShutdownForced, ShutdownTimedOut, WorkersStopped,
};
use crate::health::{Health, ProcessState};
use crate::job_end::StopJobs;
use crate::kept::KeptNames;
use crate::listening::{ListenAddress, ListenError, Listening};
use crate::member::Shared;
use crate::metrics::Metrics;
use crate::outside::Outside;
use crate::registry::Running;
use crate::renewals::Renewals;
use crate::server::ServerState;
use crate::session::SessionServer;
use crate::site::Sites;
use crate::slots::{Numbers, Slots};
use crate::{listening, wiring};

/// How often the file is looked at (GitLab Runner 19.4: 3 s), and runners that could not be started
/// are tried again.
const LOOK: Duration = Duration::from_secs(3);

/// Signals that wait for the main loop.
const SIGNALS: usize = 4;

/// What the daemon is started with.
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Address of the metrics server from the command line or the environment; beats the file's.
    pub listen_address: Option<ListenAddress>,
    /// Helpers that can be pushed into job pods.
    pub helper: HelperBinaries,
    /// Told about log settings whenever the file was read.
    pub on_log_settings: Box<dyn Fn(LogSettings) + Send + Sync>,
    /// How others are reached: [`crate::Network`], but for simulations.
    pub outside: Arc<dyn Outside>,
    /// The token that managers of this deployment register with, if they do: what all of them know
    /// although each has a token of its own.
    pub registration_token: Option<Secret>,
    /// When the program was built, for the metrics; empty where nobody knows.
    pub built_at: String,
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
    /// No metrics server where one was asked for.
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
    /// Whether there was no file yet; until there is one, the settings are the defaults.
    waits: bool,
    settings: Settings,
    /// Why entries of the file cannot be used, one sentence each.
    unusable: Vec<String>,
    shared: Arc<Shared>,
    /// Where pods are, one for each access and namespace.
    sites: Sites,
    stop_jobs: watch::Sender<Option<StopJobs>>,
    listening: Listening,
    session_server: Option<SessionServer>,
    on_log_settings: Box<dyn Fn(LogSettings) + Send + Sync>,
    registration_token: Option<Secret>,
    entries: BTreeMap<Key, Entry>,
    by_token: BTreeMap<Secret, (Slots, Numbers)>,
    stop_polling: CancellationToken,
    renewals: Renewals,
}

impl App {
    /// Reads the configuration and binds the metrics server's socket.
    ///
    /// # Errors
    /// The configuration cannot be used, or an address that was asked for cannot be listened on.
    pub async fn build(options: Options) -> Result<Self, StartError> {
        let mut file = ConfigFile::new(options.config);
        let (Loaded { settings, unusable, warnings }, waits) = file.load_first(&options.on_log_settings)?;
        tracing::info!("Starting multi-runner from {}...", file.path().display());
        if waits {
            tracing::warn!(
                "config file {} does not exist: waiting for it; `gantry register` makes one, --config names another",
                file.path().display()
            );
        }
        log_problems(file.path(), unusable.iter().flat_map(|entry| &entry.errors).chain(&warnings));
        let metrics = Arc::new(Metrics::new()?);
        metrics.set_version(PROTOCOL_VERSION, RunnerInfo::revision(), &options.built_at);
        let (stop_jobs, stop_receiver) = watch::channel(None);
        let outside = options.outside;
        let ticket_secret = ticket_secret(&settings, options.registration_token.as_ref());
        let first = || settings.runners.first().map(|runner| &runner.token);
        let session_server =
            listening::sessions(outside.as_ref(), &settings, ticket_secret.as_ref().or_else(first)).await?;
        let shared = Arc::new(Shared {
            outside: Arc::clone(&outside),
            slots: Slots::new(usize::try_from(settings.concurrent.get()).unwrap_or(usize::MAX)),
            metrics,
            health: Health::default(),
            running: Running::default(),
            pause_names: KeptNames::default(),
            pause_keepers: TaskTracker::new(),
            helper: Arc::new(options.helper),
            stop_jobs: stop_receiver,
            jobs: TaskTracker::new(),
            // It is kept beside the file, where there is one.
            system_id: if waits { String::new() } else { system_id(file.path())? },
            manager_host: wiring::hostname(),
            connection_max_age: settings.connection_max_age,
            certificate_directories: certificate_directories(file.path()),
            pace: Pace::default(),
            alone: Basis::of(&settings).alone,
            fleet: settings.gantry.fleet.clone(),
            ticket_secret,
            fleet_concurrent: fleet_concurrent(&settings),
            sessions: session_server.as_ref().map(|server| server.sessions().clone()),
        });
        let listening = Listening::bind(outside.as_ref(), options.listen_address, &settings).await?;
        Ok(Self {
            renewals: Renewals::new(file.path()),
            unusable: unusable.iter().map(|entry| why_unusable(file.path(), entry)).collect(),
            file,
            waits,
            settings,
            shared,
            sites: Sites::new(),
            stop_jobs,
            listening,
            session_server,
            on_log_settings: options.on_log_settings,
            registration_token: options.registration_token,
            entries: BTreeMap::new(),
            by_token: BTreeMap::new(),
            stop_polling: CancellationToken::new(),
        })
    }

    /// Address of the metrics server, if there is one.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.listening.address()
    }

    /// Runs until a signal ends it.
    pub async fn run(mut self, signals: mpsc::Receiver<Signal>) -> Ended {
        self.listening.serve(self.shown());
        if let Some(server) = &mut self.session_server {
            server.serve();
        }
        let ended = self.main_loop(signals).await;
        self.renewals.leave(&self.shared.metrics).await;
        self.listening.stop();
        if let Some(server) = &self.session_server {
            server.stop();
        }
        ended
    }

    fn shown(&self) -> ServerState {
        let Shared { metrics, running, health, .. } = self.shared.as_ref();
        ServerState { metrics: Arc::clone(metrics), running: running.clone(), health: health.clone() }
    }

    /// Works until it is told to end, which is heard at once: whoever connects to a cluster may
    /// have to wait for it.
    async fn main_loop(&mut self, mut signals: mpsc::Receiver<Signal>) -> Ended {
        let reload = Notify::new();
        let told = async {
            loop {
                match signals.recv().await {
                    Some(Signal::Reload) => reload.notify_one(),
                    Some(Signal::Drain) => return None,
                    Some(Signal::Stop(name)) => return Some(name),
                    None => return Some("the end of its signals"),
                }
            }
        };
        let told = tokio::select! {
            never = Box::pin(self.work(&reload)) => match never {},
            told = told => told,
        };
        match told {
            None => self.drain(signals).await,
            Some(name) => self.stop(name, signals).await,
        }
    }

    /// Does what the file says, as it changes.
    async fn work(&mut self, reload: &Notify) -> Infallible {
        self.apply().await;
        self.set_state(ProcessState::Running);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let renewals = self.renewals.clone();
        loop {
            tokio::select! {
                _ = look.tick() => self.look().await,
                () = renewals.exchanged() => self.reload().await,
                () = reload.notified() => self.reload().await,
            }
        }
    }

    async fn look(&mut self) {
        let look = self.file.look();
        match look {
            Look::Changed => return self.reload().await,
            Look::Gone => ConfigGone(self.file.path()).say(),
            Look::Back => ConfigBack(self.file.path()).say(),
            Look::Same => {}
        }
        self.retry().await;
        self.sites.forget_unused(Instant::now());
    }

    /// No new jobs; the running ones may end.
    async fn drain(&mut self, mut signals: mpsc::Receiver<Signal>) -> Ended {
        ShutdownBegins::Graceful.say();
        self.set_state(ProcessState::GracefulShutdown);
        self.stop_polling.cancel();
        self.shared.jobs.close();
        self.shared.pause_keepers.close();
        loop {
            tokio::select! {
                () = self.all_done() => return clean(),
                signal = signals.recv() => match signal {
                    Some(Signal::Stop(name)) => return self.stop(name, signals).await,
                    Some(Signal::Reload) => ReloadIgnored.say(),
                    Some(Signal::Drain) => {}
                    None => return self.stop("the end of its signals", signals).await,
                },
            }
        }
    }

    /// Running jobs are handed over to their agents or ended, in a limited time.
    async fn stop(&mut self, name: &str, mut signals: mpsc::Receiver<Signal>) -> Ended {
        let limit = self.settings.shutdown_timeout;
        let (signal, limit_s) = (name, limit.as_secs());
        match self.settings.gantry.on_terminate {
            OnTerminate::HandOver => ShutdownBegins::HandOver { signal, limit_s }.say(),
            OnTerminate::Abort => ShutdownBegins::Forceful { signal, limit_s }.say(),
        }
        self.set_state(ProcessState::ForcefulShutdown);
        self.stop_polling.cancel();
        self.shared.jobs.close();
        self.shared.pause_keepers.close();
        let becomes = match self.settings.gantry.on_terminate {
            OnTerminate::HandOver => StopJobs::Leave,
            OnTerminate::Abort => StopJobs::End(name.to_owned()),
        };
        self.stop_jobs.send_replace(Some(becomes));
        let second = async {
            while let Some(signal) = signals.recv().await {
                if signal != Signal::Reload {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = timeout(limit, self.all_done()) => {
                self.sites.announce_end().await;
                if ended.is_ok() {
                    return clean();
                }
                ShutdownTimedOut(self.shared.running.count()).say();
                Ended::TimedOut
            }
            () = second => {
                ShutdownForced.say();
                Ended::Forced
            }
        }
    }

    /// Waits for all jobs, for pause pods to be removed, and for a token that is being exchanged.
    async fn all_done(&self) {
        self.shared.jobs.wait().await;
        self.shared.pause_keepers.wait().await;
        self.renewals.end().await;
    }

    fn set_state(&self, state: ProcessState) {
        self.shared.health.set_state(state);
        self.shared.metrics.set_process_state(state.as_str());
    }
}

/// `[gantry] fleet_concurrent`.
fn fleet_concurrent(settings: &Settings) -> Option<usize> {
    settings.gantry.fleet_concurrent.map(|most| usize::try_from(most.get()).unwrap_or(usize::MAX))
}

fn clean() -> Ended {
    WorkersStopped.say();
    Ended::Clean
}

/// What all managers of a fleet have to seal tickets with, where there is something.
fn ticket_secret(settings: &Settings, registration_token: Option<&Secret>) -> Option<Secret> {
    settings.gantry.ticket_key.as_ref().or(registration_token).filter(|secret| !secret.is_empty()).cloned()
}

/// Room for the signals of a process.
pub fn signal_channel() -> (mpsc::Sender<Signal>, mpsc::Receiver<Signal>) {
    mpsc::channel(SIGNALS)
}

#[cfg(test)]
mod tests;
