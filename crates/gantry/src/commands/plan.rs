//! `gantry plan`: what would be done about a job, without doing it. Only files are read: nobody is
//! asked and nothing is made.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_config::{RunnerSettings, Settings};
use gantry_core::error_chain::chain;
use gantry_core::job::JobSpec;
use gantry_core::variables::Variable;
use gantry_daemon::wiring;
use gantry_gitlab::Client;
use gantry_gitlab::limits::MAX_JOB_PAYLOAD;
use gantry_plan::PlanError;
use gantry_plan::picture::{Detail, Picture};

use crate::arguments::path_parser;
use crate::commands::config_path::ConfigArg;
use crate::commands::output;
use crate::commands::runner_file::RunnerFile;

/// Stands for the id of a manager that has none yet (GitLab Runner 19.4's word).
const NO_SYSTEM_ID: &str = "unknown";

/// Arguments of `gantry plan`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The job as GitLab hands it out (JSON, the answer to POST /api/v4/jobs/request); - for
    /// standard input
    #[arg(long, short = 'j', value_name = "FILE", value_parser = path_parser())]
    job: PathBuf,
    /// Name of the runner in the configuration, where it has several
    #[arg(long, short = 'r', value_name = "NAME")]
    runner: Option<String>,
    /// Show the variables of feature flags, too, that have their default
    #[arg(long)]
    all: bool,
}

/// Prints the plan as YAML.
pub(crate) fn main(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.resolve();
    let (settings, runner) = runner(&config, args.runner.as_deref())?;
    let mut job = read_job(&args.job)?;
    name_secrets(&mut job);
    let masked = job.variables.iter().filter(|variable| variable.masked).map(|variable| &variable.value);
    let _guard = gantry_daemon::guard(None, masked.chain([&job.token, &runner.token]));
    let directories = gantry_daemon::certificate_directories(&config);
    let client = Client::new(wiring::gitlab(&runner, &directories, settings.connection_max_age))?;
    let system_id = gantry_daemon::kept_system_id(&config).unwrap_or_else(|| NO_SYSTEM_ID.to_owned());
    let context = gantry_plan::Context {
        configured_ca_pem: client.ca_pem(),
        tls_ca_pem: client.ca_pem(),
        patch_files: wiring::patch_files(&runner),
        ..wiring::context(&system_id, &wiring::hostname(), &wiring::alone(&settings))
    };
    let links = gantry_plan::Links::unsigned(&gantry_plan::wants(&job, &runner, &context));
    let plan = gantry_plan::plan(&job, &runner, &context, &links).map_err(|error| refused(&error))?;
    let detail = if args.all { Detail::All } else { Detail::Brief };
    let yaml = Picture::of(&plan, detail).yaml().map_err(anyhow::Error::msg)?;
    output(&yaml)?;
    Ok(ExitCode::SUCCESS)
}

/// The entry to plan with.
fn runner(config: &Path, name: Option<&str>) -> anyhow::Result<(Settings, RunnerSettings)> {
    let file = RunnerFile::open(config)?;
    if !file.exists() {
        bail!("config file {} does not exist", config.display());
    }
    let settings = file.settings().map_err(anyhow::Error::msg)?;
    let usable: Vec<RunnerSettings> = file.entries().into_iter().filter_map(|entry| entry.settings).collect();
    let wanted = |runner: &&RunnerSettings| name.is_none_or(|name| runner.name == name);
    let fitting: Vec<&RunnerSettings> = usable.iter().filter(wanted).collect();
    let names = || usable.iter().map(|runner| format!("{:?}", runner.name)).collect::<Vec<_>>().join(", ");
    match (fitting.as_slice(), name) {
        ([runner], _) | ([runner, ..], Some(_)) => Ok((settings, (*runner).clone())),
        ([], None) => bail!("{} has no runner that can work", config.display()),
        ([], Some(name)) => bail!("{} has no usable runner {name:?}: there is {}", config.display(), names()),
        (_, None) => bail!("{} has several runners: choose with --runner one of {}", config.display(), names()),
    }
}

fn read_job(path: &Path) -> anyhow::Result<JobSpec> {
    let mut text = Vec::new();
    let limit = u64::try_from(MAX_JOB_PAYLOAD).unwrap_or(u64::MAX);
    let shown = path.display();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut text)
    } else {
        let file = File::open(path).with_context(|| format!("the job {shown} cannot be read"))?;
        file.take(limit).read_to_end(&mut text)
    };
    read.with_context(|| format!("the job {shown} cannot be read"))?;
    gantry_gitlab::read_job(&text).map_err(anyhow::Error::msg).with_context(|| format!("the job {shown}"))
}

/// Secrets are not fetched: each is shown as the variable that it will be.
fn name_secrets(job: &mut JobSpec) {
    for (key, spec) in std::mem::take(&mut job.secrets) {
        let Some(store) = gantry_daemon::secret_provider(&spec) else { continue };
        let value = format!("(fetched by {store} when the job runs)").into();
        let file = spec.file.unwrap_or(true);
        job.variables.push(Variable { key, value, file, raw: true, ..Variable::default() });
    }
}

/// Why the job would be refused, as its log would say it.
fn refused(error: &PlanError) -> anyhow::Error {
    let explanation = match error {
        PlanError::DisallowedImage(lines) => format!("\n{}", lines.join("\n")),
        _ => String::new(),
    };
    anyhow::anyhow!("the job would be refused: {}{explanation}", chain(error))
}
