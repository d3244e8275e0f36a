//! `gantry list`: the runners of the configuration. Tokens are shown in short, unlike in GitLab
//! Runner: enough to tell them apart, and nothing that a log should not hold.

use std::process::ExitCode;

use clap::Args;
use gantry_core::error_chain::chain;
use gantry_core::short_token::short_token;

use crate::commands::config_path::ConfigArg;
use crate::commands::runner_file::RunnerFile;

/// Arguments of `gantry list`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Lists them on standard error, as the reference does, and is never a failure.
pub(crate) fn main(args: &ListArgs) -> ExitCode {
    let path = args.config.resolve();
    tracing::info!(ConfigFile = %path.display(), "Listing configured runners");
    match RunnerFile::open(&path) {
        Err(error) => tracing::warn!("{}", chain(error.as_ref())),
        Ok(file) => {
            for entry in file.entries() {
                let token = short_token(entry.runner.token.expose());
                tracing::info!(
                    Executor = entry.runner.executor,
                    Token = token,
                    URL = entry.runner.url,
                    "{}",
                    entry.runner.name
                );
            }
        }
    }
    ExitCode::SUCCESS
}
