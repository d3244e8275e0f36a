//! `gantry unregister`: removes runners from GitLab and from the configuration. An entry leaves the
//! file only after GitLab has let it go.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_config::edit::RunnerRef;
use gantry_core::Secret;
use gantry_core::error_chain::chain;
use gantry_core::short_token::short_token;
use gantry_gitlab::CallError;

use crate::arguments::{parse_bool, path_parser};
use crate::commands::config_path::ConfigArg;
use crate::commands::coordinator::{self, TlsFiles, is_created};
use crate::commands::runner_file::{self, Entry, RunnerFile};
use crate::commands::runtime;

/// Longest wait for GitLab. A pod that is being ended calls this before it stops, out of its grace
/// period of usually 30 s.
const WAIT: Duration = Duration::from_secs(20);

/// Arguments of `gantry unregister`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct UnregisterArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of the runner in the configuration; the first one with this name is meant
    #[arg(long, short = 'n', value_name = "NAME")]
    name: Option<String>,
    /// Token of the runner; together with a name both must fit the same runner
    #[arg(long, short = 't', env = "CI_SERVER_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Secret>,
    /// Accepted, and not used for choosing: the runner's own URL counts
    #[arg(long, short = 'u', env = "CI_SERVER_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// All runners of the configuration; those that GitLab does not let go stay there
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool, value_name = "true|false")]
    all_runners: bool,
    /// Certificates to trust for GitLab, where the runner names none
    #[arg(long, env = "CI_SERVER_TLS_CA_FILE", hide_env_values = true, value_name = "FILE", value_parser = path_parser())]
    tls_ca_file: Option<PathBuf>,
    /// Client certificate for GitLab, where the runner names none
    #[arg(long, env = "CI_SERVER_TLS_CERT_FILE", hide_env_values = true, value_name = "FILE", value_parser = path_parser())]
    tls_cert_file: Option<PathBuf>,
    /// Key of the client certificate, where the runner names none
    #[arg(long, env = "CI_SERVER_TLS_KEY_FILE", hide_env_values = true, value_name = "FILE", value_parser = path_parser())]
    tls_key_file: Option<PathBuf>,
}

/// Removes what was chosen.
pub(crate) fn main(args: UnregisterArgs) -> anyhow::Result<ExitCode> {
    let set = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
    let tls = TlsFiles {
        ca: set(args.tls_ca_file),
        cert: set(args.tls_cert_file),
        key: set(args.tls_key_file),
        ..TlsFiles::default()
    };
    let path = args.config.resolve();
    let file = RunnerFile::open(&path)?;
    file.ensure_writable()?;
    let entries = file.entries();
    let runtime = runtime()?;
    if args.all_runners {
        let mut gone: Vec<&RunnerRef> = Vec::new();
        for entry in &entries {
            // Entries of one token are one runner manager, and GitLab lets it go once.
            let is_same = |other: &&RunnerRef| (&other.url, &other.token) == (&entry.runner.url, &entry.runner.token);
            if gone.iter().any(is_same) {
                gone.push(&entry.runner);
                continue;
            }
            match runtime.block_on(unregister(entry, &tls, &path)) {
                Ok(()) => gone.push(&entry.runner),
                Err(error) => tracing::error!("{} stays: {}", describe(entry), chain(error.as_ref())),
            }
        }
        file.forget(&gone)?;
        return Ok(ExitCode::SUCCESS);
    }
    let entry = choose(&file, &entries, args.name.as_deref().unwrap_or_default(), &args.token.unwrap_or_default())?;
    runtime.block_on(unregister(entry, &tls, &path)).with_context(|| describe(entry))?;
    file.forget(&[&entry.runner])?;
    Ok(ExitCode::SUCCESS)
}

/// By name and token, by token, or by name.
fn choose<'e>(file: &RunnerFile, entries: &'e [Entry], name: &str, token: &Secret) -> anyhow::Result<&'e Entry> {
    let with_token = format!("a runner with the token {}…", short_token(token.expose()));
    match (name.is_empty(), token.is_empty()) {
        (true, true) => bail!("say which runner: --name, --token or --all-runners"),
        (true, false) => runner_file::find(file, entries, &with_token, |runner| runner.token == *token),
        (false, true) => runner_file::find(file, entries, &format!("runner {name:?}"), |runner| runner.name == name),
        (false, false) => {
            let what = format!("{with_token} and the name {name:?}");
            runner_file::find(file, entries, &what, |runner| runner.name == name && runner.token == *token)
        }
    }
}

fn describe(entry: &Entry) -> String {
    format!("runner {:?} ({})", entry.runner.name, short_token(entry.runner.token.expose()))
}

async fn unregister(entry: &Entry, tls: &TlsFiles, config: &Path) -> anyhow::Result<()> {
    let token = &entry.runner.token;
    let client = coordinator::client(&entry.runner.url, &entry.tls().or(tls.clone()), config)?;
    let system_id = if is_created(token) { gantry_daemon::system_id(config)? } else { String::new() };
    let answer = tokio::time::timeout(WAIT, coordinator::unregister(&client, token, &system_id)).await;
    answer.with_context(|| format!("GitLab did not answer in {} s", WAIT.as_secs()))?.map_err(refused)?;
    let what = if is_created(token) { "runner manager" } else { "runner" };
    tracing::info!(runner = short_token(token.expose()), "Unregistering {what} from GitLab succeeded");
    Ok(())
}

fn refused(error: CallError) -> anyhow::Error {
    let is_unknown = matches!(error.status(), Some(403 | 404));
    let error = anyhow::Error::new(error);
    if is_unknown {
        error.context("GitLab does not know it; `verify --delete` removes such runners from the configuration")
    } else {
        error.context("it could not be unregistered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choosing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let runner = |name, token| format!("[[runners]]\nname = \"{name}\"\ntoken = \"{token}\"\n");
        std::fs::write(&path, runner("a", "1") + &runner("b", "2") + &runner("a", "glrt-secret-of-many-letters"))
            .unwrap();
        let file = RunnerFile::open(&path).unwrap();
        let entries = file.entries();
        let index = |name: &str, token: &str| choose(&file, &entries, name, &token.into()).map(|e| e.runner.index);
        assert_eq!(index("a", "").unwrap(), 0);
        assert_eq!(index("", "2").unwrap(), 1);
        assert_eq!(index("a", "glrt-secret-of-many-letters").unwrap(), 2);
        let error = index("b", "glrt-secret-of-many-letters").unwrap_err().to_string();
        assert!(error.contains("not in config") && !error.contains("of-many"), "{error}");
        assert!(index("c", "").unwrap_err().to_string().contains("\"c\" is not in config"));
        assert!(index("", "").unwrap_err().to_string().contains("--all-runners"));
    }
}
