//! How long a manager takes from the start of its process until it asks GitLab for a job. One is
//! queued already, so that the request is known by its answer.

use gantry_tests::Process;
use gantry_tests::numbers::{Row, Unit};
use jiff::Timestamp;

use crate::bench::{BOUND, Bench, progress, row, seconds, trivial};

const KIND: &str = "boot";

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let count = bench.sizes.boots;
    // Makes the account and the configuration; its process is in the way.
    let runner = bench.start_runner(KIND, 1).await?;
    runner.process.end();
    let (world, program) = (&bench.world, &bench.world.binaries().manager);
    let args = ["run", "--config", &runner.config.display().to_string()].map(str::to_owned);
    let mut taken = Vec::new();
    for number in 1..=count {
        let job = world.post_job(&runner, &trivial()).await?;
        let began = Timestamp::now();
        let process = Process::start(&format!("{KIND}-{number}"), world.dir(), program, &args)?;
        bench.ended(job, BOUND).await?;
        taken.push(seconds(began, bench.requests().await?.asked()?));
        world.no_pods(&runner).await?;
        drop(process);
        progress(KIND, number, count);
    }
    rows.push(row(KIND, "process started, asks for a job", Unit::Seconds, taken, &[]));
    Ok(())
}
