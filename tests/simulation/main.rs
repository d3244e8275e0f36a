//! The seeded simulation: manager, agent, shim and relay as they are, in one process on a paused
//! clock, against the simulators that also serve the end-to-end tests. One seed decides which jobs
//! there are, what goes wrong and when; a seed that fails is kept and replayed first at every later
//! run.
//!
//! `world.rs` puts a world together, `faults.rs` and `weather.rs` are what happens to it,
//! `invariants.rs` what must hold all the same.

mod allowed;
mod cluster;
mod faults;
mod first_version;
mod gitlab;
mod invariants;
mod ledger;
mod log;
mod managers;
mod office;
mod panics;
mod pipe;
mod pods;
mod pool;
mod programs;
mod seeds;
mod shell;
mod sockets;
mod tasks;
mod tools;
mod weather;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::seeds::SimulationArgs;

/// A life is mostly small objects that come and go; glibc spends a third of the time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A world that takes longer than this on a real clock is stuck. The slowest take some seconds on a
/// quiet machine.
const STUCK: Duration = Duration::from_mins(10);

/// One world in so many is made twice.
const REPEATED: u64 = 16;

/// How often it is looked for worlds that are stuck.
const LOOK: Duration = Duration::from_secs(10);

/// Failures after which no more worlds are made.
const ENOUGH: usize = 5;

fn main() -> ExitCode {
    let asked = match SimulationArgs::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("simulation: {problem}");
            return ExitCode::FAILURE;
        }
    };
    if asked.help {
        print!("{}", seeds::HELP);
        return ExitCode::SUCCESS;
    }
    if asked.skip {
        return ExitCode::SUCCESS;
    }
    gantry_helper::send_diagnostics_to(|line| tracing::info!("helper: {line}"));
    panics::watch();
    if !cfg!(tokio_unstable) {
        println!(
            "simulation: a seed does not repeat its world in this build: RUSTFLAGS, or a cargo configuration that is nearer, hides this \
             project's .cargo/config.toml; add `--cfg tokio_unstable` there"
        );
    }
    match asked.seed {
        Some(seed) => one(seed),
        None => many(&asked),
    }
}

/// One world, with everything that happened in it.
fn one(seed: u64) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let result = world::run(seed, true);
    match result {
        Err(error) => {
            eprintln!("{seed:#018x}: {error:#}");
            ExitCode::FAILURE
        }
        Ok(report) => {
            for problem in &report.wrong {
                println!("WRONG: {problem}");
            }
            println!("{seed:#018x}: {} problems, digest {:#018x}", report.wrong.len(), report.digest);
            if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// What several threads do together.
#[derive(Default)]
struct Run {
    /// Worlds that are still to be made, the next one last.
    seeds: Mutex<Vec<u64>>,
    /// Those that are being made, and since when.
    now: Mutex<BTreeMap<u64, SystemTime>>,
    /// Worlds that were made; one that was made twice counts twice.
    worlds: AtomicU64,
    failures: Mutex<Vec<(u64, Vec<String>)>>,
}

fn many(asked: &SimulationArgs) -> ExitCode {
    let begun = SystemTime::now();
    let now = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
    let base = asked.from.unwrap_or_else(|| u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0));
    let fresh = asked.lives.div_ceil(world::JOBS);
    let mut seeds: Vec<u64> = (0..fresh).map(|at| base.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let kept = seeds::regressions();
    println!("simulation: {} kept seeds and {fresh} new worlds on {} threads", kept.len(), asked.threads);
    seeds.extend(kept.into_iter().rev());
    let all = seeds.len();
    let run = Arc::new(Run { seeds: Mutex::new(seeds), ..Run::default() });
    let (done, ended) = mpsc::channel();
    for _ in 0..asked.threads {
        let (run, done) = (Arc::clone(&run), done.clone());
        std::thread::spawn(move || {
            run.work();
            drop(done);
        });
    }
    drop(done);
    // A thread that is stuck cannot be ended; the program can.
    while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) as Result<(), _> {
        run.note_stuck();
        let left = lock(&run.seeds).len();
        println!("simulation: {} of {all} worlds, {} wrong", all - left, lock(&run.failures).len());
    }
    let worlds = run.worlds.load(Ordering::Relaxed);
    let took = begun.elapsed().unwrap_or_default();
    println!("simulation: {} lives in {worlds} worlds, {:.1} s", worlds * world::JOBS, took.as_secs_f64());
    let failures = std::mem::take(&mut *lock(&run.failures));
    for (seed, problems) in &failures {
        println!("\nworld {seed:#018x}:");
        for problem in problems {
            println!("  {problem}");
        }
        println!("  again: {}", seeds::command(*seed));
        seeds::keep(*seed, problems.first().map_or("", String::as_str));
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One world; now and then twice, because a seed that does not repeat its world is of no use.
fn twice(seed: u64, worlds: &AtomicU64) -> anyhow::Result<Vec<String>> {
    let first = world::run(seed, false)?;
    worlds.fetch_add(1, Ordering::Relaxed);
    let mut wrong = first.wrong;
    if cfg!(tokio_unstable) && seed.is_multiple_of(REPEATED) {
        let second = world::run(seed, false)?;
        worlds.fetch_add(1, Ordering::Relaxed);
        if first.digest != second.digest {
            wrong.push(format!("it went differently the second time: {:#x}, {:#x}", first.digest, second.digest));
        }
    }
    Ok(wrong)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    fn next(&self) -> Option<u64> {
        if lock(&self.failures).len() >= ENOUGH {
            return None;
        }
        let seed = lock(&self.seeds).pop()?;
        lock(&self.now).insert(seed, SystemTime::now());
        Some(seed)
    }

    fn work(&self) {
        while let Some(seed) = self.next() {
            let problems = match std::panic::catch_unwind(|| twice(seed, &self.worlds)) {
                Ok(Ok(wrong)) => wrong,
                Ok(Err(error)) => vec![format!("{error:#}")],
                Err(_) => panics::take(),
            };
            lock(&self.now).remove(&seed);
            if let Some(first) = problems.first() {
                println!("simulation: world {seed:#018x} is wrong: {first}");
                lock(&self.failures).push((seed, problems));
            }
        }
    }

    /// Gives up on worlds that do not come to an end.
    fn note_stuck(&self) {
        let now = lock(&self.now).clone();
        for (seed, since) in now {
            if since.elapsed().unwrap_or_default() > STUCK {
                println!("world {seed:#018x} is stuck\n  again: {}", seeds::command(seed));
                seeds::keep(seed, "stuck");
                #[expect(clippy::disallowed_methods, reason = "its thread cannot be ended in any other way")]
                std::process::exit(1);
            }
        }
    }
}
