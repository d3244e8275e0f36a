//! How old a line of a script is when GitLab has it: the first one, and one after a silence; with
//! and without somebody who watches.
//!
//! GitLab asks for 3 s between two parts of a watched log and for 60 s otherwise. The floor is a
//! line that an exec in a bare pod prints.

use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;

use crate::bare::BarePod;
use crate::bench::{Bench, FEW, FIRST, REFERENCE, progress, row, seconds};

const KIND: &str = "live";

/// What the script prints after its silence.
const AGAIN: &str = "again";

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let count = bench.sizes.repeats;
    let pod = BarePod::start(bench, "live".to_owned()).await?;
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(pod.timed("true").await?);
    }
    let starts = [pod.first_byte];
    pod.delete().await?;
    let reference = bench.start_reference("live-reference", FEW).await?;
    rows.extend(jobs(bench, &bench.runner, "", &lines, &starts).await?);
    if let Some(runner) = &reference {
        rows.extend(jobs(bench, runner, REFERENCE, &lines, &starts).await?);
    }
    Ok(())
}

/// What the lines of one runner's jobs take. The floors are those of a line and of a start.
async fn jobs(bench: &Bench, runner: &Runner, whose: &str, lines: &[f64], starts: &[f64]) -> anyhow::Result<Vec<Row>> {
    let (lives, count) = (bench.sizes.script_seconds, bench.sizes.repeats);
    let mut rows = Vec::new();
    for (word, watched) in [("watched", true), ("unwatched", false)] {
        let (mut ages, mut waits, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=count {
            let silence = format!("sleep {lives}");
            let mut payload = script(&[&format!("echo {FIRST}"), &silence, &format!("echo {AGAIN}"), &silence]);
            payload["watched"] = watched.into();
            let job = bench.job(runner, &payload).await?;
            let requests = bench.requests().await?;
            let stored = requests.stored(job.id, job.offset_behind(FIRST)?)?;
            ages.push(seconds(job.printed(FIRST)?, stored));
            waits.push(seconds(requests.handed_out()?, stored));
            later.push(seconds(job.printed(AGAIN)?, requests.stored(job.id, job.offset_behind(AGAIN)?)?));
            progress(&format!("{whose}{KIND}, {word}"), number, count);
        }
        let name = |what: &str| format!("{whose}job, {word}: {what} at GitLab");
        rows.push(row(KIND, name("first line printed,"), Unit::Seconds, ages, lines));
        rows.push(row(KIND, name("handed out, first line"), Unit::Seconds, waits, starts));
        rows.push(row(KIND, name(&format!("line after {lives} s of silence,")), Unit::Seconds, later, lines));
    }
    Ok(rows)
}
