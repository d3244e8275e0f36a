//! How long artifacts take: one large file that nothing makes smaller, and many small ones, each up from one job and down into the next.
//!
//! The floor is what the pod's own disk and `tar` take for the same files: to read them once, and to write them once. Without compression
//! and without network, so nobody reaches it.

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
struct Load {
    name: String,
    /// Makes them in the directory `out`.
    make: String,
    files: usize,
    /// The least that the archive must have.
    bytes: usize,
}

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for load in [one_large(bench.sizes.artifact_bytes), many_small(bench.sizes.artifact_files)] {
        let (read, write) = bare(bench, &load).await?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for number in 1..=bench.sizes.repeats {
            let (sent, fetched) = up_and_down(bench, &load).await?;
            up.push(sent);
            down.push(fetched);
            progress(&format!("{KIND}, {}", load.name), number, bench.sizes.repeats);
        }
        let name = |what: &str| format!("{}: {what}", load.name);
        rows.push(row(KIND, name("up: script's end, stored at GitLab"), Unit::Seconds, up, &read));
        rows.push(row(KIND, name("down: asked for, the next script runs"), Unit::Seconds, down, &write));
    }
    Ok(rows)
}

fn one_large(bytes: usize) -> Load {
    let make = format!("mkdir -p out; head -c {bytes} /dev/urandom > out/large");
    Load { name: size(bytes), make, files: 1, bytes }
}

fn many_small(files: usize) -> Load {
    let make = format!(
        "i=0; while [ $i -lt {files} ]; do d=out/$((i / {IN_ONE})); [ $((i % {IN_ONE})) != 0 ] || mkdir -p $d; \
         echo \"content of file $i\" > $d/$i; i=$((i+1)); done"
    );
    // An entry of an archive takes more than a hundred bytes, in two places.
    Load { name: format!("{files} files"), make, files, bytes: files * 100 }
}

/// Seconds up from one job, and down into another.
async fn up_and_down(bench: &Bench, load: &Load) -> anyhow::Result<(f64, f64)> {
    let steps = |lines: &[&str]| json!([{"name": "script", "script": lines}]);
    let artifact = json!({"paths": ["out/"], "artifact_type": "archive", "artifact_format": "zip"});
    let last = format!("echo {LAST}");
    let payload = json!({"steps": steps(&[&load.make, &last]), "artifacts": [artifact]});
    let job = bench.job(&bench.runner, &payload).await?;
    let up = seconds(job.printed(LAST)?, bench.requests().await?.uploaded(job.id)?);
    let artifacts = bench.world.gitlab.artifacts(job.id).await?;
    let stored = artifacts.first().context("no artifact")?.size;
    ensure!(stored >= load.bytes as u64, "an archive of {stored} bytes, less than {}", load.bytes);

    // The script looks whether all of it has come, after the moment that counts.
    let first = format!("echo {FIRST}");
    let check = format!("test \"$(find out -type f | wc -l)\" -eq {}", load.files);
    let payload: Value = json!({"steps": steps(&[&first, &check]), "dependencies": [{"id": job.id}]});
    let next = bench.job(&bench.runner, &payload).await?;
    Ok((up, seconds(bench.requests().await?.fetch_began(job.id)?, next.printed(FIRST)?)))
}

/// Seconds to read the files and to write them, in a bare pod.
async fn bare(bench: &Bench, load: &Load) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let pod = BarePod::start(bench, format!("artifacts-{}", load.files)).await?;
    pod.timed(&format!("cd {VOLUME}; {}; tar -cf all.tar out", load.make)).await?;
    let (mut read, mut write) = (Vec::new(), Vec::new());
    for number in 0..bench.sizes.repeats {
        // Into a pipe: tar reads nothing when it sees that nobody wants it.
        read.push(pod.timed(&format!("cd {VOLUME}; tar -cf - out | cat > /dev/null")).await?);
        write.push(pod.timed(&format!("cd {VOLUME}; mkdir to-{number}; tar -xf all.tar -C to-{number}")).await?);
    }
    pod.delete().await?;
    Ok((read, write))
}
