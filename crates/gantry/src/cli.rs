//! The command line.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};
use gantry_config::settings::{LogFormat, LogLevel};
use gantry_core::error_chain::chain;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{built_at, parse_bool};
#[cfg(not(feature = "sim"))]
use crate::commands::absent;
#[cfg(feature = "sim")]
use crate::commands::{chaos, dev, sim_gitlab, sim_kubernetes};
use crate::commands::{
    config, doctor, generated, health_check, lint, list, manual, output, plan, register, reset_token, run, run_single,
    unregister, verify,
};
use crate::go_arguments;
use crate::logging::{self, Logging};

/// A native GitLab CI runner for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "gantry", version = VERSION, about, disable_version_flag = true, args_override_self = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    logging: LoggingArgs,
    /// Print the version in the six lines of GitLab Runner: of the protocol first, then our own
    #[arg(long, short = 'v', visible_short_alias = 'V', action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

/// Heading of the flags that every command has.
const LOG: &str = "What is logged";

/// How the process logs. Given here or in the environment, these beat the config file. An empty
/// variable is none.
#[derive(Clone, Debug, Args)]
struct LoggingArgs {
    /// Debug level; wins over --log-level
    #[arg(long, global = true, help_heading = LOG, env = "RUNNER_DEBUG", hide_env_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool, value_name = "true|false")]
    debug: Option<bool>,
    /// Least severe lines to show: trace, debug, info, warn, error, fatal, panic. Default: what the
    /// configuration says to `run`, else info
    #[arg(long, short = 'l', global = true, help_heading = LOG, env = "LOG_LEVEL", hide_env_values = true, value_name = "LEVEL", value_parser = parse_level)]
    log_level: Option<OrUnset<LevelFilter>>,
    /// How lines look: runner (for people, with colours), text (key=value) or json (one object per
    /// line). Default: what the configuration says to `run`, else runner
    #[arg(long, global = true, help_heading = LOG, env = "LOG_FORMAT", hide_env_values = true, value_name = "FORMAT", value_parser = parse_format)]
    log_format: Option<OrUnset<LogFormat>>,
    /// Accepted, and without effect: a file for Go's profiler
    #[arg(long, global = true, env = "CPU_PROFILE", hide_env_values = true, value_name = "FILE", hide = true)]
    cpuprofile: Option<String>,
}

/// What a flag or variable says; an empty one says nothing.
#[derive(Clone, Copy, Debug)]
struct OrUnset<T>(Option<T>);

#[derive(Debug, Subcommand)]
enum Command {
    /// Do harm to managers and connections while jobs run in a namespace of yours, and show what
    /// comes of the jobs
    #[cfg(feature = "sim")]
    Chaos(chaos::ChaosArgs),
    /// Not in this build: do harm to managers and connections while jobs run
    #[cfg(not(feature = "sim"))]
    Chaos(absent::AbsentArgs),
    /// Print the completion script of a shell
    Completions(generated::CompletionsArgs),
    /// What can be configured
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Run a pipeline here: simulated GitLab, simulated Kubernetes and the runner, with the tools
    /// of this machine
    #[cfg(feature = "sim")]
    Dev(Box<dev::DevArgs>),
    /// Not in this build: run a pipeline here
    #[cfg(not(feature = "sim"))]
    Dev(absent::AbsentArgs),
    /// Find out whether the configuration works: GitLab, cluster, rights, room for a job; with what
    /// to change
    Doctor(doctor::DoctorArgs),
    /// Wait until services listen
    HealthCheck(health_check::HealthCheckArgs),
    /// Check a configuration: all that is wrong with it, with lines
    Lint(lint::LintArgs),
    /// List the runners of the configuration, with the beginnings of their tokens
    List(list::ListArgs),
    /// Write manual pages
    #[command(hide = true)]
    Man(manual::ManArgs),
    /// Print what would be done about a job: objects and stages, as YAML, without touching anything
    Plan(plan::PlanArgs),
    /// Register a runner in GitLab and add it to the configuration
    #[command(args_override_self = true)]
    Register(register::RegisterArgs),
    /// Exchange the token of a runner for a new one
    ResetToken(reset_token::ResetTokenArgs),
    /// Ask GitLab for jobs and run them in Kubernetes
    Run(run::RunArgs),
    /// Run one runner for a number of jobs, or until none comes for a time
    #[command(args_override_self = true)]
    RunSingle(run_single::RunSingleArgs),
    /// Simulators, for trying and testing runners
    #[cfg(feature = "sim")]
    #[command(subcommand)]
    Sim(SimCommand),
    /// Not in this build: simulators, for trying and testing runners
    #[cfg(not(feature = "sim"))]
    Sim(absent::AbsentArgs),
    /// Remove a runner from GitLab and from the configuration
    Unregister(unregister::UnregisterArgs),
    /// Ask GitLab whether the tokens of the configuration are good
    Verify(verify::VerifyArgs),
}

#[cfg(feature = "sim")]
#[derive(Debug, Subcommand)]
enum SimCommand {
    /// A GitLab coordinator that any runner can use, and that enforces the protocol
    Gitlab(Box<sim_gitlab::SimGitlabArgs>),
    /// A Kubernetes API server with a kubelet whose containers are local processes
    Kubernetes(Box<sim_kubernetes::SimKubernetesArgs>),
}

/// Our own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is said of a build whose moment nobody knows.
const UNKNOWN: &str = "unknown (built without git and without SOURCE_DATE_EPOCH)";

