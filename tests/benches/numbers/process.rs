//! What the kernel says of a process.

use std::time::Duration;

use anyhow::Context as _;
use gantry_tests::Process;
use nix::time::{clock_getcpuclockid, clock_gettime};

/// CPU time of a process so far.
pub(crate) fn cpu_seconds(process: &Process) -> anyhow::Result<f64> {
    let clock = clock_getcpuclockid(process.pid()).with_context(|| format!("no clock of {}", process.name()))?;
    Ok(Duration::from(clock_gettime(clock)?).as_secs_f64())
}

/// Resident memory of a process in mebibytes: whatever of it is in memory, be it shared with others
/// or not.
pub(crate) fn resident(pid: &str) -> anyhow::Result<f64> {
    mebibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The part of it that has no file behind it: what the process has written.
pub(crate) fn anonymous(process: &Process) -> anyhow::Result<f64> {
    mebibytes(&format!("/proc/{}/status", process.pid()), "RssAnon:")
}

/// The share of a process in mebibytes: memory that several have is divided among them.
pub(crate) fn proportional(process: &Process) -> anyhow::Result<f64> {
    mebibytes(&format!("/proc/{}/smaps_rollup", process.pid()), "Pss:")
}

/// Open descriptors of a process.
pub(crate) fn descriptors(process: &Process) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", process.pid()))?.count())
}

fn mebibytes(file: &str, name: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib: f64 = line.with_context(|| format!("no {name} in {file}"))?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
