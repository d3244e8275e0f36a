//! What the manager takes: memory and CPU when it is idle, and with jobs that print ten lines a second. Beside it the memory of what we run
//! in each pod, where the pods are on this machine.

use std::time::Duration;

use anyhow::Context as _;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;
use gantry_tests::{Process, Runner};
use nix::time::{clock_getcpuclockid, clock_gettime};
use tokio::time::{Instant, sleep};

use crate::bench::{BOUND, Bench, LONG, float, progress, row, trivial};

const KIND: &str = "manager";

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Agent, shim and bridge are one program.
const HELPER: &str = "gantry-helper";

/// Ten lines a second, for longer than anybody looks.
const PRINT: &str = "i=0; while [ $i -lt 6000 ]; do echo \"line $i of a job that prints ten of them a second\"; \
                     i=$((i+1)); sleep 0.1; done";

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (count, looks) = (bench.sizes.running, bench.sizes.look_seconds);
    let runner = bench.start_runner("manager", count).await?;
    bench.job(&runner, &trivial()).await?;
    let (idle_memory, idle_cpu) = look(&runner.process, looks).await?;
    progress(&format!("{KIND}, idle"), 1, 1);
    let (own, own_memory) = helpers()?;
    let jobs = print(bench, &runner, count).await?;
    let (memory, cpu) = look(&runner.process, looks).await?;
    let (all, all_memory) = helpers()?;
    for job in &jobs {
        bench.world.gitlab.cancel(*job, false).await?;
    }
    for job in &jobs {
        bench.world.gitlab.wait_final(*job, LONG).await?;
    }
    bench.world.no_pods(&runner).await?;
    let (after, _) = look(&runner.process, looks.min(3)).await?;
    progress(&format!("{KIND}, with jobs"), count, count);
    let busy = format!("{count} jobs that print 10 lines a second");
    let mut rows = vec![
        row(KIND, "idle, after one job: resident memory", Unit::Mebibytes, idle_memory, &[]),
        row(KIND, "idle, after one job: CPU, of one core", Unit::Percent, idle_cpu, &[]),
        row(KIND, format!("{busy}: resident memory"), Unit::Mebibytes, memory, &[]),
        row(KIND, format!("{busy}: CPU, of one core"), Unit::Percent, cpu, &[]),
        row(KIND, format!("idle after {busy}: memory"), Unit::Mebibytes, after, &[]),
    ];
    if all <= own {
        eprintln!("the pods are not on this machine: the memory of their agents is not measured");
    } else {
        let each = (all_memory - own_memory) / float(count);
        rows.push(row(KIND, "agent and shim of a job: resident memory", Unit::Mebibytes, vec![each], &[]));
    }
    Ok(rows)
}

/// Starts jobs, and waits until all of them run.
async fn print(bench: &Bench, runner: &Runner, count: usize) -> anyhow::Result<Vec<u64>> {
    let mut jobs = Vec::new();
    for _ in 0..count {
        jobs.push(bench.world.post_job(runner, &script(&[PRINT])).await?);
    }
    for job in &jobs {
        bench.world.gitlab.wait_for(*job, "it runs", BOUND, |job| job.status == "running").await?;
    }
    // What a job takes at its start is none of what it takes while it runs.
    sleep(3 * PERIOD).await;
    Ok(jobs)
}

/// Mebibytes and percent of one core, at so many moments.
async fn look(process: &Process, moments: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut memory, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..moments {
        let (began, used) = (Instant::now(), cpu_seconds(process)?);
        sleep(PERIOD).await;
        cpu.push((cpu_seconds(process)? - used) * 100.0 / began.elapsed().as_secs_f64());
        memory.push(resident(&process.pid().to_string())?);
    }
    Ok((memory, cpu))
}

/// CPU time of a process so far.
pub(crate) fn cpu_seconds(process: &Process) -> anyhow::Result<f64> {
    let clock = clock_getcpuclockid(process.pid()).with_context(|| format!("no clock of {}", process.name()))?;
    Ok(Duration::from(clock_gettime(clock)?).as_secs_f64())
}

/// Resident memory of a process in mebibytes.
fn resident(pid: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// How many processes of our helper this machine has, and their memory together.
fn helpers() -> anyhow::Result<(usize, f64)> {
    let (mut count, mut memory) = (0, 0.0);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let is_one = std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim_end() == HELPER);
        // One that ends meanwhile has none.
        if let Some(own) = is_one.then(|| resident(&entry.file_name().to_string_lossy()).ok()).flatten() {
            count += 1;
            memory += own;
        }
    }
    Ok((count, memory))
}