/// The six lines of GitLab Runner 19.4, which scripts read. The first is the release whose protocol
/// we speak; ours is further down.
fn version() -> String {
    format!(
        "Version:      {}\nGit revision: {}\nGit branch:   gantry {VERSION}\nGO version:   none\nBuilt:        {}\nOS/Arch:      {}/{}\n",
        gantry_gitlab::PROTOCOL_VERSION,
        gantry_gitlab::RunnerInfo::revision(),
        Some(built_at()).filter(|built| !built.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned()),
        gantry_gitlab::platform(),
        gantry_gitlab::architecture()
    )
}

fn parse_level(text: &str) -> Result<OrUnset<LevelFilter>, String> {
    let unset = text.is_empty().then_some(OrUnset(None));
    unset
        .or_else(|| LogLevel::named(text).map(|level| OrUnset(Some(logging::filter(level)))))
        .ok_or_else(|| "write trace, debug, info, warn, error, fatal or panic".to_owned())
}

fn parse_format(text: &str) -> Result<OrUnset<LogFormat>, String> {
    let unset = text.is_empty().then_some(OrUnset(None));
    unset
        .or_else(|| LogFormat::named(text).map(|format| OrUnset(Some(format))))
        .ok_or_else(|| "write runner, text or json".to_owned())
}

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let args = go_arguments::rewritten(Cli::command(), std::env::args_os());
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            return printed(output(&version()));
        }
        Err(error) => {
            if let Some(advice) = service_command(&error, &args) {
                eprintln!("gantry: {advice}");
                return ExitCode::FAILURE;
            }
            // A wrong use ends with 1, as in the reference.
            let written = error.print();
            if error.use_stderr() {
                return ExitCode::FAILURE;
            }
            return printed(written.or_else(unless_unread));
        }
    };
    let logging = LoggingArgs::start(&cli.logging, matches!(cli.command, Command::Chaos(_) | Command::Dev(_)));
    let speaks_to_people =
        matches!(cli.command, Command::Chaos(_) | Command::Config(_) | Command::Dev(_) | Command::Sim(_));
    let result = match cli.command {
        #[cfg(feature = "sim")]
        Command::Chaos(args) => chaos::main(&args),
        #[cfg(not(feature = "sim"))]
        Command::Chaos(_) => absent::main("chaos"),
        Command::Completions(args) => generated::completions(&args, Cli::command()),
        Command::Config(command) => config::main(&command),
        #[cfg(feature = "sim")]
        Command::Dev(args) => dev::main(&args),
        #[cfg(not(feature = "sim"))]
        Command::Dev(_) => absent::main("dev"),
        Command::Doctor(args) => doctor::main(&args),
        Command::HealthCheck(args) => health_check::main(&args),
        Command::Lint(args) => lint::main(&args),
        Command::List(args) => Ok(list::main(&args)),
        Command::Man(args) => manual::write(&args, Cli::command()),
        Command::Plan(args) => plan::main(&args),
        Command::Register(args) => register::main(&args),
        Command::ResetToken(args) => reset_token::main(&args),
        Command::Run(args) => run::main(&args, logging),
        Command::RunSingle(args) => run_single::main(&args, logging),
        #[cfg(feature = "sim")]
        Command::Sim(SimCommand::Gitlab(args)) => sim_gitlab::main(*args),
        #[cfg(feature = "sim")]
        Command::Sim(SimCommand::Kubernetes(args)) => sim_kubernetes::main(*args),
        #[cfg(not(feature = "sim"))]
        Command::Sim(_) => absent::main("sim"),
        Command::Unregister(args) => unregister::main(args),
        Command::Verify(args) => verify::main(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let error = chain(error.as_ref());
            if speaks_to_people {
                eprintln!("gantry: {}", gantry_daemon::redact(None, &error));
            } else {
                tracing::error!(target: logging::FATAL, "{error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What to write instead of a command of the reference that is about its service, if that was
/// asked for: `args` begin with the name of the process, and flags hold their values.
fn service_command(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    // What is below another command is none of the service's.
    let first = args.iter().skip(1).find_map(|arg| arg.to_str().filter(|text| !text.starts_with('-')))?;
    if first != command {
        return None;
    }
    let instead = match command.as_str() {
        "install" => "enable --now",
        "uninstall" => "disable --now",
        "start" | "stop" | "restart" | "status" => command,
        _ => return None,
    };
    Some(format!("there is no command `{command}`, as the service is systemd's: systemctl {instead} gantry"))
}

/// Nobody who stops reading has lost anything.
fn unless_unread(error: io::Error) -> anyhow::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error).context("the output cannot be written") }
}

/// The end of what only prints.
fn printed(written: anyhow::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

impl LoggingArgs {
    fn start(&self, quiet: bool) -> Logging {
        let given = self.log_level.and_then(|OrUnset(level)| level);
        let level = if self.debug == Some(true) { Some(LevelFilter::DEBUG) } else { given };
        // `dev` shows the job's logs; the daemon's own lines would only be in their way.
        let default = if quiet { LevelFilter::ERROR } else { LevelFilter::INFO };
        let logging = logging::start(level, self.log_format.and_then(|OrUnset(format)| format), default);
        if self.cpuprofile.as_ref().is_some_and(|file| !file.is_empty()) {
            tracing::warn!("--cpuprofile (CPU_PROFILE) has no effect: it is for a profiler of Go programs");
        }
        logging
    }
}
