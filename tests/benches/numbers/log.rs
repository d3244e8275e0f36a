//! How much longer a job is for a large log: from the end of its script to its final state, with
//! and without somebody who watches.
//!
//! The floor is an exec in a bare pod that prints as many bytes: from the end of the script, by its
//! own clock, to the end of the stream.

use anyhow::{Context as _, ensure};
use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::world::script;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::bare::BarePod;
use crate::bench::{Bench, FEW, FIRST, REFERENCE, float, progress, row, seconds, size};

const KIND: &str = "log";

/// Bytes of a line in GitLab's log, its stamp and its end included.
const LINE: usize = 100;

/// Bytes that GitLab Runner 19.4 sends in one request at most, and so do we.
const PART: usize = 1 << 20;

/// Bytes of a stamp.
const STAMP: usize = 32;

/// What the script prints at its end.
const LAST: &str = "last byte";

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let reference = bench.start_reference("log-reference", FEW).await?;
    for bytes in bench.sizes.logs {
        let floors = bare(bench, bytes).await?;
        rows.extend(jobs(bench, &bench.runner, "", bytes, &floors).await?);
        if let Some(runner) = &reference {
            rows.extend(jobs(bench, runner, REFERENCE, bytes, &floors).await?);
        }
    }
    Ok(())
}

/// What so large logs of one runner's jobs take. The floors are those of [`bare`].
async fn jobs(
    bench: &Bench,
    runner: &Runner,
    whose: &str,
    bytes: usize,
    (floor_all, floor_tail): &(Vec<f64>, Vec<f64>),
) -> anyhow::Result<Vec<Row>> {
    let count = bench.sizes.repeats;
    let mut rows = Vec::new();
    for (word, watched) in [("watched", true), ("unwatched", false)] {
        let (mut all, mut tail, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=count {
            let lines = [format!("echo {FIRST}"), print_lines(bytes, LINE - STAMP), format!("echo {LAST}")];
            let mut payload = script(&lines.each_ref().map(String::as_str));
            payload["watched"] = watched.into();
            let job = bench.job(runner, &payload).await?;
            ensure!(job.log_bytes() >= bytes, "a log of {} bytes, not of {bytes}", job.log_bytes());
            tail.push(seconds(job.printed(LAST)?, job.at));
            all.push(seconds(job.printed(FIRST)?, job.at));
            parts.push(float(bench.requests().await?.parts(job.id)));
            progress(&format!("{whose}{KIND}, {}, {word}", size(bytes)), number, count);
        }
        let name = |from: &str| format!("{whose}{} of log, {word}: {from}, final state", size(bytes));
        rows.push(row(KIND, name("script's end"), Unit::Seconds, tail, floor_tail));
        rows.push(row(KIND, name("script's first byte"), Unit::Seconds, all, floor_all));
        let name = format!("{whose}{} of log, {word}: requests that bring it", size(bytes));
        rows.push(row(KIND, name, Unit::Count, parts, &[float(bytes.div_ceil(PART))]));
    }
    Ok(rows)
}

/// Seconds that the bytes take through the API server alone: all of it, and behind the end of the
/// script.
async fn bare(bench: &Bench, bytes: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let pod = BarePod::start(bench, format!("log-{bytes}")).await?;
    let (mut all, mut tail) = (Vec::new(), Vec::new());
    for _ in 0..bench.sizes.repeats {
        let began = Instant::now();
        // As many bytes as the job's log has at GitLab.
        let output = pod.exec(&format!("{}; date +%s.%N", print_lines(bytes, LINE))).await?;
        let (took, now) = (began.elapsed().as_secs_f64(), Timestamp::now());
        ensure!(output.len() >= bytes, "an exec gave {} bytes, not {bytes}", output.len());
        let ended = output.lines().last().and_then(|line| line.split_once('.')).context("no time at the end")?;
        all.push(took);
        tail.push(seconds(Timestamp::new(ended.0.parse()?, ended.1.parse()?)?, now));
    }
    pod.delete().await?;
    Ok((all, tail))
}

/// Prints what makes so many bytes at GitLab, in lines of `length` bytes here. Job scripts fail
/// with any part of a pipe, and `yes` ends only because nobody reads any more.
fn print_lines(bytes: usize, length: usize) -> String {
    format!("(yes {} || true) | head -n {}", "x".repeat(length - 1), bytes / LINE)
}
