//! The start commands of the containers: POSIX shell that waits for our binary and becomes it.
//!
//! With `FF_KUBERNETES_HONOR_ENTRYPOINT` the build container's first process is an entrypoint,
//! which is given our command as arguments.
//!
//! Many pods may wait on a small node, so waiting costs nothing: the shell sleeps at a FIFO that
//! whoever brings the binary writes to. Where there is none it looks less and less often. The wait
//! is bounded, because a manager that dies before it has pushed a helper must not leave the pod
//! behind for hours: it lasts as long as the pod may take to start, for the binary and for the
//! plan.

use std::time::Duration;

use gantry_wire::PROTOCOL;
use gantry_wire::layout::{PUSHED_BINARY, PUSHED_READY, SHIM_BINARY, SHIM_READY, WITHOUT_PLAN};

const WAIT: &str = include_str!("start/wait.sh");

/// Becomes the agent: of the image if its helper speaks our protocol, else the one that the manager
/// pushes. Makes the FIFOs first, which the build container cannot: the volume is read-only there.
/// Its user may be another.
pub(crate) fn helper(within: Duration) -> Vec<String> {
    let role = format!("agent --plan-within {}", within.as_secs());
    let first = format!(
        "mkfifo -m 666 {SHIM_READY} {PUSHED_READY} 2>/dev/null\n\
         if gantry-helper fits {PROTOCOL} >/dev/null 2>&1; then exec gantry-helper {role}; fi\n"
    );
    wait_for(&first, [PUSHED_BINARY, PUSHED_READY, &role], within)
}

/// How a container is started, in the words of its spec; `None` is what the image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) command: Option<Vec<String>>,
    pub(crate) args: Option<Vec<String>>,
}

/// Becomes the shim, as soon as the agent has put it there; by way of the image's entrypoint or
/// that of `job`, if one is `honored`.
pub(crate) fn build(within: Duration, honored: bool, job: &[String]) -> Start {
    let command = wait_for("", [SHIM_BINARY, SHIM_READY, "shim"], within);
    match (honored, job) {
        (true, []) => Start { command: None, args: Some(command) },
        (true, entrypoint) if !is_none(entrypoint) => {
            // A shell takes the text itself: of a command and its arguments it would run the first
            // word only.
            let args = if is_shell(entrypoint) { command.into_iter().skip(SHELL.len()).collect() } else { command };
            Start { command: Some(entrypoint.to_vec()), args: Some(args) }
        }
        _ => Start { command: Some(command), args: None },
    }
}

/// Whether a job's entrypoint does something that our own command would not do too.
pub(crate) fn changes_something(entrypoint: &[String]) -> bool {
    !is_none(entrypoint) && !is_shell(entrypoint)
}

/// `entrypoint: [""]` is how jobs do without that of the image.
fn is_none(entrypoint: &[String]) -> bool {
    entrypoint.iter().all(String::is_empty)
}

/// `["/bin/sh", "-c"]` and the like.
fn is_shell(entrypoint: &[String]) -> bool {
    let (Some(first), Some(last)) = (entrypoint.first(), entrypoint.last()) else { return false };
    let name = first.rsplit('/').next().unwrap_or_default();
    let runs_text = last.starts_with('-') && !last.starts_with("--") && last.ends_with('c');
    matches!(name, "sh" | "bash" | "ash" | "dash" | "busybox") && runs_text
}

/// What begins our commands.
const SHELL: [&str; 2] = ["sh", "-c"];

fn wait_for(first: &str, [binary, ready, role]: [&str; 3], within: Duration) -> Vec<String> {
    // What explains the text is for readers of the source; a pod's spec does without.
    let wait: String = WAIT.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let wait = wait.trim_start().replace("@WITHOUT_PLAN@", &WITHOUT_PLAN.to_string());
    let wait = wait.replace("@SECONDS@", &within.as_secs().to_string());
    let text = format!("{first}binary={binary} ready={ready} role='{role}'\n{wait}");
    SHELL.into_iter().map(str::to_owned).chain([text]).collect()
}

#[cfg(test)]
mod tests;
