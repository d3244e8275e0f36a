//! What the processes take that move artifacts: their largest resident memory, for one very large
//! file and for very many small ones. It must not grow with either. Only where the pods run on this
//! machine.

use std::time::Duration;

use gantry_tests::numbers::{Row, Unit};
use tokio::time::sleep;

use crate::artifacts::{Load, down, many_small, one_large, up};
use crate::bench::{Bench, progress, row};

const KIND: &str = "movers";

/// Between two looks. The kernel keeps the largest value for as long as a process lives, so that
/// the last look before its end counts.
const PERIOD: Duration = Duration::from_millis(20);

/// How the kernel shows the arguments of a moving process.
const MOVER: &[u8] = b"gantry-helper\0move\0";

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let loads: [Load; 2] = [one_large(bench.sizes.moved_bytes), many_small(bench.sizes.moved_files)];
    for (number, load) in loads.iter().enumerate() {
        let (sent, upload) = watched(up(bench, &bench.runner, load)).await?;
        let (_, download) = watched(down(bench, &bench.runner, load, sent.0)).await?;
        for (what, peak) in [("up", upload), ("down", download)] {
            match peak {
                Some(peak) => {
                    let name = format!("{}: {what}: most resident memory of the mover", load.name);
                    rows.push(row(KIND, name, Unit::Mebibytes, vec![peak], &[]));
                }
                None => eprintln!("no process that moves artifacts was seen: the pods are not on this machine"),
            }
        }
        progress(KIND, number + 1, loads.len());
    }
    Ok(())
}

/// What comes of `work`, and the largest memory in MiB of any mover meanwhile.
async fn watched<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(T, Option<f64>)> {
    let mut peak: Option<f64> = None;
    let looking = async {
        loop {
            peak = movers().chain(peak).reduce(f64::max);
            sleep(PERIOD).await;
        }
    };
    let done = tokio::select! {
        done = work => done?,
        () = looking => anyhow::bail!("nobody ends the looking"),
    };
    Ok((done, peak))
}

/// The largest memory so far of each mover, in MiB. One that ends meanwhile has none.
fn movers() -> impl Iterator<Item = f64> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    processes.filter_map(|process| {
        let arguments = std::fs::read(process.join("cmdline")).ok()?;
        let status = arguments.ends_with(MOVER).then(|| std::fs::read_to_string(process.join("status")).ok())??;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib / 1024.0)
    })
}
