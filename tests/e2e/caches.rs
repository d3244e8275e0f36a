//! Caches from one job to the next: on a volume of the node, in a store that checks signatures, and
//! in `gantry dev`.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::store::{IDENTITY, Store};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Job, Runner, RunnerOptions, World};
use jiff::SignedDuration;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

const BUCKET: &str = "job-caches";
const ACCESS_KEY: &str = "E2EACCESSKEY";
const SECRET_KEY: &str = "e2e/secret+key/of/the/cache/store";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("caches: a volume of the node keeps them", on_a_volume),
        Test::new("caches: a store keeps them, by signed requests", in_a_store),
        Test::new("caches: a store keeps large ones in parts", in_parts),
        Test::new("caches: keys that end before a job are renewed, by the next manager too", with_keys_that_end),
        Test::new("caches: trouble with the store is named and fails no job", trouble),
        Test::new("caches: jobs that run at once share a volume", at_once),
        Test::new("caches: without a place the log says what to do", without_a_place),
    ]
}

/// Runs a job with these caches.
async fn run(world: &World, runner: &Runner, cache: Value, lines: &[&str]) -> anyhow::Result<(Job, String)> {
    let mut job = script(lines);
    job["cache"] = cache;
    world.run_on(runner, &job, BOUND).await
}

/// A runner whose pods mount a directory of the node at `/cache`.
async fn with_volume(world: &World, name: &str) -> anyhow::Result<Runner> {
    let directory = if world.cluster().is_given() {
        format!("/tmp/gantry-e2e-{}-{name}", std::process::id())
    } else {
        world.dir().join(format!("{name}-volume")).display().to_string()
    };
    let volume = format!(
        "    [[runners.kubernetes.volumes.host_path]]\n      name = \"cache\"\n      mount_path = \"/cache\"\n      \
         host_path = \"{directory}\"\n"
    );
    Runner::start(world, &RunnerOptions { kubernetes: volume, ..RunnerOptions::new(name) }).await
}

async fn on_a_volume(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with_volume(&world, "cache-volume").await?;
    let deps = |policy: &str| json!({"key": "deps", "paths": ["deps/"], "policy": policy});
    let fails = json!({"key": "of-failed", "paths": ["left"], "when": "on_failure"});
    let make = "mkdir -p deps left && echo made > deps/file && ln -s file deps/link && chmod 751 deps/file && echo x > left/file";
    let (job, log) = run(&world, &runner, json!([deps("pull-push"), fails]), &[make]).await?;
    ensure!(job.status == "success" && log.contains("Saving cache for successful job"), "{log}");
    for line in ["Checking cache for deps...", "Failed to extract cache", "Creating cache deps...", "Created cache"] {
        ensure!(log.contains(line), "{line:?} is not in {log}");
    }
    ensure!(!log.contains("Creating cache of-failed"), "{log}");

    // A fallback, read only; and what only failed jobs save.
    let pull = json!({"key": "other", "paths": ["deps/"], "policy": "pull", "fallback_keys": ["deps"]});
    let show = [
        "cat deps/link",
        "stat -c %a deps/file",
        "echo more >> deps/file",
        "mkdir left && echo y > left/file",
        "false",
    ];
    let (job, log) = run(&world, &runner, json!([pull, fails]), &show).await?;
    ensure!(job.status == "failed" && log.contains("\nmade\n") && log.contains("\n751\n"), "{log}");
    ensure!(log.contains("Saving cache for failed job") && log.contains("Creating cache of-failed..."), "{log}");
    ensure!(log.contains("Not uploading cache other due to policy") || !log.contains("Creating cache other"), "{log}");

    let push = deps("push");
    let pulled = json!({"key": "of-failed", "paths": ["left"], "policy": "pull"});
    let (job, log) = run(&world, &runner, json!([push, pulled]), &["ls", "cat left/file", "test ! -e deps"]).await?;
    ensure!(job.status == "success" && log.contains("\ny\n"), "{log}");
    ensure!(log.contains("Not downloading cache deps due to policy") && log.contains("No files to cache."), "{log}");

    let (_, log) = run(&world, &runner, json!([deps("pull-push")]), &["cat deps/file", "rm -rf /cache/*"]).await?;
    ensure!(log.contains("\nmade\n") && log.contains("Archive is up to date!"), "{log}");
    Ok(())
}

