//! `gantry reset-token`: exchanges a runner's token for a new one and writes that into the
//! configuration. The old token stops working at once, so the file is known to be writable before
//! GitLab is asked.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_core::Secret;
use gantry_core::error_chain::chain;
use gantry_core::short_token::short_token;
use gantry_daemon::config_write::{self, NewToken};
use jiff::Timestamp;

use crate::arguments::parse_bool;
use crate::commands::config_path::ConfigArg;
use crate::commands::coordinator;
use crate::commands::runner_file::{self, Entry, RunnerFile};
use crate::commands::{even_if_interrupted, runtime};

/// Longest wait for GitLab's answer.
const WAIT: Duration = Duration::from_secs(60);

/// Arguments of `gantry reset-token`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ResetTokenArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of the runner in the configuration; the first one with this name is meant
    #[arg(long, short = 'n', value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// URL of the runner, together with --id
    #[arg(long, short = 'u', value_name = "URL", default_value = "", hide_default_value = true)]
    url: String,
    /// The runner's number in GitLab, together with --url
    #[arg(long, short = 'i', value_name = "ID", default_value_t = 0, hide_default_value = true)]
    id: u64,
    /// All runners of the configuration; those that fail keep their tokens
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, value_name = "true|false")]
    all_runners: bool,
    /// A personal access token to ask with, instead of the runner's own token
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pat: Secret,
}

/// Resets what was chosen.
pub(crate) fn main(args: &ResetTokenArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.resolve();
    let file = RunnerFile::open(&path)?;
    file.ensure_writable()?;
    let entries = file.entries();
    let runtime = runtime()?;
    if !args.all_runners {
        let entry = choose(args, &file, &entries)?;
        runtime.block_on(reset(entry, args, &path)).result.with_context(|| describe(entry))?;
        tracing::info!("Updated {}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut done: Vec<&Secret> = Vec::new();
    let mut is_interrupted = false;
    for entry in &entries {
        // Entries with the same token are the same runner, and are changed together.
        if is_interrupted || done.contains(&&entry.runner.token) {
            continue;
        }
        let reset = runtime.block_on(reset(entry, args, &path));
        is_interrupted = reset.is_interrupted;
        match reset.result {
            Ok(()) => done.push(&entry.runner.token),
            Err(error) => tracing::error!("{} has no new token: {}", describe(entry), chain(error.as_ref())),
        }
    }
    if !done.is_empty() {
        tracing::info!("Updated {}", path.display());
    }
    if is_interrupted {
        bail!("interrupted: the runners behind that keep their tokens");
    }
    Ok(ExitCode::SUCCESS)
}

fn choose<'e>(args: &ResetTokenArgs, file: &RunnerFile, entries: &'e [Entry]) -> anyhow::Result<&'e Entry> {
    let ResetTokenArgs { name, url, id, .. } = args;
    match (name.is_empty(), url.is_empty() || *id == 0) {
        (false, _) => runner_file::find(file, entries, &format!("runner {name:?}"), |runner| runner.name == *name),
        (true, false) => {
            let what = format!("runner {id} of {url}");
            runner_file::find(file, entries, &what, |runner| runner.url == *url && runner.id == Some(*id))
        }
        (true, true) => bail!("say which runner: --name, --url with --id, or --all-runners"),
    }
}

fn describe(entry: &Entry) -> String {
    format!("runner {:?} ({})", entry.runner.name, short_token(entry.runner.token.expose()))
}

/// What became of one token.
struct Reset {
    result: anyhow::Result<()>,
    is_interrupted: bool,
}

async fn reset(entry: &Entry, args: &ResetTokenArgs, config: &Path) -> Reset {
    let (answer, is_interrupted) = even_if_interrupted(tokio::time::timeout(WAIT, ask(entry, args, config))).await;
    let result = match answer {
        Some(Ok(Ok(new))) => keep(entry, &new, config),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(_)) | None => Err(anyhow::anyhow!(
            "GitLab has not answered: the old token may be void, which `gantry verify` shows; if it is, reset it with --pat"
        )),
    };
    Reset { result, is_interrupted }
}

async fn ask(entry: &Entry, args: &ResetTokenArgs, config: &Path) -> anyhow::Result<NewToken> {
    let runner = &entry.runner;
    if runner.token.is_empty() {
        bail!("it has no token that could be reset");
    }
    let client = coordinator::client(&runner.url, &entry.tls(), config)?;
    let given = if args.pat.is_empty() {
        client.reset_token(&runner.token).await?
    } else {
        let id = runner.id.context("its entry has no id, which a personal access token needs: add `id = …`")?;
        client.reset_token_with_pat(i64::try_from(id)?, &args.pat).await?
    };
    let expires = coordinator::expiry(given.token_expires_at.as_deref());
    Ok(NewToken { token: given.token, obtained: Timestamp::now(), expires })
}

/// Writes a new token down, also after an interrupt: the old one is void.
fn keep(entry: &Entry, new: &NewToken, config: &Path) -> anyhow::Result<()> {
    tracing::info!(runner = short_token(new.token.expose()), "Resetting runner authentication token... succeeded");
    config_write::keep_token(config, &entry.runner.token, new).with_context(|| {
        format!(
            "GitLab has a new token for it, and the old one is void: reset it again with --pat, for {}",
            config.display()
        )
    })?;
    Ok(())
}
