//! What was asked for on the command line, and how much is measured of each kind.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gantry_tests::ClusterChoice;

use crate::KINDS;

/// The answer to a command line.
pub(crate) enum Invocation {
    Help,
    Measure(Options),
}

/// What is measured, where, and what becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Names of kinds; all when empty.
    kinds: Vec<String>,
    pub(crate) wanted: ClusterChoice,
    pub(crate) quick: bool,
    jobs: Option<usize>,
    running: Option<usize>,
    at_once: Option<usize>,
    /// Where GitLab Runner's program is, to be measured beside ours.
    pub(crate) reference: Option<PathBuf>,
    pub(crate) save: Option<PathBuf>,
    pub(crate) compare: Option<PathBuf>,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Managers that are started one after the other.
    pub(crate) boots: usize,
    /// Trivial jobs one after the other, where their start and cost are measured.
    pub(crate) jobs: usize,
    /// How often everything else is repeated that takes longer.
    pub(crate) repeats: usize,
    /// Seconds that a script lives of whose first line we want to know when it arrives.
    pub(crate) script_seconds: usize,
    /// Bytes of the two logs.
    pub(crate) logs: [usize; 2],
    /// Jobs whose number in a minute is measured.
    pub(crate) many: usize,
    /// Jobs that are queued at once, and seconds that each of them then runs.
    pub(crate) at_once: usize,
    pub(crate) hold_seconds: usize,
    /// Jobs that print while the manager is looked at, and seconds that it is.
    pub(crate) running: usize,
    pub(crate) look_seconds: usize,
    /// Bytes of the one file, and number of small files.
    pub(crate) artifact_bytes: usize,
    pub(crate) artifact_files: usize,
    /// The same where only the memory of what moves them is looked at.
    pub(crate) moved_bytes: usize,
    pub(crate) moved_files: usize,
}

const FULL: Sizes = Sizes {
    boots: 10,
    jobs: 20,
    repeats: 3,
    script_seconds: 5,
    logs: [6_000_000, 50_000_000],
    many: 60,
    at_once: 20,
    hold_seconds: 30,
    running: 20,
    look_seconds: 30,
    artifact_bytes: 200_000_000,
    artifact_files: 20_000,
    moved_bytes: 2_000_000_000,
    moved_files: 100_000,
};

/// Enough to see that everything works, and too little to say how fast it is.
const QUICK: Sizes = Sizes {
    boots: 1,
    jobs: 2,
    repeats: 1,
    script_seconds: 2,
    logs: [200_000, 1_000_000],
    many: 4,
    at_once: 3,
    hold_seconds: 2,
    running: 2,
    look_seconds: 3,
    artifact_bytes: 2_000_000,
    artifact_files: 200,
    moved_bytes: 2_000_000,
    moved_files: 400,
};

impl Options {
    /// Reads a command line.
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> anyhow::Result<Invocation> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" | "-h" => return Ok(Invocation::Help),
                // Cargo says so to every benchmark.
                "--bench" => {}
                "--cluster" => options.wanted = ClusterChoice::Given,
                "--quick" => options.quick = true,
                "--jobs" => options.jobs = Some(number(&arg, args.next())?),
                "--running" => options.running = Some(number(&arg, args.next())?),
                "--at-once" => options.at_once = Some(number(&arg, args.next())?),
                "--reference" => options.reference = Some(file(&arg, args.next())?),
                "--save" => options.save = Some(file(&arg, args.next())?),
                "--compare" => options.compare = Some(file(&arg, args.next())?),
                kind if KINDS.iter().any(|(name, _)| *name == kind) => options.kinds.push(arg),
                _ => bail!("{arg:?} is neither an option nor a kind of measurement; --help lists both"),
            }
        }
        if options.reference.is_some() && options.wanted != ClusterChoice::Given {
            bail!("--reference needs --cluster: GitLab Runner is measured on a real cluster only");
        }
        Ok(Invocation::Measure(options))
    }

    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|own| own == kind)
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let sizes = if self.quick { QUICK } else { FULL };
        Sizes {
            jobs: self.jobs.unwrap_or(sizes.jobs),
            running: self.running.unwrap_or(sizes.running),
            at_once: self.at_once.unwrap_or(sizes.at_once),
            ..sizes
        }
    }
}

fn number(option: &str, value: Option<String>) -> anyhow::Result<usize> {
    let value = value.with_context(|| format!("{option} needs a number"))?;
    let number = value.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{option} {value}: a whole number above 0 is needed"))
}

/// Cargo starts benchmarks in the directory of their package, which is not where people are who
/// name a file.
fn file(option: &str, value: Option<String>) -> anyhow::Result<PathBuf> {
    let value = value.with_context(|| format!("{option} needs the name of a file"))?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace above the tests")?;
    Ok(workspace.join(value))
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let kinds = KINDS.map(|(name, what)| format!("    {name:<12} {what}\n")).concat();
    format!(
        "How fast Gantry is, beside what the cluster itself takes. What each number means is in docs/performance.md.\n\n\
         Usage: cargo bench -p gantry-tests --bench numbers -- [OPTIONS] [KIND…]\n\n\
         Kinds, all of them unless some are named:\n{kinds}\n\
         Options:\n\
         \x20   --cluster       on the cluster of KUBECONFIG; without it on the simulated one\n\
         \x20   --quick         small sizes: shows that it works, says nothing about speed\n\
         \x20   --jobs N        trivial jobs of `start` and `cost` ({jobs})\n\
         \x20   --running N     jobs of `manager` that print at the same time ({running})\n\
         \x20   --at-once N     jobs of `many` that are queued at once ({at_once})\n\
         \x20   --reference FILE  also the same with GitLab Runner, this program; its helper image is made by\n\
         \x20                   tests/cluster/images --reference HELPER reference\n\
         \x20   --save FILE     writes all samples to a file (JSON)\n\
         \x20   --compare FILE  shows the medians of such a file beside those of this run\n\n\
         Names of files count from the root of the workspace. GANTRY_TEST_BINARIES names a directory with binaries to\n\
         measure; without it they are built first. GANTRY_TEST_MANAGER names the program that runners are, where it is another\n\
         one, such as that of the image.\n",
        jobs = FULL.jobs,
        running = FULL.running,
        at_once = FULL.at_once,
    )
}
