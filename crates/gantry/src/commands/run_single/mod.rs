//! `gantry run-single`: one runner without a daemon's configuration: from flags and variables, or
//! one entry of a file. It takes a number of jobs one after the other, or waits for a time that
//! none comes, and ends.
//!
//! The runner is the daemon itself, on a configuration of its own that ends with it. What is
//! counted is what passes between it and GitLab (`counting.rs`).

mod args;
mod configuration;
mod counting;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use gantry_daemon::{App, Options, signal_channel};

pub(crate) use self::args::RunSingleArgs;
use self::counting::{Counting, Limits};
use crate::commands::manager_runtime;
use crate::commands::run::{self, Heard};
use crate::go_arguments;
use crate::helper_binary;
use crate::logging::Logging;

/// Runs until a limit is reached or a signal ends it.
pub(crate) fn main(args: &RunSingleArgs, logging: Logging) -> anyhow::Result<ExitCode> {
    manager_runtime()?.block_on(async {
        let heard = Heard::install()?;
        go_arguments::warn_about_words(&args.words);
        let directory = tempfile::Builder::new().prefix("gantry-").tempdir().context("no directory can be made")?;
        let single = configuration::make(args, directory.path())?;
        let limits = Limits { jobs: single.max_builds, wait: single.wait_timeout };
        let (counting, counted, beginning) = Counting::new();
        let helper = helper_binary::load()?;
        let (sender, signals) = signal_channel();
        let options = Options {
            outside: Arc::new(counting),
            config: single.config,
            listen_address: None,
            helper,
            registration_token: run::registration_token(),
            built_at: crate::arguments::built_at(),
            on_log_settings: Box::new(move |settings| logging.apply(settings)),
        };
        let app = App::build(options).await?;
        let forwarding = run::forward(heard, sender.clone());
        let limiting = counting::limit(counted, limits, sender);
        tokio::select! {
            ended = app.run(signals) => Ok(run::exit_code(ended)),
            why = beginning.failed() => bail!("the runner cannot work: {why}"),
            never = forwarding => match never {},
            never = limiting => match never {},
        }
    })
}
