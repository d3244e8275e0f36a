//! `gantry doctor`: connects with the configured credentials and says, check by check, what works,
//! what does not, what that costs, and what to change. It changes nothing: pods are tried without
//! being made, but for the one that `--pod` makes and removes, and the one object that `--cache`
//! puts into the cache store.
//!
//! What was found is data (`finding.rs`); each check is a function that returns some (`local.rs`,
//! `gitlab.rs`, `cache.rs`, `cluster.rs`, `own_namespace.rs`, `trial.rs`).

mod admission;
mod cache;
mod cluster;
mod finding;
mod gitlab;
mod local;
mod own_namespace;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use gantry_config::{RunnerSettings, Settings};
use gantry_daemon::HelperBinaries;
use gantry_daemon::trial::SELECTOR;
use tokio_util::sync::CancellationToken;

use self::finding::{Finding, Grade, Report};
use self::trial::Trialable;
use crate::commands::config_path::ConfigArg;
use crate::commands::runner_file::RunnerFile;
use crate::commands::{Interrupts, output, runtime};
use crate::{exit_status, helper_binary};

/// Arguments of `gantry doctor`.
#[derive(Debug, Args)]
#[command(after_help = exit_status::help("", "doctor"))]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only the runner with this name
    #[arg(long, short = 'n', value_name = "NAME")]
    runner: Option<String>,
    /// Make a trial pod too: are its images there, does the helper start, does it reach GitLab?
    #[arg(long)]
    pod: bool,
    /// Put a small object into the cache store and read it again; it stays there
    #[arg(long)]
    cache: bool,
    /// Image of the trial pod's build container; default: the runner's own, else the helper's
    #[arg(long, value_name = "IMAGE", requires = "pod")]
    image: Option<String>,
    /// Print findings as a JSON list
    #[arg(long)]
    json: bool,
    /// Take warnings for failures
    #[arg(long)]
    strict: bool,
}

/// What the checks of one runner need.
struct Subject<'a> {
    config: &'a Path,
    settings: &'a Settings,
    runner: &'a RunnerSettings,
    directories: Vec<PathBuf>,
    system_id: String,
}

/// Examines the configuration and what it leads to.
pub(crate) fn main(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.resolve();
    let helper = if args.pod { Some(helper_binary::load()?) } else { None };
    let mut report = if args.json { Report::default() } else { Report::shown(Box::new(output)) };
    let is_complete = runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let examining = Box::pin(examine(args, &config, helper.as_ref(), &stop, &mut report));
        tokio::select! {
            examined = examining => examined.map(|()| true),
            () = interrupted_twice(&stop), if helper.is_some() => Ok(false),
        }
    })?;
    if !is_complete {
        let change =
            format!("kubectl delete pod -l {SELECTOR} in the namespace of its jobs, or leave it to a later trial");
        let found = "was interrupted again, and may have left a trial pod behind";
        report.add("", vec![Finding::error("doctor", found, change)])?;
    }
    report.sum_up()?;
    if args.json {
        output(&report.json()?)?;
    }
    let worst = report.worst();
    let failed = worst == Grade::Error || (args.strict && worst == Grade::Warning);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rights without which no job can run, each with what it costs and what to add.
#[cfg(feature = "sim")]
pub(crate) async fn missing_rights(cluster: &gantry_kube::Cluster) -> Vec<String> {
    let settings = gantry_config::settings::KubernetesSettings::default();
    let findings =
        cluster::rights(cluster, &settings).await.into_iter().filter(|finding| finding.grade == Grade::Error);
    findings.map(|finding| format!("{} ({})", finding.found, finding.change.unwrap_or_default())).collect()
}

/// From here on a signal ends nothing by itself: there may be a pod to remove. Cancels `stop` at
/// the first, and is ready at the second.
async fn interrupted_twice(stop: &CancellationToken) {
    let mut interrupts = Interrupts::listen();
    interrupts.next().await;
    tracing::info!("interrupted: a trial pod that was made is removed; a second signal ends this at once");
    stop.cancel();
    interrupts.next().await;
}

async fn examine(
    args: &DoctorArgs,
    config: &Path,
    helper: Option<&HelperBinaries>,
    stop: &CancellationToken,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (settings, unusable) = match local::configuration(config) {
        Ok(read) => read,
        Err(findings) => {
            report.add("", findings)?;
            return Ok(());
        }
    };
    report.add("", unusable)?;
    report.add("", local::proxies())?;
    report.add("", local::metrics(&settings).await)?;
    let chosen = |runner: &&RunnerSettings| args.runner.as_ref().is_none_or(|name| runner.name == *name);
    let runners: Vec<&RunnerSettings> = settings.runners.iter().filter(chosen).collect();
    if let (true, Some(name)) = (runners.is_empty(), &args.runner) {
        bail!("{} has no usable runner {name:?}", config.display());
    }
    for runner in runners {
        let own = [Some(&runner.token), runner.kubernetes.bearer_token.as_ref()];
        let _guard = gantry_daemon::guard(None, own.into_iter().flatten());
        let subject = Subject {
            config,
            settings: &settings,
            runner,
            directories: gantry_daemon::certificate_directories(config),
            system_id: gantry_daemon::system_id(config)?,
        };
        let looked = stop.run_until_cancelled(Box::pin(examine_runner(&subject, args.cache, report))).await;
        let Some(trialable) = looked.transpose()? else {
            let found = Finding::error("doctor", "was interrupted before it has seen everything", "call it again");
            return report.add(&runner.name, vec![found]);
        };
        if let (Some(helper), Some(cluster)) = (helper, trialable) {
            let image = args.image.as_deref();
            report.add(&runner.name, trial::examine(&subject, cluster, helper, image, stop).await)?;
        }
    }
    Ok(())
}

/// What is found without a pod. Also returns the cluster, if it would take one.
async fn examine_runner(
    subject: &Subject<'_>,
    writes_cache: bool,
    report: &mut Report,
) -> anyhow::Result<Option<Trialable>> {
    let name = &subject.runner.name;
    report.add(name, gitlab::examine(subject).await)?;
    report.add(name, cache::examine(subject, writes_cache).await)?;
    let (found, cluster) = cluster::examine(subject).await;
    report.add(name, found)?;
    Ok(cluster)
}

/// The entries of a file, for a first finding about each that cannot work.
fn unusable(file: &RunnerFile) -> Vec<Finding> {
    let broken = file.entries().into_iter().filter(|entry| entry.settings.is_none());
    broken
        .map(|entry| {
            let what = format!("runner {:?} (number {}) cannot work", entry.runner.name, entry.runner.index + 1);
            Finding::error("config", what, "`gantry lint` says what is wrong with its entry")
        })
        .collect()
}
