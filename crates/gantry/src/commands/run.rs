//! `gantry run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use gantry_daemon::{App, Ended, Network, Options, Signal, signal_channel};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::commands::config_path::ConfigArg;
use crate::commands::runtime;
use crate::helper_binary;
use crate::logging::Logging;

/// Arguments of `gantry run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Where metrics and health are served, such as :9100; beats the configuration
    #[arg(long, env = "LISTEN_ADDRESS", value_name = "ADDRESS")]
    listen_address: Option<String>,
    /// Old name of --listen-address
    #[arg(long, env = "METRICS_SERVER", value_name = "ADDRESS", hide = true)]
    metrics_server: Option<String>,
}

/// Runs the daemon until a signal ends it.
pub(crate) fn main(args: RunArgs, logging: Logging) -> anyhow::Result<ExitCode> {
    let helper = helper_binary::load()?;
    runtime()?.block_on(async {
        // Before anything else: a signal that comes early must not end the process unheard.
        let (sender, signals) = signal_channel();
        let forwarding = forward(sender);
        let options = Options {
            outside: Arc::new(Network),
            config: args.config.path(),
            listen_address: args.listen_address.or(args.metrics_server).filter(|address| !address.is_empty()),
            helper,
            on_log_settings: Box::new(move |settings| logging.apply(settings)),
        };
        let app = App::build(options).await?;
        tokio::select! {
            ended = app.run(signals) => Ok(match ended {
                Ended::Clean => ExitCode::SUCCESS,
                Ended::TimedOut | Ended::Forced => ExitCode::FAILURE,
            }),
            error = forwarding => Err(error),
        }
    })
}

/// Hands signals of the process to the daemon. Ends only when they cannot be received.
async fn forward(sender: mpsc::Sender<Signal>) -> anyhow::Error {
    let streams = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::quit()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut quit), Ok(mut hangup)) = streams else {
        return anyhow::anyhow!("signals cannot be handled");
    };
    loop {
        let signal = tokio::select! {
            _ = terminate.recv() => Signal::Stop("SIGTERM"),
            _ = interrupt.recv() => Signal::Stop("SIGINT"),
            _ = quit.recv() => Signal::Drain,
            _ = hangup.recv() => Signal::Reload,
        };
        if sender.send(signal).await.is_err() {
            return std::future::pending().await;
        }
    }
}
