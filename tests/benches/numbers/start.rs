//! How long a trivial job takes to start and to end, without sources, one after the other.
//!
//! The floor is a bare pod with the same two images: from its creation to the first byte of an exec in its last container.

use gantry_tests::numbers::{Row, Unit};

use crate::bare::BarePod;
use crate::bench::{Bench, FIRST, progress, row, seconds, trivial};

const KIND: &str = "start";

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let count = bench.sizes.jobs;
    let (mut floor, mut queue, mut first, mut rest, mut end) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    BarePod::start(bench, "start-0".to_owned()).await?.delete().await?;
    for number in 1..=count {
        // In turn, so that a busy moment of the machine hits both.
        let pod = BarePod::start(bench, format!("start-{number}")).await?;
        floor.push(pod.first_byte);
        pod.delete().await?;
        let job = bench.job(&bench.runner, &trivial()).await?;
        let handed_out = bench.requests().await?.handed_out()?;
        let printed = job.printed(FIRST)?;
        queue.push(seconds(job.queued, handed_out));
        first.push(seconds(handed_out, printed));
        rest.push(seconds(printed, job.at));
        end.push(seconds(handed_out, job.at));
        progress(KIND, number, count);
    }
    Ok(vec![
        row(KIND, "trivial job: queued, handed out", Unit::Seconds, queue, &[]),
        row(KIND, "trivial job: handed out, first byte of its script", Unit::Seconds, first, &floor),
        row(KIND, "trivial job: last byte of its script, final state", Unit::Seconds, rest, &[]),
        row(KIND, "trivial job: handed out, final state", Unit::Seconds, end, &floor),
    ])
}
