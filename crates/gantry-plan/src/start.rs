//! The start commands of the containers: POSIX shell that waits for our binary and becomes it.
//!
//! Many pods may wait on a small node, so waiting costs nothing: the shell sleeps at a FIFO that whoever brings the binary writes to. Where
//! there is none it looks less and less often. The wait is bounded, because a manager that dies before it has pushed a helper must not
//! leave the pod behind for hours: it lasts as long as the pod may take to start, for the binary and for the plan.

use std::time::Duration;

use gantry_wire::PROTOCOL;
use gantry_wire::layout::{PUSHED_BINARY, PUSHED_READY, SHIM_BINARY, SHIM_READY, WITHOUT_PLAN};

const WAIT: &str = include_str!("start/wait.sh");

/// Becomes the agent: of the image if its helper speaks our protocol, else the one that the manager pushes. Makes the FIFOs first, which
/// the build container cannot: the volume is read-only there. Its user may be another.
pub(crate) fn helper(patience: Duration) -> Vec<String> {
    let role = format!("agent --plan-within {}", patience.as_secs());
    let first = format!(
        "mkfifo -m 666 {SHIM_READY} {PUSHED_READY} 2>/dev/null\n\
         if gantry-helper fits {PROTOCOL} >/dev/null 2>&1; then exec gantry-helper {role}; fi\n"
    );
    wait_for(&first, [PUSHED_BINARY, PUSHED_READY, &role], patience)
}

/// Becomes the shim, as soon as the agent has put it there.
pub(crate) fn build(patience: Duration) -> Vec<String> {
    wait_for("", [SHIM_BINARY, SHIM_READY, "shim"], patience)
}

fn wait_for(first: &str, [binary, ready, role]: [&str; 3], patience: Duration) -> Vec<String> {
    // What explains the text is for readers of the source; a pod's spec does without.
    let wait: String = WAIT.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let wait = wait.trim_start().replace("@WITHOUT_PLAN@", &WITHOUT_PLAN.to_string());
    let wait = wait.replace("@PATIENCE@", &patience.as_secs().to_string());
    vec!["sh".to_owned(), "-c".to_owned(), format!("{first}binary={binary} ready={ready} role='{role}'\n{wait}")]
}

#[cfg(test)]
mod tests;
