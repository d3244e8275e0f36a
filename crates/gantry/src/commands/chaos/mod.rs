//! `gantry chaos`: jobs that print numbered lines, in a namespace of the operator's own cluster,
//! and everything around them killed, frozen or away. GitLab is a simulated one in this process,
//! managers are processes of this program, and the pods are real.

mod configuration;
mod harms;
mod jobs;
mod lines;
mod proxy;
mod stage;
mod table;
mod watch;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use self::configuration::Configuration;
use self::harms::{HARMS, Harm};
use self::jobs::{Jobs, Size};
use self::stage::Stage;
use self::table::{Row, table};
use crate::commands::config_path::ConfigArg;
use crate::commands::{interrupted, listen_address, output, runtime};
use crate::exit_status;

/// What it does, and what it does not.
const ABOUT: &str = "\
Jobs come from a simulated GitLab in this process, and managers are processes of this program. Pods are made in the
namespace that you name, with the cluster, service account and settings of the runner that you name, or with those of
your kubeconfig. They carry the label of a fleet with a name of its own: no other pod is looked at or touched, and
nothing is asked of your GitLab. At the end, and at Ctrl-C, the pods are removed.

A row of the table is one kind of harm. The numbers behind the first line must be zeros; the gap is the longest time in
which a reader of a log saw nothing new, the harm's own time included.

Agents report by themselves only where pods reach this machine: --gitlab-listen and --gitlab-url say how. Harm to the
way to the API server needs a proxy in between, and is left out where HTTPS_PROXY or ALL_PROXY is set, or the kubeconfig names
a proxy.";

/// Arguments of `gantry chaos`.
#[derive(Debug, Args)]
#[command(after_help = exit_status::help(ABOUT, "chaos"))]
pub(crate) struct ChaosArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The runner of the configuration whose cluster and settings of pods are used. Default: none,
    /// but the cluster of the kubeconfig
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// The namespace for the pods
    #[arg(long, value_name = "NAMESPACE", required_unless_present = "list")]
    namespace: Option<String>,
    /// Image of the jobs; it needs a shell. Default: the runner's own, else alpine:latest
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Jobs at once
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    jobs: u32,
    /// How long each prints
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u32,
    /// Where the simulated GitLab listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = listen_address)]
    gitlab_listen: SocketAddr,
    /// URL under which managers and pods reach it. Default: where it listens
    #[arg(long, value_name = "URL")]
    gitlab_url: Option<String>,
    /// Only print the kinds of harm
    #[arg(long)]
    list: bool,
    /// Only harms whose names contain this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

/// Does harm, and shows what came of it.
pub(crate) fn main(args: &ChaosArgs) -> anyhow::Result<ExitCode> {
    let wanted = |harm: &&Harm| args.only.is_empty() || args.only.iter().any(|text| harm.name.contains(text.as_str()));
    let harms: Vec<&Harm> = HARMS.iter().filter(wanted).collect();
    if args.list {
        let names: Vec<&str> = harms.iter().map(|harm| harm.name).collect();
        output(&(names.join("\n") + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(!harms.is_empty(), "no harm has such a name: see --list");
    let namespace = args.namespace.as_deref().context("--namespace says where the pods are made")?;
    let source = args.config.resolve();
    let configuration = Configuration::make(&source, args.runner.as_deref(), namespace, args.jobs)?;
    runtime()?.block_on(run(args, &harms, configuration))
}

async fn run(args: &ChaosArgs, harms: &[&Harm], configuration: Configuration) -> anyhow::Result<ExitCode> {
    let (namespace, fleet) = (configuration.namespace.clone(), configuration.fleet.clone());
    let mut stage = Stage::set(args.gitlab_listen, args.gitlab_url.clone(), configuration).await?;
    output(&format!("pods of the fleet {fleet} in namespace {namespace}\n"))?;
    let mut rows = Vec::new();
    let ended = tokio::select! {
        ended = all(args, harms, &mut stage, &mut rows) => ended.map(|()| true),
        () = interrupted() => Ok(false),
    };
    let is_right = ended.as_ref().is_ok_and(|whole| *whole) && rows.iter().all(|row| row.verdict().is_ok());
    if !rows.is_empty() {
        output(&format!("\n{}", table(&rows)))?;
    }
    for row in &rows {
        if let Err(why) = row.verdict() {
            output(&format!("\n{}: {why}\n", row.harm))?;
        }
    }
    if !is_right {
        output(&format!("\nthe logs of the managers are in {}\n", stage.keep_logs().display()))?;
    }
    let cleared = stage.clear().await;
    ended?;
    cleared?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn all(args: &ChaosArgs, harms: &[&Harm], stage: &mut Stage, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let size = Size { jobs: args.jobs.max(1), seconds: args.seconds.max(1) };
    for harm in harms {
        for _ in 0..harm.replicas {
            stage.add().await?;
        }
        if harm.needs_proxy() && !stage.is_in_between().await {
            output(&format!("{}: left out, as managers reach the API server in another way\n", harm.name))?;
            stage.end_managers().await;
            continue;
        }
        output(&format!("{} …\n", harm.name))?;
        let mut jobs = Jobs::start(&stage.gitlab, harm.name, size, args.image.as_deref()).await?;
        let wanted = if harm.is_early { 1 } else { usize::try_from(size.jobs).unwrap_or(usize::MAX) };
        jobs.print(&stage.gitlab, wanted).await?;
        let gitlab = stage.gitlab.again()?;
        tokio::try_join!(harm.happen(stage), jobs.read_along(&gitlab))?;
        rows.push(jobs.judge(stage, Row::new(harm.name, harm.times)).await?);
        stage.end_managers().await;
    }
    Ok(())
}
