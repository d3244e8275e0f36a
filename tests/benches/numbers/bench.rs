//! The ground of all measurements: the world, a runner for jobs that need nothing special, and jobs
//! from their queueing to their end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use gantry_tests::kube::ALL_VERBS;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::process::last_lines;
use gantry_tests::world::script;
use gantry_tests::{ClusterChoice, Runner, RunnerOptions, RunnerPlacement, World, binaries, suite, trace};
use jiff::Timestamp;
use serde_json::Value;

use crate::options::{Options, Sizes};
use crate::requests::Requests;

/// Longer than a trivial job takes anywhere.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Longer than any job takes here: the largest of them on a slow machine.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Lines of the log of a job that failed: the others may be very many.
const SHOWN: usize = 20;

/// The helper image of all pods.
pub(crate) const HELPER: &str = "gantry/helper:latest";

/// A helper image that has none of our programs, so that the manager pushes its own. On the
/// simulators images are names, and none has.
const FOREIGN_HELPER: &str = "helper:1";

/// What `tests/cluster/images` makes of GitLab Runner's helper.
const REFERENCE_HELPER: &str = "reference-helper:1";

/// What GitLab Runner asks Kubernetes for beyond what Gantry does, in its default mode.
const REFERENCE_RIGHTS: [&str; 6] = ["pods/attach", "pods/log", "secrets", "services", "serviceaccounts", "events"];

/// What a script prints first.
pub(crate) const FIRST: &str = "first byte";

/// `concurrent` of a runner whose jobs come one after the other.
pub(crate) const FEW: usize = 4;

/// Begins the names of numbers that are GitLab Runner's.
pub(crate) const REFERENCE: &str = "GitLab Runner, ";

/// Names a directory with binaries to measure.
const GIVEN: &str = "GANTRY_TEST_BINARIES";

/// Where everything is measured.
pub(crate) struct Bench {
    pub(crate) world: World,
    /// For jobs one after the other.
    pub(crate) runner: Runner,
    /// GitLab Runner's program, where it is measured too.
    reference: Option<PathBuf>,
    pub(crate) sizes: Sizes,
    ground: String,
}

/// A job that has ended well.
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) queued: Timestamp,
    pub(crate) at: Timestamp,
    raw: Vec<u8>,
}

impl Bench {
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("gantry-bench-").tempdir_in(suite::place())?;
        let binaries = binaries::build(dir.path())?;
        let world = World::start(options.wanted, binaries, dir).await?;
        let runner = Runner::start(&world, &runner_options("bench", FEW, HELPER)?).await?;
        let reference = options.reference.clone();
        let bench = Self { world, runner, reference, sizes: options.sizes(), ground: ground(options) };
        // The first job warms caches and connections, as on a cluster that has run for a while.
        bench.job(&bench.runner, &trivial()).await?;
        Ok(bench)
    }

    /// A runner of its own, for so many jobs at once.
    pub(crate) async fn start_runner(&self, name: &str, concurrent: usize) -> anyhow::Result<Runner> {
        Runner::start(&self.world, &runner_options(name, concurrent, HELPER)?).await
    }

    /// The same with an image into which the helper is pushed. None where that is what all jobs do.
    pub(crate) async fn start_pushing_runner(&self, name: &str, concurrent: usize) -> anyhow::Result<Option<Runner>> {
        if !self.world.cluster().is_given() {
            return Ok(None);
        }
        Ok(Some(Runner::start(&self.world, &runner_options(name, concurrent, FOREIGN_HELPER)?).await?))
    }

    /// GitLab Runner with the same settings, and one job behind it. None where it is not measured.
    pub(crate) async fn start_reference(&self, name: &str, concurrent: usize) -> anyhow::Result<Option<Runner>> {
        let Some(program) = self.reference.clone() else { return Ok(None) };
        let kube = &self.world.kube;
        let namespace = self.world.namespace(name);
        let account_token = kube.account(&namespace).await?;
        kube.allow(&namespace, "reference", &REFERENCE_RIGHTS, &ALL_VERBS).await?;
        let place = RunnerPlacement { namespace, account_token, tag: name.to_owned() };
        let options = RunnerOptions {
            place: Some(place),
            program: Some(program),
            ..runner_options(name, concurrent, REFERENCE_HELPER)?
        };
        let runner = Runner::launch(&self.world, &options).await?;
        self.job(&runner, &trivial()).await?;
        Ok(Some(runner))
    }

    /// On what was measured.
    pub(crate) fn ground(&self) -> String {
        self.ground.clone()
    }

    /// Runs a job to its end and until its pod is gone.
    pub(crate) async fn job(&self, runner: &Runner, payload: &Value) -> anyhow::Result<Ended> {
        let id = self.world.post_job(runner, payload).await?;
        let ended = self.ended(id, LONG).await?;
        self.world.no_pod_of(runner, id).await?;
        Ok(ended)
    }

    /// Waits for the good end of a job. Does not look at its log before: that would make it a
    /// watched one.
    pub(crate) async fn ended(&self, id: u64, bound: Duration) -> anyhow::Result<Ended> {
        let job = self.world.gitlab.wait_final(id, bound).await?;
        if job.status != "success" {
            anyhow::bail!("{job:?}\n{}", last_lines(&self.world.gitlab.text(id).await?, SHOWN));
        }
        let queued = job.queued_at.context("a job that has ended, and was never queued")?.parse()?;
        let at = job.finished_at.context("a job that has ended, and not when")?.parse()?;
        Ok(Ended { id, queued, at, raw: self.world.gitlab.raw_trace(id).await? })
    }

    /// What GitLab was asked so far.
    pub(crate) async fn requests(&self) -> anyhow::Result<Requests> {
        Ok(Requests::new(self.world.gitlab.requests().await?))
    }

    /// Ends everything. Numbers of a run that broke a rule of the protocol are worth nothing, so
    /// that is an error.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Self { world, runner, .. } = self;
        world.no_pods(&runner).await?;
        drop(runner);
        world.is_clean().await?;
        world.end().await
    }
}

