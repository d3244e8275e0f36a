//! Runs tests that share a world: several at once, each isolated from the others' failures.
//! Understands as much of the command line of Rust's own test programs as cargo and people use, and
//! `--cluster`: the pods go to the cluster of `KUBECONFIG` instead of a simulated one.

use std::cmp::Reverse;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout};

use crate::binaries;
use crate::cluster::{ClusterChoice, Need};
use crate::process::last_lines;
use crate::world::World;

/// Tests at once. Most of their time they wait for pods.
const AT_ONCE: u32 = 8;

/// No test takes longer. The bounds within a test are shorter and say more.
const LONGEST: Duration = Duration::from_secs(240);

/// What is looked at when all tests have ended, as tests of their own.
const CLEAN: &str = "the world is clean afterwards";
const ENDS: &str = "runner and simulators end when they are told to";

/// Bytes that a run needs at most: binaries, and the volumes of as many pods as live at once.
const ROOM: u64 = 10 << 30;

/// Characters of a reason in the line of a test that failed; all of it is shown at the end.
const REASON: usize = 300;

/// What a test gives back.
pub type Outcome = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// A test.
pub struct Test {
    name: String,
    need: Option<Need>,
    longest: Duration,
    alone: bool,
    run: Box<dyn FnOnce(Rc<World>) -> Outcome>,
}

impl Test {
    /// A test of this name.
    pub fn new<F>(name: impl Into<String>, run: impl FnOnce(Rc<World>) -> F + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        Self {
            name: name.into(),
            need: None,
            longest: LONGEST,
            alone: false,
            run: Box::new(|world| Box::pin(run(world))),
        }
    }

    /// The same, only where the cluster has this.
    pub fn needs(self, need: Need) -> Self {
        Self { need: Some(need), ..self }
    }

    /// The same with more time than tests have otherwise.
    pub fn takes(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// The same, while no other runs: what it does to the machine would be theirs to bear.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// What was asked for on the command line.
#[derive(Default)]
struct SuiteArgs {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
    wanted: ClusterChoice,
    at_once: Option<u32>,
    help: bool,
}

const HELP: &str = "\
Runs the tests whose names contain one of the filters, all without any.

Usage: [OPTIONS] [FILTER…]

      --cluster         on the cluster of KUBECONFIG rather than the simulated one
      --list            names the tests, and runs none
      --exact           filters are whole names
      --skip FILTER     but not these; may be repeated
      --test-threads N  as many at the same time
  -h, --help

GANTRY_TEST_BINARIES names a directory with the programs to test, GANTRY_TEST_MANAGER the one that runners are.
";

impl SuiteArgs {
    /// # Errors
    /// An option that is neither ours nor one that `cargo test` and nextest hand to every test.
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => asked.exact = true,
                "--list" => asked.list = true,
                "--cluster" => asked.wanted = ClusterChoice::Given,
                "--ignored" => asked.ignored = true,
                "--skip" => asked.skips.extend(args.next()),
                "--test-threads" => asked.at_once = args.next().and_then(|number| number.parse().ok()),
                "--format" | "--color" | "--logfile" | "-Z" => drop(args.next()),
                "--nocapture" | "--no-capture" | "--show-output" | "--quiet" | "-q" | "--bench" | "--test"
                | "--include-ignored" => {}
                "--help" | "-h" => asked.help = true,
                option if option.starts_with('-') => return Err(format!("{option:?} is no option: see --help")),
                filter => asked.filters.push(filter.to_owned()),
            }
        }
        Ok(asked)
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        !self.ignored && (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skips.iter().any(fits)
    }
}

