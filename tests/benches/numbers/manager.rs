//! What the manager takes: memory, CPU and descriptors when it is idle, with jobs that print ten
//! lines a second, or one where there are hundreds, and when those have ended. Beside it the memory
//! of what we run in each pod, where the pods are on this machine.

use std::time::Duration;

use anyhow::bail;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::process::last_lines;
use gantry_tests::world::script;
use gantry_tests::{Process, Runner};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, LONG, REFERENCE, float, progress, row, trivial};
use crate::process::{anonymous, cpu_seconds, descriptors, proportional, resident};

const KIND: &str = "manager";

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// From the end of many jobs to when memory and descriptors are looked at: longer than the manager
/// keeps connections that it does not need.
const SETTLED: Duration = Duration::from_secs(40);

/// From the start of hundreds of jobs to when they are looked at: longer than connections are kept
/// that nobody uses.
const STARTED: Duration = Duration::from_secs(100);

/// Agent, shim and bridge are one program.
const HELPER: &str = "gantry-helper";

/// Up to so many jobs print ten lines a second, more of them one: what is measured is the manager,
/// and what prints needs the machine too.
const QUICK: usize = 200;

/// Lines of the log of a job that should not have ended.
const SHOWN: usize = 20;

/// Prints at some pace for longer than anybody looks: by Perl where there is one, because a shell
/// starts a process for each line.
fn printing(pause: &str) -> String {
    let line = "of a job that prints again and again";
    format!(
        "if command -v perl >/dev/null; then exec perl -e '$| = 1; for (1 .. 6000) {{ print \"line $_ {line}\\n\"; select undef, undef, undef, \
         {pause} }}'; fi; i=0; while [ $i -lt 6000 ]; do echo \"line $i {line}\"; i=$((i+1)); sleep {pause}; done"
    )
}

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let count = bench.sizes.running;
    let runner = bench.start_runner("manager", count).await?;
    bench.job(&runner, &trivial()).await?;
    rows.extend(taken(bench, &runner, "").await?);
    drop(runner);
    if let Some(runner) = bench.start_reference("manager-reference", count).await? {
        rows.extend(taken(bench, &runner, REFERENCE).await?);
    }
    Ok(())
}

/// What one manager takes, and our agents with it.
async fn taken(bench: &Bench, runner: &Runner, whose: &str) -> anyhow::Result<Vec<Row>> {
    let (count, looks) = (bench.sizes.running, bench.sizes.look_seconds);
    let idle = look(&runner.process, looks).await?;
    progress(&format!("{KIND}, idle"), 1, 1);
    let (own, own_memory) = helpers()?;
    let jobs = print(bench, runner, count).await?;
    let printing = look(&runner.process, looks).await?;
    let (all, all_memory) = helpers()?;
    for job in &jobs {
        still_runs(bench, *job).await?;
        bench.world.gitlab.cancel(*job, false).await?;
    }
    for job in &jobs {
        bench.world.gitlab.wait_final(*job, LONG).await?;
    }
    bench.world.no_pods(runner).await?;
    // Connections that nobody needs any more are kept for some time.
    sleep(SETTLED).await;
    let after = look(&runner.process, looks.min(3)).await?;
    progress(&format!("{KIND}, with jobs"), count, count);
    let lines = if count > QUICK { "a line" } else { "10 lines" };
    let busy = format!("{whose}{count} jobs that print {lines} a second");
    let grown = |now: &[f64], before: &[f64]| (median(now) - median(before)) * 1024.0 / float(count);
    let resident = grown(&printing.resident, &idle.resident);
    let written = grown(&printing.anonymous, &idle.anonymous);
    let mut rows = idle.rows(&format!("{whose}idle, after one job"));
    rows.extend(printing.rows(&busy));
    rows.push(row(KIND, format!("{busy}: more resident than idle, for each (KiB)"), Unit::Count, vec![resident], &[]));
    rows.push(row(KIND, format!("{busy}: more written than idle, for each (KiB)"), Unit::Count, vec![written], &[]));
    rows.extend(after.rows(&format!("{whose}idle, {} s after {count} jobs", SETTLED.as_secs())));
    if !whose.is_empty() {
        return Ok(rows);
    }
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
    let (print, mut jobs) = (printing(if count > QUICK { "1" } else { "0.1" }), Vec::new());
    for _ in 0..count {
        jobs.push(bench.world.post_job(runner, &script(&[&print])).await?);
    }
    for job in &jobs {
        bench.world.gitlab.wait_for(*job, "it runs", LONG, |job| job.status == "running").await?;
    }
    // What a job takes at its start is none of what it takes while it runs. Where hundreds start at
    // once that is as many connections to GitLab, which it takes a while to close.
    sleep(if count > QUICK { STARTED } else { 3 * PERIOD }).await;
    Ok(jobs)
}

/// A number of jobs of which some had ended would be another one; why one did is in its log.
async fn still_runs(bench: &Bench, id: u64) -> anyhow::Result<()> {
    let job = bench.world.gitlab.job(id).await?;
    if job.status != "running" {
        let log = bench.world.gitlab.text(id).await?;
        bail!("job {id} has ended by itself: {}, {:?}\n{}", job.status, job.failure_reason, last_lines(&log, SHOWN));
    }
    Ok(())
}

/// What a process takes, at so many moments.
#[derive(Default)]
struct Taken {
    resident: Vec<f64>,
    proportional: Vec<f64>,
    anonymous: Vec<f64>,
    cpu: Vec<f64>,
    descriptors: Vec<f64>,
}

impl Taken {
    fn rows(self, when: &str) -> Vec<Row> {
        vec![
            row(KIND, format!("{when}: resident memory"), Unit::Mebibytes, self.resident, &[]),
            row(KIND, format!("{when}: its share (PSS)"), Unit::Mebibytes, self.proportional, &[]),
            row(KIND, format!("{when}: what it has written"), Unit::Mebibytes, self.anonymous, &[]),
            row(KIND, format!("{when}: CPU, of one core"), Unit::Percent, self.cpu, &[]),
            row(KIND, format!("{when}: descriptors"), Unit::Count, self.descriptors, &[]),
        ]
    }
}

async fn look(process: &Process, moments: usize) -> anyhow::Result<Taken> {
    let mut taken = Taken::default();
    for _ in 0..moments {
        let (began, used) = (Instant::now(), cpu_seconds(process)?);
        sleep(PERIOD).await;
        taken.cpu.push((cpu_seconds(process)? - used) * 100.0 / began.elapsed().as_secs_f64());
        taken.resident.push(resident(&process.pid().to_string())?);
        taken.proportional.push(proportional(process)?);
        taken.anonymous.push(anonymous(process)?);
        taken.descriptors.push(float(descriptors(process)?));
    }
    Ok(taken)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
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
