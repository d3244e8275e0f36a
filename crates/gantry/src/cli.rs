//! The command line.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use gantry_core::error_chain::chain;

use crate::commands::{dev, list, register, run, sim_gitlab, sim_kubernetes, unregister, verify};
use crate::go_arguments;
use crate::logging::{self, Logging};

/// A native GitLab CI runner for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "gantry", version = version(), about, propagate_version = false, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    logging: LoggingArgs,
    #[command(subcommand)]
    command: Command,
}

/// How the process logs. Given here or in the environment, these beat the config file.
#[derive(Clone, Debug, Args)]
struct LoggingArgs {
    /// Debug level; wins over --log-level
    #[arg(long, env = "RUNNER_DEBUG", num_args = 0..=1, default_missing_value = "true", value_parser = parse_bool)]
    debug: Option<bool>,
    /// Least severe lines to show: debug, info, warn, error, fatal, panic
    #[arg(long, short = 'l', env = "LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// How lines look
    #[arg(long, env = "LOG_FORMAT", value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, with colours
    Runner,
    /// key=value text
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline here: simulated GitLab, simulated Kubernetes and the runner, with the tools of this machine
    Dev(dev::DevArgs),
    /// List the runners of the configuration, with the beginnings of their tokens
    List(list::ListArgs),
    /// Register a runner in GitLab and add it to the configuration
    Register(register::RegisterArgs),
    /// Ask GitLab for jobs and run them in Kubernetes
    Run(run::RunArgs),
    /// Simulators, for trying and testing runners
    #[command(subcommand)]
    Sim(SimCommand),
    /// Remove a runner from GitLab and from the configuration
    Unregister(unregister::UnregisterArgs),
    /// Ask GitLab whether the tokens of the configuration are good
    Verify(verify::VerifyArgs),
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// A GitLab coordinator that any runner can use, and that enforces the protocol
    Gitlab(Box<sim_gitlab::SimGitlabArgs>),
    /// A Kubernetes API server with a kubelet whose containers are local processes
    Kubernetes(sim_kubernetes::SimKubernetesArgs),
}

/// Both versions: ours, and the one of GitLab Runner whose protocol we speak.
fn version() -> String {
    format!(
        "{} (speaks the protocol of GitLab Runner {})",
        gantry_gitlab::RunnerInfo::revision(),
        gantry_gitlab::PROTOCOL_VERSION
    )
}

/// Booleans of the environment, where a set but empty variable means yes (GitLab Runner 19.4).
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    if text.is_empty() {
        return Ok(true);
    }
    gantry_core::feature_flags::parse_bool(text).ok_or_else(|| "write true or false".to_owned())
}

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(go_arguments::rewritten(Cli::command(), std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Fails only when nobody reads it. A wrong use ends with 1, as in the reference.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let logging = LoggingArgs::start(&cli.logging, matches!(cli.command, Command::Dev(_)));
    let result = match cli.command {
        Command::Dev(args) => dev::main(&args),
        Command::List(args) => Ok(list::main(&args)),
        Command::Register(args) => register::main(&args),
        Command::Run(args) => run::main(args, logging),
        Command::Sim(SimCommand::Gitlab(args)) => sim_gitlab::main(*args),
        Command::Sim(SimCommand::Kubernetes(args)) => sim_kubernetes::main(args),
        Command::Unregister(args) => unregister::main(args),
        Command::Verify(args) => verify::main(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gantry: {}", gantry_daemon::redact(None, &chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

impl LoggingArgs {
    fn start(&self, quiet: bool) -> Logging {
        let level = if self.debug == Some(true) { Some("debug") } else { self.log_level.as_deref() };
        // `dev` shows the job's logs; the daemon's own lines would only be in their way.
        let default = if quiet { "error" } else { "info" };
        logging::start(level, self.log_format, default)
    }
}
