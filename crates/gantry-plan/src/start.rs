//! The start commands of the containers: short POSIX-shell loops that wait for our binary and become it.
//!
//! Every loop is bounded, and TERM ends it: as PID 1 the shell would otherwise ignore the pod's termination for its whole grace period.

use gantry_wire::PROTOCOL;
use gantry_wire::layout::{PUSHED_BINARY, SHIM_BINARY, WITHOUT_PLAN};

/// Rounds of 20 ms (1 s in images whose `sleep` knows no fractions) that a container waits for our binary: ten minutes or more. A manager
/// that dies before it has pushed a helper must not leave the pod behind for hours.
const ROUNDS: u32 = 30_000;

/// Becomes the agent: of the image if its helper speaks our protocol, else the one that the manager pushes.
pub(crate) fn helper() -> Vec<String> {
    let script = format!(
        "trap 'exit 143' TERM\n\
         if gantry-helper fits {PROTOCOL} >/dev/null 2>&1; then exec gantry-helper agent; fi\n\
         {}\
         exec {PUSHED_BINARY} agent",
        wait_for(PUSHED_BINARY)
    );
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

/// Becomes the shim, as soon as the agent has put it there.
pub(crate) fn build() -> Vec<String> {
    let script = format!("trap 'exit 143' TERM\n{}exec {SHIM_BINARY} shim", wait_for(SHIM_BINARY));
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

fn wait_for(path: &str) -> String {
    format!(
        "i=0\n\
         until [ -x {path} ]; do\n\
         i=$((i+1))\n\
         if [ $i -gt {ROUNDS} ]; then echo 'gantry: nobody brought {path}' >&2; exit {WITHOUT_PLAN}; fi\n\
         sleep 0.02 2>/dev/null || sleep 1\n\
         done\n"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn golden_commands() {
        insta::assert_snapshot!(format!("{}\n---\n{}", super::helper()[2], super::build()[2]));
    }
}
