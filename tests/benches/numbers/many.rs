//! How many jobs go through: trivial ones at a concurrency of ten, and a queue that fills at once.
//!
//! The floor is as many bare pods, as many of them at a time: created, an exec that works, deleted.

use futures::{StreamExt as _, TryStreamExt as _};
use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::api_requests::{Mark, total, tries};
use crate::bare::BarePod;
use crate::bench::{Bench, FIRST, LONG, float, progress, row, seconds, trivial};

const KIND: &str = "many";

/// `concurrent` of the runner that does one after the other.
const AT_A_TIME: usize = 10;

/// Who runs the jobs. All take turns, and bare pods with them: what a node has left of earlier pods
/// slows down the next ones.
struct Contender {
    runner: Runner,
    /// Ends the names of its numbers.
    how: &'static str,
}

/// What a queue that filled at once has shown.
#[derive(Default)]
struct Queued {
    each: Vec<f64>,
    all: Vec<f64>,
    requests: Vec<f64>,
    tries: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    jobs_a_minute(bench, &contenders(bench, "ten", AT_A_TIME).await?, rows).await?;
    queued_at_once(bench, &contenders(bench, "queue", bench.sizes.at_once).await?, rows).await
}

/// All who are measured here, each after its first job.
async fn contenders(bench: &Bench, name: &str, concurrent: usize) -> anyhow::Result<Vec<Contender>> {
    let mut all = vec![Contender { runner: bench.start_runner(name, concurrent).await?, how: "" }];
    if let Some(runner) = bench.start_pushing_runner(&format!("{name}-pushed"), concurrent).await? {
        all.push(Contender { runner, how: ", the helper pushed" });
    }
    for contender in &all {
        bench.job(&contender.runner, &trivial()).await?;
    }
    if let Some(runner) = bench.start_reference(&format!("{name}-reference"), concurrent).await? {
        all.push(Contender { runner, how: ", GitLab Runner" });
    }
    Ok(all)
}

async fn jobs_a_minute(bench: &Bench, contenders: &[Contender], rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let many = bench.sizes.many;
    let mut floor = Vec::new();
    let mut rates = vec![Vec::new(); contenders.len()];
    for number in 1..=bench.sizes.repeats {
        let began = Instant::now();
        pods(bench, &format!("ten-{number}"), many, AT_A_TIME).await?;
        floor.push(a_minute(many, began.elapsed().as_secs_f64()));
        bench.world.no_pods(&bench.runner).await?;
        for (Contender { runner, .. }, rates) in contenders.iter().zip(&mut rates) {
            let began = Timestamp::now();
            let mut last = began;
            for id in queue(bench, runner, &trivial(), many).await? {
                last = last.max(bench.ended(id, LONG).await?.at);
            }
            rates.push(a_minute(many, seconds(began, last)));
            bench.world.no_pods(runner).await?;
        }
        progress(&format!("{KIND}, {many} jobs"), number, bench.sizes.repeats);
    }
    for (Contender { how, .. }, rates) in contenders.iter().zip(rates) {
        let name = format!("{many} trivial jobs at a concurrency of {AT_A_TIME}{how}: jobs a minute");
        rows.push(row(KIND, name, Unit::PerMinute, rates, &floor));
    }
    Ok(())
}

async fn queued_at_once(bench: &Bench, contenders: &[Contender], rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let count = bench.sizes.at_once;
    let (mut floor_each, mut floor_all) = (Vec::new(), Vec::new());
    let mut seen: Vec<Queued> = contenders.iter().map(|_| Queued::default()).collect();
    for number in 1..=bench.sizes.repeats {
        let starts = pods(bench, &format!("queue-{number}"), count, count).await?;
        bench.world.no_pods(&bench.runner).await?;
        floor_all.push(starts.iter().copied().fold(0.0, f64::max));
        floor_each.extend(starts);
        for (Contender { runner, .. }, seen) in contenders.iter().zip(&mut seen) {
            seen.one_more(bench, runner).await?;
        }
        progress(&format!("{KIND}, {count} at once"), number, bench.sizes.repeats);
    }
    for (Contender { how, .. }, seen) in contenders.iter().zip(seen) {
        let name = |what: &str| format!("{count} queued at once{how}: {what}");
        rows.push(row(KIND, name("queued, a script runs (each)"), Unit::Seconds, seen.each, &floor_each));
        rows.push(row(KIND, name("queued, all scripts run"), Unit::Seconds, seen.all, &floor_all));
        if !seen.requests.is_empty() {
            rows.push(row(KIND, name("API requests of each"), Unit::Count, seen.requests, &[3.0]));
            rows.push(row(KIND, name("tries of pods/exec of each"), Unit::Count, seen.tries, &[1.0]));
        }
    }
    Ok(())
}

impl Queued {
    async fn one_more(&mut self, bench: &Bench, runner: &Runner) -> anyhow::Result<()> {
        let count = bench.sizes.at_once;
        // Each lives on, so that in the end all of them run together.
        let hold = format!("sleep {}", bench.sizes.hold_seconds);
        let payload = script(&[&format!("echo {FIRST}"), &hold]);
        let mark = Mark::new(bench).await?;
        let began = Timestamp::now();
        let mut last = began;
        for id in queue(bench, runner, &payload, count).await? {
            let printed = bench.ended(id, LONG).await?.printed(FIRST)?;
            self.each.push(seconds(began, printed));
            last = last.max(printed);
        }
        self.all.push(seconds(began, last));
        if let Some(mark) = mark {
            let counts = mark.until_deleted(bench, runner, count).await?;
            self.requests.push(float(total(&counts)) / float(count));
            self.tries.push(float(tries(&counts)) / float(count));
        }
        bench.world.no_pods(runner).await
    }
}

/// Queues so many jobs.
async fn queue(bench: &Bench, runner: &Runner, payload: &Value, count: usize) -> anyhow::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(bench.world.post_job(runner, payload).await?);
    }
    Ok(ids)
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
