//! How long artifacts take: one large file that nothing makes smaller, and many small ones, each up
//! from one job and down into the next.
//!
//! The floor is what the pod's own disk and `tar` take for the same files: to read them once, and
//! to write them once. Without compression and without network, so nobody reaches it.

use anyhow::{Context as _, ensure};
use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};
use serde_json::{Value, json};

use crate::bare::{BarePod, VOLUME};
use crate::bench::{Bench, FEW, FIRST, REFERENCE, progress, row, seconds, size};

const KIND: &str = "artifacts";

/// What the script prints at its end.
const LAST: &str = "last byte";

/// Small files in one directory.
const IN_ONE: usize = 200;

/// Files to be kept.
pub(crate) struct Load {
    pub(crate) name: String,
    /// Makes them in the directory `out`.
    make: String,
    files: usize,
    /// The least that the archive must have.
    bytes: usize,
}

/// Seconds that the files took, up and down.
#[derive(Default)]
struct Moves {
    up: Vec<f64>,
    down: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let reference = bench.start_reference("artifacts-reference", FEW).await?;
    for load in [one_large(bench.sizes.artifact_bytes), many_small(bench.sizes.artifact_files)] {
        let bare = BarePod::start(bench, format!("artifacts-{}", load.files)).await?;
        bare.timed(&format!("cd {VOLUME}; {}; tar -cf all.tar out", load.make)).await?;
        let (mut own, mut theirs) = (Moves::default(), Moves::default());
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for number in 1..=bench.sizes.repeats {
            own.one_more(bench, &bench.runner, &load).await?;
            if let Some(runner) = &reference {
                theirs.one_more(bench, runner, &load).await?;
            }
            // Into a pipe: tar reads nothing when it sees that nobody wants it.
            read.push(bare.timed(&format!("cd {VOLUME}; tar -cf - out | cat > /dev/null")).await?);
            write.push(bare.timed(&format!("cd {VOLUME}; mkdir to; tar -xf all.tar -C to")).await?);
            // As the pods of jobs do, whose volumes go while the next one writes.
            bare.timed(&format!("rm -rf {VOLUME}/to")).await?;
            progress(&format!("{KIND}, {}", load.name), number, bench.sizes.repeats);
        }
        bare.delete().await?;
        rows.extend(own.rows(&load.name, &read, &write));
        if reference.is_some() {
            rows.extend(theirs.rows(&format!("{REFERENCE}{}", load.name), &read, &write));
        }
    }
    Ok(())
}

impl Moves {
    async fn one_more(&mut self, bench: &Bench, runner: &Runner, load: &Load) -> anyhow::Result<()> {
        let (job, sent) = up(bench, runner, load).await?;
        self.up.push(sent);
        self.down.push(down(bench, runner, load, job).await?);
        Ok(())
    }

    fn rows(self, what: &str, read: &[f64], write: &[f64]) -> Vec<Row> {
        let name = |step: &str| format!("{what}: {step}");
        vec![
            row(KIND, name("up: script's end, stored at GitLab"), Unit::Seconds, self.up, read),
            row(KIND, name("down: asked for, the next script runs"), Unit::Seconds, self.down, write),
        ]
    }
}

pub(crate) fn one_large(bytes: usize) -> Load {
    let make = format!("mkdir -p out; head -c {bytes} /dev/urandom > out/large");
    Load { name: size(bytes), make, files: 1, bytes }
}

pub(crate) fn many_small(files: usize) -> Load {
    let make = format!(
        "i=0; while [ $i -lt {files} ]; do d=out/$((i / {IN_ONE})); [ $((i % {IN_ONE})) != 0 ] || mkdir -p $d; \
         echo \"content of file $i\" > $d/$i; i=$((i+1)); done"
    );
    // An entry of an archive takes more than a hundred bytes, in two places.
    Load { name: format!("{files} files"), make, files, bytes: files * 100 }
}

/// The job that has made and sent the files, and the seconds that sending took.
pub(crate) async fn up(bench: &Bench, runner: &Runner, load: &Load) -> anyhow::Result<(u64, f64)> {
    let artifact = json!({"paths": ["out/"], "artifact_type": "archive", "artifact_format": "zip"});
    let last = format!("echo {LAST}");
    let payload = json!({"steps": steps(&[&load.make, &last]), "artifacts": [artifact]});
    let job = bench.job(runner, &payload).await?;
    let up = seconds(job.printed(LAST)?, bench.requests().await?.uploaded(job.id)?);
    let artifacts = bench.world.gitlab.artifacts(job.id).await?;
    let stored = artifacts.first().context("no artifact")?.size;
    ensure!(stored >= load.bytes as u64, "an archive of {stored} bytes, less than {}", load.bytes);
    Ok((job.id, up))
}

/// The seconds in which another job has got the files of that one.
pub(crate) async fn down(bench: &Bench, runner: &Runner, load: &Load, from: u64) -> anyhow::Result<f64> {
    // The script looks whether all of it has come, after the moment that counts.
    let first = format!("echo {FIRST}");
    let check = format!("test \"$(find out -type f | wc -l)\" -eq {}", load.files);
    let payload: Value = json!({"steps": steps(&[&first, &check]), "dependencies": [{"id": from}]});
    let next = bench.job(runner, &payload).await?;
    Ok(seconds(bench.requests().await?.fetch_began(from)?, next.printed(FIRST)?))
}

fn steps(lines: &[&str]) -> Value {
    json!([{"name": "script", "script": lines}])
}
