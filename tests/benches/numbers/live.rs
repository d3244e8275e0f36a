//! How old the first line of a script is when GitLab has it, for a job that runs for a few seconds, with and without somebody who watches.
//!
//! GitLab asks for 3 s between two parts of a watched log and for 60 s otherwise. The floor is a line that an exec in a bare pod prints.

use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;

use crate::bare::BarePod;
use crate::bench::{Bench, FIRST, progress, row, seconds};

const KIND: &str = "live";

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (lives, count) = (bench.sizes.script_seconds, bench.sizes.repeats);
    let pod = BarePod::start(bench, "live".to_owned()).await?;
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(pod.timed("true").await?);
    }
    let starts = [pod.first_byte];
    pod.delete().await?;
    let mut rows = Vec::new();
    for (word, watched) in [("watched", true), ("unwatched", false)] {
        let (mut ages, mut waits) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let mut payload = script(&[&format!("echo {FIRST}"), &format!("sleep {lives}")]);
            payload["watched"] = watched.into();
            let job = bench.job(&bench.runner, &payload).await?;
            let requests = bench.requests().await?;
            let stored = requests.stored(job.id, job.offset_behind(FIRST)?)?;
            ages.push(seconds(job.printed(FIRST)?, stored));
            waits.push(seconds(requests.handed_out()?, stored));
            progress(&format!("{KIND}, {word}"), number, count);
        }
        let name = |what: &str| format!("job of {lives} s, {word}: {what} at GitLab");
        rows.push(row(KIND, name("first line printed,"), Unit::Seconds, ages, &lines));
        rows.push(row(KIND, name("handed out, first line"), Unit::Seconds, waits, &starts));
    }
    Ok(rows)
}
