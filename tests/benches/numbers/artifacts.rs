//! How long artifacts take: one large file that nothing makes smaller, and many small ones, each up
//! from one job and down into the next.
//!
//! The floor is what the pod's own disk and `tar` take for the same files: to read them once, and
//! to write them once. Without compression and without network, so nobody reaches it.

use anyhow::{Context as _, ensure};
use gantry_tests::numbers::{Row, Unit};
use serde_json::{Value, json};

use crate::bare::{BarePod, VOLUME};
use crate::bench::{Bench, FIRST, progress, row, seconds, size};

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

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [one_large(bench.sizes.artifact_bytes), many_small(bench.sizes.artifact_files)] {
        let bare = BarePod::start(bench, format!("artifacts-{}", load.files)).await?;
        bare.timed(&format!("cd {VOLUME}; {}; tar -cf all.tar out", load.make)).await?;
        let (mut up, mut down, mut read, mut write) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for number in 1..=bench.sizes.repeats {
            let (job, sent) = self::up(bench, &load).await?;
            up.push(sent);
            down.push(self::down(bench, &load, job).await?);
            // Into a pipe: tar reads nothing when it sees that nobody wants it.
            read.push(bare.timed(&format!("cd {VOLUME}; tar -cf - out | cat > /dev/null")).await?);
            write.push(bare.timed(&format!("cd {VOLUME}; mkdir to; tar -xf all.tar -C to")).await?);
            // As the pods of jobs do, whose volumes go while the next one writes.
            bare.timed(&format!("rm -rf {VOLUME}/to")).await?;
            progress(&format!("{KIND}, {}", load.name), number, bench.sizes.repeats);
        }
        bare.delete().await?;
        let name = |what: &str| format!("{}: {what}", load.name);
        rows.push(row(KIND, name("up: script's end, stored at GitLab"), Unit::Seconds, up, &read));
        rows.push(row(KIND, name("down: asked for, the next script runs"), Unit::Seconds, down, &write));
    }
    Ok(rows)
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
pub(crate) async fn up(bench: &Bench, load: &Load) -> anyhow::Result<(u64, f64)> {
    let artifact = json!({"paths": ["out/"], "artifact_type": "archive", "artifact_format": "zip"});
    let last = format!("echo {LAST}");
    let payload = json!({"steps": steps(&[&load.make, &last]), "artifacts": [artifact]});
    let job = bench.job(&bench.runner, &payload).await?;
    let up = seconds(job.printed(LAST)?, bench.requests().await?.uploaded(job.id)?);
    let artifacts = bench.world.gitlab.artifacts(job.id).await?;
    let stored = artifacts.first().context("no artifact")?.size;
    ensure!(stored >= load.bytes as u64, "an archive of {stored} bytes, less than {}", load.bytes);
    Ok((job.id, up))
}

/// The seconds in which another job has got the files of that one.
pub(crate) async fn down(bench: &Bench, load: &Load, from: u64) -> anyhow::Result<f64> {
    // The script looks whether all of it has come, after the moment that counts.
    let first = format!("echo {FIRST}");
    let check = format!("test \"$(find out -type f | wc -l)\" -eq {}", load.files);
    let payload: Value = json!({"steps": steps(&[&first, &check]), "dependencies": [{"id": from}]});
    let next = bench.job(&bench.runner, &payload).await?;
    Ok(seconds(bench.requests().await?.fetch_began(from)?, next.printed(FIRST)?))
}

fn steps(lines: &[&str]) -> Value {
    json!([{"name": "script", "script": lines}])
}