impl Ended {
    /// When the script printed the line that begins with `text`.
    pub(crate) fn printed(&self, text: &str) -> anyhow::Result<Timestamp> {
        let stamp = trace::stamp_of(&self.raw, &format!("O {text}"));
        let stamp = stamp.with_context(|| format!("the log of job {} has no line {text:?}", self.id))?;
        Ok(stamp.parse()?)
    }

    /// At which byte of the log the text of that line is over.
    pub(crate) fn offset_behind(&self, text: &str) -> anyhow::Result<u64> {
        let line = format!("O {text}");
        let at = self.raw.windows(line.len()).position(|window| window == line.as_bytes());
        let at = at.with_context(|| format!("the log of job {} has no line {text:?}", self.id))?;
        Ok((at + line.len()) as u64)
    }

    /// Length of the log.
    pub(crate) fn log_bytes(&self) -> usize {
        self.raw.len()
    }
}

fn runner_options(name: &str, concurrent: usize, helper: &str) -> anyhow::Result<RunnerOptions> {
    Ok(RunnerOptions {
        helper_image: helper.to_owned(),
        concurrent: u32::try_from(concurrent)?,
        log_level: "info",
        // All images are there, as for the bare pods. Hundreds of pods that start at once on two
        // cores take longer than the default.
        kubernetes: format!("    pull_policy = \"if-not-present\"\n    poll_timeout = {}\n", LONG.as_secs()),
        // In KiB: more than the largest log that is measured.
        runner: "  environment = [\"GIT_STRATEGY=none\", \"FF_TIMESTAMPS=true\"]\n  output_limit = 90000\n".to_owned(),
        ..RunnerOptions::new(name)
    })
}

/// What a later run must have in common with this one to be compared.
fn ground(options: &Options) -> String {
    let cluster = if options.wanted == ClusterChoice::Given { "cluster of KUBECONFIG" } else { "simulated cluster" };
    let build = match (std::env::var_os(GIVEN), cfg!(debug_assertions)) {
        (Some(_), _) => "given binaries",
        (None, true) => "debug build",
        (None, false) => "release build",
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cluster}, {build}, {cores} cores{}", if options.quick { ", quick" } else { "" })
}

/// A job that does next to nothing.
pub(crate) fn trivial() -> Value {
    script(&[&format!("echo {FIRST}")])
}

/// Seconds from one moment to a later one.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// A row of one kind.
pub(crate) fn row(kind: &str, name: impl Into<String>, unit: Unit, samples: Vec<f64>, floor: &[f64]) -> Row {
    Row { kind: kind.to_owned(), name: name.into(), unit, samples, floor: floor.to_vec() }
}

/// Tells who waits how far it is.
pub(crate) fn progress(what: &str, number: usize, count: usize) {
    eprintln!("{what}: {number} of {count}");
}

/// A count as a sample.
#[expect(clippy::cast_precision_loss, reason = "no count here is that large")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// A size in words, such as `50 MB`.
pub(crate) fn size(bytes: usize) -> String {
    if bytes >= 1_000_000 { format!("{} MB", bytes / 1_000_000) } else { format!("{} kB", bytes / 1000) }
}
