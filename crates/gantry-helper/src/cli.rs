//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gantry_core::limits::AGENT_WITHOUT_PLAN;
use gantry_wire::frame::Protocols;

use crate::agent::{PeerRule, SelfReportAfter, Settings};
use crate::archive::Cargo;
use crate::layout::Layout;

/// What runs inside a Gantry job pod. People rarely start it by hand: the pod's containers and the
/// manager do.
#[derive(Parser)]
#[command(name = "gantry-helper", version = crate::VERSION, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry out a job: the first process of the helper container
    Agent {
        /// Directory that the fixed paths are below (for tests)
        #[arg(long, default_value = "/", hide = true)]
        root: PathBuf,
        /// Accept managers that are no `exec` into this container (for tests)
        #[arg(long, hide = true)]
        any_peer: bool,
        /// Milliseconds without a manager after which the agent reports by itself (for tests)
        #[arg(long, hide = true)]
        alone_after: Option<u64>,
        /// Seconds to wait for a plan
        #[arg(long, default_value_t = AGENT_WITHOUT_PLAN.as_secs())]
        plan_within: u64,
        /// Keep the file of the trace under its name (for tests)
        #[arg(long, hide = true)]
        keep_trace: bool,
    },
    /// Run the user's scripts as the agent says: the first process of the build container
    Shim {
        /// Directory that the fixed paths are below (for tests)
        #[arg(long, default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Join standard input and output to the agent: what a manager executes
    Bridge {
        /// Directory that the fixed paths are below (for tests)
        #[arg(long, default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Join standard input and output to a port of this pod: what a manager executes for people who
    /// look at a service of a job
    Forward {
        /// The TCP port, on the loopback interface that all containers of a pod share
        port: u16,
    },
    /// Exit with 0 if this helper speaks the given version of the protocol, with 1 if not
    Fits {
        /// Version of the manager's protocol
        protocol: u32,
    },
    /// Say whether GitLab can be reached from here (internal: for `gantry doctor`)
    #[command(hide = true)]
    Reach {
        /// URL of GitLab
        url: String,
    },
    /// Write this process's environment into a file (internal: started by hooks of the agent's)
    #[command(hide = true)]
    Environment {
        /// The file, which is there
        file: PathBuf,
    },
    /// Move artifacts as described on standard input (internal: started by the agent)
    #[command(hide = true)]
    Move,
    /// Move caches as described on standard input (internal: started by the agent)
    #[command(hide = true)]
    MoveCaches,
}

/// Does what the command line says. `args` starts with the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(code) = crate::official::run(&args) {
        return code;
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match arguments.command {
        Command::Agent { root, any_peer, alone_after, plan_within, keep_trace } => {
            let peers = if any_peer { PeerRule::Any } else { PeerRule::ExecOnly };
            let self_report_after =
                alone_after.map(Duration::from_millis).map_or_else(SelfReportAfter::default, SelfReportAfter::always);
            let plan_wait = Duration::from_secs(plan_within);
            crate::agent::run(&Layout::below(root), Settings { peers, self_report_after, keep_trace, plan_wait })
        }
        Command::Shim { root } => crate::shim::run(&Layout::below(root)),
        Command::Bridge { root } => crate::bridge::run(&Layout::below(root)),
        Command::Forward { port } => crate::bridge::forward(port),
        Command::Fits { protocol } if Protocols::OURS.common(Protocols::only(protocol)).is_some() => ExitCode::SUCCESS,
        Command::Fits { .. } => ExitCode::FAILURE,
        Command::Reach { url } => crate::reach::run(&url),
        Command::Environment { file } => crate::process::handed::write(&file),
        Command::Move => crate::archive::run(Cargo::Artifacts),
        Command::MoveCaches => crate::archive::run(Cargo::Caches),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
