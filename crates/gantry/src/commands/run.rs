//! `gantry run`: the daemon.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use gantry_config::settings::LogSettings;
use gantry_core::Secret;
use gantry_daemon::{App, Ended, ListenAddress, Network, Options, Signal, signal_channel};
use gantry_gitlab::{PROTOCOL_VERSION, RunnerInfo};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

use crate::arguments::{parse_bool, path_parser};
use crate::commands::config_path::ConfigArg;
use crate::commands::manager_runtime;
use crate::commands::runner_file::env;
use crate::logging::Logging;
use crate::{exit_status, helper_binary};

/// Arguments of `gantry run`. Those without effect are on the command lines of GitLab's image, its
/// chart and its packages.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = exit_status::help("", "run"))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[arg(
        long,
        help = "Where metrics and health are served, such as :9100; beats the configuration [env: LISTEN_ADDRESS]",
        value_name = "ADDRESS"
    )]
    listen_address: Option<String>,
    /// Old name of --listen-address
    #[arg(long, value_name = "ADDRESS", hide = true)]
    metrics_server: Option<String>,
    /// Directory that paths are relative to
    #[arg(long, short = 'd', value_name = "DIRECTORY", value_parser = path_parser())]
    working_directory: Option<PathBuf>,
    /// Accepted, and without effect: jobs run in pods, as the users that their pods say
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// Accepted, and without effect: the name of a system service
    #[arg(long, short = 'n', value_name = "NAME")]
    service: Option<String>,
    /// Accepted, and without effect: the log is on standard error
    #[arg(long, env = "LOG_SYSLOG", hide_env_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, value_name = "true|false")]
    syslog: Option<bool>,
}

impl RunArgs {
    /// Goes where the command line says, and says what of it does nothing. Every line looks as the
    /// file wants it, so that comes first.
    fn begin(&self, logging: &Logging) -> PathBuf {
        let directory = self.working_directory.as_ref().filter(|directory| !directory.as_os_str().is_empty());
        let refused = directory.and_then(|directory| Some((directory, std::env::set_current_dir(directory).err()?)));
        let config = self.config.path();
        logging.apply(log_settings(&config));
        tracing::info!(
            arch = gantry_gitlab::architecture(),
            os = gantry_gitlab::platform(),
            pid = std::process::id(),
            revision = RunnerInfo::revision(),
            version = PROTOCOL_VERSION,
            "Runtime platform"
        );
        self.config.warn();
        if self.user.as_ref().is_some_and(|user| !user.is_empty()) {
            tracing::info!("--user has no effect: jobs run in pods, as the users that their pods say");
        }
        if self.service.is_some() {
            tracing::info!(
                "--service has no effect: it names a service in the system's log, and this log is on standard error"
            );
        }
        if self.syslog == Some(true) {
            tracing::warn!("--syslog (LOG_SYSLOG) has no effect: the log is on standard error, which systemd collects");
        }
        if let Some((directory, error)) = refused {
            let here = std::env::current_dir().map(|here| here.display().to_string()).unwrap_or_default();
            tracing::warn!(
                "--working-directory {} cannot be used ({error}): relative paths begin at {here}",
                directory.display()
            );
        }
        config
    }

    /// Where metrics are served, as far as it is said here. The newer name beats the older one, and
    /// a flag its variable.
    fn listen_address(&self) -> Option<ListenAddress> {
        let ways = [
            (self.listen_address.clone(), "--listen-address"),
            (env("LISTEN_ADDRESS"), "LISTEN_ADDRESS"),
            (self.metrics_server.clone(), "--metrics-server"),
            (env("METRICS_SERVER"), "METRICS_SERVER"),
        ];
        let mut given = ways.into_iter().filter_map(|(address, set_by)| {
            let address = address.filter(|address| !address.is_empty())?;
            Some(ListenAddress { address, set_by: set_by.to_owned() })
        });
        let chosen = given.next()?;
        for other in given.filter(|other| other.address != chosen.address) {
            tracing::warn!("{} has no effect: {} says {}", other.set_by, chosen.set_by, chosen.address);
        }
        if chosen.set_by.ends_with("METRICS_SERVER") || chosen.set_by.ends_with("metrics-server") {
            tracing::warn!("{} is an old name: rename it to LISTEN_ADDRESS or --listen-address", chosen.set_by);
        }
        Some(chosen)
    }
}

/// How a file wants log lines to be, as far as it can be read. What is wrong with it is said when
/// it is loaded.
fn log_settings(config: &Path) -> LogSettings {
    let Ok(text) = gantry_daemon::config_write::read(config) else { return LogSettings::default() };
    match gantry_config::load(&text, &env) {
        Ok(loaded) => loaded.settings.log,
        Err(problems) => problems.log,
    }
}

/// The token that this deployment registers its managers with: under the names that `register`
/// reads it from.
pub(super) fn registration_token() -> Option<Secret> {
    let given = ["REGISTRATION_TOKEN", "CI_SERVER_TOKEN"].into_iter().filter_map(env);
    given.filter(|token| !token.is_empty()).map(Secret::new).next()
}

/// Runs the daemon until a signal ends it.
pub(crate) fn main(args: &RunArgs, logging: Logging) -> anyhow::Result<ExitCode> {
    manager_runtime()?.block_on(async {
        // Before anything else: a signal that comes early must not end the process unheard.
        let heard = Heard::install()?;
        let config = args.begin(&logging);
        if env("SENTRY_DSN").is_some_and(|dsn| !dsn.is_empty()) {
            tracing::warn!("SENTRY_DSN has no effect: errors are in the log only");
        }
        let helper = helper_binary::load()?;
        let (sender, signals) = signal_channel();
        let forwarding = forward(heard, sender);
        let options = Options {
            outside: Arc::new(Network),
            config,
            listen_address: args.listen_address(),
            helper,
            on_log_settings: Box::new(move |settings| logging.apply(settings)),
            registration_token: registration_token(),
            built_at: crate::arguments::built_at(),
        };
        let app = App::build(options).await?;
        tokio::select! {
            ended = app.run(signals) => Ok(exit_code(ended)),
            never = forwarding => match never {},
        }
    })
}

/// How the process ends with the daemon.
pub(crate) fn exit_code(ended: Ended) -> ExitCode {
    match ended {
        Ended::Clean => ExitCode::SUCCESS,
        Ended::TimedOut | Ended::Forced => ExitCode::FAILURE,
    }
}

/// The signals of the process. From when this is made none of them has its usual effect.
pub(crate) struct Heard {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
}

impl Heard {
    pub(crate) fn install() -> anyhow::Result<Self> {
        let hear = |kind| unix::signal(kind).context("signals cannot be handled");
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            quit: hear(SignalKind::quit())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }
}

/// Hands signals to the daemon.
pub(crate) async fn forward(mut heard: Heard, sender: mpsc::Sender<Signal>) -> Infallible {
    loop {
        let signal = tokio::select! {
            _ = heard.terminate.recv() => Signal::Stop("SIGTERM"),
            _ = heard.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = heard.quit.recv() => Signal::Drain,
            _ = heard.hangup.recv() => Signal::Reload,
        };
        if sender.send(signal).await.is_err() {
            return std::future::pending().await;
        }
    }
}
