//! How long jobs wait for another manager: one with many jobs is killed, another one is started,
//! and GitLab is asked when it has something new of each job's log.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::bench::{BOUND, Bench, FIRST, HELPER, LONG, progress, row, trivial};

const KIND: &str = "adoption";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A line each 100 ms, for longer than anybody looks.
const PRINT: &str = "i=0; while [ $i -lt 6000 ]; do echo \"line $i\"; i=$((i+1)); sleep 0.1; done";

/// What managers have in common that register anew. Agents that report by themselves would hide
/// that nobody has adopted their jobs.
const SETTINGS: &str =
    "[gantry]\n  self_report_after = \"1h\"\n  abandon_after = \"2h\"\n  ticket_key = \"the-key-of-the-benchmark\"\n";

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let count = bench.sizes.running;
    let mut runner = Runner::start(&bench.world, &options(count, KIND, None)).await?;
    bench.job(&runner, &trivial()).await?;
    let mut payload = script(&[&format!("echo {FIRST}"), PRINT]);
    // Somebody looks at each of them: GitLab then wants to hear of them every three seconds.
    payload["watched"] = true.into();
    let mut jobs = Vec::new();
    for _ in 0..count {
        jobs.push(bench.world.post_job(&runner, &payload).await?);
    }
    for job in &jobs {
        bench.world.gitlab.wait_for_text(*job, &format!("\n{FIRST}"), LONG).await?;
    }
    let (mut each, mut all) = (Vec::new(), Vec::new());
    for number in 1..=bench.sizes.repeats {
        runner.process.signal(Signal::SIGKILL)?;
        runner.process.wait(BOUND).await?;
        // What the dead one has sent is there.
        sleep(Duration::from_secs(1)).await;
        let before = lengths(bench).await?;
        let next = options(count, &format!("{KIND}-{number}"), Some(runner.place()));
        let began = Instant::now();
        runner = Runner::launch(&bench.world, &next).await?;
        let mut live = BTreeMap::new();
        while live.len() < jobs.len() {
            ensure!(began.elapsed() < LONG, "only {} of {count} jobs go on", live.len());
            let now = lengths(bench).await?;
            for job in jobs.iter().filter(|job| now.get(job) > before.get(job)) {
                live.entry(*job).or_insert_with(|| began.elapsed().as_secs_f64());
            }
            sleep(LOOK).await;
        }
        all.push(live.values().copied().fold(0.0, f64::max));
        each.extend(live.into_values());
        progress(KIND, number, bench.sizes.repeats);
    }
    for job in &jobs {
        bench.world.gitlab.cancel(*job, false).await?;
    }
    for job in &jobs {
        bench.world.gitlab.wait_final(*job, LONG).await?;
    }
    bench.world.no_pods(&runner).await?;
    let name = |what: &str| format!("{count} jobs run, manager killed: another one starts, {what}");
    rows.extend([
        row(KIND, name("new lines of a job (each of them)"), Unit::Seconds, each, &[]),
        row(KIND, name("new lines of all jobs"), Unit::Seconds, all, &[]),
    ]);
    Ok(())
}

/// How much of each log GitLab has.
async fn lengths(bench: &Bench) -> anyhow::Result<BTreeMap<u64, u64>> {
    Ok(bench.world.gitlab.jobs().await?.into_iter().map(|job| (job.id, job.trace_bytes)).collect())
}

fn options(count: usize, name: &str, place: Option<gantry_tests::RunnerPlacement>) -> RunnerOptions {
    RunnerOptions {
        helper_image: HELPER.to_owned(),
        concurrent: u32::try_from(count).unwrap_or(u32::MAX),
        log_level: "info",
        global: SETTINGS.to_owned(),
        kubernetes: "    pull_policy = \"if-not-present\"\n".to_owned(),
        runner: "  environment = [\"GIT_STRATEGY=none\"]\n".to_owned(),
        place,
        ..RunnerOptions::new(name)
    }
}
