//! How long a job takes to start, beside what the cluster itself takes:
//!
//!     cargo bench -p gantry-tests --bench start -- [--cluster] [--jobs N]
//!
//! The floor is a bare pod with the same two images: from its creation to the first byte of an exec in its last container, tried until it
//! works. A job is measured from GitLab's answer that hands it out to the first byte that the user's script prints, and to its final state.
//! Jobs are trivial, without sources, one after the other. With `--cluster` on the cluster of `KUBECONFIG`, else on the simulated one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, Wanted, World, binaries, trace};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

/// Jobs, and bare pods, unless told otherwise.
const JOBS: usize = 20;

/// Longer than any pod takes to start here.
const BOUND: Duration = Duration::from_secs(60);

/// Between two tries of an exec: fine enough for what is measured.
const PAUSE: Duration = Duration::from_millis(10);

/// The images of every pod that is measured.
const HELPER: &str = "gantry/helper:latest";
const BUILD: &str = "debian:12";

/// Where the project's own cluster notes every request (`tests/cluster/README.md`).
const AUDIT_LOG: &str = "/var/lib/gantry-cluster/var/log/audit.log";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = if args.iter().any(|arg| arg == "--cluster") { Wanted::Given } else { Wanted::Simulated };
    let jobs = args.iter().skip_while(|arg| *arg != "--jobs").nth(1).and_then(|number| number.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, measure(wanted, jobs.unwrap_or(JOBS))),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(wanted: Wanted, count: usize) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("gantry-bench-").tempdir()?;
    let binaries = binaries::build(dir.path())?;
    let world = World::start(wanted, binaries, dir).await?;
    let options = RunnerOptions {
        helper_image: HELPER.to_owned(),
        // Both images are there, as for the bare pod.
        kubernetes: "    pull_policy = \"if-not-present\"\n".to_owned(),
        runner: "  environment = [\"GIT_STRATEGY=none\"]\n".to_owned(),
        ..RunnerOptions::new("bench")
    };
    let runner = Runner::start(&world, &options).await?;
    // The first of each warms caches and connections, as on a cluster that has run for a while.
    bare_pod(&world, &runner, 0).await?;
    job(&world, &runner).await?;
    let before = requests(&runner);
    let (mut floor, mut output, mut end) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=count {
        // In turn, so that a busy moment of the machine hits both.
        floor.push(bare_pod(&world, &runner, number).await?);
        let (first, last) = job(&world, &runner).await?;
        output.push(first);
        end.push(last);
        eprint!("\r{number} of {count}");
    }
    eprintln!();
    println!("{count} of each, one after the other; seconds");
    println!("{:<52} {:>7} {:>7} {:>7} {:>7}", "", "min", "median", "p90", "max");
    let floor = row("bare pod: created, first byte of an exec", floor);
    let output = row("job: handed out, first byte of the script", output);
    row("job: handed out, final state", end);
    println!("{:<52} {:>15.3}", "first byte above the floor (medians)", output - floor);
    print_requests(&before, &requests(&runner), count);
    drop(runner);
    world.end().await
}

/// Prints a row and gives the median.
fn row(name: &str, mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let at = |share: usize| seconds.get((seconds.len() - 1) * share / 100).copied().unwrap_or_default();
    println!("{name:<52} {:>7.3} {:>7.3} {:>7.3} {:>7.3}", at(0), at(50), at(90), at(100));
    at(50)
}

async fn bare_pod(world: &World, runner: &Runner, number: usize) -> anyhow::Result<f64> {
    let name = format!("bare-{number}");
    let container = |name: &str, image: &str| json!({"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "sleep 600"]});
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "containers": [container("helper", HELPER), container("build", BUILD)],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
        },
    });
    let began = Instant::now();
    world.kube.create_pod(&runner.namespace, &pod).await?;
    let first = async {
        while !world.kube.exec(&runner.namespace, &name, "build", "echo x").await.is_ok_and(|text| text == "x\n") {
            sleep(PAUSE).await;
        }
    };
    timeout(BOUND, first).await.context("the bare pod does not start")?;
    let took = began.elapsed().as_secs_f64();
    world.kube.delete_pod(&runner.namespace, &name).await?;
    Ok(took)
}

/// Seconds from its hand-out to the first byte of the script, and to its end.
async fn job(world: &World, runner: &Runner) -> anyhow::Result<(f64, f64)> {
    let id = world.post_job(runner, &script(&["echo first byte"])).await?;
    let (job, log) = world.ended(id, BOUND).await?;
    anyhow::ensure!(job.status == "success", "{job:?}\n{log}");
    let raw = world.gitlab.raw_trace(id).await?;
    let stamps = [trace::stamp_of(&raw, "O first byte"), handed_out(&world.gitlab.requests().await?), job.finished_at];
    let mut moments = Vec::new();
    for stamp in stamps {
        let moment: Timestamp = stamp.context("a moment is missing")?.parse()?;
        moments.push(moment.as_microsecond());
    }
    world.no_pod_of(runner, id).await?;
    #[expect(clippy::cast_precision_loss, reason = "a few seconds in microseconds")]
    let since = |moment: i64| (moment - moments[1]) as f64 / 1e6;
    Ok((since(moments[0]), since(moments[2])))
}

/// When the newest job was handed out.
fn handed_out(requests: &[Value]) -> Option<String> {
    let is_one = |request: &&Value| {
        request["status"] == 201 && request["path"].as_str().is_some_and(|path| path.ends_with("/jobs/request"))
    };
    requests.iter().rev().find(is_one)?["answered"].as_str().map(str::to_owned)
}

/// What the runner has asked the API server so far, by verb and resource.
fn requests(runner: &Runner) -> BTreeMap<String, usize> {
    let user = format!("system:serviceaccount:{}:", runner.namespace);
    let mut counts = BTreeMap::new();
    let text = std::fs::read_to_string(Path::new(AUDIT_LOG)).unwrap_or_default();
    for line in text.lines().filter(|line| line.contains(&user)) {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let word = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (verb, resource, sub) = (word("/verb"), word("/objectRef/resource"), word("/objectRef/subresource"));
        // Requests that last are noted at their start and at their end.
        let is_long = verb == "watch" || sub == "exec";
        if (word("/stage") == "ResponseStarted") == is_long {
            let what = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
            *counts.entry(format!("{verb} {what}")).or_default() += 1;
        }
    }
    counts
}

fn print_requests(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>, jobs: usize) {
    if after.is_empty() {
        println!("no audit log at {AUDIT_LOG}: requests to the API server are not counted");
        return;
    }
    println!("requests of the runner to the API server, for each job:");
    for (what, count) in after {
        let count = count - before.get(what).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let each = count as f64 / jobs as f64;
        println!("    {what:<30} {each:>6.2}");
    }
}
