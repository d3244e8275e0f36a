//! What is done to the node on which the pods are: that of the simulated cluster, or that of
//! `tests/cluster/up`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::World;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Between two looks whether the kubelet is back.
const LOOK: Duration = Duration::from_millis(200);

/// Runs a program there, as root, and returns what it prints.
pub(crate) fn run(world: &World, program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = world.cluster().on_node(program).args(args).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends the kubelet, which is away for so long, and comes back.
pub(crate) async fn restart_kubelet(world: &World, away: Duration) -> anyhow::Result<()> {
    if !world.cluster().is_given() {
        let order = json!({"kind": "kubelet-restart", "seconds": away.as_secs()});
        let (status, answer) = world.kube.ask(Method::POST, "/sim/faults", Some(&order)).await?;
        ensure!(status.is_success(), "{answer}");
        sleep(away).await;
        return Ok(());
    }
    let end = || run(world, "pkill", &["-KILL", "-x", "kubelet"]);
    let back = Instant::now() + away;
    end()?;
    // Whoever takes its place ends too.
    while Instant::now() < back {
        sleep(LOOK).await;
        let _ = end();
    }
    Ok(())
}
