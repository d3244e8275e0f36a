//! The mirror of a node: what the git server sends to the jobs after the first.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Job, Runner, RunnerOptions, World, repository};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("mirror: a node fetches once what its jobs share", once),
        Test::new("mirror: only the sources of its own project see it", seen_by_nobody_else),
    ]
}

async fn with_mirror(world: &World, name: &str) -> anyhow::Result<Runner> {
    let directory = if world.cluster().is_given() {
        format!("/tmp/gantry-e2e-{}-{name}", std::process::id())
    } else {
        world.dir().join(name).display().to_string()
    };
    let runner = format!("  [runners.gantry]\n    git_mirror = \"{directory}\"\n");
    Runner::start(world, &RunnerOptions { runner, ..RunnerOptions::new(name) }).await
}

fn job(branch: &str, lines: &[&str]) -> Value {
    let mut job = script(lines);
    job["repo"] = json!("group/project");
    job["ref"] = json!(branch);
    job["image"] = json!({"name": "git:2"});
    job["variables"] = json!([{"key": "GIT_STRATEGY", "value": "fetch"}]);
    job
}

/// Takes what a job in a given cluster has left on its node.
const CLEAR: &str = "find /gantry-mirror -mindepth 1 -delete";

async fn once(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with_mirror(&world, "mirror-once").await?;
    let run = async |branch: &str, words: &str| -> anyhow::Result<Job> {
        let job = job(branch, &["cat word.txt", "cksum < noise", "git status --short", "echo status ok"]);
        let (job, log) = world.run_on(&runner, &job, BOUND).await?;
        ensure!(job.status == "success" && log.contains(words), "{job:?}\n{log}");
        ensure!(log.contains("\nstatus ok\n") && !log.contains("WARNING"), "{log}");
        Ok(job)
    };
    let whole = repository::LARGE as u64;
    let first = run("large", "\nfirst\n").await?;
    ensure!(first.git_bytes > whole, "{first:?}");
    // Another job of the same commit, and one of a commit that the node has not seen.
    for (branch, words) in [("large", "\nfirst\n"), ("large-next", "\nsecond\n")] {
        let next = run(branch, words).await?;
        ensure!(next.git_bytes > 0 && next.git_bytes < whole / 100, "{next:?}");
    }
    clear(&world, &runner).await
}

async fn clear(world: &World, runner: &Runner) -> anyhow::Result<()> {
    let mut last = job("main", &["true"]);
    last["hooks"] = json!([{"name": "post_get_sources_script", "script": [CLEAR]}]);
    let (job, log) = world.run_on(runner, &last, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    Ok(())
}

async fn seen_by_nobody_else(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with_mirror(&world, "mirror-seen").await?;
    let mut job = job("main", &["test ! -e /gantry-mirror && echo the build sees nothing"]);
    // Hooks run where the sources are fetched. Even they see no other project.
    let list = "cd /gantry-mirror && echo in the mirror: $(ls), above it: $(ls ..| grep -c gantry-mirror)";
    job["hooks"] = json!([{"name": "post_get_sources_script", "script": [list]}]);
    let (job, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(job.status == "success" && log.contains("\nthe build sees nothing\n"), "{job:?}\n{log}");
    ensure!(log.contains("in the mirror: lock sha1 sha1.tips turn, above it: 1"), "{log}");
    clear(&world, &runner).await
}
