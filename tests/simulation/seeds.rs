//! Which worlds are made: from the command line, from the seeds that once failed, and new ones.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

/// Lives of an ordinary run: half a minute without optimization.
const LIVES: u64 = 480;

/// The first seed of an ordinary run. It is always the same, so that a change is judged by what it
/// changes; new worlds are made on demand.
const ORDINARY: u64 = 0x6761_6e74_7279;

/// How to ask.
pub(crate) const HELP: &str = "\
Runs jobs from one end to the other in simulated worlds, in which much goes wrong, and says which promises were broken.

    cargo test -p gantry-tests --test simulation -- [OPTIONS]

      --lives N     new worlds with at least N jobs, each another one every time
      --from SEED   the first of these worlds, so that the same ones are made again
      --seed SEED   only this world, with the story of everything that happened in it
      --threads N   worlds at once; as many as there are processors if not said

Worlds that failed once are in tests/simulation/regressions.txt and come first. Of long runs, see `--profile dist` in
docs/ARCHITECTURE.md.
";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct SimulationArgs {
    /// Only this world, with its story.
    pub(crate) seed: Option<u64>,
    /// At least so many jobs.
    pub(crate) lives: u64,
    /// The first seed of new worlds; by the time of day if there is none.
    pub(crate) from: Option<u64>,
    /// Worlds at once.
    pub(crate) threads: usize,
    /// Only how to ask.
    pub(crate) help: bool,
    /// Not this program, but another test of the package is wanted.
    pub(crate) skip: bool,
}

impl SimulationArgs {
    /// Reads the command line. Options of Rust's own test programs are understood as far as they
    /// mean something here.
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut asked = Self { seed: None, lives: LIVES, from: Some(ORDINARY), threads, help: false, skip: false };
        let mut filters = Vec::new();
        while let Some(arg) = args.next() {
            let mut number = || args.next().ok_or_else(|| format!("{arg} needs a number"));
            match arg.as_str() {
                "--seed" => asked.seed = Some(parse(&number()?)?),
                "--lives" => (asked.lives, asked.from) = (parse(&number()?)?, None),
                "--from" => asked.from = Some(parse(&number()?)?),
                "--threads" | "--test-threads" => {
                    asked.threads = usize::try_from(parse(&number()?)?).unwrap_or(1).max(1);
                }
                "--help" | "-h" => asked.help = true,
                "--list" => asked.skip = true,
                "--skip" | "--format" | "--color" | "--logfile" | "-Z" => drop(number()?),
                option if option.starts_with('-') => {}
                filter => filters.push(filter.to_owned()),
            }
        }
        asked.skip |= !filters.is_empty() && !filters.iter().any(|filter| "simulation".contains(filter.as_str()));
        Ok(asked)
    }
}

/// A number, decimal or with `0x`.
fn parse(text: &str) -> Result<u64, String> {
    let text = text.replace('_', "");
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{text}: {error}"))
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("simulation/regressions.txt")
}

/// The seeds that once failed, oldest first.
pub(crate) fn regressions() -> Vec<u64> {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).filter_map(|line| parse(line).ok()).collect()
}

/// Keeps a seed that has failed, for all runs to come.
pub(crate) fn keep(seed: u64, why: &str) {
    if regressions().contains(&seed) {
        return;
    }
    let why: String = why.lines().next().unwrap_or_default().chars().take(100).collect();
    let kept = OpenOptions::new().create(true).append(true).open(file()).and_then(|mut file| {
        let line = format!("{seed:#018x} # {why}\n");
        file.write_all(line.as_bytes())
    });
    if let Err(error) = kept {
        eprintln!("the seed cannot be kept in {}: {error}", file().display());
    }
}

/// The command that makes one world again.
pub(crate) fn command(seed: u64) -> String {
    format!("cargo test -p gantry-tests --test simulation -- --seed {seed:#018x}")
}
