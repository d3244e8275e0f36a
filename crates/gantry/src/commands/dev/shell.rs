//! `--shell`: a job's container with its sources, artifacts, services and variables, and a shell in
//! it instead of the job's script. The job waits while somebody is inside; its end ends the shell.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use gantry_core::error_chain::chain;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::api::Pipeline;
use super::follow::Follow;
use super::world::{World, blocking};

/// A variable that only the waiting process has; its value is that of this run.
const MARK: &str = "GANTRY_DEV_SHELL";

/// How long the job may wait for its guest: a working day and a night.
const LONGEST_SLEEP: &str = "86400";

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// What shells say of a process that this signal has ended, which none of them makes a message of:
/// 128 and its number.
const LEFT: (Signal, u8) = (Signal::SIGINT, 130);

/// What the job runs instead of its own script: a process that waits, with all the variables of the
/// script. Whoever leaves ends it, and with it the job, which has succeeded then.
pub(super) fn script() -> Vec<String> {
    let (mark, (_, left)) = (std::process::id(), LEFT);
    vec![format!("{MARK}={mark} sleep {LONGEST_SLEEP} || test $? -eq {left}")]
}

/// Shows the pipeline until the job waits, and puts the terminal into its container. Ends when the
/// shell does.
pub(super) async fn enter(job: &str, world: &World, follow: &mut Follow<'_>) -> anyhow::Result<Pipeline> {
    let mark = format!("{MARK}={}", std::process::id());
    let found = tokio::select! {
        over = follow.until_over(world) => {
            let pipeline = over?;
            follow.screen.warn(&format!("{job} has ended before there was a shell")).await;
            return Ok(pipeline);
        }
        found = find(mark) => found,
    };
    follow.screen.say(&format!("a shell in the container of {job}; leave it with exit or Ctrl-D")).await;
    let pid = found.pid;
    let left = blocking(move || run(&found)).await?;
    if let Err(error) = left {
        follow.screen.warn(&format!("there is no shell: {}", chain(error.as_ref()))).await;
        follow.cancel().await?;
    } else if let Err(error) = leave(pid) {
        // It has ended by itself: the job's time was over, or somebody has canceled it on the page.
        tracing::debug!(%error, "nothing waits any more");
    }
    follow.until_over(world).await
}

/// A process in a job's container.
struct Waiting {
    pid: u32,
    variables: BTreeMap<OsString, OsString>,
}

async fn find(mark: String) -> Waiting {
    loop {
        let mark = mark.clone();
        if let Ok(Some(found)) = blocking(move || look(mark.as_bytes())).await {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The process that has the mark among its variables (`/proc/<pid>/environ`, proc(5)).
fn look(mark: &[u8]) -> Option<Waiting> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut entries = environment.split(|byte| *byte == 0);
        let program = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        if !entries.clone().any(|entry| entry == mark) || !program.starts_with(b"sleep\0") {
            return None;
        }
        let pair = |entry: &[u8]| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            Some((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
        };
        let mut variables: BTreeMap<OsString, OsString> = entries.by_ref().filter_map(pair).collect();
        variables.remove(&OsString::from(MARK));
        Some(Waiting { pid, variables })
    })
}

/// Ends the process that waits.
fn leave(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).context("a process id that cannot be one")?;
    Ok(nix::sys::signal::kill(Pid::from_raw(pid), LEFT.0)?)
}

/// Runs a shell in the namespaces of the process, with its variables and in its directory.
fn run(waiting: &Waiting) -> anyhow::Result<()> {
    let terminal = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    let status = Command::new("nsenter")
        .args(["--target", &waiting.pid.to_string(), "--all", "--root", "--wd", "--preserve-credentials", "--"])
        .args(["sh", "-c", "command -v bash >/dev/null && exec bash --norc; exec sh"])
        .env_clear()
        .envs(&waiting.variables)
        .env("TERM", terminal)
        .stdin(Stdio::inherit())
        .status()
        .context("nsenter cannot be started; it is in the package util-linux")?;
    // What the last command of the guest said is no failure of the shell.
    tracing::debug!(%status, "the shell has ended");
    Ok(())
}
