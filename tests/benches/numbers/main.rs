//! The numbers of the project, beside what the cluster itself takes for the same:
//!
//!     cargo bench -p gantry-tests --bench numbers -- [--cluster] [--save FILE] [--compare FILE] [KIND…]
//!
//! Each kind of measurement is one file and measures the shipped binaries from outside: by the
//! times that GitLab notes, by the stamps in logs, by what the API server counts and the kernel
//! says of the manager's process. What each number means is in `docs/performance.md`.

mod adoption;
mod api_requests;
mod artifacts;
mod bare;
mod bench;
mod boot;
mod caches;
mod cost;
mod live;
mod log;
mod manager;
mod many;
mod movers;
mod options;
mod process;
mod requests;
mod start;

use std::process::ExitCode;

use anyhow::Context as _;
use gantry_tests::numbers::Run;
use gantry_tests::suite;
use jiff::Timestamp;
use tokio::task::LocalSet;

use crate::bench::Bench;
use crate::options::{Invocation, Options};

/// All kinds of measurement in the order in which they are made, and what they answer.
const KINDS: [(&str, &str); 11] = [
    ("boot", "how long does a manager take from its start until it asks for a job?"),
    ("start", "how long does a job take until its script runs, and until its end?"),
    ("cost", "what does a job cost GitLab, the API server and the manager?"),
    ("live", "how old is the first line of a script when GitLab has it?"),
    ("log", "how much longer is a job for a large log?"),
    ("many", "how many jobs go through at a time?"),
    ("manager", "how much memory and CPU does the manager take?"),
    ("adoption", "how long do running jobs wait for another manager?"),
    ("artifacts", "how long do artifacts take up and down?"),
    ("movers", "how much memory do the processes take that move artifacts?"),
    ("caches", "how long do caches take, beside tar, zstd and a plain HTTP client?"),
];

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Invocation::Measure(options)) => options,
        Ok(Invocation::Help) => {
            print!("{}", options::help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                result = measure(&options) => result,
                () = suite::interrupted() => anyhow::bail!("interrupted"),
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    // Read before anything is measured: a name that is wrong must not cost a run.
    let earlier = match &options.compare {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Some(Run::from_json(&text).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    let bench = Bench::start(options).await?;
    let mut run = Run::new(Timestamp::now().round(jiff::Unit::Second)?.to_string(), bench.ground());
    let mut failed = Vec::new();
    for (kind, _) in KINDS.iter().filter(|(kind, _)| options.wants(kind)) {
        let measured = match *kind {
            "boot" => boot::measure(&bench, &mut run.rows).await,
            "start" => start::measure(&bench, &mut run.rows).await,
            "cost" => cost::measure(&bench, &mut run.rows).await,
            "live" => live::measure(&bench, &mut run.rows).await,
            "log" => log::measure(&bench, &mut run.rows).await,
            "many" => many::measure(&bench, &mut run.rows).await,
            "manager" => manager::measure(&bench, &mut run.rows).await,
            "adoption" => adoption::measure(&bench, &mut run.rows).await,
            "artifacts" => artifacts::measure(&bench, &mut run.rows).await,
            "caches" => caches::measure(&bench, &mut run.rows).await,
            _ => movers::measure(&bench, &mut run.rows).await,
        };
        if let Err(error) = measured {
            // The other kinds, and what this one has measured before, say something without it.
            failed.push(format!("{kind}: {error:#}"));
        }
    }
    print!("{}", run.table(earlier.as_ref()));
    if let Some(path) = &options.save {
        std::fs::write(path, run.to_json()?).with_context(|| path.display().to_string())?;
        println!("saved in {}", path.display());
    }
    if let Err(error) = bench.end().await {
        failed.push(format!("the end of the run: {error:#}"));
    }
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
