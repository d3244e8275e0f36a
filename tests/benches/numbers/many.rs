//! How many jobs go through: trivial ones at a concurrency of ten, and a queue that fills at once.
//!
//! The floor is as many bare pods, as many of them at a time: created, an exec that works, deleted.

use futures::{StreamExt as _, TryStreamExt as _};
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::bare::BarePod;
use crate::bench::{Bench, FIRST, LONG, float, progress, row, seconds, trivial};

const KIND: &str = "many";

/// `concurrent` of the runner that does one after the other.
const AT_A_TIME: usize = 10;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![jobs_a_minute(bench).await?];
    rows.extend(queued_at_once(bench).await?);
    Ok(rows)
}

async fn jobs_a_minute(bench: &Bench) -> anyhow::Result<Row> {
    let many = bench.sizes.many;
    let runner = bench.start_runner("ten", AT_A_TIME).await?;
    bench.job(&runner, &trivial()).await?;
    let (mut rates, mut floor) = (Vec::new(), Vec::new());
    for number in 1..=bench.sizes.repeats {
        let began = Instant::now();
        pods(bench, &format!("ten-{number}"), many, AT_A_TIME).await?;
        floor.push(a_minute(many, began.elapsed().as_secs_f64()));
        bench.world.no_pods(&bench.runner).await?;
        let began = Timestamp::now();
        let mut ids = Vec::new();
        for _ in 0..many {
            ids.push(bench.world.post_job(&runner, &trivial()).await?);
        }
        let mut last = began;
        for id in ids {
            last = last.max(bench.ended(id, LONG).await?.at);
        }
        rates.push(a_minute(many, seconds(began, last)));
        bench.world.no_pods(&runner).await?;
        progress(&format!("{KIND}, {many} jobs"), number, bench.sizes.repeats);
    }
    let name = format!("{many} trivial jobs at a concurrency of {AT_A_TIME}: jobs a minute");
    Ok(row(KIND, name, Unit::PerMinute, rates, &floor))
}

async fn queued_at_once(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (count, hold) = (bench.sizes.at_once, bench.sizes.hold_seconds);
    let runner = bench.start_runner("queue", count).await?;
    bench.job(&runner, &trivial()).await?;
    // Each lives on, so that in the end all of them run together.
    let payload = script(&[&format!("echo {FIRST}"), &format!("sleep {hold}")]);
    let (mut each, mut all, mut floor_each, mut floor_all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 1..=bench.sizes.repeats {
        let starts = pods(bench, &format!("queue-{number}"), count, count).await?;
        bench.world.no_pods(&bench.runner).await?;
        floor_all.push(starts.iter().copied().fold(0.0, f64::max));
        floor_each.extend(starts);
        let began = Timestamp::now();
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(bench.world.post_job(&runner, &payload).await?);
        }
        let mut last = began;
        for id in ids {
            let printed = bench.ended(id, LONG).await?.printed(FIRST)?;
            each.push(seconds(began, printed));
            last = last.max(printed);
        }
        all.push(seconds(began, last));
        bench.world.no_pods(&runner).await?;
        progress(&format!("{KIND}, {count} at once"), number, bench.sizes.repeats);
    }
    let name = |what: &str| format!("{count} jobs queued at once: {what}");
    Ok(vec![
        row(KIND, name("queued, a script runs (each of them)"), Unit::Seconds, each, &floor_each),
        row(KIND, name("queued, all scripts run"), Unit::Seconds, all, &floor_all),
    ])
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