fn store_config(address: &str, secret: &str) -> String {
    format!(
        "  [runners.cache]\n    Type = \"s3\"\n    Path = \"e2e\"\n    [runners.cache.s3]\n      ServerAddress = \"{address}\"\n      \
         AccessKey = \"{ACCESS_KEY}\"\n      SecretKey = \"{secret}\"\n      BucketName = \"{BUCKET}\"\n      Insecure = true\n"
    )
}

async fn in_a_store(world: Rc<World>) -> anyhow::Result<()> {
    world.keep_secret(SECRET_KEY);
    let store = Store::start(world.cluster().host, BUCKET, (ACCESS_KEY, SECRET_KEY)).await?;
    let config = store_config(&store.address().to_string(), SECRET_KEY);
    let runner = Runner::start(&world, &RunnerOptions { runner: config, ..RunnerOptions::new("cache-store") }).await?;
    let cache = json!([{"key": "key of $CI_JOB_NAME", "paths": ["deps/"], "fallback_keys": ["none"]}]);
    let make = "mkdir -p deps && head -c 9000000 /dev/urandom > deps/large && cksum < deps/large > deps/sum";
    let (job, log) = run(&world, &runner, cache.clone(), &[make]).await?;
    ensure!(job.status == "success" && log.contains("Created cache") && !log.contains("Signature"), "{log}");
    let names = store.names();
    ensure!(names.len() == 1 && names[0].starts_with("e2e/runner/") && names[0].contains("/project/"), "{names:?}");
    let verify = "cksum < deps/large | cmp - deps/sum && echo the same";
    let (job, log) = run(&world, &runner, cache, &[verify]).await?;
    ensure!(job.status == "success" && log.contains("\nthe same\n"), "{log}");
    ensure!(log.contains("Archive is up to date!"), "{log}");
    let puts = store.requests().iter().filter(|line| line.contains(" PUT ")).count();
    let refused: Vec<String> = store.requests().into_iter().filter(|line| line.starts_with("403")).collect();
    ensure!(puts == 1 && refused.is_empty(), "{:?}", store.requests());
    Ok(())
}

async fn in_parts(world: Rc<World>) -> anyhow::Result<()> {
    world.keep_secret(SECRET_KEY);
    let store = Store::start(world.cluster().host, BUCKET, (ACCESS_KEY, SECRET_KEY)).await?;
    let large = "MaxUploadedArchiveSize = 10000000000\n    [runners.cache.s3]";
    let config = store_config(&store.address().to_string(), SECRET_KEY).replace("[runners.cache.s3]", large);
    let runner = Runner::start(&world, &RunnerOptions { runner: config, ..RunnerOptions::new("cache-parts") }).await?;
    let cache = json!([{"key": "k", "paths": ["deps/"]}]);
    let make = "mkdir -p deps && head -c 15000000 /dev/urandom > deps/large && cksum < deps/large > deps/sum";
    let (job, log) = run(&world, &runner, cache.clone(), &[make]).await?;
    ensure!(job.status == "success" && log.contains("Created cache") && !log.contains("Signature"), "{log}");
    let puts = || store.requests().iter().filter(|line| line.contains(" PUT ")).count();
    ensure!(puts() == 3 && store.unfinished() == 0, "{:?}", store.requests());
    let verify = "cksum < deps/large | cmp - deps/sum && echo the same";
    let (job, log) = run(&world, &runner, cache, &[verify]).await?;
    ensure!(job.status == "success" && log.contains("\nthe same\n") && log.contains("up to date"), "{log}");
    // Of the same files that were made again nothing is sent, and an upload that is not needed is
    // given up.
    let push = json!([{"key": "p", "paths": ["made/"], "policy": "push"}]);
    for (number, words) in [(4, "Uploading cache.zip"), (4, "Archive is up to date!")] {
        let (job, log) = run(&world, &runner, push.clone(), &["mkdir made && echo content > made/file"]).await?;
        ensure!(job.status == "success" && log.contains(words) && puts() == number, "{log}");
    }
    ensure!(store.unfinished() == 0, "{:?}", store.requests());
    Ok(())
}

