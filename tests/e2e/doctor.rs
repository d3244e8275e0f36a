//! `gantry doctor` where it takes more than an answer: a cache store that checks signatures.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::store::Store;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Process, Runner, RunnerOptions, World};
use serde_json::Value;

/// It asks GitLab, the cluster and the store.
const BOUND: Duration = Duration::from_secs(60);

const SECRET_KEY: &str = "e2e/secret+key/of/the/store/for/doctor";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("doctor: a cache store that works, and one that does not", cache)]
}

/// What the check of the cache says, with these arguments.
async fn found(world: &World, runner: &Runner, name: &str, args: &[&str]) -> anyhow::Result<Value> {
    let config = runner.config.display().to_string();
    let all = ["doctor", "--config", &config, "--json"].into_iter().chain(args.iter().copied());
    let args: Vec<String> = all.map(str::to_owned).collect();
    let process = Process::start(name, world.dir(), &world.binaries().gantry, &args)?;
    process.wait(BOUND).await?;
    let said = process.log();
    let json = said.find("[\n").and_then(|start| said.get(start..)).context(said.clone())?;
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Vec<Value>>();
    let findings = values.next().context("nothing")?.with_context(|| said.clone())?;
    findings.into_iter().find(|finding| finding["check"] == "cache").with_context(|| format!("no check: {said}"))
}

async fn cache(world: Rc<World>) -> anyhow::Result<()> {
    world.keep_secret(SECRET_KEY);
    let store = Store::start(world.cluster().host, "ci-cache", ("E2EDOCTORKEY", SECRET_KEY)).await?;
    let settings = |secret: &str| {
        format!(
            "  [runners.cache]\n    Type = \"s3\"\n    Path = \"a/b\"\n  [runners.cache.s3]\n    ServerAddress = \"{}\"\n    \
             Insecure = true\n    BucketName = \"ci-cache\"\n    AccessKey = \"E2EDOCTORKEY\"\n    SecretKey = \"{secret}\"\n",
            store.address()
        )
    };
    let options = RunnerOptions { runner: settings(SECRET_KEY), ..RunnerOptions::new("doctor-cache") };
    let runner = Runner::start(&world, &options).await?;
    // What doctor finds is what jobs find.
    let (job, log) = world.run_on(&runner, &script(&["true"]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let looked = found(&world, &runner, "doctor-look", &[]).await?;
    ensure!(looked["grade"] == "ok" && store.names().is_empty(), "{looked}");
    let tried = found(&world, &runner, "doctor-try", &["--cache"]).await?;
    ensure!(tried["grade"] == "ok" && tried["found"].to_string().contains("gives it back"), "{tried}");
    ensure!(store.names().iter().any(|name| name.ends_with("a/b/gantry-doctor")), "{:?}", store.names());
    let options = RunnerOptions { runner: settings("another key"), ..RunnerOptions::new("doctor-cache-refused") };
    let refused = Runner::start(&world, &options).await?;
    let said = found(&world, &refused, "doctor-refused", &["--cache"]).await?;
    ensure!(said["grade"] == "error" && said["found"].to_string().contains("SecretKey"), "{said}");
    Ok(())
}
