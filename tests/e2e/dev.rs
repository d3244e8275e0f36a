//! `gantry dev` as a newcomer runs it.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::{Process, World, http};
use nix::sys::signal::Signal;
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(120);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("dev: the page stays after the pipeline, until Ctrl-C", page_stays)]
}

async fn page_stays(world: Rc<World>) -> anyhow::Result<()> {
    let args = ["dev", "--serve", "127.0.0.1:0"].map(str::to_owned);
    let dev = Process::start("dev-serve", world.dir(), &world.binaries().gantry, &args)?;
    let line = dev.wait_for_line("The page stays at http", BOUND).await?;
    let url = line.split_whitespace().find_map(|word| word.strip_suffix(':').filter(|word| word.starts_with("http")));
    let url = url.with_context(|| format!("no address in {line:?}"))?;
    let client = http::client()?;
    let page = client.get(url).send().await?.error_for_status()?.text().await?;
    ensure!(page.contains("<title>Simulated GitLab</title>"), "{page}");
    let overview: Value = client.get(format!("{url}/sim/overview")).send().await?.json().await?;
    ensure!(overview["pipelines"][0]["status"] == "success" && overview["violations"] == 0, "{overview}");
    dev.signal(Signal::SIGINT)?;
    let status = dev.wait(BOUND).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", dev.log());
    Ok(())
}
