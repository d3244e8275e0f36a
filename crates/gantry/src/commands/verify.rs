//! `gantry verify`: asks GitLab whether the tokens of the configuration are good. Only a refused
//! token counts against a runner; an outage proves nothing. The words `is alive` and `is valid` are
//! read by probes of Helm charts, which allow three seconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use gantry_core::Secret;
use gantry_core::error_chain::chain;
use gantry_core::short_token::short_token;
use gantry_daemon::wiring;
use gantry_gitlab::{RunnerInfo, VerifyOutcome};

use crate::arguments::parse_bool;
use crate::commands::config_path::ConfigArg;
use crate::commands::coordinator::{self, is_created};
use crate::commands::runner_file::{Entry, RunnerFile};
use crate::commands::runtime;
use crate::exit_status;

/// Longest wait for an answer: longer than the three seconds of a probe, which takes its own
/// time-out for no bad sign, and short enough for people.
const WAIT: Duration = Duration::from_secs(20);

/// What the end of the command means to scripts and probes (GitLab Runner 19.4).
const ABOUT: &str = "\
A GitLab that cannot be reached, or answers with an error of its own, proves nothing about a token: that is logged as an
error, and is no failure, so that an outage of GitLab ends no runner whose probe calls this.";

/// Arguments of `gantry verify`.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = exit_status::help(ABOUT, "verify"))]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only runners with this name
    #[arg(long, short = 'n', value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// Only runners with this URL, together with --token; empty or * for any
    #[arg(long, short = 'u', value_name = "URL", default_value = "", hide_default_value = true)]
    url: String,
    /// Only runners with this token
    #[arg(long, short = 't', value_name = "TOKEN", default_value = "", hide_default_value = true)]
    token: Secret,
    /// Remove runners from the configuration whose token GitLab refuses
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, value_name = "true|false")]
    delete: bool,
}

impl VerifyArgs {
    fn are_for_all(&self) -> bool {
        self.name.is_empty() && self.url.is_empty() && self.token.is_empty()
    }

    /// Nothing chosen means all; a URL alone never fits (GitLab Runner 19.4).
    fn takes(&self, entry: &Entry) -> bool {
        let runner = &entry.runner;
        if self.are_for_all() {
            return true;
        }
        let any_url = self.url.is_empty() || self.url == "*";
        (!self.name.is_empty() && runner.name == self.name)
            || (!self.token.is_empty() && runner.token == self.token && (any_url || runner.url == self.url))
    }
}

/// Verifies what was chosen, all at once; the answers are logged in the order of the file.
pub(crate) fn main(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.resolve();
    let file = RunnerFile::open(&path)?;
    let entries = file.entries();
    let chosen: Vec<&Entry> = entries.iter().filter(|entry| args.takes(entry)).collect();
    if chosen.is_empty() {
        if entries.is_empty() && args.are_for_all() {
            tracing::warn!("there is no runner in {}", path.display());
            return Ok(ExitCode::SUCCESS);
        }
        bail!("no runner in {} fits --name, --url and --token", path.display());
    }
    let system_id = gantry_daemon::system_id(&path)?;
    let refused = runtime()?.block_on(async {
        let answers = chosen.iter().map(async |entry| (*entry, answer(entry, &system_id, &path).await));
        let mut answers = answers.collect::<FuturesOrdered<_>>();
        let mut refused = Vec::new();
        while let Some((entry, outcome)) = answers.next().await {
            report(entry, &outcome);
            if matches!(outcome, VerifyOutcome::Invalid { .. }) {
                refused.push(&entry.runner);
            }
        }
        refused
    });
    if refused.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.delete {
        bail!("Failed to verify runners: GitLab refused {} of {} tokens", refused.len(), chosen.len());
    }
    file.forget(&refused)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks GitLab, at most for [`WAIT`].
async fn answer(entry: &Entry, system_id: &str, config: &Path) -> VerifyOutcome {
    if entry.runner.token.is_empty() {
        // GitLab would refuse it, and a probe would end the runners beside it.
        return VerifyOutcome::Unsure { message: "the entry has no token".to_owned() };
    }
    match tokio::time::timeout(WAIT, ask(entry, system_id, config)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => VerifyOutcome::Unsure { message: chain(error.as_ref()) },
        Err(_) => VerifyOutcome::Unsure { message: format!("no answer in {} s", WAIT.as_secs()) },
    }
}

/// Logs what GitLab says of an entry.
fn report(entry: &Entry, outcome: &VerifyOutcome) {
    let token = &entry.runner.token;
    let (runner, runner_name) = (short_token(token.expose()), entry.runner.name.as_str());
    match outcome {
        VerifyOutcome::Valid(found) => {
            let word = if is_created(token) { "is valid" } else { "is alive" };
            // Absent for tokens that do not end.
            let token_expires_at = found.token_expires_at.as_deref();
            tracing::info!(runner, runner_name, token_expires_at, "Verifying runner... {word}");
        }
        VerifyOutcome::Invalid { message } => {
            let word = if is_created(token) { "is not valid" } else { "is removed" };
            tracing::error!(runner, runner_name, status = message, "Verifying runner... {word}");
        }
        VerifyOutcome::Unsure { message } => {
            tracing::error!(runner, runner_name, status = message, "Verifying runner... failed");
        }
    }
}

async fn ask(entry: &Entry, system_id: &str, config: &Path) -> anyhow::Result<VerifyOutcome> {
    let client = coordinator::client(&entry.runner.url, &entry.tls(), config)?;
    // GitLab can answer for an entry that cannot run jobs, too.
    let unusable = || RunnerInfo::kubernetes("", BTreeMap::new());
    let info = entry.settings.as_ref().map_or_else(unusable, wiring::runner_info);
    Ok(client.verify(&entry.runner.token, system_id, &info).await)
}
