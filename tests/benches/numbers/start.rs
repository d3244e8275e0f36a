//! How long a trivial job takes to start and to end, without sources, one after the other; with a
//! helper image of ours, and with one that has no helper of ours, so that it is pushed; and the
//! jobs of GitLab Runner, where it is measured too.
//!
//! The floor is a bare pod with the same two images: from its creation to the first byte of an exec
//! in its last container.

use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};

use crate::bare::BarePod;
use crate::bench::{Bench, FEW, FIRST, REFERENCE, progress, row, seconds, trivial};

const KIND: &str = "start";

/// Seconds of the jobs of one runner.
#[derive(Default)]
struct Starts {
    queue: Vec<f64>,
    first: Vec<f64>,
    rest: Vec<f64>,
    end: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let count = bench.sizes.jobs;
    let pushing = bench.start_pushing_runner("pushed", FEW).await?;
    if let Some(runner) = &pushing {
        bench.job(runner, &trivial()).await?;
    }
    let reference = bench.start_reference("start-reference", FEW).await?;
    let (mut floor, mut own, mut pushed) = (Vec::new(), Starts::default(), Starts::default());
    let mut theirs = Starts::default();
    BarePod::start(bench, "start-0".to_owned()).await?.delete().await?;
    for number in 1..=count {
        // In turn, so that a busy moment of the machine hits all.
        let pod = BarePod::start(bench, format!("start-{number}")).await?;
        floor.push(pod.first_byte);
        pod.delete().await?;
        own.one_more(bench, &bench.runner).await?;
        if let Some(runner) = &pushing {
            pushed.one_more(bench, runner).await?;
        }
        if let Some(runner) = &reference {
            theirs.one_more(bench, runner).await?;
        }
        progress(KIND, number, count);
    }
    rows.extend(own.rows("trivial job", &floor));
    if pushing.is_some() {
        rows.extend(pushed.rows("the helper pushed", &floor));
    }
    if reference.is_some() {
        rows.extend(theirs.rows(&format!("{REFERENCE}trivial job"), &floor));
    }
    Ok(())
}

impl Starts {
    async fn one_more(&mut self, bench: &Bench, runner: &Runner) -> anyhow::Result<()> {
        let job = bench.job(runner, &trivial()).await?;
        let handed_out = bench.requests().await?.handed_out()?;
        let printed = job.printed(FIRST)?;
        self.queue.push(seconds(job.queued, handed_out));
        self.first.push(seconds(handed_out, printed));
        self.rest.push(seconds(printed, job.at));
        self.end.push(seconds(handed_out, job.at));
        Ok(())
    }

    fn rows(self, what: &str, floor: &[f64]) -> Vec<Row> {
        let name = |step: &str| format!("{what}: {step}");
        vec![
            row(KIND, name("queued, handed out"), Unit::Seconds, self.queue, &[]),
            row(KIND, name("handed out, first byte of its script"), Unit::Seconds, self.first, floor),
            row(KIND, name("last byte of its script, final state"), Unit::Seconds, self.rest, &[]),
            row(KIND, name("handed out, final state"), Unit::Seconds, self.end, floor),
        ]
    }
}