/// Runs the tests that the command line asks for, in a world that is made once.
pub fn main(tests: Vec<Test>) -> ExitCode {
    let asked = match SuiteArgs::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    if asked.help {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let tests: Vec<Test> = tests.into_iter().filter(|test| asked.wants(&test.name)).collect();
    if asked.list {
        for test in &tests {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    if tests.is_empty() && asked.exact {
        eprintln!("no test has this name: {}", asked.filters.join(", "));
        return ExitCode::FAILURE;
    }
    if tests.is_empty() {
        println!("\nrunning 0 tests");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, run(tests, &asked)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the tests cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(tests: Vec<Test>, asked: &SuiteArgs) -> anyhow::Result<bool> {
    let dir = tempfile::Builder::new().prefix("gantry-e2e-").tempdir_in(place())?;
    let binaries = binaries::build(dir.path())?;
    let began = Instant::now();
    let world = Rc::new(World::start(asked.wanted, binaries, dir).await?);
    let count = tests.len();
    println!("\nrunning {count} tests");
    let (tests, skipped): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|test| test.need.is_none_or(|need| world.cluster().has(need)));
    for Test { name, need, .. } in &skipped {
        println!("test {name} ... skipped: this cluster has no {}", need.map_or("", Need::words));
    }
    let mut failed = tokio::select! {
        failed = all(tests, &world, asked.at_once.unwrap_or(AT_ONCE)) => failed,
        () = interrupted() => anyhow::bail!("interrupted"),
    };
    for (name, outcome) in [(CLEAN, world.is_clean().await), (ENDS, world.end().await)] {
        report(name, &outcome, Duration::ZERO);
        if let Err(error) = outcome {
            failed.push((name.to_owned(), error));
        }
    }
    for (name, error) in &failed {
        println!("\n---- {name} ----\n{error:#}");
    }
    if !failed.is_empty() {
        show_logs(&world);
        println!("\nfailures:");
        for (name, _) in &failed {
            println!("    {name}");
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} failed of {}, {} skipped; finished in {:.1} s",
        failed.len(),
        count + 2,
        skipped.len(),
        began.elapsed().as_secs_f32()
    );
    Ok(failed.is_empty())
}

/// Where the files of a run lie. Every pod gets the helper twice: in memory that costs nothing, on
/// a disk it slows down everybody.
pub fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let is_usable = statvfs(memory).is_ok_and(|about| {
        let free = about.blocks_available() * about.fragment_size();
        !about.flags().contains(FsFlags::ST_NOEXEC) && free > ROOM
    });
    if is_usable { memory.to_owned() } else { std::env::temp_dir() }
}

/// Ready at SIGINT or SIGTERM: what was started must not outlive a run that is given up.
pub async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn all(tests: Vec<Test>, world: &Rc<World>, at_once: u32) -> Vec<(String, anyhow::Error)> {
    let places = Rc::new(Semaphore::new(at_once as usize));
    let mut running = JoinSet::new();
    // What is not to be disturbed comes before anything runs, and what takes longest next, so that
    // nothing waits for it at the end.
    let mut tests = tests;
    tests.sort_by_key(|test| (!test.alone, Reverse(test.longest)));
    for Test { name, run, longest, alone, .. } in tests {
        let (world, places) = (Rc::clone(world), Rc::clone(&places));
        running.spawn_local(async move {
            let _places = places.acquire_many(if alone { at_once } else { 1 }).await;
            let began = Instant::now();
            // A task of its own, so that a panic is this test's alone.
            let mut alone = JoinSet::new();
            alone.spawn_local(run(world));
            let outcome = match timeout(longest, alone.join_next()).await {
                Ok(Some(Ok(outcome))) => outcome,
                Ok(Some(Err(error))) => Err(anyhow::anyhow!("panicked: {error}")),
                Ok(None) => Ok(()),
                Err(_) => Err(anyhow::anyhow!("longer than {} s", longest.as_secs())),
            };
            report(&name, &outcome, began.elapsed());
            (name, outcome)
        });
    }
    let mut failed = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((name, Err(error))) => failed.push((name, error)),
            Ok((_, Ok(()))) => {}
            Err(error) => failed.push(("a test".to_owned(), error.into())),
        }
    }
    failed
}

/// One line of a test; of one that failed with the first line of the reason, as a summary may show
/// no more than this.
fn report(name: &str, outcome: &anyhow::Result<()>, took: Duration) {
    let took = took.as_secs_f32();
    match outcome {
        Ok(()) => println!("test {name} ... ok ({took:.1} s)"),
        Err(error) => {
            let reason = format!("{error:#}");
            let first: String = reason.lines().next().unwrap_or_default().chars().take(REASON).collect();
            println!("test {name} ... FAILED ({took:.1} s): {first}");
        }
    }
}

fn show_logs(world: &World) {
    const SHOWN: usize = 40;
    let dir = world.keep_files();
    println!("\n---- the last lines of what ran; all of it is in {} ----", dir.display());
    let mut logs: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
    logs.sort();
    for log in logs {
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        println!("== {}\n{}", log.display(), last_lines(&text, SHOWN));
    }
}