async fn with_keys_that_end(world: Rc<World>) -> anyhow::Result<()> {
    const LIFE: SignedDuration = SignedDuration::from_secs(12);
    let store = Store::start_with_role(world.cluster().host, BUCKET, (ACCESS_KEY, SECRET_KEY), LIFE).await?;
    let identity = world.dir().join("web-identity");
    std::fs::write(&identity, IDENTITY)?;
    let address = store.address().to_string();
    let environment = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/cache"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &identity.display().to_string()),
        ("AWS_ENDPOINT_URL_STS", &format!("http://{address}")),
    ];
    let keys = format!("      AccessKey = \"{ACCESS_KEY}\"\n      SecretKey = \"{SECRET_KEY}\"\n");
    let options = |name: &str, place| RunnerOptions {
        runner: store_config(&address, SECRET_KEY).replace(&keys, "      AuthenticationType = \"iam\"\n"),
        global:
            "[gantry]\n  ticket_key = \"of both managers\"\n  self_report_after = \"1h\"\n  abandon_after = \"2h\"\n"
                .to_owned(),
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        place,
        ..RunnerOptions::new(name)
    };
    let first = Runner::start(&world, &options("cache-role", None)).await?;
    let job = |key: &str| {
        let mut job = script(&["mkdir deps && echo made > deps/file && echo begun", "sleep 15"]);
        job["cache"] = json!([{"key": key, "paths": ["deps/"]}]);
        job
    };
    let saved = |job: &Job, log: &str| {
        ensure!(job.status == "success" && log.contains("Created cache") && !log.contains("ExpiredToken"), "{log}");
        anyhow::Ok(())
    };
    let (ended, log) = world.run_on(&first, &job("of-one"), BOUND).await?;
    saved(&ended, &log)?;
    // Once for the plan, and at least twice in the fifteen seconds.
    ensure!(store.roles_assumed() >= 3, "{} times", store.roles_assumed());

    let id = world.post_job(&first, &job("of-two")).await?;
    world.gitlab.wait_for_text(id, "\nbegun\n", BOUND).await?;
    first.process.signal(Signal::SIGTERM)?;
    first.process.wait(BOUND).await?;
    let _second = Runner::start(&world, &options("cache-role-next", Some(first.place()))).await?;
    let (ended, log) = world.ended(id, BOUND).await?;
    saved(&ended, &log)?;
    ensure!(store.names().len() == 2, "{:?}", store.names());
    Ok(())
}

async fn trouble(world: Rc<World>) -> anyhow::Result<()> {
    let store = Store::start(world.cluster().host, BUCKET, (ACCESS_KEY, SECRET_KEY)).await?;
    let address = store.address().to_string();
    let wrong = "e2e-secret-key-that-is-wrong";
    world.keep_secret(wrong);
    let no_bucket = store_config(&address, SECRET_KEY).replace(BUCKET, "no-such-bucket");
    for (name, config, words) in [
        ("cache-wrong-key", store_config(&address, wrong), "SecretKey"),
        ("cache-no-bucket", no_bucket, "there is no such bucket"),
        ("cache-no-host", store_config("no-such-store.invalid:9000", SECRET_KEY), "no-such-store.invalid"),
    ] {
        // A cluster without DNS never says that there is no such host: each try takes as long as it
        // may.
        if world.cluster().is_given() && name == "cache-no-host" {
            continue;
        }
        let runner = Runner::start(&world, &RunnerOptions { runner: config, ..RunnerOptions::new(name) }).await?;
        let cache = json!([{"key": "k", "paths": ["deps/"]}]);
        let (job, log) = run(&world, &runner, cache, &["mkdir deps && touch deps/a"]).await?;
        ensure!(job.status == "success" && log.contains(words), "{name}: {words:?} is not in {log}");
        ensure!(log.contains("Failed to extract cache") && log.contains("Failed to create cache"), "{name}: {log}");
    }
    Ok(())
}

async fn at_once(world: Rc<World>) -> anyhow::Result<()> {
    let runner = with_volume(&world, "cache-at-once").await?;
    let cache = json!([{"key": "k", "paths": ["deps/"]}]);
    let mut job = script(&[
        "if [ -e deps/sum ]; then cksum < deps/large | cmp - deps/sum; fi",
        "mkdir -p deps && head -c 3000000 /dev/urandom > deps/large && cksum < deps/large > deps/sum",
    ]);
    job["cache"] = cache;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(world.post_job(&runner, &job).await?);
    }
    for id in jobs {
        let (job, log) = world.ended(id, BOUND).await?;
        ensure!(job.status == "success" && log.contains("Created cache"), "{log}");
        ensure!(!log.contains("cannot be unpacked"), "{log}");
    }
    Ok(())
}

async fn without_a_place(world: Rc<World>) -> anyhow::Result<()> {
    let mut job = script(&["true"]);
    job["cache"] = json!([{"key": "k", "paths": ["deps/"]}]);
    let (job, log) = world.run(&job, BOUND).await?;
    ensure!(job.status == "success" && log.contains("set Type in [runners.cache]"), "{log}");
    ensure!(!log.contains("Restoring cache"), "{log}");
    Ok(())
}
