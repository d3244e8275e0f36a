//! How many jobs go through: trivial ones at a concurrency of ten, and a queue that fills at once.
//!
//! The floor is as many bare pods, as many of them at a time: created, an exec that works, deleted.

use futures::{StreamExt as _, TryStreamExt as _};
use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::api_requests::{Mark, total, tries};
use crate::bare::BarePod;
use crate::bench::{Bench, FIRST, LONG, float, progress, row, seconds, trivial};

const KIND: &str = "many";

/// `concurrent` of the runner that does one after the other.
const AT_A_TIME: usize = 10;

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let runner = bench.start_runner("ten", AT_A_TIME).await?;
    rows.push(jobs_a_minute(bench, &runner, "").await?);
    drop(runner);
    if let Some(runner) = bench.start_pushing_runner("ten-pushed", AT_A_TIME).await? {
        rows.push(jobs_a_minute(bench, &runner, ", the helper pushed").await?);
    }
    if let Some(runner) = bench.start_reference("ten-reference", AT_A_TIME).await? {
        rows.push(jobs_a_minute(bench, &runner, ", GitLab Runner").await?);
    }
    let runner = bench.start_runner("queue", bench.sizes.at_once).await?;
    rows.extend(queued_at_once(bench, &runner, "").await?);
    drop(runner);
    if let Some(runner) = bench.start_pushing_runner("queue-pushed", bench.sizes.at_once).await? {
        rows.extend(queued_at_once(bench, &runner, ", the helper pushed").await?);
    }
    if let Some(runner) = bench.start_reference("queue-reference", bench.sizes.at_once).await? {
        rows.extend(queued_at_once(bench, &runner, ", GitLab Runner").await?);
    }
    Ok(())
}

async fn jobs_a_minute(bench: &Bench, runner: &Runner, how: &str) -> anyhow::Result<Row> {
    let many = bench.sizes.many;
    bench.job(runner, &trivial()).await?;
    let (mut rates, mut floor) = (Vec::new(), Vec::new());
    for number in 1..=bench.sizes.repeats {
        let began = Instant::now();
        pods(bench, &format!("{}-{number}", runner.tag), many, AT_A_TIME).await?;
        floor.push(a_minute(many, began.elapsed().as_secs_f64()));
        bench.world.no_pods(&bench.runner).await?;
        let began = Timestamp::now();
        let mut ids = Vec::new();
        for _ in 0..many {
            ids.push(bench.world.post_job(runner, &trivial()).await?);
        }
        let mut last = began;
        for id in ids {
            last = last.max(bench.ended(id, LONG).await?.at);
        }
        rates.push(a_minute(many, seconds(began, last)));
        bench.world.no_pods(runner).await?;
        progress(&format!("{KIND}, {many} jobs"), number, bench.sizes.repeats);
    }
    let name = format!("{many} trivial jobs at a concurrency of {AT_A_TIME}{how}: jobs a minute");
    Ok(row(KIND, name, Unit::PerMinute, rates, &floor))
}

async fn queued_at_once(bench: &Bench, runner: &Runner, how: &str) -> anyhow::Result<Vec<Row>> {
    let (count, hold) = (bench.sizes.at_once, bench.sizes.hold_seconds);
    bench.job(runner, &trivial()).await?;
    // Each lives on, so that in the end all of them run together.
    let payload = script(&[&format!("echo {FIRST}"), &format!("sleep {hold}")]);
    let (mut each, mut all, mut floor_each, mut floor_all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut requests, mut execs) = (Vec::new(), Vec::new());
    for number in 1..=bench.sizes.repeats {
        let starts = pods(bench, &format!("{}-{number}", runner.tag), count, count).await?;
        bench.world.no_pods(&bench.runner).await?;
        floor_all.push(starts.iter().copied().fold(0.0, f64::max));
        floor_each.extend(starts);
        let mark = Mark::new(bench).await?;
        let began = Timestamp::now();
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(bench.world.post_job(runner, &payload).await?);
        }
        let mut last = began;
        for id in ids {
            let printed = bench.ended(id, LONG).await?.printed(FIRST)?;
            each.push(seconds(began, printed));
            last = last.max(printed);
        }
        all.push(seconds(began, last));
        if let Some(mark) = mark {
            let counts = mark.until_deleted(bench, runner, count).await?;
            requests.push(float(total(&counts)) / float(count));
            execs.push(float(tries(&counts)) / float(count));
        }
        bench.world.no_pods(runner).await?;
        progress(&format!("{KIND}, {count} at once"), number, bench.sizes.repeats);
    }
    let name = |what: &str| format!("{count} queued at once{how}: {what}");
    let mut rows = vec![
        row(KIND, name("queued, a script runs (each)"), Unit::Seconds, each, &floor_each),
        row(KIND, name("queued, all scripts run"), Unit::Seconds, all, &floor_all),
    ];
    if !requests.is_empty() {
        rows.push(row(KIND, name("API requests of each"), Unit::Count, requests, &[3.0]));
        rows.push(row(KIND, name("tries of pods/exec of each"), Unit::Count, execs, &[1.0]));
    }
    Ok(rows)
}

/// Makes bare pods, so many at a time, and gives the seconds that each took to start.
async fn pods(bench: &Bench, prefix: &str, count: usize, at_a_time: usize) -> anyhow::Result<Vec<f64>> {
    let one = async |number: usize| {
        let pod = BarePod::start_among(bench, format!("{prefix}-{number}"), at_a_time).await?;
        let took = pod.first_byte;
        pod.delete().await?;
        anyhow::Ok(took)
    };
    futures::stream::iter(0..count).map(one).buffer_unordered(at_a_time).try_collect().await
}

fn a_minute(count: usize, seconds: f64) -> f64 {
    float(count) * 60.0 / seconds
}
