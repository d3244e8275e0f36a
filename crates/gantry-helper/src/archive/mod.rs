//! Moves artifacts, in a child process of the agent: if memory runs out it is the child that the kernel ends. What to do comes as JSON on
//! standard input, because it holds a token; what happens goes to standard output, which is the job log.

mod expand;
pub(crate) mod job;
mod pack;
mod packing;
mod root;
mod select;
mod transfer;
mod unpack;
mod untracked;

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use self::job::MoverJob;
use crate::limits::MOVER_JOB;
use gantry_core::error_chain::chain;

/// Does what standard input says.
pub(crate) fn run() -> ExitCode {
    // Both are best effort: not every container lets a process lower its own chances, and the work is the same without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = nix::sys::prctl::set_dumpable(false);
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\x1b[31;1mERROR: {}\x1b[0;m", chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

type AnyError = Box<dyn std::error::Error>;

fn work() -> Result<(), AnyError> {
    let mut text = Vec::new();
    io::stdin().lock().take(MOVER_JOB).read_to_end(&mut text)?;
    // Without the parser's own words, which may quote a token.
    let job: MoverJob =
        serde_json::from_slice(&text).map_err(|_| "the agent sent a description that cannot be read")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(transfer::carry_out(&job)).map_err(AnyError::from)
}

/// A line of the job log.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A yellow one.
fn warn(line: &str) {
    say(&format!("\x1b[0;33mWARNING: {line}\x1b[0;m"));
}
