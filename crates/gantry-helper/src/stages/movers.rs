//! The child processes that move artifacts and caches: if memory runs out it is them that the
//! kernel ends.

use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use gantry_core::Ending;
use gantry_wire::plan::{Action, PodPlan};
use gantry_wire::shim::SecretText;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;

use super::StageContext;
use crate::process::script::pass_environment;
use crate::stages::variables::{added_variables, variables};

/// What a child does.
pub(super) struct Work<'a, T> {
    /// Of our own program.
    pub(super) command: &'a str,
    /// What it moves, for messages.
    pub(super) what: &'a str,
    /// Goes to its standard input: it holds tokens and signatures.
    pub(super) description: &'a T,
}

/// Runs a child to its end.
pub(super) async fn run<T: Serialize>(context: &StageContext, work: &Work<'_, T>) -> Result<(), Ending> {
    let Work { command, what, description } = work;
    let added = added_variables(&context.plan);
    for warning in added.warnings {
        context.outlet.warning_once(warning).await;
    }
    let child = with_variables(context, command, description, added.variables);
    let child = child.map_err(|error| context.trouble("cannot describe the work", &error))?;
    let exit = context.tool(child).await.map_err(|error| context.trouble("cannot start", &error))?;
    let message = match (exit.code, exit.signal) {
        (0, _) => return Ok(()),
        (_, Some(9)) => {
            format!("moving {what} was killed, most likely OOMKilled: raise the memory limit of the helper container")
        }
        (code, _) => format!("moving {what} ended with exit code {code}; the reason is above"),
    };
    Err(Ending::StageFailed { stage: context.name().to_owned(), message, exit_code: exit.code })
}

/// A child as it is to be started.
pub(super) fn started(context: &StageContext, command: &str, description: &impl Serialize) -> io::Result<Command> {
    with_variables(context, command, description, added_variables(&context.plan).variables)
}

fn with_variables(
    context: &StageContext,
    command: &str,
    description: &impl Serialize,
    added: Vec<(String, SecretText)>,
) -> io::Result<Command> {
    let mut child = Command::new("/proc/self/exe");
    // Not in the project's directory, which may be gone.
    child.arg0("gantry-helper").arg(command).current_dir(context.layout.agent_dir()).stdin(in_memory(description)?);
    // Names and paths may hold variables, and the job may have set a proxy.
    let mut environment = variables(&context.plan, context.status);
    environment.extend(added);
    pass_environment(&mut child, &environment);
    Ok(child)
}

/// The hash algorithm of the project's repository; empty means `sha1`.
pub(super) fn object_format(plan: &PodPlan) -> &str {
    let sources = plan.stages.iter().find_map(|stage| match &stage.action {
        Action::Sources(sources) => Some(sources),
        _ => None,
    });
    sources.map_or("", |sources| &sources.object_format)
}

fn in_memory(description: &impl Serialize) -> io::Result<Stdio> {
    let mut memory = std::fs::File::from(memfd_create(c"move", MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(&serde_json::to_vec(description)?)?;
    memory.rewind()?;
    Ok(Stdio::from(OwnedFd::from(memory)))
}
